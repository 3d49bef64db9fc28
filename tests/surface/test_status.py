"""What a surface says of the points that it lacks, and what it must not be made to say."""

import shlex

import numpy as np
import pytest

from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.status import describe, remedies, state
from plot.made_surfaces import write

ALPHA = np.linspace(-1, 1, 8)


@pytest.fixture
def surface(tmp_path):
    """Write a line of eight points, two of them done, with the given attributes, and read it back."""

    def made(**attributes):
        status = (np.arange(8) < 2).astype(np.uint8)
        path = write(tmp_path / "s.h5", ALPHA, None, {"train_loss": ALPHA**2}, status=status, attributes=attributes)
        assert "2 of 8 done" in describe(path)
        return read_surface(path)

    return made


def test_each_shard_that_lacks_points_has_a_command(surface):
    commands = list(remedies(surface(shards=3, job_name="job.yaml")))
    assert [line.split("#")[0].strip() for line in commands] == [
        f"python -m landscape_mpi sweep job.yaml --shard {i}/3" for i in range(3)
    ]
    assert sum(int(line.split("#")[1].split()[0]) for line in commands) == 6


@pytest.mark.parametrize(
    "name", ["job.yaml; touch executed", "$(touch executed)", "`touch executed`", "a'b\nc", "-x y"]
)
def test_a_command_to_copy_holds_the_jobs_name_as_one_word(surface, name):
    (command,) = remedies(surface(job_name=name))
    assert shlex.split(command) == ["python", "-m", "landscape_mpi", "sweep", name]


@pytest.mark.parametrize("count", [2**62, -1, 0, 1.5, "many", np.arange(3)])
def test_an_absurd_number_of_shards_costs_nothing(surface, count):
    assert len(list(remedies(surface(shards=count)))) <= 8


@pytest.mark.parametrize("shard", ["0/0", "3/2", "9" * 5000 + "/" + "9" * 5001, "-1/2", "1/", 5])
def test_a_share_of_nothing_is_no_share(surface, shard):
    found = surface(shard=shard)
    assert state(found) == "2 of 8 done (incomplete: 6 to do)"
    assert len(list(remedies(found))) == 1


def test_a_share_beyond_the_points_has_none_to_do(surface):
    assert state(surface(shard="99999999999/999999999999")).endswith("(shard 99999999999/999999999999: complete)")


@pytest.mark.parametrize("text", ["plane.seed=1 'a b=$(touch executed); `x`'", "'without an end", 5, "--a\nb"])
def test_a_command_to_copy_holds_each_setting_as_one_word(surface, text):
    (command,) = remedies(surface(job_settings=text, job_name="job.yaml"))
    settings = [] if text == "'without an end" else shlex.split(str(text))
    words = [word for setting in settings for word in ("--set", setting)]
    assert shlex.split(command) == ["python", "-m", "landscape_mpi", "sweep", "job.yaml", *words]

"""The batch scripts as text: what SLURM needs no part in."""

import pytest

THAT_RUN = ("sweep", "array", "many-jobs", "train")
SHARED = "# --- from here on the same in "


@pytest.fixture
def text(checkout):
    """A function that reads a script."""
    return lambda name: (checkout / "slurm" / f"{name}.sbatch").read_text()


def test_what_the_scripts_share_is_the_same(text):
    shared = {text(name).partition(SHARED)[2] for name in THAT_RUN}
    assert len(shared) == 1
    assert "scontrol requeue" in shared.pop()


@pytest.mark.parametrize("name", THAT_RUN)
def test_a_script_that_runs_something_is_warned_requeued_and_keeps_its_log(text, name):
    options = {line.removeprefix("#SBATCH ") for line in text(name).splitlines() if line.startswith("#SBATCH ")}
    assert {"--requeue", "--signal=B:USR1@120", "--open-mode=append"} <= options


@pytest.mark.parametrize("name", [*THAT_RUN, "merge"])
def test_what_the_user_fills_in_is_marked_and_off(text, name):
    for option in ("##SBATCH --account=ACCOUNT", "##SBATCH --partition=PARTITION", "# module load"):
        assert f"\n{option}" in text(name)

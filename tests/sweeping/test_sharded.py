"""Shards of a sweep, each a run of its own, and the surface that they make together."""

import random
import shutil

import h5py
import numpy as np
import pytest

from support.jobs import done, results, tiny_job
from support.launch import launch
from sweeping.test_sampled import SAMPLED, array

COUNT = 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The tiny job in four shards, and the same on one process without."""
    folder = tmp_path_factory.mktemp("shards")
    job = tiny_job(folder)
    for index in range(COUNT):
        run = launch("sweep", job, "--shard", f"{index}/{COUNT}")
        assert run.returncode == 0, run.stderr
    assert launch("sweep", tiny_job(folder, name="whole.yaml", output__file="whole.h5")).returncode == 0
    return folder


@pytest.fixture
def folder(shards, tmp_path):
    shutil.copytree(shards, tmp_path, dirs_exist_ok=True)
    return tmp_path


def names(folder, *indices):
    return [folder / f"surface.shard-{index}-of-{COUNT}.h5" for index in indices]


def merge(folder, *indices):
    return launch("merge", folder / "surface.h5", *names(folder, *indices))


@pytest.mark.slow
def test_shards_are_the_full_schema_with_a_share_of_the_points(shards):
    counts = [done(path) for path in names(shards, *range(COUNT))]
    assert counts == [9, 9, 9, 8]
    for path in names(shards, 0):
        assert set(results(path)) == set(results(shards / "whole.h5"))


@pytest.mark.slow
def test_all_shards_make_the_surface_of_one_run_in_any_order_and_twice(folder):
    order = random.Random(0).sample(range(COUNT), COUNT)
    run = merge(folder, *order)
    assert run.returncode == 0, run.stderr
    assert "surface.h5: 35 of 35 done (complete); 35 of them new" in run.stdout
    assert results(folder / "surface.h5") == results(folder / "whole.h5")
    assert array(folder / "surface.h5", "complete") == 1
    before = (folder / "surface.h5").read_bytes()
    again = merge(folder, *range(COUNT))
    assert again.returncode == 0
    assert "0 of them new" in again.stdout
    assert (folder / "surface.h5").read_bytes() == before
    assert "nothing to do" in launch("sweep", folder / "job.yaml").stderr


@pytest.mark.slow
def test_some_shards_make_a_part_that_says_what_is_missing_and_how_to_fill_it(folder):
    first = merge(folder, 2)
    assert first.returncode == 75
    run = merge(folder, 0)
    assert run.returncode == 75
    assert "surface.h5: 18 of 35 done (incomplete: 17 to do); 9 of them new" in run.stdout
    told = launch("info", folder / "surface.h5").stdout
    for text in (run.stdout, told):
        assert "python -m landscape_mpi sweep job.yaml --shard 1/4    # 9 points" in text
        assert "python -m landscape_mpi sweep job.yaml --shard 3/4    # 8 points" in text
        assert "--shard 0/4" not in text
    rest = launch("sweep", folder / "job.yaml")
    assert "18 points are there, 17 to do" in rest.stderr
    assert results(folder / "surface.h5") == results(folder / "whole.h5")


@pytest.mark.slow
def test_a_finished_shard_is_left_alone_and_info_says_which_it_is(folder):
    (path,) = names(folder, 3)
    before = path.read_bytes()
    again = launch("sweep", folder / "job.yaml", "--shard", "3/4")
    assert again.returncode == 0
    assert "all 8 points of shard 3/4 are there; nothing to do" in again.stderr
    assert path.read_bytes() == before
    assert "8 of 35 done (shard 3/4: complete)" in launch("info", path).stdout


@pytest.mark.slow
def test_a_shard_goes_on_where_it_stopped(folder):
    (path,) = names(folder, 1)
    with h5py.File(path, "r+") as file:
        rows, columns = np.nonzero(file["status"][()])
        file["status"][rows[2], columns[2]] = 0
        file["complete"][()] = 0
    run = launch("sweep", folder / "job.yaml", "--shard", "auto/4", env={"SLURM_ARRAY_TASK_ID": "1"})
    assert "8 points are there, 1 to do" in run.stderr
    assert done(path) == 9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"plane__seed": 8}, "plane.seed"),
        ({"grid": {"alpha": [-1, 1, 7], "beta": [-0.5, 1, 6]}}, "grid.beta"),
        ({"data__limit": 30}, "data.limit"),
    ],
)
def test_a_shard_of_another_sweep_is_refused_and_nothing_written(folder, changes, key):
    other = tiny_job(folder, name="other.yaml", output__file="other.h5", **changes)
    assert launch("sweep", other, "--shard", "0/4").returncode == 0
    run = launch("merge", folder / "surface.h5", *names(folder, 0, 1), folder / "other.shard-0-of-4.h5")
    assert run.returncode == 2
    assert f"belongs to another sweep than {names(folder, 0)[0]}: {key}" in run.stderr
    assert not (folder / "surface.h5").exists()


@pytest.mark.slow
def test_a_shard_in_the_place_of_another_is_refused(folder):
    names(folder, 1)[0].rename(names(folder, 2)[0])
    run = launch("sweep", folder / "job.yaml", "--shard", "2/4")
    assert run.returncode == 2
    assert "--shard: it is for shard 1/4, and this run is for shard 2/4" in run.stderr


@pytest.mark.slow
def test_something_else_than_a_shard_is_refused(folder):
    (folder / "text.h5").write_text("no HDF5")
    run = launch("merge", folder / "surface.h5", *names(folder, 0), folder / "text.h5")
    assert run.returncode == 2
    assert "text.h5: expected a surface file, found a file that is not HDF5" in run.stderr
    assert not (folder / "surface.h5").exists()


@pytest.mark.slow
def test_sampled_shards_evaluate_the_first_level_and_the_rounds_go_on_without_them(tmp_path):
    whole = tiny_job(tmp_path, name="whole.yaml", output__file="whole.h5", **SAMPLED)
    assert launch("sweep", whole).returncode == 0
    job = tiny_job(tmp_path, **SAMPLED)
    for index in range(3):
        run = launch("sweep", job, "--shard", f"{index}/3")
        assert run.returncode == 0, run.stderr
        assert f"the first level of shard {index}/3 is complete, with bars of up to" in run.stderr
    folder = tmp_path / "surface.h5.examples"
    assert len(list(folder.glob("shard-*-of-3.rank-00000.journal"))) == 3
    shard = tmp_path / "surface.shard-1-of-3.h5"
    counts = array(shard, "train_examples")
    counts[2, 4] = 0  # theta*'s own point, which is known on all examples
    assert (done(shard), counts.max()) == (15, 800)
    run = launch("merge", tmp_path / "surface.h5", *(tmp_path / f"surface.shard-{index}-of-3.h5" for index in range(3)))
    assert run.returncode == 75
    assert "45 of 45 done (incomplete: error bars still to narrow)" in run.stdout
    assert "to go on: python -m landscape_mpi sweep job.yaml\n" in run.stdout
    before = sum(path.stat().st_size for path in folder.glob("shard-*.journal"))
    rest = launch("sweep", job)
    assert rest.returncode == 0, rest.stderr
    assert results(tmp_path / "surface.h5") == results(tmp_path / "whole.h5")
    first = sum(path.stat().st_size for path in (tmp_path / "whole.h5.examples").glob("rank-*.journal"))
    rounds = (folder / "rank-00000.journal").stat().st_size
    assert before + rounds < 1.01 * first + 4 * 55

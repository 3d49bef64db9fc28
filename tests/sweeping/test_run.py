"""The real command, alone and on many ranks: the same numbers, whoever computes them and however often it is cut."""

import os
import re
import signal

import h5py
import numpy as np
import pytest
import torch

from support import tiny
from support.jobs import done, resnet20_job, results, tiny_job
from support.launch import kill_session, launch, start
from support.waiting import wait_for

ROOT_WRITES = {"LANDSCAPE_WRITER": "root"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of the tiny job on one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = launch("sweep", tiny_job(folder))
    assert run.returncode == 0, run.stderr
    return results(folder / "surface.h5")


@pytest.mark.slow
def test_one_process_without_mpirun_fills_every_point(undisturbed):
    shape, status = undisturbed["status"]
    assert shape == (5, 7)
    assert set(status) == {1}
    assert {"train_loss", "train_acc", "test_loss", "test_acc_stderr"} <= set(undisturbed)


@pytest.mark.mpi
def test_without_threads_in_mpi_rank_0_only_coordinates(tmp_path, undisturbed):
    run = launch("sweep", tiny_job(tmp_path), ranks=3, env={"MPI4PY_RC_THREAD_LEVEL": "funneled"})
    assert run.returncode == 0, run.stderr
    assert results(tmp_path / "surface.h5") == undisturbed
    with h5py.File(tmp_path / "surface.h5") as file:
        assert set(file["rank"][()].ravel()) == {1, 2}


@pytest.mark.mpi
@pytest.mark.slow
def test_resnet20_is_bit_identical_on_1_2_3_and_16_ranks(tmp_path, cifar10, shared_data):
    found = []
    for ranks in (None, 2, 3, 16):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        run = launch("sweep", resnet20_job(folder, cifar10, shared_data), ranks=ranks, timeout=400)
        assert run.returncode == 0, run.stderr
        found.append(results(folder / "surface.h5"))
    assert all(one == found[0] for one in found[1:])
    losses = np.frombuffer(found[0]["train_loss"][1])
    assert losses.max() > 10 * losses.min() > 0


@pytest.mark.mpi
@pytest.mark.parametrize("env", [{}, ROOT_WRITES], ids=["parallel", "root"])
def test_killed_in_the_middle_it_goes_on_and_ends_as_if_undisturbed(tmp_path, undisturbed, env):
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    slow = {"TINY_SLEEP": "0.1", "TINY_CALLS": "28", **env}
    process = start("sweep", job, ranks=3, env=slow, fresh=not env)
    wait_for(lambda: done(surface) >= 6 or process.poll() is not None)
    kill_session(process)
    before = done(surface)
    assert 0 < before < 35
    again = launch("sweep", job, ranks=2, env=env)
    assert again.returncode == 0, again.stderr
    assert f"{before} points are there, {35 - before} to do" in again.stderr
    assert results(surface) == undisturbed


@pytest.mark.slow
def test_a_finished_surface_is_left_alone(tmp_path):
    job, surface = tiny_job(tmp_path, grid={"alpha": [-1, 1, 3]}), tmp_path / "surface.h5"
    launch("sweep", job)
    before = surface.read_bytes()
    again = launch("sweep", job)
    assert again.returncode == 0
    assert "all 3 points are there; nothing to do" in again.stderr
    assert surface.read_bytes() == before


@pytest.mark.slow
def test_a_run_that_died_after_its_last_point_is_sealed_by_the_next(tmp_path):
    job, surface = tiny_job(tmp_path, grid={"alpha": [-1, 1, 3]}), tmp_path / "surface.h5"
    launch("sweep", job)
    with h5py.File(surface, "r+") as file:
        assert file["complete"][()] == 1
        assert file["finished"][()] > 1.7e9
        file["complete"][()] = 0
        file["finished"][()] = np.nan
    assert launch("sweep", job).returncode == 0
    with h5py.File(surface) as file:
        assert (file["complete"][()], np.isnan(file["finished"][()])) == (1, False)


@pytest.mark.mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_a_raising_rank_ends_the_job_with_one_message(tmp_path, rank):
    job = tiny_job(tmp_path, loss="tiny:fails_later")
    run = launch("sweep", job, ranks=3, env={"TINY_RANK": str(rank)}, timeout=100)
    assert run.returncode == 2
    message = rf"error: rank {rank} on \S+ failed at alpha \S+, beta \S+ \(index .*ZeroDivisionError: the user's loss"
    assert len(re.findall(message, run.stderr)) == 1
    assert 0 < done(tmp_path / "surface.h5") < 35


@pytest.mark.slow
def test_a_raising_process_alone_says_the_same_and_its_points_stay(tmp_path):
    job = tiny_job(tmp_path, loss="tiny:fails_later")
    run = launch("sweep", job, "-v")
    assert run.returncode == 2
    assert "failed at alpha" in run.stderr
    assert "Traceback" in run.stderr
    assert done(tmp_path / "surface.h5") > 0


@pytest.mark.mpi
def test_a_slow_rank_gets_fewer_points(tmp_path):
    job = tiny_job(tmp_path, grid={"alpha": [-1, 1, 9], "beta": [-1, 1, 5]})
    run = launch("sweep", job, ranks=3, env={"TINY_SLEEP": "0.2", "TINY_RANK": "1", "TINY_OTHERS": "0.03"})
    assert run.returncode == 0, run.stderr
    with h5py.File(tmp_path / "surface.h5") as file:
        counts = np.bincount(file["rank"][()].ravel(), minlength=3)
    assert counts.sum() == 45
    assert 0 < counts[1] < counts.max() / 2


@pytest.mark.mpi
def test_a_users_mistake_is_one_sentence_from_rank_0(tmp_path):
    job = tiny_job(tmp_path, loss="tiny:one_value")
    run = launch("sweep", job, ranks=3)
    assert run.returncode == 2
    assert run.stderr.count("error: loss: it returned the shape []") == 1
    assert not (tmp_path / "surface.h5").exists()


def test_a_launcher_of_another_mpi_is_refused(tmp_path):
    run = launch("sweep", tiny_job(tmp_path), env={"PMI_SIZE": "4"})
    assert run.returncode == 2
    assert "the launcher started 4 processes (PMI_SIZE) and each sees a world of 1" in run.stderr
    assert not (tmp_path / "surface.h5").exists()


@pytest.mark.slow
def test_a_network_that_is_random_in_eval_mode_is_refused(tmp_path):
    job = tiny_job(tmp_path, model__build="tiny:Dropping", model__checkpoint="drop.pt")
    torch.save(tiny.Dropping().state_dict(), tmp_path / "drop.pt")
    run = launch("sweep", job)
    assert run.returncode == 1
    assert "f(0, 0) does not match" in run.stderr
    assert not (tmp_path / "surface.h5").exists()


@pytest.mark.slow
def test_repeats_make_a_file_for_each_seed(tmp_path):
    job = tiny_job(tmp_path, plane__repeats=2, grid={"alpha": [-1, 1, 3]})
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    single = tiny_job(tmp_path, name="single.yaml", plane__seed=4, grid={"alpha": [-1, 1, 3]})
    launch("sweep", single)
    first, second = results(tmp_path / "surface.r0.h5"), results(tmp_path / "surface.r1.h5")
    assert first != second
    assert second == results(tmp_path / "surface.h5")


@pytest.mark.slow
def test_overwrite_replaces_another_sweep(tmp_path):
    launch("sweep", tiny_job(tmp_path, grid={"alpha": [-1, 1, 3]}))
    other = tiny_job(tmp_path, grid={"alpha": [-1, 1, 4]})
    refused = launch("sweep", other)
    assert refused.returncode == 2
    assert "a finer grid over the same plane" in refused.stderr
    assert done(tmp_path / "surface.h5") == 3
    assert launch("sweep", other, "--overwrite").returncode == 0
    assert done(tmp_path / "surface.h5") == 4


@pytest.mark.slow
def test_points_marked_as_done_without_numbers_are_told_and_computed_again(tmp_path, undisturbed):
    """As a power cut leaves them; the last one is taken back in the file before anything else is written."""
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    launch("sweep", job)
    with h5py.File(surface, "r+") as file:
        for index, name, value in (((0, 0), "seconds", np.nan), ((4, 6), "rank", -1), ((2, 3), "train_acc", np.nan)):
            file[name][index] = value
            file["train_loss"][index] = np.nan
    again = launch("sweep", job, "--time-limit", "0.01")
    assert again.returncode == 75, again.stderr
    assert "note: " in again.stderr
    assert "surface.h5: 3 points are marked as done without the numbers" in again.stderr
    assert done(surface) < 35
    assert launch("sweep", job).returncode == 0
    assert results(surface) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True])
def test_damaged_directions_of_a_surface_of_ours_are_refused(tmp_path, older):
    """An older surface has the fingerprint of its whole plane alone."""
    grid = {"alpha": [-1, 1, 3], "beta": [-1, 1, 2]}
    launch("sweep", tiny_job(tmp_path, grid=grid, output__file="random.h5"))
    stored = {"kind": "file", "path": "random.h5"}
    launch("sweep", tiny_job(tmp_path, grid=grid, plane=stored, output__file="d.h5"))
    plane = {"kind": "file", "path": "d.h5"}
    if older:
        with h5py.File(tmp_path / "d.h5", "r+") as file:
            del file.attrs["directions_sha256"]
    line = tiny_job(tmp_path, plane=plane, grid={"alpha": [-1, 1, 3]})
    assert launch("sweep", line).returncode == 0
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        values = file["xdirection/0"][()]
        values.view(np.uint8).reshape(-1)[5] ^= 4
        file["xdirection/0"][...] = values
    for job in (line, tiny_job(tmp_path, "b.yaml", plane=plane, output__file="b.h5")):
        run = launch("sweep", job)
        assert run.returncode == 2
        assert re.search(r"error: plane\.path: \S*d\.h5 is damaged: its directions are not those", run.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [7, 64, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (2, 39))])
def test_the_batch_changes_no_number(tmp_path, undisturbed, batch):
    """Matrix products may differ in a last bit by the number of rows, so the batch is fixed with the file."""
    run = launch("sweep", tiny_job(tmp_path, evaluate={"batch": batch}))
    assert run.returncode == 0, run.stderr
    for name, (_, values) in results(tmp_path / "surface.h5").items():
        kind = np.uint8 if name == "status" else np.float64
        np.testing.assert_allclose(np.frombuffer(values, kind), np.frombuffer(undisturbed[name][1], kind), rtol=1e-6)


@pytest.mark.slow
def test_a_9_by_7_grid_holds_each_point_at_its_beta_row_and_alpha_column(tmp_path):
    grid = {"alpha": [-1.5, 1, 9], "beta": [-0.25, 2, 7]}
    job = tiny_job(tmp_path, grid=grid, data__splits=["train"])
    assert launch("sweep", job).returncode == 0
    network = tiny.network()
    network.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    with h5py.File(tmp_path / "surface.h5") as file:
        found = file["train_loss"][()]
        stored = [[torch.from_numpy(file[f"{axis}direction/{i}"][()]) for i in range(4)] for axis in "xy"]
    inputs, classes = tiny.data(None, "train")
    expected = np.empty((7, 9))
    for iy, beta in enumerate(np.linspace(-0.25, 2, 7)):
        for ix, alpha in enumerate(np.linspace(-1.5, 1, 9)):
            state = [t + alpha * d + beta * e for t, d, e in zip(network.parameters(), *stored, strict=True)]
            outputs = torch.relu(inputs @ state[0].T + state[1]) @ state[2].T + state[3]
            expected[iy, ix] = torch.nn.functional.cross_entropy(outputs, classes).item()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_directions_of_a_surface_make_the_same_surface_again(tmp_path, undisturbed):
    assert launch("sweep", tiny_job(tmp_path, output__file="first.h5")).returncode == 0
    again = tiny_job(tmp_path, plane={"kind": "file", "path": "first.h5"})
    assert launch("sweep", again).returncode == 0
    assert results(tmp_path / "surface.h5") == undisturbed


@pytest.mark.mpi
def test_ranks_whose_mpirun_is_gone_stop(tmp_path, undisturbed):
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    process = start("sweep", job, ranks=3, env={"TINY_SLEEP": "0.1", "TINY_CALLS": "28"}, fresh=True)
    wait_for(lambda: done(surface) >= 3 or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not process.members(), 20)
    assert process.members() == []
    assert 0 < done(surface) < 35
    process.communicate()
    assert launch("sweep", job).returncode == 0
    assert results(surface) == undisturbed

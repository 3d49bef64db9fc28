"""Curvature by the real command: eigenvalues at every point and planes of eigenvectors, on any number of ranks."""

import math
import signal

import h5py
import numpy as np
import pytest
import torch

from landscape_mpi.plot.__main__ import main as plot
from support import tiny
from support.jobs import done, results, tiny_job
from support.launch import finish, kill_session, launch, start
from support.waiting import wait_for

METRICS = ["loss", "accuracy", "hessian"]
GRID = {"alpha": [-1, 1, 3], "beta": [-0.5, 1, 4]}
EXACT = {"metrics": METRICS, "grid": GRID, "hessian": {"tolerance": 1.0e-6}, "evaluate": {"dtype": "float64"}}


def network_at(folder, alpha, beta):
    """The parameters of a point of the surface, float64, as a flat vector."""
    state = torch.load(folder / "net.pt", weights_only=True)
    with h5py.File(folder / "surface.h5") as file:
        parts = [
            (
                tensor.double()
                + sum(
                    step * torch.from_numpy(file[f"{axis}direction/{i}"][()]).double()
                    for axis, step in (("x", alpha), ("y", beta))
                )
            ).flatten()
            for i, tensor in enumerate(state.values())
        ]
    return torch.cat(parts)


def dense(flat, images=None):
    """The Hessian of the mean training loss of the tiny network at some parameters, float64 [67, 67]."""
    inputs, classes = tiny.data(None, "train")
    inputs, classes = inputs[:images].double(), classes[:images]

    def mean(theta):
        first, bias, second, rest = (part for part in theta.split([32, 8, 24, 3]))
        hidden = torch.relu(inputs @ first.view(8, 4).T + bias)
        return torch.nn.functional.cross_entropy(hidden @ second.view(3, 8).T + rest, classes)

    return torch.autograd.functional.hessian(mean, flat)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a small surface, its job and its network."""
    folder = tmp_path_factory.mktemp("swept")
    run = launch("sweep", tiny_job(folder, **EXACT))
    assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.slow
def test_eigenvalues_are_those_of_the_dense_hessian_at_every_point(swept):
    with h5py.File(swept / "surface.h5") as file:
        found = np.stack([file["min_eig"][()], file["max_eig"][()]])
        assert file["hessian_residual"][()].max() <= 1e-6
        assert file["hessian_iterations"][()].min() >= 10
        alpha, beta = file["xcoordinates"][()], file["ycoordinates"][()]
    expected = np.empty((2, 4, 3))
    for iy, b in enumerate(beta):
        for ix, a in enumerate(alpha):
            expected[:, iy, ix] = torch.linalg.eigvalsh(dense(network_at(swept, a, b)))[[0, -1]]
    assert expected[0].max() < 0 < expected[1].min()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_info_and_the_figure_know_them(swept):
    text = launch("info", swept / "surface.h5").stdout
    assert all(name in text for name in ("min_eig", "max_eig", "hessian_residual", "hessian_iterations"))
    assert plot([str(swept / "surface.h5"), "--metric", "eig_ratio", "-o", str(swept / "ratio.png")]) == 0


@pytest.mark.mpi
def test_two_ranks_and_a_kill_change_no_bit(tmp_path):
    changes = {"metrics": METRICS, "grid": GRID, "plane": {"kind": "hessian"}, "evaluate": {"batch": 8}}
    alone, several = tmp_path / "alone", tmp_path / "several"
    for folder in (alone, several):
        folder.mkdir()
    assert launch("sweep", tiny_job(alone, **changes)).returncode == 0
    job, surface = tiny_job(several, **changes), several / "surface.h5"
    process = start("sweep", job, ranks=2, env={"TINY_SLEEP": "0.02"})
    wait_for(lambda: done(surface) >= 2 or process.poll() is not None)
    kill_session(process)
    before = done(surface)
    assert 0 < before < 12
    again = launch("sweep", job)
    assert again.returncode == 0, again.stderr
    assert f"{before} points are there" in again.stderr
    assert "eigenvectors" not in again.stderr  # they are read back from the surface
    assert results(surface) == results(alone / "surface.h5")
    with h5py.File(surface) as ours, h5py.File(alone / "surface.h5") as other:
        assert ours.attrs["plane_sha256"] == other.attrs["plane_sha256"]
        assert ours.attrs["hessian_max_eig"] == other.attrs["hessian_max_eig"]


@pytest.mark.slow
@pytest.mark.parametrize("line", [False, True], ids=["plane", "line"])
def test_a_plane_of_eigenvectors(tmp_path, line):
    grid = {"alpha": [-1, 1, 3]} if line else {"alpha": [-1, 1, 3], "beta": [0, 0, 1]}
    job = tiny_job(tmp_path, **{**EXACT, "grid": grid, "plane": {"kind": "hessian"}}, data__splits=["train"])
    said = launch("check", job)
    assert "eigenvectors still to be found" in said.stdout, said.stderr
    assert launch("sweep", job).returncode == 0
    values, vectors = torch.linalg.eigh(dense(network_at_origin(tmp_path)))
    with h5py.File(tmp_path / "surface.h5") as file:
        for axis, name, which in (("x", "max_eig", -1), ("y", "min_eig", 0))[: 1 if line else 2]:
            found = torch.cat([torch.from_numpy(file[f"{axis}direction/{i}"][()]).flatten() for i in range(4)]).double()
            assert abs(float(found @ vectors[:, which])) == pytest.approx(1, abs=1e-4)
            assert found[found.abs().argmax()] > 0
            assert file.attrs[f"hessian_{name}"] == pytest.approx(float(values[which]), rel=1e-5)
            middle = file[name][()][..., 1].item()
            assert middle == pytest.approx(file.attrs[f"hessian_{name}"], rel=1e-6)
        assert ("ydirection" in file) is not line


def network_at_origin(folder):
    return torch.cat([part.double().flatten() for part in torch.load(folder / "net.pt", weights_only=True).values()])


@pytest.mark.slow
def test_eigenvectors_over_some_parameters_are_those_of_that_block(tmp_path):
    plane = {"kind": "hessian", "only": ["2.*"]}
    job = tiny_job(tmp_path, **{**EXACT, "plane": plane, "grid": {"alpha": [0, 0, 1]}, "metrics": ["loss"]})
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    block = torch.linalg.eigvalsh(dense(network_at_origin(tmp_path))[40:, 40:])
    with h5py.File(tmp_path / "surface.h5") as file:
        assert file.attrs["hessian_max_eig"] == pytest.approx(float(block[-1]), rel=1e-5)
        assert not file["xdirection/0"][()].any()
        assert not file["xdirection/1"][()].any()


@pytest.mark.slow
def test_eigenvalues_at_points_may_be_those_over_the_parameters_that_move(tmp_path):
    changes = {"plane": {"kind": "random", "only": ["2.weight"]}, "grid": {"alpha": [0, 0, 1]}}
    job = tiny_job(tmp_path, **{**EXACT, **changes, "hessian": {"of": "plane", "tolerance": 1.0e-6}})
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    block = torch.linalg.eigvalsh(dense(network_at_origin(tmp_path))[40:64, 40:64])
    with h5py.File(tmp_path / "surface.h5") as file:
        assert [file["min_eig"][0], file["max_eig"][0]] == pytest.approx([float(block[0]), float(block[-1])], abs=1e-5)


@pytest.mark.slow
def test_the_first_images_of_the_first_split_are_used(tmp_path):
    job = tiny_job(tmp_path, **{**EXACT, "grid": {"alpha": [0, 0, 1]}, "hessian": {"images": 17, "tolerance": 1.0e-6}})
    assert launch("sweep", job).returncode == 0
    with h5py.File(tmp_path / "surface.h5") as file:
        largest = float(torch.linalg.eigvalsh(dense(network_at_origin(tmp_path), 17))[-1])
        assert file["max_eig"][0] == pytest.approx(largest, rel=1e-5)


@pytest.mark.slow
def test_losses_that_are_not_finite_have_no_curvature_and_end_no_sweep(tmp_path):
    job = tiny_job(tmp_path, grid={"alpha": [0, 1.0e38, 2]}, metrics=METRICS)
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    with h5py.File(tmp_path / "surface.h5") as file:
        assert math.isfinite(file["max_eig"][0])
        assert math.isnan(file["max_eig"][1])
        assert file["error"][1] == b"the Hessian is not finite"


@pytest.mark.slow
def test_shards_merge_to_the_surface_of_one_run(tmp_path):
    changes = {"metrics": METRICS, "grid": GRID, "plane": {"kind": "hessian"}}
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        folder.mkdir()
    assert launch("sweep", tiny_job(alone, **changes)).returncode == 0
    job = tiny_job(shared, **changes)
    for index in range(2):
        assert launch("sweep", job, "--shard", f"{index}/2").returncode == 0
    surface = shared / "surface.h5"
    merged = launch("merge", surface, *(shared / f"surface.shard-{index}-of-2.h5" for index in range(2)))
    assert merged.returncode == 0, merged.stderr
    assert results(surface) == results(alone / "surface.h5")


@pytest.mark.slow
@pytest.mark.parametrize("plane", ["random", "hessian"])
def test_a_signal_stops_it_between_two_products(tmp_path, plane):
    # a point takes 30 products and more, of five batches each: a minute of sleep, which the signal must not wait for
    job = tiny_job(tmp_path, metrics=METRICS, grid=GRID, plane={"kind": plane}, evaluate={"batch": 8})
    told = tmp_path / "enough"
    process = start("sweep", job, env={"TINY_CALLS": "60", "TINY_LATER": "0.4", "TINY_TOLD": str(told)})
    wait_for(told.exists)
    process.send_signal(signal.SIGTERM)
    ended = finish(process, 60)
    assert ended.returncode == 75, ended.stderr
    assert "stopped by SIGTERM" in ended.stderr
    assert done(tmp_path / "surface.h5") == 0
    assert launch("sweep", job).returncode == 0
    assert done(tmp_path / "surface.h5") == 12

"""From one checkpoint to others: closed forms, the ends themselves, and files that may move but not change."""

import shutil

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.run import sweep
from support import tiny
from support.jobs import results, tiny_job

ENDS = {"kind": "interpolate", "to": "to.pt", "via": "via.pt"}
GRID = {"alpha": [-0.5, 1.5, 9], "beta": [-1, 1, 5]}
LINE = {"alpha": [-0.5, 1.5, 5]}


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(folder, build, **names):
    """Save freshly initialised networks, one a name and seed."""
    for name, seed in names.items():
        torch.manual_seed(seed)
        torch.save(build().state_dict(), folder / f"{name}.pt")


def run(job, **options):
    assert sweep(job, Options(device="cpu", **options), Solo()) == Exit.COMPLETE
    with h5py.File(job.parent / "surface.h5") as file:
        return {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}


def test_a_quadratic_has_its_closed_form(tmp_path):
    """The squared error of a linear map: f(a, b) = |R + a D X + b E X|^2 / 3n, with D and E as they are."""
    save(tmp_path, tiny.linear, net=0, to=1, via=2)
    changes = {"model__build": "tiny:linear", "loss": "mse", "metrics": ["loss"], "evaluate": {"dtype": "float64"}}
    data = {"build": "tiny:regression", "splits": ["train"]}
    found = run(tiny_job(tmp_path, plane=ENDS, grid=GRID, data=data, **changes))
    theta, to, via = (
        torch.load(f"{name}.pt", weights_only=True)["weight"].double().numpy() for name in ("net", "to", "via")
    )
    inputs, targets = (tensor.double().numpy() for tensor in tiny.regression(None, "train"))
    residual = inputs @ theta.T - targets
    for iy, beta in enumerate(np.linspace(-1, 1, 5)):
        for ix, alpha in enumerate(np.linspace(-0.5, 1.5, 9)):
            exact = np.square(residual + inputs @ (alpha * (to - theta) + beta * (via - theta)).T).mean()
            assert found["train_loss"][iy, ix] == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-6), ("float32", 1e-5)])
def test_the_ends_are_the_plain_evaluations_of_their_checkpoints(tmp_path, dtype, close):
    save(tmp_path, tiny.network, net=0, to=1, via=2)
    grid = {"alpha": [0, 1, 2], "beta": [0, 1, 2]}
    found = run(tiny_job(tmp_path, plane=ENDS, grid=grid, evaluate={"dtype": dtype}))
    inputs, classes = tiny.data(None, "test")
    for name, index in [("net", (0, 0)), ("to", (0, 1)), ("via", (1, 0))]:
        network = tiny.network().double()
        network.load_state_dict(torch.load(f"{name}.pt", weights_only=True))
        exact = torch.nn.functional.cross_entropy(network(inputs.double()), classes).item()
        assert found["test_loss"][index] == pytest.approx(exact, rel=close)


@pytest.mark.parametrize(
    ("changes", "moving"),
    [
        ({}, ["0.weight", "0.bias", "2.weight", "2.bias"]),
        ({"ignore": "biasbn"}, ["0.weight", "2.weight"]),
        ({"ignore": ["0.*"]}, ["2.weight", "2.bias"]),
        ({"only": ["2.weight"]}, ["2.weight"]),
    ],
)
def test_parts_of_the_way_may_be_ignored(tmp_path, changes, moving):
    theta, to, found = way(tmp_path, changes)
    assert [name for name, d in found.items() if d.any()] == moving
    for name in moving:
        np.testing.assert_array_equal(found[name], to[name] - theta[name])


def test_the_way_may_be_normalised(tmp_path):
    theta, _, found = way(tmp_path, {"normalize": "filter", "ignore": "biasbn"})
    norms = (np.linalg.norm(weights["0.weight"], axis=1) for weights in (found, theta))
    np.testing.assert_allclose(*norms, rtol=1e-6)


def way(folder, changes):
    """Theta, the other end and delta of a line, by parameter name."""
    save(folder, tiny.network, net=0, to=1)
    run(tiny_job(folder, plane={"kind": "interpolate", "to": "to.pt", **changes}, grid=LINE))
    states = [torch.load(f"{name}.pt", weights_only=True) for name in ("net", "to")]
    with h5py.File("surface.h5") as file:
        assert "ydirection" not in file
        found = {item.attrs["name"]: item[()] for item in file["xdirection"].values()}
    return *({name: tensor.numpy() for name, tensor in state.items()} for state in states), found


@pytest.mark.slow
def test_a_checkpoint_is_known_by_what_it_holds_not_by_its_name_or_format(tmp_path):
    save(tmp_path, tiny.network, net=0, to=1, via=2)
    run(tiny_job(tmp_path, plane=ENDS, grid=GRID))
    before = results(tmp_path / "surface.h5")
    shutil.move("to.pt", "elsewhere.pt")
    save_file(torch.load("via.pt", weights_only=True), "via.safetensors")
    moved = tiny_job(tmp_path, plane={**ENDS, "to": "elsewhere.pt", "via": "via.safetensors"}, grid=GRID)
    run(moved)
    assert results(tmp_path / "surface.h5") == before
    save(tmp_path, tiny.network, to=3)
    with pytest.raises(UserError, match=r"plane: it was made from other directions \(plane_sha256 differs\)"):
        run(tiny_job(tmp_path, plane=ENDS, grid=GRID))
    assert results(tmp_path / "surface.h5") == before

"""A surface that an earlier version began, along directions of another generator, is gone on with along its own."""

import h5py
import numpy as np
import pytest
import torch

from landscape_mpi.plane import Plane
from support import tiny
from support.jobs import tiny_job
from support.launch import launch


@pytest.fixture
def begun(tmp_path):
    """A surface whose directions torch drew, with every second point still to do; and the plane that it is of."""
    job = tiny_job(tmp_path, data__splits=["train"], loss="cross_entropy", evaluate={"engine": "eager"})
    assert launch("sweep", job).returncode == 0
    theta = torch.load(tmp_path / "net.pt", weights_only=True)
    generator = torch.Generator().manual_seed(1)
    delta, eta = ({name: torch.randn(t.shape, generator=generator) for name, t in theta.items()} for _ in range(2))
    plane = Plane(theta, (delta, eta))
    with h5py.File(tmp_path / "surface.h5", "r+") as file:
        for name in ("generator", "directions_sha256"):
            del file.attrs[name]
        file.attrs["plane_sha256"] = plane.fingerprint()
        for axis, direction in (("x", delta), ("y", eta)):
            for i, tensor in enumerate(direction.values()):
                file[f"{axis}direction/{i}"][...] = tensor.numpy()
        status = file["status"][()]
        status.ravel()[::2] = 0
        file["status"][...] = status
        file["complete"][()] = 0
    return job, tmp_path / "surface.h5", plane


@pytest.mark.slow
def test_it_is_gone_on_with_along_the_directions_that_it_holds(begun):
    job, surface, plane = begun
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    inputs, targets = tiny.data(None, "train")
    network = tiny.network().eval()
    with h5py.File(surface) as file:
        for iy, ix in ((0, 0), (2, 4), (4, 6)):  # points that were still to do
            network.load_state_dict(plane.at(file["xcoordinates"][ix], file["ycoordinates"][iy]))
            with torch.no_grad():
                expected = torch.nn.functional.cross_entropy(network(inputs).double(), targets)
            assert file["train_loss"][iy, ix] == pytest.approx(float(expected), rel=1e-5)
        assert np.all(file["status"][()] == 1)


@pytest.mark.slow
def test_a_new_surface_says_how_its_directions_were_drawn(begun):
    job, surface, _ = begun
    assert launch("sweep", job, "--overwrite").returncode == 0
    with h5py.File(surface) as file:
        assert file.attrs["generator"] == "counter-2"

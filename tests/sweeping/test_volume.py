"""A third axis: f(alpha, beta, gamma) over a volume, swept, sharded, gone on with, exported and sliced."""

import csv

import h5py
import numpy as np
import pytest
import torch

import landscape_mpi
from landscape_mpi.errors import UserError
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.plane import Plane, RandomDirections
from support import tiny
from support.jobs import results, tiny_job
from support.launch import launch

GRID = {"alpha": [-1, 1, 4], "beta": [-0.5, 1, 3], "gamma": [-0.5, 0.5, 5]}
PLAIN = {"grid": GRID, "loss": "cross_entropy", "data__splits": ["train"], "evaluate": {"engine": "eager"}}


@pytest.fixture
def swept(tmp_path):
    job = tiny_job(tmp_path, **PLAIN)
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    return tmp_path


@pytest.mark.slow
def test_each_point_is_the_loss_of_the_network_there(swept):
    theta = torch.load(swept / "net.pt", weights_only=True)
    directions = RandomDirections(3, "filter", "biasbn")
    volume = Plane.along(theta, [directions.draw(theta, axis) for axis in range(3)])
    (inputs, targets), network = tiny.data(None, "train"), tiny.network().eval()
    with h5py.File(swept / "surface.h5") as file:
        assert file["train_loss"].shape == (5, 3, 4)
        assert [axis[0].name for axis in file["train_loss"].dims] == [f"/{letter}coordinates" for letter in "zyx"]
        for iz, iy, ix in np.ndindex(5, 3, 4):
            place = (file["xcoordinates"][ix], file["ycoordinates"][iy], file["zcoordinates"][iz])
            network.load_state_dict(volume.at(*place))
            with torch.no_grad():
                loss = torch.nn.functional.cross_entropy(network(inputs).double(), targets)
            assert file["train_loss"][iz, iy, ix] == pytest.approx(float(loss), rel=1e-6)
        stored = [torch.from_numpy(file[f"zdirection/{i}"][()]) for i in range(len(theta))]
    assert all(torch.equal(mine, there) for mine, there in zip(volume.directions[2].values(), stored, strict=True))


@pytest.mark.slow
def test_the_plane_at_gamma_0_is_that_of_a_job_without_gamma(swept, tmp_path):
    plane = {"alpha": GRID["alpha"], "beta": GRID["beta"]}
    job = tiny_job(tmp_path, "plane.yaml", **{**PLAIN, "grid": plane}, output__file="plane.h5")
    assert launch("sweep", job).returncode == 0
    with h5py.File(swept / "surface.h5") as volume, h5py.File(tmp_path / "plane.h5") as flat:
        np.testing.assert_allclose(volume["train_loss"][2], flat["train_loss"][()], rtol=1e-6)


@pytest.mark.slow
def test_shards_make_it_and_a_part_is_gone_on_with(swept):
    whole = results(swept / "surface.h5")
    for index in range(2):
        assert launch("sweep", swept / "job.yaml", "--shard", f"{index}/2").returncode == 0
    merged = launch("merge", swept / "merged.h5", *sorted(swept.glob("surface.shard-*.h5")))
    assert merged.returncode == 0, merged.stderr
    assert results(swept / "merged.h5") == whole
    with h5py.File(swept / "surface.h5", "r+") as file:
        status = file["status"][()]
        status.ravel()[::3] = 0
        file["status"][...] = status
        file["train_loss"][...] = np.where(status == 1, file["train_loss"][()], np.nan)
        file["complete"][()] = 0
    assert launch("sweep", swept / "job.yaml").returncode == 0
    assert results(swept / "surface.h5") == whole


@pytest.mark.slow
def test_a_sampled_volume_has_bars(tmp_path):
    sampled = {"data__options": {"images": 1000}, "sampling": {"error": 0.05, "audit": 2}}
    run = launch("sweep", tiny_job(tmp_path, **PLAIN, **sampled))
    assert run.returncode == 0, run.stderr
    with h5py.File(tmp_path / "surface.h5") as file:
        assert (file["train_loss_bar"][()] <= 0.05 * file["train_loss"][()]).all()


@pytest.mark.slow
def test_exports_and_words(swept):
    assert launch("export", swept / "surface.h5", swept / "s.csv").returncode == 0
    with (swept / "s.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with h5py.File(swept / "surface.h5") as file:
        assert [float(row["train_loss"]) for row in rows] == file["train_loss"][()].ravel().tolist()
        assert [float(row["gamma"]) for row in rows] == np.repeat(file["zcoordinates"][()], 12).tolist()
        assert [float(row["alpha"]) for row in rows[:4]] == file["xcoordinates"][()].tolist()
    info = launch("info", swept / "surface.h5").stdout
    assert "volume of 5 x 3 x 4 points" in info
    assert "-0.5 to 0.5, 5 points" in info


@pytest.mark.slow
def test_a_plane_of_it_is_taken_in_python(swept):
    volume = landscape_mpi.open(swept / "surface.h5")
    assert volume.loss().shape == (5, 3, 4)
    assert volume.gamma.tolist() == [-0.5, -0.25, 0, 0.25, 0.5]
    plane = volume.at(gamma=0.3)
    np.testing.assert_array_equal(plane.loss(), volume.loss()[3])
    assert plane.gamma is None
    assert plane.sharpness().roughness == volume.at(gamma=0.25).sharpness().roughness
    with pytest.raises(UserError, match=r"sharpness: this is a volume; take a plane of it: surface\.at\(gamma\)"):
        volume.sharpness()
    with pytest.raises(UserError, match=r"gamma: found 2; expected -0\.5 to 0\.5"):
        volume.at(gamma=2)
    with pytest.raises(UserError, match="is a plane; expected a volume"):
        plane.at(gamma=0)
    assert volume.to_xarray()["train_loss"].dims == ("gamma", "beta", "alpha")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": {"alpha": [-1, 1, 3], "gamma": [-1, 1, 3]}}, "grid.beta: the key is missing"),
        ({"grid": {**GRID, "gamma": [1, -1, 3]}}, "grid.gamma"),
        ({"plane": {"kind": "hessian"}}, "grid.gamma: found a third axis"),
        ({"plane": {"kind": "interpolate", "to": "net.pt", "via": "net.pt"}}, "grid.gamma: found a third axis"),
    ],
)
def test_what_a_third_axis_cannot_have_is_refused(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        load_job(tiny_job(tmp_path, **{**PLAIN, **changes}), SweepJob)

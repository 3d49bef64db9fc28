"""The metric `spectrum` in sweeps: against dense Hessians, after kills, in shards, exports and larger networks."""

import csv

import h5py
import numpy as np
import pytest
import torch

import landscape_mpi
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.log import ProgressLine
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface import read_surface
from landscape_mpi.surface.export import export
from landscape_mpi.surface.merge import merge
from landscape_mpi.surface.status import describe
from landscape_mpi.sweeping.curvature import signs
from landscape_mpi.sweeping.run import Options, sweep
from support import tiny
from support.jobs import results, tiny_job

PROBES, STEPS = 3, 5
SECTION = {"probes": PROBES, "steps": STEPS, "seed": 4}
JOB = {
    "metrics": ["loss", "spectrum"],
    "hessian": SECTION,
    "grid": {"alpha": [-1, 1, 3], "beta": [0, 0.5, 2]},
    "data__splits": ["train"],
    "evaluate": {"dtype": "float64"},
}
SIZES = {"0.weight": 32, "0.bias": 8, "2.weight": 24, "2.bias": 3}


def swept(folder, **changes):
    """Sweep a tiny job in this process; return its surface file."""
    assert sweep(tiny_job(folder, **{**JOB, **changes}), Options(device="cpu"), Solo()) == Exit.COMPLETE
    return folder / "surface.h5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a job and its surface."""
    folder = tmp_path_factory.mktemp("spectrum")
    swept(folder)
    return folder


def dense(flat):
    """The Hessian of the mean training loss of the tiny network, float64 [67, 67]."""
    inputs, classes = tiny.data(None, "train")

    def mean(theta):
        first, bias, second, rest = theta.split(list(SIZES.values()))
        hidden = torch.relu(inputs.double() @ first.view(8, 4).T + bias)
        return torch.nn.functional.cross_entropy(hidden @ second.view(3, 8).T + rest, classes)

    return torch.autograd.functional.hessian(mean, flat).numpy()


def parameters(folder, iy, ix):
    """The parameters of a point of the surface, float64."""
    state = torch.load(folder / "net.pt", weights_only=True)
    with h5py.File(folder / "surface.h5") as file:
        at = [("x", file["xcoordinates"][ix]), ("y", file["ycoordinates"][iy])]
        moves = [
            sum(step * torch.from_numpy(file[f"{axis}direction/{i}"][()]).double() for axis, step in at)
            for i in range(len(state))
        ]
    return torch.cat([(tensor.double() + move).flatten() for tensor, move in zip(state.values(), moves, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("index", [(0, 1), (1, 2)])
def test_moments_are_those_of_the_dense_hessian_and_the_trace_is_within_its_errors(folder, index):
    hessian, found = dense(parameters(folder, *index)), read_surface(folder / "surface.h5")
    for number in range(PROBES):
        power = v = signs(4, number, SIZES).numpy()
        nodes, weights = (found.arrays[f"spectrum_{name}"][(*index, number)] for name in ("nodes", "weights"))
        for k in range(2 * STEPS):
            assert 67 * weights @ nodes**k == pytest.approx(v @ power, abs=1e-10)
            power = hessian @ power
    trace, error = found.metrics["trace"][index], found.metrics["trace_stderr"][index]
    assert abs(trace - np.trace(hessian)) < 3 * error


def test_over_the_moving_parameters_as_many_steps_as_there_are_give_their_eigenvalues(tmp_path):
    plane = {"kind": "random", "only": ["2.weight"]}
    section = {"probes": 3, "steps": 24, "of": "plane"}
    surface = swept(tmp_path, plane=plane, hessian=section, grid={"alpha": [0, 0, 1]})
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    block = dense(torch.cat([part.double().flatten() for part in state.values()]))[40:64, 40:64]
    found = read_surface(surface)
    nodes, weights = (found.arrays[f"spectrum_{name}"][0, 0] for name in ("nodes", "weights"))
    values = np.linalg.eigvalsh(block)
    for value in values:  # each that the probe has a part along; Hessians of the last layer have rank 2/3
        assert np.nanmin(np.abs(nodes - value)) < 1e-8
    assert weights @ np.nan_to_num(nodes) * 24 == pytest.approx(
        float(signs(0, 0, {"2.weight": 24}).numpy() @ block @ signs(0, 0, {"2.weight": 24}).numpy())
    )
    assert found.metrics["trace"][0] == pytest.approx(np.trace(block), abs=3 * found.metrics["trace_stderr"][0] + 1e-9)


def test_products_are_counted_on_the_way(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(ProgressLine, "show", lambda _, text, **__: said.append(text(0.0)))
    swept(tmp_path, grid={"alpha": [0, 0, 1]})
    assert [text for text in said if text.startswith("spectrum")][-1] == "spectrum: 15 of 15 products of a point"


def test_info_says_each_thing_once_and_where_the_eigenvalues_lie(folder):
    text = describe(folder / "surface.h5")
    assert text.count("spectrum           3 probes of 5 steps at every point") == 1
    assert text.count("  at (0, 0)        nodes from ") == 1
    assert text.count("\n  trace_stderr ") == 1
    assert text.count("sharpness of") == 1
    assert "Hessian over       67" in text


def test_a_probe_is_a_pure_function_of_seed_number_and_name():
    one = signs(4, 0, SIZES)
    assert set(one.tolist()) == {-1.0, 1.0}
    assert torch.equal(signs(4, 0, {"2.weight": 24}), one[40:64])
    assert torch.equal(signs(4, 0, {"2.weight": 10}), one[40:50])
    assert all(not torch.equal(signs(*other, SIZES), one) for other in ((4, 1), (5, 0)))
    assert abs(float(signs(0, 0, {"w": 100_000}).mean())) < 4 / np.sqrt(100_000)


@pytest.mark.slow
def test_a_sweep_that_goes_on_and_shards_have_the_same_bits(folder, tmp_path):
    job, undisturbed = folder / "job.yaml", results(folder / "surface.h5")
    half = tiny_job(folder, "half.yaml", **{**JOB, "output__file": "half.h5"})
    (folder / "half.h5").write_bytes((folder / "surface.h5").read_bytes())
    with h5py.File(folder / "half.h5", "r+") as file:
        file["complete"][()] = 0
        file["status"][:, 1] = 0
        file["spectrum_nodes"][:, 1, 1:] = np.nan
    assert sweep(half, Options(device="cpu"), Solo()) == Exit.COMPLETE
    assert results(folder / "half.h5") == undisturbed
    shards = [folder / f"surface.shard-{index}-of-2.h5" for index in range(2)]
    for index in range(2):
        assert sweep(job, Options(device="cpu", shard=f"{index}/2"), Solo()) == Exit.COMPLETE
    merged = merge(folder / "merged.h5", shards)
    assert merged.surface.complete
    assert results(folder / "merged.h5") == undisturbed


def test_axes_are_named_in_the_file_and_in_every_format(folder, tmp_path):
    surface = folder / "surface.h5"
    with h5py.File(surface) as file:
        scales = [axis[0].name for axis in file["spectrum_nodes"].dims]
        nodes = file["spectrum_nodes"][()]
    assert scales == ["/ycoordinates", "/xcoordinates", "/probes", "/steps"]
    assert nodes.shape == (2, 3, PROBES, STEPS)
    for ending in (".npz", ".nc", ".csv"):
        export(surface, tmp_path / f"out{ending}")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["spectrum_nodes"], nodes)
    with h5py.File(tmp_path / "out.nc") as file:
        assert [axis[0].name for axis in file["spectrum_weights"].dims] == scales
        np.testing.assert_array_equal(file["spectrum_nodes"], nodes)
    with (tmp_path / "out.csv").open() as stream:
        last = list(csv.DictReader(stream))[-1]
    assert float(last["spectrum_nodes.2.4"]) == nodes[1, 2, 2, 4]
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    named = landscape_mpi.open(surface).to_xarray()["spectrum_nodes"]
    assert named.dims == ("beta", "alpha", "probes", "steps")
    with xarray.open_dataset(surface, engine="h5netcdf") as dataset:
        assert dataset["spectrum_nodes"].dims[2:] == ("probes", "steps")


def test_arrays_of_another_shape_are_refused(folder, tmp_path):
    (tmp_path / "s.h5").write_bytes((folder / "surface.h5").read_bytes())
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file["spectrum_weights"]
        file["spectrum_weights"] = np.zeros((2, 3, PROBES))
    with pytest.raises(
        UserError, match=r"spectrum_weights has shape \(2, 3, 3\); expected the grid's \(2, 3\) and then"
    ):
        read_surface(tmp_path / "s.h5")


def test_points_whose_loss_is_not_finite_have_no_spectrum(tmp_path):
    found = read_surface(swept(tmp_path, grid={"alpha": [0, 1.0e308, 2]}))
    assert np.isfinite(found.metrics["trace"][0])
    assert np.isnan(found.metrics["trace"][1])
    assert np.isnan(found.arrays["spectrum_nodes"][1]).all()
    with h5py.File(found.path) as file:
        assert file["error"][1] == b"the Hessian is not finite"

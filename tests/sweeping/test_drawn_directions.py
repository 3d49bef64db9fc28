"""The directions of a surface as a direction file: copied where it holds them, else drawn by its recipe."""

import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import landscape_mpi
from landscape_mpi.cli import run
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.plane import parameters
from landscape_mpi.plane.directions import DrawnDirection, RandomDirections
from landscape_mpi.surface import directions
from landscape_mpi.surface.directions import copy_directions, read_directions
from landscape_mpi.sweeping import large
from landscape_mpi.sweeping.drawn_directions import draw_directions
from landscape_mpi.sweeping.run import Options, sweep
from support import tiny
from support.jobs import results, tiny_job
from support.small_disk import small_disk

GRID = {"grid": {"alpha": [-0.5, 0.5, 3], "beta": [-0.5, 0.5, 3]}}
WIDE = """
from torch import nn


def network():
    return nn.Sequential(nn.Linear(4, 30_000), nn.Linear(30_000, 3))
"""
NAMES = [name for name, _ in tiny.network().named_parameters()]


def swept(folder, name="surface.h5", **changes):
    job = tiny_job(folder, output__file=name, **{**GRID, **changes})
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    return folder / name


def tensors(path, group):
    """Read in the order in which tomgoldstein/loss-landscape's h5_util.read_list does."""
    with h5py.File(path) as file:
        members = file[group]
        return [members[str(i)][:] for i in range(len(members))]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"plane__only": ["2.*"], "plane__ignore": "none"},
        pytest.param({"plane__normalize": "weight"}, marks=pytest.mark.slow),
        pytest.param({"plane__normalize": "layer", "plane__ignore": "none"}, marks=pytest.mark.slow),
        {"grid": {"alpha": [-0.5, 0.5, 3]}},
    ],
)
def test_a_plane_of_the_file_is_the_plane_of_the_surface(tmp_path, monkeypatch, kept, changes):
    monkeypatch.setattr(parameters, "PIECE", 9)
    monkeypatch.setattr(directions, "PIECE", 7)
    first = swept(tmp_path, output__directions=kept, **changes)
    assert run(["export", str(first), "--directions", str(tmp_path / "d.h5")]) == Exit.COMPLETE
    grid = {"grid": changes.get("grid", GRID["grid"])}
    again = swept(tmp_path, "again.h5", plane={"kind": "file", "path": "d.h5"}, **grid)
    assert results(again) == results(first)
    with h5py.File(tmp_path / "d.h5") as file:
        groups = ["xdirection", "ydirection"][: 1 if "grid" in changes else 2]
        assert list(file) == groups
        for group in groups:
            assert [file[group][str(i)].attrs["name"] for i in range(len(file[group]))] == NAMES
        assert file.attrs["checkpoint_sha256"]


@pytest.mark.slow
def test_by_position_it_is_what_the_recipe_gives(tmp_path):
    copied, made = tmp_path / "copied.h5", tmp_path / "made.h5"
    assert copy_directions(swept(tmp_path), copied)
    none = swept(tmp_path, "none.h5", output__directions=False)
    assert not copy_directions(none, made)
    draw_directions(none, made)
    theta = dict(tiny.network().named_parameters()) | torch.load(tmp_path / "net.pt")
    recipe = RandomDirections(3, "filter", "biasbn")
    for axis, group in enumerate(["xdirection", "ydirection"]):
        expected = [tensor.numpy() for tensor in recipe.draw({n: theta[n] for n in NAMES}, axis).values()]
        for path in (copied, made):
            for ours, right in zip(tensors(path, group), expected, strict=True):
                np.testing.assert_array_equal(ours, right)
    assert read_directions(copied, 2).fingerprints == read_directions(made, 2).fingerprints


def test_complex_numbers_and_numbers_without_dimensions(tmp_path):
    theta = {"scale": torch.tensor(2.0), "c": torch.randn(3, 4, dtype=torch.complex64), "empty": torch.zeros(0, 3)}
    direction = RandomDirections(0, "filter", "none").draw(theta, 0)
    for name in theta:
        whole = torch.view_as_real(direction[name]) if name == "c" else direction[name]
        pieces = list(direction.pieces(name))
        joined = pieces[0] if whole.dim() == 0 else torch.cat([torch.zeros(0, *whole.shape[1:]), *pieces])
        assert torch.equal(joined, whole)


@pytest.mark.slow
def test_large_networks_are_drawn_from_their_mapped_file_a_piece_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(large, "LARGE", 1000)
    (tmp_path / "wide.py").write_text(WIDE)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 30_000), nn.Linear(30_000, 3))
    save_file({name: tensor.bfloat16() for name, tensor in network.state_dict().items()}, tmp_path / "w.safetensors")
    model = {"build": "wide:network", "checkpoint": "w.safetensors"}
    grid = {"alpha": [-1, 1, 2], "beta": [-1, 1, 2]}
    surface = swept(tmp_path, model=model, output__directions=False, grid=grid)
    monkeypatch.setattr(parameters, "PIECE", 1000)
    draw_directions(surface, tmp_path / "d.h5")
    again = swept(tmp_path, "again.h5", model=model, plane={"kind": "file", "path": "d.h5"}, grid=grid)
    assert results(again) == results(surface)

    def drawn_whole(*_):
        raise MemoryError

    monkeypatch.setattr(DrawnDirection, "__getitem__", drawn_whole)
    kept = swept(tmp_path, "kept.h5", model=model, output__directions=True, grid=grid)
    for group in ("xdirection", "ydirection"):
        for one, other in zip(tensors(kept, group), tensors(tmp_path / "d.h5", group), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_theta_is_looked_for_where_the_job_may_have_been(tmp_path, monkeypatch):
    surface = swept(tmp_path, "surfaces/deep/s.h5", output__directions=False)
    target = tmp_path / "d.h5"
    draw_directions(surface, target)  # from the folder that holds surfaces/deep
    expected = target.read_bytes()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = shutil.copy(surface, elsewhere / "moved.h5")
    sentence = r"model\.checkpoint: found no net\.pt from .*elsewhere.*--job FILE.*--checkpoint"
    with pytest.raises(UserError, match=sentence):
        draw_directions(moved, target)
    draw_directions(moved, target, job=tmp_path / "job.yaml")
    assert target.read_bytes() == expected
    monkeypatch.chdir(tmp_path)
    draw_directions(moved, target)
    assert target.read_bytes() == expected

    torch.save(tiny.network().state_dict(), elsewhere / "net.pt")  # another one, beside the surface
    draw_directions(moved, target)
    assert target.read_bytes() == expected
    monkeypatch.chdir(elsewhere)
    with pytest.raises(UserError, match=r"net\.pt is another file than theta\*"):
        draw_directions(moved, target)
    draw_directions(moved, target, checkpoint=tmp_path / "net.pt")
    assert target.read_bytes() == expected
    with pytest.raises(UserError, match=r"--job: no file .*none\.yaml"):
        draw_directions(moved, target, job=tmp_path / "none.yaml")


def test_another_direction_than_the_surface_was_swept_along_is_refused(tmp_path):
    surface = swept(tmp_path, output__directions=False)
    with h5py.File(surface, "a") as file:
        file.attrs["ydirection_sha256"] = "0" * 64
    with pytest.raises(UserError, match=r"plane: what is drawn here is not the direction.*ydirection_sha256 differs"):
        draw_directions(surface, tmp_path / "d.h5")
    assert not (tmp_path / "d.h5").exists()


def test_directions_that_cannot_be_drawn(tmp_path):
    surface = swept(tmp_path, output__directions=False, grid={"alpha": [0, 1, 3]})
    with h5py.File(surface, "a") as file:
        file.attrs["generator"] = "counter-1"
    with pytest.raises(UserError, match="drawn by the generator counter-1, which this version lacks"):
        draw_directions(surface, tmp_path / "d.h5")
    torch.save(tiny.network().state_dict(), tmp_path / "other.pt")
    line = swept(tmp_path, "line.h5", plane={"kind": "interpolate", "to": "other.pt"}, grid={"alpha": [0, 1, 3]})
    with h5py.File(line, "a") as file:
        del file["xdirection"]
    with pytest.raises(UserError, match="those of its plane are not drawn at random"):
        draw_directions(line, tmp_path / "d.h5")


def test_a_surface_from_python_does_not_say_where_its_network_is(tmp_path):
    theta, (inputs, targets) = tiny.network(), tiny.data(None, "train")
    surface = tmp_path / "surface.h5"
    landscape_mpi.sweep(theta, "cross_entropy", (inputs, targets), grid=(3,), output=surface, quiet=True)
    with h5py.File(surface, "a") as file:
        del file["xdirection"]
    with pytest.raises(UserError, match="was swept from Python, so that nothing says where its network is"):
        draw_directions(surface, tmp_path / "d.h5")


def test_damaged_directions_are_not_copied(tmp_path):
    surface = swept(tmp_path)
    with h5py.File(surface, "a") as file:
        file["xdirection/0"][0, 0] += 1
    (tmp_path / "d.h5").write_text("before")
    with pytest.raises(UserError, match=r"is damaged.*directions_sha256 differs"):
        copy_directions(surface, tmp_path / "d.h5")
    assert (tmp_path / "d.h5").read_text() == "before"


def test_a_full_disk_is_that_of_the_file_that_is_written(tmp_path):
    surface = swept(tmp_path)
    full = pytest.raises(UserError, match=r"d\.h5: cannot be written \(No space")
    with small_disk(tmp_path / "disk", 8) as disk, full:
        copy_directions(surface, disk.folder / "d.h5")


def test_mistakes_of_the_command(tmp_path):
    surface = swept(tmp_path)
    with pytest.raises(UserError, match=r"nothing is to be written; expected TARGET or --directions FILE\.h5"):
        run(["export", str(surface)])
    with pytest.raises(UserError, match="is the file to read as well"):
        run(["export", str(surface), "--directions", str(surface)])
    with pytest.raises(UserError, match="there is no folder"):
        run(["export", str(surface), "--directions", str(tmp_path / "none/d.h5")])


@pytest.mark.slow
def test_a_copy_imports_no_torch(tmp_path):
    surface = swept(tmp_path)
    code = (
        "import sys; from landscape_mpi.cli import run; run(sys.argv[1:]); "
        "sys.exit({'torch', 'mpi4py.MPI'}.intersection(sys.modules) or None)"
    )
    command = [sys.executable, "-c", code, "export", str(surface), "--directions", str(tmp_path / "d.h5")]
    assert subprocess.run(command, check=False).returncode == 0

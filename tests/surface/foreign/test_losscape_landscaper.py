"""Planes in the files of losscape and landscaper.

The files are written as those tools write them (`made_surfaces.py`); files of losscape 1.5.10 and landscaper 1.3.1
themselves were read by hand.
"""

import io
import zipfile

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.plot.__main__ import main
from landscape_mpi.surface.export import export
from landscape_mpi.surface.foreign import landscaper as module
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.status import describe
from plot.made_surfaces import bowl, write_landscaper, write_losscape

ALPHA, BETA = np.linspace(-0.5, 1.1, 9), np.linspace(-1.0, 0.4, 7)
LOSS, SQUARE = bowl(ALPHA, BETA), bowl(ALPHA, ALPHA)


@pytest.fixture
def losscape(tmp_path):
    return write_losscape(tmp_path / "data.h5", ALPHA, BETA, LOSS)


@pytest.fixture
def landscaper(tmp_path):
    return write_landscaper(tmp_path / "plane.npz", ALPHA, SQUARE)


def archive(path, **members):
    """Write an archive; a member is an array or the bytes of one."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, member in members.items():
            file.writestr(f"{name}.npy", member if isinstance(member, bytes) else array_bytes(member))
    return path


def array_bytes(values, **options):
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def header(text):
    """Return the head of an .npy file, without any values."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def refused(path, match):
    with pytest.raises(UserError, match=match) as caught:
        read_surface(path)
    assert str(caught.value).isprintable()


def test_a_plane_of_losscape(losscape):
    surface = read_surface(losscape)
    np.testing.assert_array_equal(surface.metrics["train_loss"], LOSS)
    np.testing.assert_array_equal(surface.alpha, ALPHA)
    np.testing.assert_array_equal(surface.beta, BETA)
    assert (surface.shape, surface.complete, surface.job) == ((7, 9), True, None)


def test_a_plane_of_landscaper_has_alpha_first(landscaper):
    surface = read_surface(landscaper)
    np.testing.assert_array_equal(surface.metrics["loss"], SQUARE)
    np.testing.assert_array_equal(surface.alpha, ALPHA)
    np.testing.assert_array_equal(surface.beta, ALPHA)
    assert not np.array_equal(SQUARE, SQUARE.T)
    assert surface.complete


@pytest.mark.slow
def test_a_line_of_landscaper(tmp_path):
    surface = read_surface(write_landscaper(tmp_path / "line.npz", ALPHA, ALPHA**2))
    assert surface.is_line
    np.testing.assert_array_equal(surface.metrics["loss"], ALPHA**2)
    assert main([str(surface.path), "-o", str(tmp_path / "line.svg")]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("made", ["losscape", "landscaper"])
def test_they_are_drawn_described_and_exported(made, tmp_path, request):
    path = request.getfixturevalue(made)
    assert main([str(path), "-o", str(tmp_path / "f.png")]) == 0
    assert main([str(path), "--kind", "surface", "--vtk", str(tmp_path / "f.vts")]) == 2
    assert main([str(path), "--vtk", str(tmp_path / "f.vts")]) == 0
    assert "81 of 81 done" in describe(path) or "63 of 63 done" in describe(path)
    export(path, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        assert {"train_loss", "loss"} & set(found)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"losses": LOSS.T}, r"X \(7, 9\), Y \(7, 9\) and losses \(9, 7\) do not fit together"),
        ({"losses": np.zeros((0, 0)), "X": np.zeros((0, 0)), "Y": np.zeros((0, 0))}, "do not fit together"),
        ({"X": np.meshgrid(ALPHA, BETA)[1]}, "X and Y are no mesh; expected equal rows and equal columns"),
        ({"X": np.zeros((7, 9))}, "the first coordinate is not a row of finite numbers in ascending"),
        ({"Y": np.full((7, 9), np.inf)}, "the second coordinate is not a row of finite numbers"),
        ({"losses": np.full((7, 9), b"a")}, r"losses holds \|S1, expected numbers"),
    ],
)
def test_no_plane_of_losscape(losscape, changes, sentence):
    with h5py.File(losscape, "r+") as file:
        for name, values in changes.items():
            del file[name]
            file[name] = values
    refused(losscape, sentence)


def test_a_cube_of_landscaper(tmp_path):
    np.savez(tmp_path / "cube.npz", loss=np.zeros((5, 5, 5)), coordinates=[np.linspace(-1, 1, 5)] * 3)
    refused(
        tmp_path / "cube.npz",
        r"loss \(5, 5, 5\) and coordinates \(3, 5\); expected .* a plane \(landscaper's `dim=2`\)",
    )


class Booby:
    """Makes a file when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


@pytest.mark.parametrize("name", ["loss", "coordinates"])
def test_nothing_in_an_archive_is_unpickled(tmp_path, name):
    members = {"loss": SQUARE, "coordinates": np.stack([ALPHA, ALPHA])}
    trap = array_bytes(np.array([Booby(tmp_path / "sprung")], object), allow_pickle=True)
    refused(archive(tmp_path / "s.npz", **{**members, name: trap}), "the file is damaged or cannot be read")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({}, "found nothing; expected `loss` and `coordinates`, as landscaper has"),
        ({"train_loss": SQUARE, "status": SQUARE}, "found train_loss, status; expected `loss` and `coordinates`"),
        ({"loss": np.array(["a"]), "coordinates": ALPHA}, "loss holds <U1, expected numbers"),
        ({"loss": SQUARE.astype(complex), "coordinates": ALPHA}, "loss holds complex128, expected numbers"),
        ({"loss": SQUARE[:5], "coordinates": np.stack([ALPHA, ALPHA])}, r"loss \(5, 9\) and coordinates \(2, 9\)"),
        ({"loss": SQUARE, "coordinates": ALPHA}, r"coordinates \(9,\)"),
        ({"loss": np.array(1.0), "coordinates": np.zeros((0, 4))}, r"loss \(\) and coordinates \(0, 4\)"),
        ({"loss": SQUARE, "coordinates": np.zeros((2, 9))}, "the first coordinate is not a row of finite numbers"),
        ({"loss": b"", "coordinates": ALPHA}, "damaged or cannot be read"),
        ({"loss": header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1 << 60,)}\n")}, "damaged or cannot"),
        ({"loss": header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,)}\n" % (1 << 60))}, "damaged or ca"),
        ({"loss": header(b"__import__('os').abort()\n")}, "damaged or cannot be read"),
    ],
    ids=str,
)
def test_no_archive_of_landscaper(tmp_path, members, sentence):
    refused(archive(tmp_path / "s.npz", **members), sentence)


def test_an_archive_that_unfolds_without_an_end(tmp_path, monkeypatch):
    assert module.LARGEST == 8 * 4096**2 + 4096
    monkeypatch.setattr(module, "LARGEST", 1 << 16)
    bomb = archive(tmp_path / "s.npz", loss=bytes(1 << 24), coordinates=np.zeros((2, 9)))
    assert bomb.stat().st_size < 1 << 16
    # in this process: the one that reads files apart may have begun before the limit was lowered
    with pytest.raises(UserError, match="loss claims 16777216 bytes; expected at most 65536"):
        module.read_landscaper(bomb)


def test_an_archive_that_is_none(tmp_path):
    (tmp_path / "s.npz").write_bytes(b"PK\x03\x04 and nothing more")
    refused(tmp_path / "s.npz", "damaged or cannot be read")
    refused(tmp_path / "none.npz", "expected a surface file, found no such file")
    refused(tmp_path, "found a folder")

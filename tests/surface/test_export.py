"""Surfaces as npz, csv and netCDF, opened again by the programs that people open them with."""

import json
import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.files import atomic
from landscape_mpi.surface import NewSurface, Rows, create_surface
from landscape_mpi.surface.export import export
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.zarr_store import write_zarr
from plot.made_surfaces import JOB, bowl, write, write_foreign
from support.launch import launch
from support.small_disk import small_disk

ALPHA, BETA = np.linspace(-0.5, 1.1, 9), np.linspace(-1.0, 0.4, 7)
LOSS = bowl(ALPHA, BETA)
ATTRIBUTES = {"cosine": 0.125, "batch": 128, "created": "heute, ä"}


@pytest.fixture
def plane(tmp_path):
    """A plane with a NaN and an inf among its results, a point that failed and one that nobody has tried."""
    loss, status = LOSS.copy(), np.ones(LOSS.shape, np.uint8)
    loss[0, 1], loss[2, 3], status[4, 5], status[6, 8] = np.nan, np.inf, 2, 0
    metrics = {"train_loss": loss, "test_acc": 100 - LOSS}
    return write(tmp_path / "s.h5", ALPHA, BETA, metrics, status=status, attributes=ATTRIBUTES)


@pytest.fixture
def line(tmp_path):
    return write(tmp_path / "line.h5", ALPHA, None, {"train_loss": ALPHA**2})


def expected(plane):
    """The status and what every format has to give back: NaN where a point is not done."""
    with h5py.File(plane) as file:
        status, names = file["status"][()], ("train_loss", "test_acc")
        return status, {name: np.where(status == 1, file[name][()], np.nan) for name in names}


def test_npz_holds_every_array_under_its_own_name(plane, tmp_path):
    export(plane, tmp_path / "out.npz")
    status, metrics = expected(plane)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert set(found) == {"xcoordinates", "ycoordinates", "status", "train_loss", "test_acc", "job", "attributes"}
        np.testing.assert_array_equal(found["xcoordinates"], ALPHA)
        np.testing.assert_array_equal(found["ycoordinates"], BETA)
        np.testing.assert_array_equal(found["status"], status)
        assert found["status"].dtype == np.uint8
        for name, values in metrics.items():
            np.testing.assert_array_equal(found[name], values)
        assert found["job"].item() == JOB
        assert ATTRIBUTES.items() <= json.loads(found["attributes"].item()).items()


@pytest.mark.slow
def test_csv_has_a_row_a_point_with_every_digit(plane, tmp_path):
    import pandas as pd  # slow

    export(plane, tmp_path / "out.csv")
    status, metrics = expected(plane)
    assert (tmp_path / "out.csv").read_text().startswith("alpha,beta,status,")
    frame = pd.read_csv(tmp_path / "out.csv")
    assert len(frame) == 63
    for name, values in {"status": status, **metrics}.items():
        np.testing.assert_array_equal(frame.pivot(index="beta", columns="alpha", values=name), values)
    np.testing.assert_array_equal(frame["alpha"].unique(), ALPHA)
    np.testing.assert_array_equal(frame["beta"].unique(), BETA)


def test_csv_has_the_precision_floor_in_a_column_where_it_is_known(tmp_path):
    plane = write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": LOSS}, attributes={"precision_floor": 0.00123})
    export(plane, tmp_path / "out.csv")
    found = np.genfromtxt(tmp_path / "out.csv", delimiter=",", names=True)
    assert found.dtype.names[-1] == "precision_floor"
    assert set(found["precision_floor"]) == {0.00123}


def test_csv_opens_in_numpy_too(plane, tmp_path):
    export(plane, tmp_path / "out.csv")
    found = np.genfromtxt(tmp_path / "out.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(found["train_loss"].reshape(7, 9), expected(plane)[1]["train_loss"])


def check_dataset(found, plane):
    status, metrics = expected(plane)
    assert found.sizes == {"ycoordinates": 7, "xcoordinates": 9}
    for name, values in {"status": status, **metrics}.items():
        assert found[name].dims == ("ycoordinates", "xcoordinates")
        np.testing.assert_array_equal(found[name], values)
    np.testing.assert_array_equal(found["xcoordinates"], ALPHA)
    assert found["train_loss"].sel(xcoordinates=ALPHA[5], ycoordinates=BETA[1]) == LOSS[1, 5]
    assert found["job"].item() == JOB
    assert ATTRIBUTES.items() <= found.attrs.items()


@pytest.mark.slow
def test_netcdf_opens_in_xarray(plane, tmp_path):
    import xarray as xr  # slow

    export(plane, tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as found:
        check_dataset(found, plane)
        assert found["status"].attrs["flag_meanings"] == "not_yet done failed"


def test_zarr_opens_in_xarray_and_in_its_own_library(plane, tmp_path):
    import xarray as xr  # slow

    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    export(plane, tmp_path / "out.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xr.open_dataset(tmp_path / "out.zarr", engine="zarr")
    with found:
        check_dataset(found, plane)
        assert found["status"].attrs == {"flag_values": [0, 1, 2], "flag_meanings": "not_yet done failed"}
        assert found["xcoordinates"].attrs["long_name"].startswith("alpha")
    group = zarr.open_group(tmp_path / "out.zarr", mode="r", zarr_format=3, use_consolidated=False)
    status, metrics = expected(plane)
    for name, values in {"status": status, **metrics}.items():
        assert (group[name].dtype, group[name].metadata.dimension_names) == (
            values.dtype,
            ("ycoordinates", "xcoordinates"),
        )
        np.testing.assert_array_equal(group[name][...], values)
    assert group["job"][()] == JOB


@pytest.mark.parametrize("name", ["..", ".", "__x", "a/../../b"])
def test_zarr_refuses_names_that_would_leave_its_folder(tmp_path, name):
    surface = read_surface(write_foreign(tmp_path / "g.h5", ALPHA, BETA, {"train_loss": LOSS}))
    surface = replace(surface, metrics={**surface.metrics, name: LOSS})
    (tmp_path / "z").mkdir()
    with pytest.raises(UserError, match="is no name for an array of Zarr"):
        write_zarr(surface, tmp_path / "z")
    assert {path.name for path in tmp_path.iterdir()} == {"g.h5", "z"}


def test_a_folder_that_is_no_zarr_is_never_replaced(plane, tmp_path):
    target = tmp_path / "out.zarr"
    target.mkdir()
    (target / "mine").write_text("x")
    (tmp_path / "link.zarr").symlink_to(target)
    for place in (target, tmp_path / "link.zarr"):
        with pytest.raises(UserError, match=r"is there, and is no folder of Zarr; expected a new name"):
            export(plane, place)
    assert [path.name for path in target.iterdir()] == ["mine"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_zarr_that_is_there_is_replaced_whole(plane, line, tmp_path, monkeypatch, exchange):
    target = tmp_path / "out.zarr"
    export(plane, target)
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    before = {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    export(line, target)
    assert not (target / "ycoordinates").exists()
    export(plane, target)
    assert {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"s.h5", "line.h5", "out.zarr"}
    monkeypatch.setattr(atomic, "make_durable", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"out\.zarr.*No space left on device"):
        export(line, target)
    assert {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"s.h5", "line.h5", "out.zarr"}


def test_netcdf_opens_in_the_netcdf_library(plane, tmp_path):
    import xarray as xr  # slow

    pytest.importorskip("netCDF4", reason="netCDF4 is not installed")
    export(plane, tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc", engine="netcdf4") as found:
        check_dataset(found, plane)


@pytest.mark.parametrize("ending", ["npz", "csv", "nc"])
def test_a_line_has_no_beta(line, tmp_path, ending):
    import pandas as pd  # slow
    import xarray as xr  # slow

    target = tmp_path / f"out.{ending}"
    export(line, target)
    if ending == "npz":
        with np.load(target) as found:
            assert "ycoordinates" not in found
            np.testing.assert_array_equal(found["train_loss"], ALPHA**2)
    elif ending == "csv":
        frame = pd.read_csv(target)
        assert list(frame) == ["alpha", "status", "train_loss"]
        np.testing.assert_allclose(frame["train_loss"], ALPHA**2, rtol=1e-15)
    else:
        with xr.open_dataset(target, engine="h5netcdf") as found:
            assert found["train_loss"].dims == ("xcoordinates",)


def test_a_surface_opens_in_xarray_as_it_is(tmp_path):
    """As `sweep` creates it, directions and all."""
    import xarray as xr  # slow

    direction = [Rows("conv.weight", (2, 3), [np.ones((2, 3), np.float32)])]
    results = ("train_loss", "train_loss_stderr", "train_examples")
    create_surface(
        tmp_path / "s.h5",
        NewSurface(
            (ALPHA, BETA),
            results,
            (direction, direction),
            JOB,
            {"batch": 128},
        ),
    )
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        file["train_loss"][2, 5] = 7.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xr.open_dataset(tmp_path / "s.h5", engine="h5netcdf")
    with found:
        assert {*results, "status", "seconds", "rank", "job"} <= set(found)
        assert found["train_loss"].sel(xcoordinates=ALPHA[5], ycoordinates=BETA[2]) == 7.0
        assert found["train_loss"].isnull().sum() == 62
        assert found.attrs["batch"] == 128
        assert found["job"].item().decode() == JOB


@pytest.mark.parametrize("ending", ["npz", "csv", "nc"])
def test_names_and_texts_of_others_are_no_trouble(tmp_path, ending):
    """Names that functions take for arguments, or that terminals obey; texts beyond any attribute."""
    import pandas as pd  # slow

    path = write_foreign(tmp_path / "g.h5", ALPHA, BETA, {"file": LOSS, "allow_pickle": LOSS, "\x1b[2J": LOSS})
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = np.bytes_(b"a\x00b")
        file.attrs["long"] = "ä" * 20_000
    target = tmp_path / f"out.{ending}"
    export(path, target)
    names = {"csv": pd.read_csv, "npz": np.load, "nc": lambda path: h5py.File(path, "r")}[ending](target)
    assert {"file", "allow_pickle"} <= set(names)


def test_mistakes_write_nothing(plane, tmp_path):
    before = set(tmp_path.iterdir())
    for source, target, sentence in [
        (plane, tmp_path / "out.xls", r"out\.xls: found the ending '\.xls'; expected one of \.npz, \.csv, \.nc"),
        (plane, tmp_path / "out", "found no ending"),
        (plane, tmp_path / "absent" / "out.nc", "there is no folder"),
        (tmp_path / "none.h5", tmp_path / "out.nc", r"none\.h5: expected a surface file, found no such file"),
    ]:
        with pytest.raises(UserError, match=sentence):
            export(source, target)
    assert set(tmp_path.iterdir()) == before


def test_a_file_is_never_exported_onto_itself(plane, tmp_path):
    plane.rename(tmp_path / "s.nc")
    content = (tmp_path / "s.nc").read_bytes()
    with pytest.raises(UserError, match="is the file to read as well"):
        export(tmp_path / "s.nc", tmp_path / "s.nc")
    assert (tmp_path / "s.nc").read_bytes() == content


@pytest.mark.parametrize("ending", ["npz", "csv", "nc"])
def test_the_command_says_what_it_wrote_and_replaces_what_was_there(plane, tmp_path, ending):
    target = tmp_path / f"out.{ending}"
    target.write_text("old")
    done = launch("export", plane, target)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{target}\n", "")
    assert target.read_bytes()[:3] != b"old"
    first = target.read_bytes()
    export(plane, target)
    assert target.read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"s.h5", f"out.{ending}"}


@pytest.mark.parametrize("ending", ["npz", "csv", "nc"])
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(tmp_path, ending):
    axis = np.linspace(-1, 1, 120)
    large = write(tmp_path / "large.h5", axis, axis, {"train_loss": bowl(axis, axis)})
    with small_disk(tmp_path / "disk", 64) as disk:
        target = disk.folder / f"out.{ending}"
        target.write_text("old")
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); expected a place"):
            export(large, target)
        assert target.read_text() == "old"
        assert list(disk.folder.iterdir()) == [target]

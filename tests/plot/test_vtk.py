"""Planes and volumes for ParaView, read and drawn by VTK itself."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from landscape_mpi.plot.__main__ import main
from landscape_mpi.surface.training import Trajectory, write_trajectory
from plot.made_surfaces import bowl, bowls, coarse, write, write_foreign

pytest.importorskip("vtkmodules.vtkIOXML", reason="vtk is not installed")
from plot import vtk_views

ALPHA, BETA = np.linspace(-0.5, 1.1, 9), np.linspace(-1.0, 0.4, 7)
LOSS = bowl(ALPHA, BETA)


@pytest.fixture
def gaps(tmp_path):
    """A plane with a NaN and an inf among its results."""
    loss = LOSS.copy()
    loss[1, 2], loss[4, 6] = np.nan, np.inf
    return write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": loss, "test_acc": 100 - LOSS})


def converted(surface, *flags):
    """Return VTK's grid, its arrays and its points."""
    target = surface.with_suffix(".vts")
    assert main([str(surface), "--vtk", str(target), *flags]) == 0
    grid = vtk_views.read_grid(target)
    return grid, *vtk_views.arrays(grid)


def test_every_array_is_there_and_lies_where_it_belongs(gaps):
    _, data, points = converted(gaps, "--linear")
    assert set(data) == {"train_loss", "test_acc", "status", "zvalue", "vtkGhostType"}
    with h5py.File(gaps) as file:
        for name in ("train_loss", "test_acc", "status"):
            np.testing.assert_array_equal(data[name], file[name])
    columns, rows = np.meshgrid(ALPHA, BETA)
    np.testing.assert_array_equal(points[..., 0], columns)
    np.testing.assert_array_equal(points[..., 1], rows)


def test_the_height_is_the_metric_and_gaps_are_hidden(gaps):
    grid, data, points = converted(gaps, "--linear")
    whole = np.ones(LOSS.shape, bool)
    whole[1, 2] = whole[4, 6] = False
    np.testing.assert_array_equal(points[..., 2][whole], LOSS[whole])
    np.testing.assert_array_equal(data["zvalue"][whole], LOSS[whole])
    assert np.isnan(data["zvalue"][~whole]).all()
    assert np.isfinite(points).all()
    visible = [bool(grid.IsPointVisible(i)) for i in range(whole.size)]
    np.testing.assert_array_equal(visible, whole.ravel())
    assert sum(not grid.IsCellVisible(i) for i in range(grid.GetNumberOfCells())) == 8


def test_another_metric_on_a_log_scale_within_limits(gaps):
    _, data, points = converted(gaps, "--metric", "test_acc", "--log", "--vmax", "99")
    np.testing.assert_allclose(points[..., 2], np.log10(np.minimum(100 - LOSS, 99)), rtol=1e-15)
    np.testing.assert_array_equal(data["zvalue"], points[..., 2])
    np.testing.assert_array_equal(data["test_acc"], 100 - LOSS)


def test_what_is_not_done_yet_lies_between_its_neighbours(tmp_path):
    """As in figures; the results themselves stay NaN."""
    status, slope = coarse(LOSS.shape, 2), 2.0 + ALPHA[None, :] + 3 * BETA[:, None] + 2
    path = write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": np.where(status == 1, slope, np.nan)}, status=status)
    _, data, points = converted(path, "--linear")
    np.testing.assert_allclose(points[..., 2], slope)
    np.testing.assert_array_equal(np.isnan(data["train_loss"]), status == 0)
    assert not data["vtkGhostType"].any()


def test_a_volume_lies_where_it_belongs_and_what_is_not_there_is_hidden(tmp_path, capsys):
    gamma = np.array([-0.5, 0.0, 0.25, 1.0])
    loss = bowls(ALPHA, BETA, gamma)
    accuracy = 100 / (1 + loss)
    status = np.ones(loss.shape, np.uint8)
    loss[1, 2, 3], status[3, 6, 8], status[0, 0, 1] = np.inf, 0, 2
    path = write(tmp_path / "v.h5", ALPHA, BETA, {"train_loss": loss, "test_acc": accuracy}, gamma=gamma, status=status)
    line = np.array([0.0, 0.5, 1.0])
    with h5py.File(path, "r+") as file:
        run = Trajectory((line, -line, line / 2), line, np.array([0, 5, 9]), line + 7, np.full(3, np.nan))
        write_trajectory(file, run)
    grid, data, points = converted(path, "--log")
    assert capsys.readouterr().out.split() == [str(path.with_suffix(ending)) for ending in (".vts", ".vtp")]
    assert grid.GetExtent() == (0, 8, 0, 6, 0, 3)
    z, y, x = np.meshgrid(gamma, BETA, ALPHA, indexing="ij")
    np.testing.assert_array_equal(points, np.stack([x, y, z], axis=-1))
    here = (status == 1) & np.isfinite(loss)
    np.testing.assert_array_equal(data["train_loss"], np.where(status == 1, loss, np.nan))
    np.testing.assert_array_equal(data["test_acc"], np.where(status == 1, accuracy, np.nan))
    np.testing.assert_array_equal(data["status"], status)
    np.testing.assert_allclose(data["zvalue"], np.where(here, np.log10(np.where(here, loss, 1)), np.nan), rtol=1e-14)
    visible = np.array([bool(grid.IsPointVisible(i)) for i in range(loss.size)])
    np.testing.assert_array_equal(visible, here.ravel())
    assert sum(not grid.IsCellVisible(i) for i in range(grid.GetNumberOfCells())) == 8 + 1 + 2
    data, points, _ = vtk_views.read_line(path.with_suffix(".vtp"))
    np.testing.assert_array_equal(points, np.column_stack([line, -line, line / 2]))
    np.testing.assert_array_equal(data["train_loss"], line + 7)


def test_a_plane_of_a_volume_is_a_plane(tmp_path):
    gamma = np.array([-0.5, 0.0, 1.0])
    loss = bowls(ALPHA, BETA, gamma)
    path = write(tmp_path / "v.h5", ALPHA, BETA, {"train_loss": loss}, gamma=gamma)
    _, data, points = converted(path, "--linear", "--at", "gamma=0.9")
    np.testing.assert_array_equal(points[..., 2], loss[2])
    np.testing.assert_array_equal(data["train_loss"], loss[2])


def test_files_of_others_and_names_that_are_no_xml(tmp_path):
    name = 'a"<b>&\x1b'
    _, data, points = converted(
        write_foreign(tmp_path / "g.h5", ALPHA, BETA, {"train_loss": LOSS, name: LOSS}), "--linear"
    )
    np.testing.assert_array_equal(points[..., 2], LOSS)
    np.testing.assert_array_equal(data['a"<b>&\\x1b'], LOSS)


def test_a_training_run_is_a_line_on_the_surface(gaps, capsys):
    """Each checkpoint at the height of the plane there; beyond the grid and beside a gap at the lowest."""
    alpha, beta = np.array([2.0, 0.3, -0.2, 0.1]), np.array([0.0, -1.0, -0.8, -0.07])
    nothing = np.full(4, np.nan)
    run = Trajectory((alpha, beta), np.arange(4.0), np.array([0, 5, 10, 20]), np.arange(4.0) + 7, nothing)
    with h5py.File(gaps, "r+") as file:
        write_trajectory(file, run)
    converted(gaps, "--linear")
    assert capsys.readouterr().out.split() == [str(gaps.with_suffix(ending)) for ending in (".vts", ".vtp")]
    data, points, order = vtk_views.read_line(gaps.with_suffix(".vtp"))
    np.testing.assert_array_equal(points[:, :2], np.column_stack([alpha, beta]))
    lowest = np.delete(LOSS.ravel(), [1 * 9 + 2, 4 * 9 + 6]).min()
    row = (beta[3] - BETA[3]) / (BETA[4] - BETA[3])
    assert (points[0, 2], points[2, 2]) == (lowest, lowest)
    assert points[1, 2] == pytest.approx(LOSS[0, 4])
    assert points[3, 2] == pytest.approx(LOSS[3, 3] + row * (LOSS[4, 3] - LOSS[3, 3]))
    assert order == [0, 1, 2, 3]
    np.testing.assert_array_equal(data["epoch"], [0, 5, 10, 20])
    np.testing.assert_array_equal(data["train_loss"], run.train_loss)
    np.testing.assert_array_equal(data["zvalue"], points[:, 2])


def test_mistakes_write_nothing(gaps, tmp_path, capsys):
    line = write(tmp_path / "line.h5", ALPHA, None, {"train_loss": ALPHA**2})
    row = write(tmp_path / "row.h5", ALPHA, BETA[:1], {"train_loss": LOSS[:1]})
    before = set(tmp_path.iterdir())
    target = tmp_path / "out.vts"
    for arguments, sentence in [
        ([gaps, "--vtk", tmp_path / "out.vtk"], f"--vtk: {tmp_path}/out.vtk: found .vtk; expected .vts."),
        ([gaps, "--vtk", tmp_path / "absent" / "out.vts"], "there is no folder"),
        ([gaps, gaps, "--vtk", target], "--vtk: found 2 surfaces; expected one for each file."),
        ([gaps, "--vtk", target, "-o", tmp_path / "f.png"], "-o, --vtk: expected one of them"),
        ([gaps, "--vtk", target, "--caption", "a"], "found --caption as well"),
        ([gaps, "--vtk", target, "--levels", "1,2"], "found --levels as well"),
        ([line, "--vtk", target], "line.h5: found a line, which has no area; expected a plane or a volume."),
        ([row, "--vtk", target], "row.h5: found 9 x 1 points, which has no area"),
        ([gaps, "--vtk", target, "--metric", "loss"], "s.h5 has no loss"),
    ]:
        assert main([str(argument) for argument in arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


def test_the_command_says_what_it_wrote_twice_the_same(gaps, tmp_path, capsys):
    target = tmp_path / "out.vts"
    assert main([str(gaps), "--vtk", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    first = target.read_bytes()
    assert main([str(gaps), "--vtk", str(target)]) == 0
    assert target.read_bytes() == first


@pytest.mark.slow
def test_vtk_draws_what_was_computed(tmp_path):
    """From above, each point has the grey of its loss, and around a NaN one looks through."""
    axis = np.linspace(-1, 1, 21)
    loss = bowl(axis, axis)
    loss[4, 15] = np.nan
    surface = write(tmp_path / "s.h5", axis, axis, {"train_loss": loss})
    assert main([str(surface), "--linear", "--vtk", str(tmp_path / "s.vts")]) == 0
    program = [sys.executable, str(Path(vtk_views.__file__)), tmp_path / "s.vts", tmp_path / "seen.npy"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == vtk_views.CANNOT:
        pytest.skip(f"VTK cannot draw here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    seen = np.load(tmp_path / "seen.npy").astype(float)
    inner = ((axis[1:-1] + 1) / 2 * vtk_views.PIXELS).astype(int)
    found = seen[np.ix_(inner, inner)]
    low, high = np.nanmin(loss), np.nanmax(loss)
    grey = 255 * (loss[1:-1, 1:-1] - low) / (high - low)
    near_hole = np.zeros(grey.shape, bool)
    near_hole[2:5, 13:16] = True
    assert np.abs(found - grey)[~near_hole].max() < 8
    assert found[3, 14] == vtk_views.NOTHING
    assert 380 < (seen == vtk_views.NOTHING).sum() < 4000

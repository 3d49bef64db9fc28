"""A sweep that goes on where numbers round otherwise says so, and the file says which point is whose."""

import h5py
import pytest

from landscape_mpi.surface import read_surface
from support.jobs import tiny_job
from support.launch import launch

SAMPLED = {"data__options": {"images": 2000}, "sampling": {"error": 0.05, "audit": 0}}
ELSEWHERE = {"ONEDNN_MAX_CPU_ISA": "SSE41"}
DIFFER = "not all points are computed alike (settings none and ONEDNN_MAX_CPU_ISA=SSE41)"


def stopped(surface, *points):
    """Make it that of a sweep that was stopped."""
    with h5py.File(surface, "r+") as file:
        file["complete"][()] = 0
        for point in points:
            file["status"][point] = 0


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [None, pytest.param(2, marks=[pytest.mark.mpi, pytest.mark.slow])])
def test_it_is_told_and_kept_by_point(tmp_path, ranks):
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    first = launch("sweep", job, ranks=ranks)
    assert "computed alike" not in first.stderr
    (text,) = read_surface(surface).platforms
    assert "settings=none" in text
    stopped(surface, (0, 0), (4, 6))
    again = launch("sweep", job, ranks=ranks, env=ELSEWHERE)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count(DIFFER) == 1
    assert sorted(read_surface(surface).platforms.values()) == [2, 33]
    with h5py.File(surface) as file:
        assert file["made/by"][0, 0] == file["made/by"][4, 6] == 1
        assert not file["made/by"][1].any()
    for part in (": device=", "settings=ONEDNN_MAX_CPU_ISA=SSE41"):
        assert part in launch("info", surface).stdout


@pytest.mark.slow
def test_a_surface_begun_by_an_older_version_is_known_by_its_attributes(tmp_path):
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    launch("sweep", job)
    stopped(surface, (0, 0))
    with h5py.File(surface, "r+") as file:
        del file["made"]
    assert "computed alike" not in launch("sweep", job).stderr
    stopped(surface, (0, 0))
    again = launch("sweep", job, env=ELSEWHERE)
    assert again.returncode == 0, again.stderr
    assert DIFFER in again.stderr
    with h5py.File(surface) as file:
        notes = file["error"][()].ravel()
    assert [bool(note) for note in notes] == [True, *[False] * 34]
    assert notes[0].startswith(b"computed otherwise than points before: device=")


@pytest.mark.slow
def test_a_sampled_surface_says_who_was_last_at_a_point(tmp_path):
    job, surface = tiny_job(tmp_path, **SAMPLED), tmp_path / "surface.h5"
    assert launch("sweep", job).returncode == 0
    assert list(read_surface(surface).platforms.values()) == [35]
    stopped(surface)
    journal = tmp_path / "surface.h5.examples" / "rank-00000.journal"
    journal.write_bytes(journal.read_bytes()[:-40])  # the last slice is evaluated again
    again = launch("sweep", job, env=ELSEWHERE)
    assert again.returncode == 0, again.stderr
    assert DIFFER in again.stderr
    assert sorted(read_surface(surface).platforms.values()) == [1, 34]

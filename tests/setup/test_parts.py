"""A missing part of the machine skips its tests where it is optional and fails them where it is required."""

import sys
from pathlib import Path

import pytest

from support.launch import launch
from support.parts import required, way_of_setup

PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rsfE")
NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


@pytest.mark.parametrize(
    ("names", "way", "debian_root", "expected"),
    [
        ("", "apt", False, set()),
        ("", "apt", True, {"hdf5"}),
        ("", None, True, {"hdf5"}),
        ("", "pip", True, set()),
        ("hdf5", "pip", True, {"hdf5"}),
        ("mpi,hdf5", "apt", False, {"mpi", "hdf5"}),
        (" mpi, slurm ", None, False, {"mpi", "slurm"}),
    ],
)
def test_what_is_required(names: str, way: str | None, debian_root: bool, expected: set[str]) -> None:
    assert required(names, way, debian_root=debian_root) == expected


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(
        ValueError, match="LANDSCAPE_REQUIRE=mpi,hfd5: 'hfd5' is not one of mpi, hdf5, slurm, kernel, browser"
    ):
        required("mpi,hfd5", "apt", debian_root=False)


def test_the_way_of_setup_is_read_from_its_record(tmp_path: Path) -> None:
    assert way_of_setup(tmp_path) is None
    (tmp_path / ".landscape-setup").write_text("way=pip\nstate=unfinished\n")
    assert way_of_setup(tmp_path) == "pip"


@pytest.fixture
def marked_test(tmp_path: Path, checkout: Path) -> Path:
    """A test suite with our conftest and one test that needs SLURM, on a machine that is said to have none."""
    conftest = (checkout / "tests/conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(conftest + '\nPARTS["slurm"] = lambda: "slurmctld is missing"\n')
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers = slurm\npythonpath = {checkout / 'tests'}\n")
    (tmp_path / "test_marked.py").write_text("import pytest\n\n@pytest.mark.slurm\ndef test_needs_slurm():\n    pass\n")
    return tmp_path


@pytest.mark.parametrize(
    ("require", "code", "closing"),
    [("", 0, "1 skipped"), ("mpi", 0, "1 skipped"), ("slurm", 1, "slurm is required here, but slurmctld is missing")],
)
def test_a_missing_part_skips_or_fails(marked_test: Path, require: str, code: int, closing: str) -> None:
    run = launch(program=PYTEST, env=NO_PLUGINS | {"LANDSCAPE_REQUIRE": require}, cwd=marked_test)
    assert run.returncode == code, run.stdout
    assert closing in run.stdout
    assert "slurmctld is missing" in run.stdout


def test_a_misspelt_requirement_stops_the_tests(marked_test: Path) -> None:
    run = launch(program=PYTEST, env=NO_PLUGINS | {"LANDSCAPE_REQUIRE": "slrum"}, cwd=marked_test)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "'slrum' is not one of" in run.stderr

"""`make setup`: both ways lead to MPI and HDF5 that fit together; again is for free; an interruption does no harm."""

import shutil
import sys
import time
from pathlib import Path

import pytest

from support.jobs import results, tiny_job
from support.launch import kill_session, launch
from support.parts import way_of_setup
from support.setup_runs import CHECKOUT, in_environment, make_setup, start_setup

REPORT = """
import h5py, sys
from mpi4py import MPI
if MPI.COMM_WORLD.rank == 0:
    print(MPI.COMM_WORLD.size, h5py.get_config().mpi, MPI.Get_library_version(), sep="|")
"""
pytestmark = [pytest.mark.slow(10), pytest.mark.mpi]
needs_apt = pytest.mark.skipif(shutil.which("mpicc.openmpi") is None, reason="Open MPI is not installed by apt")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The remains of a set-up with MPI=pip, killed while pip was installing its first packages."""
    venv = tmp_path_factory.mktemp("pip") / "venv"
    run = start_setup(venv, "pip")
    deadline = time.monotonic() + 300
    while not any(venv.glob("lib/python*/site-packages/wheel*")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    kill_session(run)
    return venv


@pytest.fixture(scope="module")
def with_pip(interrupted: Path) -> Path:
    """An environment made with MPI=pip, at the second attempt."""
    assert way_of_setup(interrupted) == "pip"
    run = make_setup(interrupted, "pip")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "its set-up was interrupted" in run.stdout
    return interrupted


@pytest.fixture(scope="module")
def with_apt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made with MPI=apt: that of these tests, where it was made so, or one more."""
    if way_of_setup() == "apt":
        return Path(sys.prefix)
    venv = tmp_path_factory.mktemp("apt") / "venv"
    run = make_setup(venv, "apt")
    assert run.returncode == 0, run.stdout + run.stderr
    return venv


def report(venv: Path) -> list[str]:
    """World size, whether h5py has MPI, and the MPI library, as seen by the first of two ranks."""
    run = in_environment(venv, "mpirun", "-n", "2", "python", "-c", REPORT)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip().split("|")


def stamps(folder: Path) -> dict[Path, int]:
    """Every file below a folder and when it was last changed."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_pip_way_brings_its_own_mpi_and_serial_hdf5(with_pip: Path) -> None:
    size, parallel, library = report(with_pip)
    assert (size, parallel) == ("2", "False")
    assert library.startswith("MPICH")
    assert in_environment(with_pip, "which", "mpirun").stdout.strip() == str(with_pip / "bin/mpirun")


def test_a_sweep_on_mpich_without_parallel_hdf5_gives_the_same_bits(with_pip: Path, tmp_path: Path) -> None:
    there, here = tiny_job(tmp_path, output__file="there.h5"), tiny_job(tmp_path, "here.yaml", output__file="here.h5")
    run = in_environment(with_pip, "mpirun", "-n", "3", "python", "-m", "landscape_mpi", "sweep", there)
    assert run.returncode == 0, run.stderr
    assert launch("sweep", here).returncode == 0
    assert results(tmp_path / "there.h5") == results(tmp_path / "here.h5")


@needs_apt
def test_apt_way_has_parallel_hdf5(with_apt: Path) -> None:
    size, parallel, library = report(with_apt)
    assert (size, parallel) == ("2", "True")
    assert library.startswith("Open MPI")


@pytest.mark.parametrize("way", ["pip", "auto"])
def test_the_second_time_nothing_is_touched(with_pip: Path, way: str) -> None:
    before = stamps(with_pip)
    run = make_setup(with_pip, way)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert stamps(with_pip) == before


def test_an_outdated_environment_gets_what_it_lacks(with_pip: Path) -> None:
    in_environment(with_pip, "pip", "uninstall", "--yes", "msgspec")
    (with_pip / ".landscape-setup").write_text("way=pip\nstate=of older requirements\n")
    run = make_setup(with_pip, "auto")
    assert run.returncode == 0, run.stdout + run.stderr
    assert in_environment(with_pip, "python", "-c", "import msgspec").returncode == 0
    assert "anew" not in run.stdout


def test_everything_that_is_installed_is_pinned(with_pip: Path) -> None:
    pins = set((CHECKOUT / "constraints.txt").read_text().splitlines())
    frozen = in_environment(with_pip, "pip", "freeze", "--exclude-editable").stdout.split()
    assert [line for line in frozen if line.partition("+")[0] not in pins] == []
    assert len(frozen) > 40


def test_everything_is_installed(with_pip: Path) -> None:
    for line in (["pip", "check"], ["ruff", "--version"], ["landscape-mpi", "--version"], ["lint-imports", "--help"]):
        run = in_environment(with_pip, *line)
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"way": "conda"}, "MPI=conda is unknown; it is one of auto, apt, pip"),
        (
            {"way": "pip", "PYTHON": "python9"},
            "'python9' is no Python that runs; name Python 3.11 or newer with",
        ),
        ({"way": "pip"}, "holds something that is no virtual environment; choose another folder or remove it"),
    ],
)
def test_mistakes_are_named_and_nothing_is_touched(tmp_path: Path, variables: dict[str, str], sentence: str) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    run = make_setup(tmp_path, **variables)
    assert run.returncode != 0
    assert sentence in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

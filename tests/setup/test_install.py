"""The package installs from its wheel and from its sources into an environment that holds nothing else of it."""

import shutil
import sys
import zipfile
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import landscape_mpi
from support.launch import launch
from support.setup_runs import CHECKOUT, bare_environment, in_environment

pytestmark = pytest.mark.slow
PACKAGING = ("setup.py", "setup.cfg", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What packaging reads, copied: a build folder in the checkout would lend its stale files."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copytree(CHECKOUT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in PACKAGING:
        shutil.copy(CHECKOUT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
    run = launch("--wheel-dir", folder, sources, program=build)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = folder.glob("landscape_mpi-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without the package."""
    return bare_environment(tmp_path_factory.mktemp("clean") / "venv")


@pytest.fixture(scope="module", params=["wheel", "sources"])
def installed(request: pytest.FixtureRequest, environment: Path) -> Path:
    """The environment once the package is installed, from its wheel first and then from its sources."""
    what = request.getfixturevalue(request.param)
    in_environment(environment, "pip", "uninstall", "--yes", "landscape_mpi")
    succeed(in_environment(environment, "pip", "install", "-c", CHECKOUT / "constraints.txt", what))
    return environment


def succeed(run: CompletedProcess[str]) -> str:
    """What a command said that has to succeed."""
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    package = CHECKOUT / "src" / "landscape_mpi"
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("landscape_mpi/")}
    assert names == {str(path.relative_to(package.parent)) for path in files}
    assert "landscape_mpi/py.typed" in names


def test_wheel_says_version_licence_and_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
        assert any(name.endswith("/LICENSE") for name in archive.namelist())
    assert f"\nVersion: {landscape_mpi.__version__}\n" in metadata
    assert (CHECKOUT / "README.md").read_text().strip() in metadata


def test_both_commands_answer(installed: Path) -> None:
    assert landscape_mpi.__version__ in succeed(in_environment(installed, "landscape-mpi", "--version"))
    assert "sweep" in succeed(in_environment(installed, "python", "-m", "landscape_mpi", "--help"))
    assert "--kind" in succeed(in_environment(installed, "landscape-plot", "--help"))


def test_what_runs_is_what_was_installed(installed: Path) -> None:
    say = "import landscape_mpi, importlib.metadata as m; print(m.version('landscape_mpi'), landscape_mpi.__file__)"
    version, file = succeed(in_environment(installed, "python", "-c", say)).split()
    assert version == landscape_mpi.__version__
    assert Path(file).is_relative_to(installed)


def test_requirements_agree_with_each_other(installed: Path) -> None:
    succeed(in_environment(installed, "pip", "check"))

"""The package installs from its wheel and from its sources into an environment that holds nothing else of it."""

import re
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
PACKAGING = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What packaging reads, copied: a build folder in the checkout would lend its stale files."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copytree(
        CHECKOUT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
    )
    for name in PACKAGING:
        shutil.copy(CHECKOUT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    return build_wheel(sources, tmp_path_factory.mktemp("wheel"))


def build_wheel(sources: Path, folder: Path, **env: str) -> Path:
    """Build the wheel of some sources, copied so that nothing built before is taken for new."""
    copy = shutil.copytree(sources, folder / "sources")
    build = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
    run = launch("--wheel-dir", folder, copy, program=build, env=env)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = folder.glob("landscape_mpi-*.whl")
    return path


def names_in(wheel: Path) -> set[str]:
    """The files of the package in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("landscape_mpi/")}


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


def python_files() -> set[str]:
    """Every file of the package but the kernels, as C and as built."""
    package = CHECKOUT / "src" / "landscape_mpi"
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".so", ".c", ".h")}
    return {str(path.relative_to(package.parent)) for path in files}


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    assert {name for name in names_in(wheel) if not name.endswith(".so")} == python_files()
    assert {"landscape_mpi/py.typed", "landscape_mpi/__init__.pyi"} <= names_in(wheel)


@pytest.mark.kernel
def test_wheel_holds_the_compiled_kernels(wheel: Path) -> None:
    assert {"landscape_mpi/engines/_winograd.so", "landscape_mpi/plane/_kernel.so"} <= names_in(wheel)


@pytest.mark.kernel
def test_one_wheel_is_for_every_python_and_every_linux_of_ten_years(wheel: Path) -> None:
    assert "-py3-none-linux_" in wheel.name
    verdict = succeed(launch("show", wheel, program=[sys.executable, "-m", "auditwheel"]))
    assert 'platform tag: "manylinux_2_17_' in " ".join(verdict.split())


def test_without_a_c_compiler_the_wheel_is_built_without_the_kernels(sources: Path, tmp_path: Path) -> None:
    assert names_in(build_wheel(sources, tmp_path, CC="false")) == python_files()


def test_wheel_says_version_licence_and_readme(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
        assert any(name.endswith("/LICENSE") for name in archive.namelist())
    assert f"\nVersion: {landscape_mpi.__version__}\n" in metadata
    assert "\nDescription-Content-Type: text/markdown\n" in metadata
    description = metadata.partition("\n\n")[2]
    assert description.startswith("# landscape_mpi\n")
    assert set(re.findall(r"\]\((\w*)", description)) == {"https"}  # pictures and links that any page can follow
    code = "```" + (CHECKOUT / "README.md").read_text().split("```")[1] + "```"
    assert code in description


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

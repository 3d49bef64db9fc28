"""The recipes in packaging/ ask for what setup.cfg asks for, and what they take from the checkout is there."""

import ast
import configparser
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

import landscape_mpi
from support.setup_runs import CHECKOUT

PACKAGING = CHECKOUT / "packaging"
CONDA = {"matplotlib": "matplotlib-base", "torch": "pytorch"}
"""Packages that have another name at conda-forge."""


def wanted() -> dict[str, str]:
    """The least version of each package that setup.cfg asks for, and of Python."""
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg")
    options = config["options"]
    lines = [*options["install_requires"].split(), "python" + options["python_requires"]]
    return {(found := Requirement(line)).name: str(found.specifier).removeprefix(">=") for line in lines}


def test_the_conda_recipe_asks_for_the_same() -> None:
    recipe = yaml.safe_load((PACKAGING / "conda/recipe.yaml").read_text())
    assert recipe["context"]["version"] == landscape_mpi.__version__
    found = dict(line.split(" >=") for line in recipe["requirements"]["run"])
    assert found == {CONDA.get(name, name): version for name, version in wanted().items()}


def test_the_spack_recipe_asks_for_the_same() -> None:
    calls = [
        node for node in ast.walk(ast.parse((PACKAGING / "spack/package.py").read_text())) if isinstance(node, ast.Call)
    ]
    specs = [ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func) == "depends_on"]
    found = dict(re.fullmatch(r"(?:py-)?([\w-]+)@([\d.]+):(?:\+mpi)?", spec).groups() for spec in specs if "@" in spec)  # type: ignore[union-attr]
    assert found.pop("setuptools") == setuptools_of_the_build()
    assert found == wanted()


def setuptools_of_the_build() -> str:
    """The least version of setuptools that pyproject.toml asks for."""
    (line,) = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["build-system"]["requires"]
    return line.removeprefix("setuptools>=")


@pytest.mark.parametrize("name", ["Dockerfile", "landscape_mpi.def"])
def test_an_image_takes_the_wheel_and_the_script(name: str) -> None:
    text = (PACKAGING / name).read_text()
    assert "dist/*.whl" in text
    assert "sh /" in text
    for file in set(re.findall(r"packaging/[\w.]+", text)):
        assert (CHECKOUT / file).is_file(), file


def test_images_build_h5py_as_make_setup_does() -> None:
    variables = re.compile(r"HDF5_MPI=ON CC=mpicc\.openmpi HDF5_PKGCONFIG_NAME=hdf5-openmpi")
    for file in ("packaging/container.sh", "tools/setup.sh"):
        assert variables.search((CHECKOUT / file).read_text()), file


@pytest.mark.kernel
def test_wheels_are_made_for_both_architectures_and_tested_with_their_kernels() -> None:
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert settings["linux"]["archs"] == ["x86_64", "aarch64"]
    program, option, code = settings["test-command"].split(maxsplit=2)
    assert (program, option) == ("python", "-c")
    exec(compile(code.strip('"'), "test-command", "exec"), {})  # noqa: S102 - ours


def test_make_wheel_checks_what_it_builds() -> None:
    text = (CHECKOUT / "tools/wheel.sh").read_text()
    assert re.search(r"^\[ \"\$kernels\" = 2 \]", text, re.MULTILINE)
    assert "auditwheel show dist/*.whl" in text

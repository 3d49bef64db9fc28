"""What the project says about itself agrees with itself."""

import configparser

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import landscape_mpi
from support.setup_runs import CHECKOUT

PAPER = "Visualizing the Loss Landscape of Neural Nets"


def requirements() -> list[str]:
    """Every requirement of setup.cfg, those of the extras included."""
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    return [line for text in lists for line in text.split("\n") if line]


def pins() -> dict[str, str]:
    """The version of each package in constraints.txt."""
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(name): pin for name, equal, pin in (line.partition("==") for line in lines) if equal}


def test_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert citation["version"] == landscape_mpi.__version__
    assert [reference["title"] for reference in citation["references"]] == [PAPER]


@pytest.mark.parametrize("line", requirements())
def test_each_requirement_is_pinned_within_its_range(line: str) -> None:
    requirement = Requirement(line)
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])

"""The numbers of a small surface stay what they are within a minor version: those in numbers.json.

A new minor version may change them: `python tests/versions/test_numbers.py` writes them anew; CHANGELOG.md says why.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version
from torch import nn

import landscape_mpi
from landscape_mpi.data.shapes import ShapesOptions, draw_shapes10
from landscape_mpi.networks import zoo
from landscape_mpi.plane.counter import standard_normal

FILE = Path(__file__).with_name("numbers.json")
MINOR = "0.2"
"""The version that the numbers belong to, or that is being made."""
PLANES: Mapping[str, Mapping[str, Any]] = {
    "filter": {"kind": "random", "seed": 5},
    "layer": {"kind": "random", "seed": 5, "normalize": "layer", "ignore": "none"},
}
GRID = {"alpha": [-0.5, 0.5, 3], "beta": [-0.25, 0.5, 4]}


def network() -> nn.Module:
    """A thin ResNet-20 whose weights are numbers by counter, the same with every torch."""
    made: nn.Module = zoo.ZOO["resnet20"](width=4)
    for name, weight in made.named_parameters():
        if weight.dim() == 1:
            weight.data.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            numbers = torch.from_numpy(standard_normal(1, 0, name, 0, weight.numel())).reshape(weight.shape)
            weight.data.copy_(numbers * math.sqrt(0.5 / weight[0].numel()))
    return made


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    """Twenty images of shapes10, as float32 of about unit size, and their labels."""
    images, labels = draw_shapes10("train", ShapesOptions(images=20))
    return (torch.from_numpy(images).float() - 128) / 64, torch.from_numpy(labels).long()


def numbers(plane: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Sweep a plane and return its results by name."""
    surface = landscape_mpi.sweep(network(), "cross_entropy", examples(), plane, GRID, device="cpu", quiet=True)
    return {name: surface.metrics[name].tolist() for name in ("train_loss", "train_loss_stderr", "train_acc")}


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """The numbers of this minor version."""
    return dict(json.loads(FILE.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("plane", PLANES)
def test_the_numbers_are_those_of_this_minor_version(kept: dict[str, Any], plane: str) -> None:
    """Processors differ in last bits: losses agree as f(0, 0) has to; one example near a tie may change sides."""
    found = numbers(PLANES[plane])
    for name, values in kept[plane].items():
        most = {"atol": 100 / 20, "rtol": 0} if name == "train_acc" else {"rtol": 1e-5}
        np.testing.assert_allclose(found[name], values, **most, err_msg=f"{plane}: {name}")


def test_numbers_of_an_older_minor_version_are_written_anew(kept: dict[str, Any]) -> None:
    assert kept["version"] == MINOR
    assert Version(landscape_mpi.__version__).release[:2] <= Version(MINOR).release


def written() -> Iterator[str]:
    """The file, a line a result."""
    yield f'{{"version": "{MINOR}"'
    for plane, options in PLANES.items():
        lines = (f'"{name}": {json.dumps(values)}' for name, values in numbers(options).items())
        yield f',\n"{plane}": {{\n' + ",\n".join(lines) + "}"
    yield "}\n"


if __name__ == "__main__":
    FILE.write_text("".join(written()))

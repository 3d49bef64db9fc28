"""docs/api.md says all of it, and its example runs."""

import inspect
import re
from pathlib import Path

import pytest
import torch

import landscape_mpi
from support import tiny

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def words():
    """What stands in code style."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))


def test_every_argument_and_everything_of_a_surface_is_there():
    rows = {name for row in re.findall(r"(?m)^\| (`.*?`) \|", PAGE) for name in re.findall(r"`(\w+)`", row)}
    assert set(inspect.signature(landscape_mpi.sweep).parameters) <= rows
    public = {name for name in vars(landscape_mpi.Surface) if not name.startswith("_")}
    assert public - {"found", "content", "writes"} <= words()
    assert set(inspect.signature(landscape_mpi.Surface.plot).parameters) - {"self"} <= words()


@pytest.mark.slow
def test_the_example_runs():
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    assert len(example.strip().splitlines()) <= 5
    torch.manual_seed(0)
    inputs, targets = tiny.data(None, "train")
    names = {"network": tiny.network(), "inputs": inputs, "targets": targets}
    exec(example, names)  # noqa: S102 - our own page
    assert names["surface"].loss().shape == (25, 25)

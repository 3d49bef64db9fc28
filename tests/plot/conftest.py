"""Surfaces with known values, read back from real files."""

from pathlib import Path

import numpy as np
import pytest

from landscape_mpi.plot import figure, film, history
from landscape_mpi.surface.read import Surface, read_surface
from plot.made_surfaces import JOB, bowl, coarse, write

ALPHA = np.linspace(-0.5, 1.1, 9)
BETA = np.linspace(-1.0, 0.4, 7)


@pytest.fixture
def make(tmp_path):
    """Write a surface and read it back."""

    def made(metrics, *, alpha=ALPHA, beta=BETA, name="made.h5", **others) -> Surface:
        return read_surface(write(tmp_path / name, alpha, beta, metrics, **others))

    return made


@pytest.fixture
def rectangle(make) -> Surface:
    """9 x 7 points, off centre, another shape along alpha than along beta."""
    return make({"train_loss": bowl(ALPHA, BETA), "train_acc": 100 / (1 + bowl(ALPHA, BETA))})


@pytest.fixture
def unfinished(make) -> Surface:
    """A plane linear in alpha and beta, of which every second row and column is done."""
    status = coarse((BETA.size, ALPHA.size), 2)
    values = 2.0 + ALPHA[None, :] + 3 * BETA[:, None]
    return make({"train_loss": np.where(status == 1, values + 2, np.nan)}, status=status)


@pytest.fixture
def with_gaps(make) -> Surface:
    """A complete plane with one inf and two NaN results."""
    values = bowl(ALPHA, BETA)
    values[1, 2], values[4, 6], values[4, 7] = np.inf, np.nan, np.nan
    return make({"train_loss": values})


@pytest.fixture
def line(make) -> Surface:
    """41 points between two networks, train and test."""
    alpha = np.linspace(-0.5, 1.5, 41)
    loss = 0.05 + 8 * (alpha * (1 - alpha)) ** 2
    metrics = {"train_loss": loss, "test_loss": loss + 0.4, "train_acc": 100 / (1 + loss), "test_acc": 90 / (1 + loss)}
    job = JOB.replace("{kind: random, seed: 3}", "{kind: interpolate, to: nets/large_batch.t7}")
    return make(metrics, alpha=alpha, beta=None, name="line.h5", job=job)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path


@pytest.fixture
def layout() -> None:
    """Asked for by tests of where things stand, which need figures that are laid out."""


@pytest.fixture
def draft(request, monkeypatch) -> None:
    """Leave figures without a layout, which is most of the time that they take, but for tests that ask for `layout`."""
    if "layout" not in request.fixturenames:
        for module in (figure, film, history):
            monkeypatch.setattr(module, "settle", lambda _figure, _pictures: None)

"""`on_point`: what a function of the user's is told of each point, and what its mistakes cost."""

import numpy as np
import pytest
import torch

import landscape_mpi
from landscape_mpi import UserError
from support import tiny

GRID = {"alpha": [-1, 1, 4], "beta": [0, 1, 3]}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return tiny.network()


def swept(network, images=40, **options):
    return landscape_mpi.sweep(
        network, "cross_entropy", tiny.data(None, "train", images), quiet=True, **{"grid": GRID, **options}
    )


def test_each_point_is_told_once_with_what_the_surface_has_there(network):
    told = []
    surface = swept(network, on_point=told.append)
    assert [point.done for point in told] == [*range(1, 13)]
    assert {point.points for point in told} == {12}
    assert {point.index for point in told} == {*np.ndindex(3, 4)}
    for point in told:
        row, column = point.index
        assert point.coordinates == (surface.alpha[column], surface.beta[row])
        for name in ("train_loss", "train_acc", "train_loss_stderr"):
            assert point.values[name] == surface.metrics[name][point.index]


def test_a_line_has_one_coordinate(network):
    told = []
    surface = swept(network, grid={"alpha": [-1, 1, 3]}, on_point=told.append)
    assert sorted((point.index, point.coordinates) for point in told) == [
        ((column,), (alpha,)) for column, alpha in enumerate(surface.alpha)
    ]


@pytest.mark.slow
def test_of_a_sampled_sweep_the_last_that_is_told_of_a_point_is_its_estimate(network):
    told = {}
    surface = swept(
        network,
        images=4000,
        sampling={"error": 0.05, "audit": 2},
        on_point=lambda point: told.update({point.index: point}),
    )
    assert set(told) == {*np.ndindex(3, 4)}
    for index, point in told.items():
        assert point.values["train_loss"] == surface.metrics["train_loss"][index]
        assert point.values["train_loss_bar"] == surface.metrics["train_loss_bar"][index]
    assert max(point.done for point in told.values()) == 12


def test_what_it_raises_is_one_sentence_and_what_is_done_is_kept(network, tmp_path):
    told = []

    def breaks(point):
        told.append(point)
        if point.done == 5:
            raise ZeroDivisionError("no such run")

    output = tmp_path / "s.h5"
    with pytest.raises(UserError, match=r"on_point: it failed with ZeroDivisionError: no such run .*stays") as raised:
        swept(network, output=output, on_point=breaks)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    kept = landscape_mpi.open(output)
    assert int(np.isfinite(kept.metrics["train_loss"]).sum()) == 5
    surface = swept(network, output=output, on_point=told.append)
    assert surface.complete
    assert [point.done for point in told] == [*range(1, 13)]
    assert len({point.index for point in told}) == 12


def test_something_that_cannot_be_called_is_refused_before_anything_is_done(network, tmp_path):
    with pytest.raises(UserError, match=r"on_point: found a int; expected a function of one argument"):
        swept(network, output=tmp_path / "s.h5", on_point=3)
    assert not [*tmp_path.iterdir()]


def test_an_interrupt_that_it_raises_is_one_sentence_too_and_the_sweep_goes_on_later(network, tmp_path):
    def interrupted(point):
        raise KeyboardInterrupt

    with pytest.raises(UserError, match=r"on_point: it failed with KeyboardInterrupt .*stays in the file"):
        swept(network, output=tmp_path / "s.h5", on_point=interrupted)
    assert swept(network, output=tmp_path / "s.h5").complete

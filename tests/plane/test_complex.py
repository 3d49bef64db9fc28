"""Complex parameters: directions of both parts, norms over absolute values, and files that hold pairs of numbers."""

import numpy as np
import pytest
import torch

from landscape_mpi.plane import Plane, RandomDirections, difference, fit_direction
from landscape_mpi.plane.parameters import real, single

THETA = {
    "w": torch.complex(torch.randn(6, 5), torch.randn(6, 5)),
    "b": torch.complex(torch.randn(400), torch.randn(400)),
    "v": torch.randn(6, 5),
}


@pytest.mark.parametrize("axis", [0, 1])
def test_both_parts_of_a_direction_are_normal_and_other_tensors_keep_their_bits(axis):
    drawn = RandomDirections(7, "none", "none").draw({"b": THETA["b"], "v": THETA["v"]}, axis)
    assert drawn["b"].dtype == torch.complex64
    for part in (drawn["b"].real, drawn["b"].imag):
        assert abs(part.mean()) < 0.2
        assert abs(part.std() - 1) < 0.15
    pairs = RandomDirections(7, "none", "none").draw({"b": torch.zeros(400, 2), "v": THETA["v"]}, axis)
    assert torch.equal(pairs["v"], drawn["v"])


def test_filters_and_layers_get_the_norms_of_absolute_values():
    d = RandomDirections(0, "filter", "biasbn").draw(THETA, 0)
    torch.testing.assert_close(d["w"].abs().square().sum(1), THETA["w"].abs().square().sum(1))
    assert not d["b"].any()
    whole = RandomDirections(0, "layer", "biasbn").draw(THETA, 0)["w"]
    assert whole.abs().square().sum().item() == pytest.approx(THETA["w"].abs().square().sum().item(), rel=1e-6)


def test_points_norms_and_angles_count_both_parts():
    delta = {name: torch.ones_like(tensor) * (1j if tensor.is_complex() else 1) for name, tensor in THETA.items()}
    eta = {name: torch.ones_like(tensor) for name, tensor in THETA.items()}
    plane = Plane(THETA, (delta, eta))
    assert torch.equal(plane.at(2.0, 3.0)["w"], THETA["w"] + 2j + 3)
    assert plane.norms == pytest.approx((460**0.5, 460**0.5))
    assert plane.cosine(0, 1) == pytest.approx(30 / 460)
    double = plane.at(2.0, 3.0, dtype=torch.float64)
    assert (double["w"].dtype, double["v"].dtype) == (torch.complex128, torch.float64)
    changed = Plane({**THETA, "w": THETA["w"] + 1e-3j}, (delta, eta))
    assert changed.fingerprint() != plane.fingerprint()


def test_the_way_between_two_and_a_file_lose_no_imaginary_part():
    other = {name: tensor * 2 for name, tensor in THETA.items()}
    way = difference(other, THETA)
    torch.testing.assert_close(way["w"], THETA["w"])
    stored = [(name, real(single(tensor)).numpy()) for name, tensor in way.items()]
    assert stored[0][1].shape == (6, 5, 2)
    assert {array.dtype for _, array in stored} == {np.dtype(np.float32)}
    found = fit_direction(stored, THETA, {}, "a file")
    assert all(torch.equal(found[name], way[name]) for name in THETA)

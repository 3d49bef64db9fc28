"""Polynomials of (alpha, beta) and the flat buffers that hold them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.engines.flat import ALIGNMENT, FlatPlane, Polynomial
from landscape_mpi.plane import Plane

COORDINATE = st.floats(-3, 3)
CPU = torch.device("cpu")


def polynomial(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(3)]
    return Polynomial(dict(zip([(), (1,), (0, 1)], tensors, strict=True)))


def value(entry, alpha, beta):
    point = (alpha, beta)
    return sum(
        tensor * math.prod(x**i for x, i in zip(point, powers, strict=False))
        for powers, tensor in entry.coefficients.items()
    )


@pytest.mark.slow
@given(COORDINATE, COORDINATE)
def test_sums_products_and_maps_are_those_of_the_values(alpha, beta):
    left, right = polynomial(1, 4, 3), polynomial(2, 3)
    a, b = value(left, alpha, beta), value(right, alpha, beta)
    torch.testing.assert_close(value(left * right, alpha, beta), a * b)
    torch.testing.assert_close(value(left + right, alpha, beta), a + b)
    torch.testing.assert_close(value(left.map(lambda t: t.T), alpha, beta), a.T)
    torch.testing.assert_close(value(left * left * left, alpha, beta), a**3)


def test_a_parameter_that_stays_is_a_constant():
    theta = {"w": torch.ones(2)}
    still, moving = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
    assert set(Polynomial.parameter(Plane(theta, (still, still)), "w").coefficients) == {()}
    assert set(Polynomial.parameter(Plane(theta, (moving, still)), "w").coefficients) == {(), (1,)}
    assert set(Polynomial.parameter(Plane(theta, (moving,)), "w").coefficients) == {(), (1,)}


@pytest.mark.slow
@given(COORDINATE, COORDINATE)
def test_views_follow_the_point(alpha, beta):
    entries = {
        "a": polynomial(1, 5, 3),
        "b": polynomial(2, 7) * polynomial(3, 7),
        "c": Polynomial.constant(torch.ones(2)),
    }
    flat = FlatPlane(entries, CPU, torch.float64)
    views = {name: flat[name] for name in entries}
    flat.move(9.0, 9.0)
    flat.move(alpha, beta)
    for name, entry in entries.items():
        torch.testing.assert_close(views[name], value(entry, alpha, beta))


def test_entries_start_aligned_and_do_not_overlap():
    flat = FlatPlane({str(n): polynomial(n, n) for n in (1, 16, 17, 3)}, CPU, torch.float32)
    starts = [flat[str(n)].storage_offset() for n in (1, 16, 17, 3)]
    assert starts == [0, ALIGNMENT, 2 * ALIGNMENT, 4 * ALIGNMENT]


def test_the_centre_is_theta_to_the_bit():
    entry = polynomial(1, 50).map(lambda tensor: tensor.float().double())
    flat = FlatPlane({"a": entry}, CPU, torch.float32)
    flat.move(0.3, -0.7)
    flat.move(0.0, 0.0)
    assert torch.equal(flat["a"], entry.coefficients[()].float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_is_counted(dtype):
    width = torch.finfo(dtype).bits // 8
    assert FlatPlane({"a": polynomial(1, 32)}, CPU, dtype).nbytes == 4 * 32 * width

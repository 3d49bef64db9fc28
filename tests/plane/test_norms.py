"""Norms of rows: right, in the order that is promised, and the same for numbers that are drawn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.plane import counter
from landscape_mpi.plane.counter_torch import KINDS
from landscape_mpi.plane.norms import LANES, by_kernel, by_numpy, drawn_norms, row_norms

KEYS = (0x0123456789ABCDEF, 0xFEDCBA9876543210)


def promised(row):
    """The norm of one row, number by number."""
    sums = [0.0] * LANES
    for j, number in enumerate(row.tolist()):
        sums[j % LANES] += number * number
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [sums[i] + sums[half + i] for i in range(half)]
    return math.sqrt(sums[0])


@given(st.integers(0, 5), st.integers(0, 70), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_squares_are_added_in_the_order_that_is_promised(rows, width, dtype):
    theta = torch.randn(rows, width, generator=torch.Generator().manual_seed(width)).to(dtype)
    assert row_norms(theta).tolist() == [promised(row.double()) for row in theta]


@pytest.mark.parametrize("shape", [(1, 100_001), (3, 40_000), (5000, 27), (70_000, 1), (2, 32_768)])
def test_long_and_many_rows(shape):
    numbers = counter.draw(KEYS, 0, math.prod(shape)).reshape(shape)
    found = row_norms(torch.from_numpy(numbers))
    assert found[-1] == promised(numbers[-1].astype(np.float64))
    np.testing.assert_allclose(found, np.linalg.norm(numbers.astype(np.float64), axis=1), rtol=1e-12)
    assert torch.equal(drawn_norms(KEYS, *shape), found)


@pytest.mark.kernel
@given(st.integers(0, 40), st.integers(0, 400), st.sampled_from([*KINDS]))
def test_the_kernel_gives_the_bits_of_numpy_by_every_instruction_set(rows, width, dtype):
    theta = torch.randn(rows, width, generator=torch.Generator().manual_seed(width)).to(dtype)
    for array in (theta, None):
        expected = by_numpy(array, KEYS, rows, width)
        for level in range(counter.library().landscape_normal_level() + 1):
            assert torch.equal(by_kernel(array, KEYS, rows, width, level), expected), counter.LEVELS[level]


@pytest.mark.kernel
@pytest.mark.parametrize("shape", [(2, 100_001), (70_000, 1)])
def test_the_kernel_gives_the_bits_of_numpy_for_long_and_many_rows(shape):
    assert torch.equal(drawn_norms(KEYS, *shape), by_numpy(None, KEYS, *shape))

"""Assignments: the best of all permutations, with the proof that none is better."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landscape_mpi.align.assignment import assign

few = st.integers(-3, 3).map(float)  # with many ties


@pytest.mark.slow
@given(st.integers(1, 6).flatmap(lambda n: arrays(np.float64, (n, n), elements=few)))
def test_no_permutation_is_better(gains):
    columns, _, _ = assign(gains)
    n = len(gains)
    assert sorted(columns) == list(range(n))
    best = max(gains[range(n), list(order)].sum() for order in permutations(range(n)))
    assert gains[np.arange(n), columns].sum() == pytest.approx(best, abs=1e-9)


@pytest.mark.slow
@given(st.integers(0, 1000), st.integers(1, 40), st.booleans())
def test_the_dual_numbers_prove_it(seed, n, is_product):
    generator = np.random.default_rng(seed)
    gains = generator.normal(size=(n, n))
    if is_product:  # as weight matching has them
        gains = gains[:, :3] @ gains[:, :3].T
    columns, rows, others = assign(gains)
    assert (rows[:, None] + others >= gains - 1e-9).all()
    assert gains[np.arange(n), columns].sum() == pytest.approx(rows.sum() + others.sum(), abs=1e-7)


def test_a_hidden_order_is_found():
    order = np.random.default_rng(0).permutation(50)
    assert assign(np.eye(50)[order])[0].tolist() == order.tolist()
    assert assign(np.zeros((0, 0)))[0].size == 0

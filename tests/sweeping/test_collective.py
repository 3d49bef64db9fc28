"""Whole batches a rank: what is evaluated by all ranks together does not depend on how many they are."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.evaluate import batches
from landscape_mpi.evaluate.evaluator import parts
from landscape_mpi.sweeping.collective import share


@dataclass
class Rank:
    """As much of a world as a share depends on."""

    rank: int
    size: int


@given(st.integers(1, 2000), st.integers(2, 70), st.integers(1, 9))
def test_shares_are_consecutive_and_make_the_batches_of_one_rank(images, batch, ranks):
    shares = [share(images, batch, Rank(rank, ranks)) for rank in range(ranks)]
    made = [(part.start, part.stop) for mine in shares for part in parts(mine, images, batch)]
    assert made == [(cut.start, cut.stop) for cut in batches(images, batch)]

"""Who gets which piece: what raised is handed out again, where ranks died before comes last and alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.mpi.dispenser import LATER, Dispenser, Handlers


class Desk:
    """A dispenser of numbers, and what it passed on; `deaths` says of some numbers how many ranks died at them."""

    def __init__(self, pieces, tolerant=True, more=None, deaths=None):
        self.results, self.failed = [], {}
        deaths = deaths or {}
        handlers = Handlers(
            lambda piece: piece,
            lambda _: None,
            self.results.append,
            self.failed.__setitem__,
            tolerant,
            lambda piece: [f"death {n}" for n in range(deaths.get(piece, 0))],
            more,
        )
        self.dispenser = Dispenser(pieces, handlers)
        self.next = self.dispenser.next

    def do(self, rank):
        piece = self.next(rank)
        if piece not in (None, LATER):
            self.dispenser.arrived(rank, piece)
        return piece


def test_by_default_nobody_waits_for_what_others_have_in_hand():
    desk = Desk([1, 2], tolerant=False)
    assert [desk.next(1), desk.next(2), desk.next(0)] == [1, 2, None]


def test_a_rank_waits_while_a_piece_may_come_back():
    desk = Desk([1])
    assert desk.next(1) == 1
    assert desk.next(2) is LATER
    desk.dispenser.arrived(1, 1)
    assert desk.next(2) is None
    assert desk.results == [1]


@pytest.mark.parametrize("tolerant", [True, False])
def test_where_a_rank_died_before_comes_last_and_alone(tolerant):
    desk = Desk(range(4), tolerant, deaths={0: 1, 2: 1})
    assert [desk.next(1), desk.next(2)] == [1, 3]
    assert desk.next(0) is LATER
    desk.dispenser.arrived(1, 1)
    assert desk.next(0) is LATER
    desk.dispenser.arrived(2, 3)
    assert desk.next(0) == 0
    assert desk.next(1) is LATER
    desk.dispenser.arrived(0, 0)
    assert desk.do(1) == 2
    assert desk.next(0) is None
    assert desk.results == [1, 3, 0, 2]


@pytest.mark.parametrize("tolerant", [True, False])
def test_where_two_ranks_died_is_given_up(tolerant):
    desk = Desk(range(3), tolerant, deaths={1: 2})
    assert [desk.do(0), desk.do(0), desk.do(0)] == [0, 2, None]
    assert desk.failed == {1: "death 0; death 1"}


def test_a_round_of_nothing_but_such_pieces_is_not_the_last():
    rounds = iter([[1], [2], []])
    desk = Desk([], more=lambda: next(rounds), deaths={1: 2})
    desk.dispenser.refill()
    assert desk.next(0) is LATER
    desk.dispenser.refill()
    assert desk.do(0) == 2
    desk.dispenser.refill()
    assert desk.next(0) is None


def test_more_comes_once_all_is_done_until_there_is_none():
    rounds = iter([[1, 2], [3], []])
    desk = Desk([], tolerant=False, more=lambda: next(rounds))
    refill = desk.dispenser.refill
    assert desk.next(1) is LATER
    refill()
    assert [desk.next(1), desk.next(0)] == [1, 2]
    desk.dispenser.arrived(1, 1)
    refill()  # one is in hand still
    assert desk.next(1) is LATER
    desk.dispenser.arrived(0, 2)
    refill()
    assert desk.do(1) == 3
    refill()
    assert desk.next(0) is None
    assert desk.next(1) is None


class Play:
    """Ranks 1 and 2 of a desk, which ask, report and fail as they are told; rank 0 does the rest."""

    def __init__(self, deaths):
        self.desk, self.hands, self.failures = Desk(range(9), deaths=deaths), {1: [], 2: []}, Counter()

    def ask(self, rank):
        if (piece := self.desk.next(rank)) not in (None, LATER):
            self.hands[rank].append(piece)

    def report(self, rank):
        if self.hands[rank]:
            self.desk.dispenser.arrived(rank, self.hands[rank].pop(0))

    def fail(self, rank):
        if self.hands[rank]:
            self.failures[self.hands[rank].pop(0)] += 1
            self.desk.dispenser.failed(rank, "it raised")

    def end(self):
        for rank, pieces in self.hands.items():
            while pieces:
                self.report(rank)
        while self.desk.do(0) is not None:
            pass
        return self.desk


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from(["ask", "report", "fail"]), st.sampled_from([1, 2])), max_size=40),
    st.dictionaries(st.integers(0, 8), st.integers(1, 2)),
)
def test_whatever_fails_when_every_piece_ends_exactly_once(steps, deaths):
    play = Play(deaths)
    for what, rank in steps:
        getattr(play, what)(rank)
    desk = play.end()
    assert sorted([*desk.results, *desk.failed]) == list(range(9))
    died = {piece for piece, times in deaths.items() if times == 2}
    assert set(desk.failed) == died | {piece for piece, times in play.failures.items() if times > 1}


@pytest.mark.parametrize("tolerant", [True, False])
def test_a_halt_ends_all_waiting(tolerant):
    desk = Desk([1], tolerant)
    desk.next(1)
    desk.dispenser.halt()
    assert desk.next(2) is None

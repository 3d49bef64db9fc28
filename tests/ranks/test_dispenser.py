"""Who gets which piece: what the dead had is handed out again, what may have killed them last of all."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.ranks import Handlers
from landscape_mpi.ranks.dispenser import LATER, Dispenser


class Desk:
    """A dispenser of numbers for three ranks, and what it passed on."""

    def __init__(self, pieces, tolerant=True, **options):
        self.results, self.failed = [], {}
        handlers = Handlers(
            lambda piece: piece,
            lambda _: None,
            self.results.append,
            self.failed.__setitem__ if tolerant else None,
            options.pop("more", None),
            place=str,
        )
        self.dispenser = Dispenser(pieces, handlers, 3, **options)
        self.next, self.lost = self.dispenser.next, self.dispenser.lost

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


def test_what_a_dead_rank_had_asked_for_comes_first_and_what_it_had_in_hand_last():
    desk = Desk(range(6))
    assert [desk.next(1), desk.next(1)] == [0, 1]
    assert desk.lost("rank 1", 1) == "rank 1 died at 0; the others go on and try it again."
    assert [desk.do(2) for _ in range(6)] == [1, 2, 3, 4, 5, 0]
    assert desk.next(2) is None


def test_a_piece_that_kills_twice_is_given_up():
    desk = Desk([7])
    desk.next(1)
    desk.lost("rank 1", 1)
    desk.next(2)
    assert "died at 7, which had failed before" in desk.lost("rank 2", 2)
    assert desk.failed == {7: "rank 2 died at 7"}
    assert desk.next(0) is None


def test_rank_0_takes_what_may_kill_it_only_when_it_is_the_last():
    desk = Desk([7])
    desk.next(1)
    desk.lost("rank 1", 1)
    assert desk.next(0) is LATER
    assert desk.lost("rank 2", 2) == "rank 2 died; the others go on."
    assert desk.next(0) == 7


def test_where_rank_0_died_before_is_tried_last_and_once():
    desk = Desk(range(3), blamed={"0"})
    assert [desk.do(0), desk.do(0)] == [1, 2]
    assert desk.next(0) is LATER
    assert desk.next(1) == 0
    desk.lost("rank 1", 1)
    assert desk.failed == {0: "rank 1 died at 0"}


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
    """Ranks 1 and 2 of a desk, which ask, report and die as they are told; rank 0 does the rest."""

    def __init__(self, count):
        self.desk = Desk(range(count))
        self.hands = {1: [], 2: []}
        self.deaths = Counter()

    def ask(self, rank):
        if (piece := self.desk.next(rank)) not in (None, LATER):
            self.hands[rank].append(piece)

    def report(self, rank):
        if self.hands[rank]:
            self.desk.dispenser.arrived(rank, self.hands[rank].pop(0))

    def die(self, rank):
        self.desk.lost(f"rank {rank}", rank)
        self.deaths.update(self.hands.pop(rank)[:1])

    def end(self):
        for rank, pieces in self.hands.items():
            while pieces:
                self.report(rank)
            self.desk.dispenser.left()
        while self.desk.do(0) is not None:
            pass


@given(st.lists(st.tuples(st.sampled_from(["ask", "report", "die"]), st.sampled_from([1, 2])), max_size=40))
def test_whoever_dies_when_every_piece_ends_exactly_once(steps):
    play = Play(9)
    for step, rank in steps:
        if rank in play.hands:
            getattr(play, step)(rank)
    play.end()
    desk = play.desk
    assert sorted([*desk.results, *desk.failed]) == list(range(9))
    assert set(desk.failed) == {piece for piece, times in play.deaths.items() if times > 1}


@pytest.mark.parametrize("tolerant", [True, False])
def test_a_halt_ends_all_waiting(tolerant):
    desk = Desk([1], tolerant)
    desk.next(1)
    desk.dispenser.halt()
    assert desk.next(2) is None

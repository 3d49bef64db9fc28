"""A thread that sees ranks die, where the launcher lets the others live; who is handed what only others know."""

import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from landscape_mpi.errors import Exit
from landscape_mpi.keeper import Keeper
from landscape_mpi.presence import Place, Presence

PERIOD = 0.5
"""Seconds between two looks."""


class Watch:
    """Rank 0 looks after all others, and they after it: without rank 0 nobody can go on.

    Attributes:
        lost: Ranks that died while the others could do without them, in the order in which that was seen; on rank 0.
        blamed: Where rank 0 was when it died in earlier runs, in words.
        alone: Whether the ranks may call nothing collective any more.
    """

    def __init__(
        self, place: Place, presence: Presence, rank: int, hosts: Sequence[str], keeper: Keeper | None
    ) -> None:
        """Begin to look; `hosts` are those of all ranks."""
        self.lost: list[int] = []
        self.alone = False
        self.blamed = place.blamed
        self._place, self._presence, self._rank, self._hosts, self._keeper = place.path, presence, rank, hosts, keeper
        self._tolerant, self._lock, self._over = False, threading.Lock(), threading.Event()
        threading.Thread(target=self._look_on, name="rank watch", daemon=True).start()

    def who(self, rank: int) -> str:
        """Return a rank and its host in words."""
        return f"rank {rank} on {self._hosts[rank]}"

    def tolerate(self) -> None:
        """From now on the others can do without a rank that dies."""
        with self._lock:
            self._tolerant = True
        if self._keeper and self._rank:
            self._keeper.forgive(self._place)

    def settle(self) -> bool:
        """Return, on rank 0, whether any rank is lost; if none is, none may be lost from here on."""
        with self._lock:
            self._tolerant = bool(self.lost)
            return self._tolerant

    def part(self, alone: bool) -> None:
        """Take what rank 0 has found: whether this rank goes on alone."""
        self.alone = alone
        if not alone:
            self._tolerant = False
            if self._keeper:
                self._keeper.mind()

    def note(self, text: str) -> None:
        """Leave word for the next run of where rank 0 is, in case it dies there."""
        with suppress(OSError):  # a full disk keeps nobody from going on
            self._presence.note(text)

    def stop(self) -> None:
        """Look no more: the ranks leave one by one now. Rank 0 removes the file."""
        self._over.set()
        if self._rank == 0:
            self._place.unlink(missing_ok=True)

    def _look_on(self) -> None:
        present = set(range(1, len(self._hosts))) if self._rank == 0 else {0}
        while not self._over.wait(PERIOD):
            for rank in sorted(filter(self._presence.gone, present)):
                present.discard(rank)
                self._miss(rank)

    def _miss(self, rank: int) -> None:
        with self._lock:
            if self._over.is_set():
                return
            if rank and self._tolerant:
                self.lost.append(rank)
                return
            if self._place.exists() and all(map(self._presence.gone, range(1, self._rank))):
                self._say_so(rank)
            os._exit(Exit.INTERNAL)

    def _say_so(self, rank: int) -> None:
        """Say who died, on the first rank that is left, and stay until the others have seen that it does."""
        sys.stderr.write(f"error: {self.who(rank)} died; what is done is kept: run the same command again.\n")
        sys.stderr.flush()
        if self._rank == 0:
            self._place.unlink(missing_ok=True)
        time.sleep(2 * PERIOD if self._rank else 0)

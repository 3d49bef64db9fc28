"""Defines the world of ranks, steps that they take together, and the world of a single process; imports no MPI."""

import os
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from numpy.typing import NDArray

from landscape_mpi.errors import Flag, UserError, out_of_memory
from landscape_mpi.mpi.failures import Parent
from landscape_mpi.mpi.launcher import local_rank_from
from landscape_mpi.mpi.shutdown import Interrupted

P = ParamSpec("P")
T = TypeVar("T")
NAP = 0.005
"""Seconds between two looks for a message that takes long to come: this costs 0.2 % of a core."""
FIRST_NAP = 1e-4
"""Seconds before the second look: an answer that is on its way comes soon."""
GROWTH = 1.25
"""Each nap in units of the one before it."""


class World(Protocol):
    """Ranks that compute together. A rank that waits here takes no processor time."""

    rank: int
    size: int
    local_rank: int
    host: str
    me: str
    """This rank in messages, by its number among all ranks, such as `rank 3 on node1`."""
    communicator: Any
    """For parallel HDF5; None where there is no MPI."""
    parent: Parent | None
    """The process above this one, which sees it die; None in a program of somebody else."""
    threads: bool
    """Whether rank 0 may send and receive in a thread while it computes."""

    def barrier(self) -> None:
        """Wait until every rank is here."""

    def bcast(self, value: T) -> T:
        """Return rank 0's value on every rank."""

    def allgather(self, value: T) -> list[T]:
        """Return every rank's value on every rank."""

    def gather(self, value: T) -> list[T] | None:
        """Return every rank's value on rank 0, None elsewhere."""

    def share(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the arrays of each node's local rank 0, held once in that node's memory; `arrays` may be emptied.

        An array that nobody else holds is freed as soon as it is copied: the arrays are never all in memory twice.
        """

    def release(self) -> None:
        """Free the shared arrays, which no rank may use any more; collective."""

    def send(self, message: Any, to: int) -> None:
        """Send a message without waiting for its receipt; a large one is sent during later calls of this world."""

    def poll(self) -> tuple[int, Any] | None:
        """Return a message that has arrived and its sender, else None."""

    def abort(self, code: int) -> None:
        """End every rank at once."""

    def team(self, size: int) -> "World":
        """Return the world of `size` consecutive ranks, this one among them, that do each piece together; collective.

        Raises:
            UserError: on every rank, where the ranks cannot be divided so, or those of a team are on several nodes.
        """


class Solo:
    """The world of one process that has not started MPI: there is no library, or no launcher."""

    def __init__(self, parent: Parent | None = None) -> None:
        self.rank, self.size, self.threads = 0, 1, True
        self.local_rank = local_rank_from(os.environ)
        self.host = socket.gethostname()
        self.me = f"rank 0 on {self.host}"
        self.communicator: Any = None
        self.parent = parent

    def barrier(self) -> None:
        """Return: there is nobody to wait for."""

    def bcast(self, value: T) -> T:
        """Return the value."""
        return value

    def allgather(self, value: T) -> list[T]:
        """Return the value as a list of one."""
        return [value]

    def gather(self, value: T) -> list[T] | None:
        """Return the value as a list of one."""
        return [value]

    def share(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the arrays."""
        return arrays

    def release(self) -> None:
        """Return: nothing is held."""

    def send(self, message: Any, to: int) -> None:
        """Refuse: there is nobody to send to."""
        raise RuntimeError(f"no rank {to} to send {message!r} to")

    def poll(self) -> tuple[int, Any] | None:
        """Return None: nobody sends."""
        return None

    def abort(self, code: int) -> None:
        """End the process."""
        if self.parent:
            self.parent.abort(code)
        os._exit(code)

    def team(self, size: int) -> World:
        """Return this world, a team of one. Raises as `World.team`."""
        check_teams(size, [self.host])
        return self


def check_teams(size: int, hosts: Sequence[str]) -> None:
    """Refuse teams of `size` consecutive ranks that leave a remainder, or lie on several nodes.

    Args:
        size: Number of ranks of a team.
        hosts: The host of each rank.

    Raises:
        UserError: the teams are refused.
    """
    if len(hosts) % size:
        expected = f"a divisor of the number of ranks, {len(hosts)}"
        raise UserError(Flag("group"), f"found {size}", expected)
    for first in range(0, len(hosts), size):
        found = dict.fromkeys(hosts[first : first + size])
        if len(found) > 1:
            raise UserError(
                Flag("group"),
                f"ranks {first} to {first + size - 1} are on {' and '.join(found)}",
                expected=f"each {size} consecutive ranks on one node",
                remedy="start them node by node, as mpirun --map-by slot and srun --distribution=block do",
            )


def wait_for(look: Callable[[], T | None]) -> T:
    """Return what `look` finds, and sleep between two looks: for FIRST_NAP at first, for NAP in the end.

    A nap is at most FIRST_NAP longer than a quarter of the time waited so far. So two ranks that wait for each other do
    not make each other's naps longer and longer.
    """
    nap = FIRST_NAP
    while (found := look()) is None:
        time.sleep(nap)
        nap = min(GROWTH * nap, NAP)
    return found


class RankError(Exception):
    """A bug or a failure of the machine on some rank; its text names rank and host and holds the traceback."""


def together(world: World, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a step on every rank and go on only if all of them did it; collective.

    Raises:
        UserError: on every rank, with the sentence of the first rank that raised one.
        Interrupted: on every rank, when a rank has been told to stop.
        RankError: on every rank, when a rank raised anything else.
    """
    result: T | None = None
    failure: tuple[int, UserError | str] | None = None
    cause: BaseException | None = None  # known on its own rank alone
    try:
        result = step(*args, **kwargs)
    except UserError as error:
        failure, cause = (0, error), error.__cause__
    except MemoryError as error:
        failure = (0, out_of_memory(error, world.me))
    except Interrupted as reason:
        failure = (1, str(reason))
    except BaseException as error:  # such as an exit: the other ranks wait for this one
        if world.size == 1 and isinstance(error, KeyboardInterrupt):
            raise
        failure, cause = (2, failure_text(world)), error
    failures = [found for found in world.allgather(failure) if found]
    for kind, what in sorted(failures, key=lambda found: found[0]):
        if isinstance(what, UserError):
            raise what from cause
        raise (Interrupted, RankError)[kind - 1](what) from cause
    return cast("T", result)


def on_ranks(world: World, here: bool, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Run a step on the ranks where `here` is true and return its value there, None elsewhere; fails as `together`."""

    def run() -> T | None:
        return step(*args, **kwargs) if here else None

    return together(world, run)


def on_root(world: World, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a step on rank 0 alone and return its value on every rank; fails as `together`."""
    return cast("T", world.bcast(on_ranks(world, world.rank == 0, step, *args, **kwargs)))


def failure_text(world: World) -> str:
    """Return which rank on which host failed, with the traceback of the exception that is being handled."""
    return f"{world.me} failed:\n{traceback.format_exc()}"

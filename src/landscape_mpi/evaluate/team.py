"""Evaluates a point by a team of ranks that hold one network together: each takes some of the batches."""

import traceback
from dataclasses import replace

import torch

from landscape_mpi.errors import UserError
from landscape_mpi.evaluate.batches import Examples, parts
from landscape_mpi.evaluate.eager import EagerEvaluator
from landscape_mpi.evaluate.evaluator import MemberError, Point, Task
from landscape_mpi.evaluate.sharded import Sharded
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.mpi.shutdown import Interrupted
from landscape_mpi.mpi.world import World
from landscape_mpi.plane import Plane


class TeamEvaluator(EagerEvaluator):
    """The network's own forward pass by several ranks; every call is made on all of them and returns the same.

    Batches are cut as one rank alone cuts them, and taken in turn, so that no bit depends on how many ranks there are.
    """

    def __init__(self, network: Sharded, plane: Plane, task: Task, batch: int, team: World) -> None:
        """Take a network that the ranks of a team hold together; otherwise as `EagerEvaluator`."""
        # a rank that stopped on its way to a point would leave the others waiting
        super().__init__(network, plane, replace(task, pause=lambda: None), batch)
        self._network, self._stopping, self._team = network, task, team

    def per_example(self, point: Point, split: str, examples: Examples) -> PerExample:
        """Return the losses, and what other metrics say, of some of a split's examples at a point of the plane.

        Raises:
            UserError: as of `EagerEvaluator`, on all ranks; its place is the rank that raised it.
            MemberError: a rank raised anything else.
            Interrupted: a rank has been told to stop.
        """
        return self._batch.attempt(lambda batch: self._together(point, split, examples, batch))

    def _together(self, point: Point, split: str, examples: Examples, batch: int) -> PerExample:
        found: list[PerExample] = []
        failure: tuple[str, BaseException | str] | None = None
        try:
            self._evaluate(found, point, split, examples, batch)
        except UserError as error:
            error.place = error.place or self._team.me
            failure = "user", error
        except Interrupted as reason:
            failure = "stop", str(reason)
        except torch.OutOfMemoryError as error:
            failure = "memory", str(error)
        except BaseException as error:
            failure = self._team.me, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        failures = [one for one in self._team.allgather(failure) if one is not None]
        _raise(failures)
        every = self._team.allgather(found)
        turns = max(map(len, every))
        return PerExample.join([one[turn] for turn in range(turns) for one in every if turn < len(one)])

    def _evaluate(self, found: list[PerExample], point: Point, split: str, examples: Examples, batch: int) -> None:
        """Evaluate this rank's batches, and make as many forward passes as every other rank, whatever happens."""
        self._move(point)
        rank, size, passes = self._team.rank, self._team.size, self._network.passes
        cuts = list(parts(examples, len(self._task.splits[split]), batch))
        turns = -(-len(cuts) // size)
        try:
            found += (self._stopping.evaluate(self._network, split, cut, batch) for cut in cuts[rank::size])
        finally:
            for _ in range(passes + turns - self._network.passes):
                self._network.idle()


def _raise(failures: list[tuple[str, BaseException | str]]) -> None:
    """Raise what one of the ranks raised, the same on all."""
    by = dict(reversed(failures))
    if isinstance(error := by.get("user"), UserError):
        raise error
    if "memory" in by:
        raise torch.OutOfMemoryError(by["memory"])
    for kind, what in failures:
        if kind not in ("user", "memory", "stop"):
            raise MemberError(kind, str(what))
    if "stop" in by:
        raise Interrupted(by["stop"])

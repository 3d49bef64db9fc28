"""Evaluates points by the network's own forward pass, on one rank or by a team of ranks that hold it together.

The parameters of one network are set to each point's, or each point gets a fresh copy.
"""

import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from landscape_mpi.data.split import Examples, count, parts
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate.evaluator import Batch, MemberError, Point, Task, fast_copy
from landscape_mpi.evaluate.live import Live, Resident
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.mpi.shutdown import Interrupted
from landscape_mpi.mpi.world import World
from landscape_mpi.networks.state import duplicate, load, set_statistics
from landscape_mpi.plane import Plane

if TYPE_CHECKING:
    from landscape_mpi.evaluate.sharded import Sharded


class EagerEvaluator:
    """The plain engine: the network's own forward pass with its parameters set to the point's."""

    def __init__(
        self, network: nn.Module | Live, plane: Plane, task: Task, batch: int, *, afresh: bool = False
    ) -> None:
        """Take a network that is on its device and in its dtype.

        Args:
            network: a module, which is copied, so that the caller's stays at theta*; or a live network, which is moved
                itself. A module is in eval mode, or in train mode with `afresh`.
            plane: of its parameters.
            task: what is evaluated.
            batch: examples at a time.
            afresh: whether each point gets a copy of its own, which is put into eval mode there: for networks that
                compute something from their weights once. Else the parameters of one network are set to each point's.
        """
        self._live: Live = Resident(fast_copy(network, task.layout)) if isinstance(network, nn.Module) else network
        self._origin = self._live.network if afresh else None
        self._plane = self._live.placed(plane, task.device)
        self._task = task
        self._batch = Batch(batch)
        self._at: Point | None = None
        self._held = 0

    def per_example(self, point: Point, split: str, examples: Examples) -> PerExample:
        """Return the losses, and what other metrics say, of some of a split's examples at a point of the plane."""
        self._move(point)
        return self._batch.attempt(lambda batch: self._evaluate(split, examples, batch))

    def _evaluate(self, split: str, examples: Examples, batch: int) -> PerExample:
        return self._task.evaluate(self._live, split, examples, batch)

    def network_at(self, point: Point) -> nn.Module:
        """Return the network at a point of the plane, in eval mode; it stays this evaluator's own."""
        self._move(point)
        return self._live.network

    @property
    def centre(self) -> Point:
        """The point of theta*."""
        return self._plane.centre

    def count(self, split: str) -> int:
        """Return the number of examples of a split."""
        return len(self._task.splits[split])

    @property
    def nbytes(self) -> int:
        """Memory of the plane on the device and of the network, in bytes."""
        return self._plane.nbytes + self._live.nbytes

    @property
    def batch(self) -> int:
        """Return the number of examples at a time."""
        return self._batch.examples

    @property
    def description(self) -> str:
        """Say how points are evaluated."""
        parts = ["the network's own forward pass"]
        if self._origin is not None:
            parts.append("a fresh copy at every point")
        if self._live.description:
            parts.append(self._live.description)
        if along := self._plane.statistics.theta if self._plane.statistics else ():
            what = "running statistics" if all(".running_" in f".{name}" for name in along) else "buffers"
            parts.append(f"{what} moved along")
        if self._task.calibration is not None:
            examples = count(self._task.calibration)
            parts.append(f"running statistics from {examples:,} training examples per point")
        return ", ".join(parts)

    @property
    def note(self) -> str:
        """Say how many running variances are held at 0, because they would have been negative."""
        return f"{self._held} running variances held at 0" if self._held else ""

    def _move(self, point: Point) -> None:
        if point == self._at:
            return
        self._at = None  # until the move is complete: what follows can be interrupted
        if self._origin is not None:
            network, self._held = fresh(self._origin, self._plane, self._task, point)
            self._live = Resident(network)
        else:
            self._held = self._live.move(self._plane, point)
            self._task.calibrate(self._live.network, self._live)
        self._at = point


def fresh(origin: nn.Module, plane: Plane, task: Task, point: Point) -> tuple[nn.Module, int]:
    """Return a copy of a network at a point, in eval mode, and how many running variances are held at 0 there.

    It is made the way users make one: the point's weights are loaded, then the network enters eval mode. Some networks
    compute something from their weights when they enter eval mode, such as merged low-rank updates and fused branches,
    or at their first forward pass. In a fresh copy this is computed from the point's weights. Weights that are set in
    place leave such things as they were.

    Args:
        origin: The network in train mode, as it was made, on the task's device.
        plane: Of its parameters.
        task: It may estimate running statistics anew.
        point: Where on the plane.
    """
    network = duplicate(origin)
    load(network, plane.at(*point, dtype=task.dtype))
    held = set_statistics(network, plane.statistics.at(*point)) if plane.statistics else 0
    network.eval()
    if task.calibration is not None:
        task.calibrate(network)
        network.train()
        network.eval()  # once more: what it computed on entering eval mode may hold the earlier statistics
    return network, held


class TeamEvaluator(EagerEvaluator):
    """The network's own forward pass by several ranks; every call is made on all of them and returns the same.

    Batches are cut as one rank alone cuts them, and the ranks take them in turn. So no bit depends on how many ranks
    there are.
    """

    def __init__(self, network: "Sharded", plane: Plane, task: Task, batch: int, team: World) -> None:
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
            self._take_turns(found, point, split, examples, batch)
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

    def _take_turns(self, found: list[PerExample], point: Point, split: str, examples: Examples, batch: int) -> None:
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

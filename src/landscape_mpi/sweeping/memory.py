"""Says what memory a sweep takes, a rank and once a node; refuses weights for which a node has no room."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from landscape_mpi.assemble import give_back_memory
from landscape_mpi.data.split import nbytes
from landscape_mpi.errors import Flag, Key, Text, UserError
from landscape_mpi.evaluate import Evaluator
from landscape_mpi.evaluate.live import Streaming
from landscape_mpi.job import SweepJob
from landscape_mpi.mpi.launcher import free_memory
from landscape_mpi.mpi.world import World
from landscape_mpi.plane import Plane
from landscape_mpi.plane.directions import DrawnDirection
from landscape_mpi.sweeping.precision import PRECISIONS

if TYPE_CHECKING:
    from landscape_mpi.sweeping.load import Experiment  # which refuses weights by this module

TORCH_ITSELF = 250_000_000
"""Bytes of a process that has imported torch."""
COPIES = 4
"""Of a small network's parameters, 4 bytes each: theta*, delta, eta and the network."""
PROCESS = Path("/proc/self")
SHARE = 0.5
"""Of the free memory: where the ranks of a node would take more for their weights, these are streamed."""


@dataclass(frozen=True)
class Weights:
    """What the weights of one rank take of memory.

    Attributes:
        resident: bytes of all of them, where they stay in memory.
        largest: bytes of the module with the largest ones of its own.
    """

    resident: int
    largest: int

    @staticmethod
    def of(network: nn.Module, itemsize: int) -> "Weights":
        """Return those of a network whose real numbers take `itemsize` bytes in the evaluation."""

        def taken(module: nn.Module, *, recurse: bool) -> int:
            return sum(p.numel() * itemsize * (1 + p.is_complex()) for p in module.parameters(recurse))

        largest = max((taken(module, recurse=False) for module in network.modules()), default=0)
        return Weights(taken(network, recurse=True), largest)

    @property
    def streamed(self) -> int:
        """Bytes where they are built as each layer runs: the next layer is built beside the one before."""
        return min(2 * self.largest, self.resident)

    def of_group(self, size: int) -> int:
        """Bytes of a rank of a group that holds them together: its share, and the layer that is put together."""
        return self.resident if size == 1 else self.resident // size + self.largest

    def are_streamed(self, ranks: int, free: int | None) -> bool:
        """Whether `evaluate.weights: auto` streams those of so many ranks of a node."""
        return free is not None and ranks * self.resident > SHARE * free


def check_room(
    weights: Weights,
    ranks: int,
    free: int | None,
    *,
    streamed: bool = False,
    group: int = 1,
    where: str = "this node",
) -> None:
    """Refuse weights of so many ranks for which a node has no room; other memory comes on top.

    Raises:
        UserError: it says what they take, and what to do.
    """
    each = weights.streamed if streamed else weights.of_group(group)
    if free is None or ranks * each <= free:
        return
    how = "streamed, a layer beside the next one," if streamed else "resident"
    remedies: list[Text] = [] if streamed or group > 1 else [(Key("evaluate.weights"), ": streamed")]
    sizes = [size for size in range(group + 1, ranks + 1) if ranks % size == 0 and not streamed]
    if size := next((size for size in sizes if ranks * weights.of_group(size) <= free), 0):
        remedies.append(Flag("group", (str(size),)))
    if fit := free // each:
        remedies.append(f"at most {fit} ranks a node" if fit > 1 else "one rank a node")
    words = [part for remedy in remedies for part in (" or ", remedy)][1:]
    raise UserError(
        "evaluate.weights",
        f"weights that are {how} take {each / 1e9:.3g} GB a rank, {ranks * each / 1e9:.3g} GB for "
        f"{ranks} rank{'s' if ranks > 1 else ''}, and {where} has {free / 1e9:.3g} GB free",
        expected="room for them",
        remedy=tuple(words) or "use a node with more memory",
    )


def check_resident(network: nn.Module, job: SweepJob, world: World, group: int = 1) -> None:
    """Refuse `evaluate.weights: resident` where a node has no room for it, in groups of some size; collective.

    Raises:
        UserError: on every rank, as `check_room`.
    """
    if job.evaluate.weights != "resident":
        return
    hosts, refusal = world.allgather(world.host), None
    try:
        weights = Weights.of(network, PRECISIONS[job.evaluate.dtype].dtype.itemsize)
        check_room(weights, hosts.count(world.host), free_memory(), group=group, where=world.host)
    except UserError as error:
        refusal = error
    for one in world.allgather(refusal):
        if one is not None:
            raise one


@dataclass(frozen=True)
class Needs:
    """What a sweep takes, in bytes by what it is for.

    Attributes:
        rank: of each rank.
        node: once a node, however many ranks it has.
    """

    rank: Mapping[str, int]
    node: Mapping[str, int]

    def total(self, ranks: int) -> int:
        """Return the bytes of a node with so many ranks."""
        return ranks * sum(self.rank.values()) + sum(self.node.values())


def needs_of(
    experiment: "Experiment", plane: Plane, evaluator: Evaluator, more: Mapping[str, int], *, streamed: bool
) -> Needs:
    """Return what a sweep takes on this node, its weights resident or streamed; `more`: what was measured, a rank."""
    examples = [rows for one in experiment.splits.values() for rows in (one.inputs, one.targets)]
    node = {"data": sum(map(nbytes, examples))}
    rank = {"Python and torch": TORCH_ITSELF}
    network = experiment.theta.network
    if isinstance(network, nn.Module):
        numbers = sum(tensor.numel() for tensor in plane.theta.values())
        rank |= {"network and plane": 4 * COPIES * numbers, "engine": evaluator.nbytes}
    else:
        weights = weights_of(experiment)
        rank["weights"] = weights.streamed if streamed else weights.resident
        drawn = [one for one in plane.directions if isinstance(one, DrawnDirection)]
        rank["scales of directions"] = sum(scale.nbytes for one in drawn for scale in one.scales.values())
        node["theta*"] = sum(tensor.nbytes for tensor in plane.theta.values())
        held = [one for one in plane.directions if not isinstance(one, DrawnDirection)]
        node["directions"] = sum(tensor.nbytes for one in held for tensor in one.values())
    return Needs(_above_zero({**rank, **more}), _above_zero(node))


def weights_of(experiment: "Experiment") -> Weights:
    """Return what the weights of an experiment's network take in the dtype of its evaluation."""
    return Weights.of(experiment.theta.origin, experiment.task.dtype.itemsize)


def is_streamed(experiment: "Experiment", ranks: int, free: int | None) -> bool:
    """Whether the weights of a large network are streamed with so many ranks on this node."""
    asked = experiment.job.values.evaluate.weights
    if asked != "auto":
        return asked == "streamed"
    here = isinstance(experiment.theta.network, Streaming)  # with one rank
    return here or weights_of(experiment).are_streamed(ranks, free)


def measured(run: Callable[[], object]) -> int:
    """Return the bytes that a call takes at the most, beyond those before it; 0 where the system does not say.

    What it reads of mapped files does not count.
    """
    give_back_memory()
    before = _memory()
    try:
        (PROCESS / "clear_refs").write_text("5")  # the peak counts from here on
    except OSError:
        before = {}
    run()
    after = _memory()
    if not (before and after):
        return 0
    return max(after["VmHWM"] - before["VmRSS"] - max(after["RssFile"] - before["RssFile"], 0), 0)


def _memory() -> dict[str, int]:
    with suppress(OSError):
        lines = re.findall(r"^(VmHWM|VmRSS|RssFile):\s+(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)
        return {name: 1024 * int(kilobytes) for name, kilobytes in lines} if len(lines) == 3 else {}
    return {}


def _above_zero(parts: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in parts.items() if size > 0}

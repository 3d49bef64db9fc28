"""Says what memory a sweep takes, per rank and per node; refuses weights for which a node or a device has no room."""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from landscape_mpi.assemble import give_back_memory
from landscape_mpi.data.split import nbytes
from landscape_mpi.errors import Flag, Key, Text, UserError
from landscape_mpi.evaluate import Evaluator
from landscape_mpi.evaluate.live import Streaming, cuda_name
from landscape_mpi.evaluate.units import most_together
from landscape_mpi.job import SweepJob, WorstPlane
from landscape_mpi.log import note
from landscape_mpi.mpi.launcher import free_memory
from landscape_mpi.mpi.world import World, together
from landscape_mpi.plane import Plane
from landscape_mpi.plane.directions import DrawnDirection
from landscape_mpi.sweeping.precision import PRECISIONS

if TYPE_CHECKING:
    from landscape_mpi.sweeping.load import Experiment  # which refuses weights by this module

TORCH_ITSELF = 250_000_000
"""Bytes of a process that has imported torch."""
COPIES = 4
"""Copies of a small network's parameters, 4 bytes each: theta*, two directions and the network."""
CPU = torch.device("cpu")
PROCESS = Path("/proc/self")
SHARE = 0.5
"""The share of the free memory: if the weights of all ranks that use it would take more, they are streamed."""


@dataclass(frozen=True)
class Room:
    """The memory in which a rank's weights lie: its CUDA device's, or its node's.

    Attributes:
        name: Known to all ranks that share it.
        words: The same in messages.
        free: Bytes that are free there; None where that is unknown.
        unit: What has one such memory, in words.
    """

    name: str
    words: str
    free: int | None
    unit: str = "node"


Look = Callable[[torch.device, str], Room]
"""Looks at the memory of a device and a host."""


def room_of(device: torch.device, host: str) -> Room:
    """Return the memory that a device of this process takes, on this host."""
    if device.type == "cuda":
        return Room(f"{host} {cuda_name(device)}", f"{device} of {host}", torch.cuda.mem_get_info(device)[0], "device")
    return Room(host, host, free_memory())


def sharing(ranks: int, device: torch.device, devices: int, *, one: bool = False) -> int:
    """Return how many of a node's ranks, at the most, share the memory that holds the weights of one of them.

    >>> sharing(4, torch.device("cpu"), 0), sharing(5, torch.device("cuda", 0), 4)
    (4, 2)
    >>> sharing(5, torch.device("cuda", 1), 4, one=True)
    5

    Args:
        ranks: Of the node.
        device: Of one of them.
        devices: How many CUDA devices the node has, which ranks take in turn.
        one: Whether all ranks are told to take the same device.
    """
    return ranks if device.type == "cpu" or one else -(-ranks // max(devices, 1))


@dataclass(frozen=True)
class Weights:
    """What the weights of one rank take of memory.

    Attributes:
        resident: bytes of all of them, where they stay in memory.
        largest: bytes of the module whose own weights are the largest.
        joined: bytes that a rank of a group has put together at one time, at the most.
        unit: bytes of the largest part that is put together at once.
    """

    resident: int
    largest: int
    joined: int = 0
    unit: int = 0

    @staticmethod
    def of(network: nn.Module, itemsize: int) -> "Weights":
        """Return the weights of a network whose real numbers take `itemsize` bytes in the evaluation."""

        def taken(module: nn.Module, *, recurse: bool) -> int:
            return sum(p.numel() * itemsize * (1 + p.is_complex()) for p in module.parameters(recurse))

        largest = max((taken(module, recurse=False) for module in network.modules()), default=0)
        return Weights(taken(network, recurse=True), largest, *most_together(network, itemsize))

    @property
    def streamed(self) -> int:
        """Bytes where they are built as each layer runs: the next layer is built beside the one before."""
        return min(2 * self.largest, self.resident)

    def of_group(self, size: int) -> int:
        """Bytes of a rank of a group that holds them together.

        They are its share, what is put together, and its part of the memory for that, which is twice the largest unit.
        """
        return self.resident if size == 1 else (self.resident + 2 * self.unit) // size + self.joined

    def are_streamed(self, ranks: int, free: int | None) -> bool:
        """Whether `evaluate.weights: auto` streams those of so many ranks that share a memory."""
        return free is not None and ranks * self.resident > SHARE * free


def check_room(
    weights: Weights, ranks: int, room: Room, *, streamed: bool = False, group: int = 1, of_node: int | None = None
) -> None:
    """Refuse weights of so many ranks for which the memory that they share has no room; other memory comes on top.

    Args:
        weights: Of one rank.
        ranks: How many share the memory.
        room: The memory.
        streamed: Whether weights are streamed.
        group: How many ranks hold a network together.
        of_node: How many ranks the node has, where not all of them share the memory.

    Raises:
        UserError: it says what they take, and what to do.
    """
    free, of_node = room.free, of_node or ranks
    each = weights.streamed if streamed else weights.of_group(group)
    if free is None or ranks * each <= free:
        return
    how = "streamed, a layer beside the next one," if streamed else "resident"
    remedies: list[Text] = []
    if not streamed and ranks * weights.streamed <= free:
        remedies.append((Key("evaluate.weights"), ": streamed", (" without ", Flag("group")) if group > 1 else ""))
    alone = room.unit == "node" or ranks == 1  # ranks of a group do not share a device
    sizes = [size for size in range(group + 1, of_node + 1) if of_node % size == 0 and alone and not streamed]
    if size := next((size for size in sizes if ranks * weights.of_group(size) <= free), 0):
        remedies.append(Flag("group", (str(size),)))
    if fit := free // each // group * group:
        remedies.append(f"at most {fit} ranks per {room.unit}" if fit > 1 else f"one rank per {room.unit}")
    words = [part for remedy in remedies for part in (" or ", remedy)][1:]
    raise UserError(
        "evaluate.weights" if group == 1 else Flag("group"),
        (f"found {group}, and " if group > 1 else "")
        + f"weights that are {how if group == 1 else f'held by {group} ranks'} take {each / 1e9:.3g} GB per rank, "
        f"{ranks * each / 1e9:.3g} GB for {ranks} rank{'s' if ranks > 1 else ''}, and {room.words} has "
        f"{free / 1e9:.3g} GB free",
        expected="room for them",
        remedy=tuple(words) or f"use a {room.unit} with more memory",
    )


@dataclass(frozen=True)
class Gradient:
    """What the gradient of `plane.kind: worst` takes: bytes `each` rank, and `once` for its float64 sum on rank 0."""

    each: int
    once: int

    @staticmethod
    def of(moving: Iterable[torch.Tensor], itemsize: int) -> "Gradient":
        """Return that of the parameters that move, where real numbers of the evaluation take `itemsize` bytes."""
        numbers = sum(tensor.numel() * (1 + tensor.is_complex()) for tensor in moving)
        return Gradient(numbers * itemsize, numbers * torch.float64.itemsize)

    def check(self, weights: int, ranks: int, room: Room) -> None:
        """Refuse a gradient for which ranks that share a memory have no room there; activations come on top.

        Args:
            weights: Bytes of a rank's weights that are not in memory yet.
            ranks: How many share the memory.
            room: The memory.

        Raises:
            UserError: it says what the gradient takes, and what to do.
        """
        once = self.once if room.unit == "node" else 0  # the sum is in the memory of the processor
        total, free = ranks * (weights + self.each) + once, room.free
        if free is None or total <= free:
            return
        parts = f"a gradient of {self.each / 1e9:.3g} GB per rank"
        parts += f" beside weights of {weights / 1e9:.3g} GB" if weights else ""
        parts += f", and {once / 1e9:.3g} GB for its sum in float64" if once else ""
        fit = max(free - once, 0) // (weights + self.each)
        fitting = f"at most {fit} ranks" if fit > 1 else "one rank"
        fewer = f"{fitting} per {room.unit} or " if fit else ""
        raise UserError(
            "plane.kind",
            f"found worst, which takes {parts}: {total / 1e9:.3g} GB for {ranks} rank{'s' if ranks > 1 else ''}, and "
            f"{room.words} has {free / 1e9:.3g} GB free",
            expected="room for them",
            remedy=(fewer, "let fewer parameters move, by ", Key("plane.only")),
        )


def are_streamed(
    network: nn.Module, job: SweepJob, world: World, device: torch.device, group: int = 1, look: Look = room_of
) -> bool:
    """Return whether the weights of a large network are streamed; collective.

    They are streamed if the job says so, or if those of all ranks that share a memory would take too much of what is
    free there; a message then tells this. Weights that the ranks of groups hold together are not streamed, and neither
    are weights of which a gradient is taken.

    Raises:
        UserError: on every rank, where weights are to be resident and have no room, as `check_room`.
    """
    asked = job.evaluate.weights
    if asked == "streamed" or (asked == "auto" and (group > 1 or isinstance(job.plane, WorstPlane))):
        return asked == "streamed"
    weights = Weights.of(network, PRECISIONS[job.evaluate.dtype].dtype.itemsize)
    room = together(world, look, device, world.host)
    ranks, free = world.allgather(room.name).count(room.name), room.free
    if asked == "resident":
        of_node = world.allgather(world.host).count(world.host)
        together(world, check_room, weights, ranks, room, group=group, of_node=of_node)
        return False
    texts = world.allgather(
        f"{ranks} x {weights.resident / 1e9:.3g} GB on {room.words}, which has {free / 1e9:.3g} GB free"
        if free is not None and weights.are_streamed(ranks, free)
        else ""
    )
    text = next(filter(None, texts), "")
    if text:
        note(world, f"weights are streamed, a layer at a time: {text}.")
    return bool(text)


@dataclass(frozen=True)
class Needs:
    """What a sweep takes, in bytes by what it is for.

    Attributes:
        rank: of each rank.
        node: once per node, however many ranks it has.
        device: of each rank, on its CUDA device.
    """

    rank: Mapping[str, int]
    node: Mapping[str, int]
    device: Mapping[str, int] = field(default_factory=dict)

    def total(self, ranks: int) -> int:
        """Return the bytes of a node with so many ranks."""
        return ranks * sum(self.rank.values()) + sum(self.node.values())


def needs_of(
    experiment: "Experiment",
    plane: Plane,
    evaluator: Evaluator,
    more: Mapping[str, int],
    *,
    streamed: bool,
    group: int = 1,
    room: int | None = None,
) -> Needs:
    """Return what a sweep takes on this node.

    Args:
        experiment: What is swept.
        plane: Its plane.
        evaluator: What evaluates it.
        more: What was measured, per rank.
        streamed: Whether weights are streamed.
        group: How many ranks hold them together.
        room: Bytes that a CUDA device has for theta* beside the weights; None where there is no such device.
    """
    examples = [rows for one in experiment.splits.values() for rows in (one.inputs, one.targets)]
    node = {"data": sum(map(nbytes, examples))}
    mine: dict[str, int] = {}
    network = experiment.theta.network
    if isinstance(network, nn.Module):
        numbers = sum(tensor.numel() for tensor in plane.theta.values())
        mine |= {"network and plane": 4 * COPIES * numbers, "engine": evaluator.nbytes}
    else:
        weights = weights_of(experiment)
        mine["weights"] = weights.streamed if streamed else weights.of_group(group)
        drawn = [one for one in plane.directions if isinstance(one, DrawnDirection)]
        mine["scales of directions"] = sum(scale.nbytes for one in drawn for scale in one.scales.values())
        node["theta*"] = sum(tensor.nbytes for tensor in plane.theta.values())
        held = [one for one in plane.directions if not isinstance(one, DrawnDirection)]
        node["directions"] = sum(tensor.nbytes for one in held for tensor in one.values())
    rank = {"Python and torch": TORCH_ITSELF}
    if experiment.device.type != "cuda":
        return Needs(_above_zero({**rank, **mine, **more}), _above_zero(node))
    mine["data"] = node["data"]
    theta = node.get("theta*", 0) // group
    mine["theta*"] = theta if room is None or theta <= room else 0
    return Needs(rank, _above_zero(node), _above_zero({**mine, **more}))


def weights_of(experiment: "Experiment") -> Weights:
    """Return what the weights of an experiment's network take in the dtype of its evaluation."""
    return Weights.of(experiment.theta.origin, experiment.task.dtype.itemsize)


def is_streamed(experiment: "Experiment", ranks: int, free: int | None, group: int = 1) -> bool:
    """Whether the weights of a large network are streamed by so many ranks that share a memory, in groups or not."""
    asked = experiment.job.values.evaluate.weights
    if asked != "auto" or group > 1 or isinstance(experiment.job.values.plane, WorstPlane):
        return asked == "streamed"
    here = isinstance(experiment.theta.network, Streaming)  # with one rank
    return here or weights_of(experiment).are_streamed(ranks, free)


def measured(run: Callable[[], object], device: torch.device = CPU) -> int:
    """Return the bytes that a call takes at the most, beyond those before it; 0 where the system does not say.

    What it reads of mapped files does not count. On CUDA it is the device's memory.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - held
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

"""Says what memory a sweep takes, a rank and once a node, and how large its file will be."""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from landscape_mpi.assemble import give_back_memory
from landscape_mpi.data.split import nbytes
from landscape_mpi.evaluate import Evaluator
from landscape_mpi.evaluate.live import Streaming
from landscape_mpi.metrics.registry import result_names
from landscape_mpi.plane import Plane
from landscape_mpi.plane.directions import DrawnDirection
from landscape_mpi.surface.schema import LONGEST
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.resume import are_kept
from landscape_mpi.sweeping.room import Weights

TORCH_ITSELF = 250_000_000
"""Bytes of a process that has imported torch."""
COPIES = 4
"""Of a small network's parameters, 4 bytes each: theta*, delta, eta and the network."""
HEAD = 22_000
"""Bytes of a surface file beside its points: attributes, the job, the library's own."""
ENTRY = 600
"""Bytes of a dataset beside its numbers."""
PROCESS = Path("/proc/self")


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
    experiment: Experiment, plane: Plane, evaluator: Evaluator, more: Mapping[str, int], *, streamed: bool
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


def weights_of(experiment: Experiment) -> Weights:
    """Return what the weights of an experiment's network take in the dtype of its evaluation."""
    return Weights.of(experiment.theta.origin, experiment.task.dtype.itemsize)


def is_streamed(experiment: Experiment, ranks: int, free: int | None) -> bool:
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


def file_size(experiment: Experiment, plane: Plane) -> tuple[int, bool]:
    """Return about how many bytes the surface file has, and whether the directions are in it."""
    job = experiment.job.values
    names = result_names(job.data.splits, experiment.task.metrics, sampled=job.sampling is not None)
    each = 8 * len(names) + 1 + 8 + 4 + LONGEST  # results, status, seconds, rank, note
    size = HEAD + ENTRY * len(names) + math.prod(job.chosen_grid.shape) * each + len(experiment.job.text.encode())
    kept = are_kept(job.output, plane)
    if kept:
        along = plane.statistics.theta if plane.statistics else {}
        tensors = [*plane.theta.values(), *along.values()] * len(plane.directions)
        size += sum(4 * (1 + tensor.is_complex()) * tensor.numel() + ENTRY for tensor in tensors)
    return size, kept


def _above_zero(parts: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in parts.items() if size > 0}

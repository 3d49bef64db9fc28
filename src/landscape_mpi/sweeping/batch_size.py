"""The batch of a new surface: as many images as fit into the memory of a CUDA device; a fixed number on a CPU."""

import math
from dataclasses import dataclass

import torch

from landscape_mpi.engines import LANES
from landscape_mpi.mpi.world import World, together
from landscape_mpi.sweeping.experiment import Experiment

BATCH_CPU = 64
SMALLEST, LARGEST = 64, 4096
SAMPLE = 64
"""Images that the memory of one is measured by."""
SHARE = 0.5
"""Of the free memory; what is left is for the libraries' work space and for gaps that nothing fits into."""
IN_FLIGHT = LANES + 1
"""Batches whose activations are held at once: one a lane, and one of another size beside them."""
WEIGHT_COPIES = 16
"""Of all parameters: network, plane and flat buffers, and their float64 while an engine is built."""


@dataclass(frozen=True)
class Memory:
    """What a rank has of a device and what it needs.

    Attributes:
        free: Bytes that are free on the device.
        ranks: Ranks that share it.
        weights: Bytes of the network's parameters.
        image: Bytes that an image takes at the most on its way through the network.
    """

    free: int
    ranks: int
    weights: int
    image: float


@dataclass(frozen=True)
class _Place:
    """A CUDA device that a rank computes on, and the bytes that were free there."""

    device: str
    free: int


def largest_batch(memory: Memory) -> int:
    """Return the largest power of two between 64 and 4096 that fits; 64 where none does."""
    room = SHARE * memory.free / memory.ranks - WEIGHT_COPIES * memory.weights
    fits = room / (IN_FLIGHT * max(memory.image, 1.0))
    if fits <= SMALLEST:
        return SMALLEST
    return min(LARGEST, 1 << int(math.log2(fits)))


def choose_batch(world: World, experiment: Experiment) -> int:
    """Return the batch of a new surface: the job's, else the smallest that any rank chooses; collective.

    It is fixed with the file, because another one may change the last bits of a loss.
    """
    wanted = experiment.job.values.evaluate.batch
    if wanted != "auto":
        return wanted
    # everyone looks at the free memory before anyone takes of it to measure
    places = world.allgather(together(world, _place, world, experiment.device))
    return min(world.allgather(together(world, _choice, experiment, places, places[world.rank])))


def _choice(experiment: Experiment, places: list[_Place | None], mine: _Place | None) -> int:
    if mine is None:
        return BATCH_CPU
    sharing = [place for place in places if place is not None and place.device == mine.device]
    weights = sum(parameter.nbytes for parameter in experiment.theta.network.parameters())
    free = min(place.free for place in sharing)
    return largest_batch(Memory(free, len(sharing), weights, _bytes_an_image(experiment)))


def _place(world: World, device: torch.device) -> _Place | None:
    if device.type != "cuda":
        return None
    # ranks may each see a device of their own as number 0
    name = getattr(torch.cuda.get_device_properties(device), "uuid", device.index)
    return _Place(f"{world.host} {name}", torch.cuda.mem_get_info(device)[0])


def _bytes_an_image(experiment: Experiment) -> float:
    """Return the most memory that the plain network takes for an image; inf where not even the sample fits."""
    task, device, split = experiment.task, experiment.device, next(iter(experiment.task.splits))
    images = min(SAMPLE, len(task.splits[split]))
    try:
        for _ in range(2):  # the first run pays for what the libraries keep
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            task.evaluate(experiment.theta.network, split, slice(0, images), images)
    except torch.OutOfMemoryError:
        return math.inf
    return (torch.cuda.max_memory_allocated(device) - before) / images

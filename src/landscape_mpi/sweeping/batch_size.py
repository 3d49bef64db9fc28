"""Chooses the batch of a new surface: as many examples as fit into a CUDA device's memory; 64 or fewer on a CPU."""

import math

import torch
from torch import nn

from landscape_mpi.engines import LANES
from landscape_mpi.evaluate import examples_that_fit
from landscape_mpi.evaluate.live import cuda_name
from landscape_mpi.mpi.world import World, together
from landscape_mpi.sweeping.load import Experiment

BATCH_CPU = 64
"""Examples on a CPU; fewer where their outputs would take more than 64 MB."""
SMALLEST, LARGEST = 64, 4096
SAMPLE = 64
"""Examples by which the memory that one takes is measured."""
SHARE = 0.5
"""Of the free memory; what is left is for the libraries' work space and for gaps that nothing fits into."""
IN_FLIGHT = LANES + 1
"""Batches whose activations are held at once: one a lane, and one of another size beside them."""
WEIGHT_COPIES = 16
"""Of all parameters: network, plane and flat buffers, and their float64 while an engine is built."""


def largest_batch(*, free: int, ranks: int, weights: int, example: float) -> int:
    """Return the largest power of two between 64 and 4096 that fits; 64 where none does.

    Args:
        free: Bytes that are free on the device.
        ranks: Ranks that share it.
        weights: Bytes that all copies of the network's parameters take.
        example: Bytes that an example takes at the most on its way through the network.
    """
    room = SHARE * free / ranks - weights
    fits = room / (IN_FLIGHT * max(example, 1.0))
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
    devices = world.allgather(together(world, _free_memory, world.host, experiment.device))
    return min(world.allgather(together(world, _fitting_batch, experiment, devices, world.rank)))


def _free_memory(host: str, device: torch.device) -> tuple[str, int] | None:
    """Return the name of a CUDA device and the bytes that are free there; None for a CPU."""
    if device.type != "cuda":
        return None
    return f"{host} {cuda_name(device)}", torch.cuda.mem_get_info(device)[0]


def _fitting_batch(experiment: Experiment, devices: list[tuple[str, int] | None], rank: int) -> int:
    """Return the batch that fits on this rank's device, by what a sample of examples takes there."""
    mine, task, network = devices[rank], experiment.task, experiment.theta.network
    if mine is None:
        return examples_that_fit(task, BATCH_CPU)
    device = experiment.device
    split = next(iter(task.splits))
    examples = min(SAMPLE, len(task.splits[split]))
    try:
        for _ in range(2):  # the first run pays for what the libraries keep
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            task.evaluate(network, split, slice(0, examples), examples)
        example = (torch.cuda.max_memory_allocated(device) - before) / examples
    except torch.OutOfMemoryError:
        example = math.inf
    sharing = [free for name, free in filter(None, devices) if name == mine[0]]
    weights = sum(tensor.numel() for tensor in experiment.theta.parameters.values()) * task.dtype.itemsize
    copies = WEIGHT_COPIES if isinstance(network, nn.Module) else 1
    return largest_batch(free=min(sharing), ranks=len(sharing), weights=copies * weights, example=example)

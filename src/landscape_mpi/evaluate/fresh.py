"""A network at a point of the plane the way users make one: the point's weights loaded, then eval mode; knows no file.

What a network computes from its weights when it enters eval mode, as merged low-rank updates and fused branches are, or
at its first forward pass, is that of the point then. Weights that are set in place leave such things as they were.
"""

from torch import nn

from landscape_mpi.evaluate.batchnorm import set_statistics
from landscape_mpi.evaluate.evaluator import Point, Task
from landscape_mpi.networks.copies import duplicate, load
from landscape_mpi.plane import Plane


def fresh(origin: nn.Module, plane: Plane, task: Task, point: Point) -> tuple[nn.Module, int]:
    """Return a copy of a network at a point, in eval mode, and how many running variances are held at 0 there.

    Args:
        origin: The network in train mode, as it was made, on the task's device.
        plane: Of its parameters.
        task: Estimates running statistics anew, where it does.
        point: Where on the plane.
    """
    network = duplicate(origin)
    load(network, plane.at(*point))
    held = set_statistics(network, plane.statistics.at(*point)) if plane.statistics else 0
    network.eval()
    if task.calibration is not None:
        task.calibrate(network)
        network.train()
        network.eval()  # once more: what it computed there may hold the statistics before
    return network, held

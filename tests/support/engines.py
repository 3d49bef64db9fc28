"""A network of any kind on a plane of its own, evaluated by an engine and plainly."""

import numpy as np
import torch
from torch import nn

from landscape_mpi.data import Split
from landscape_mpi.engines import build_engine
from landscape_mpi.evaluate import EagerEvaluator, Task
from landscape_mpi.evaluate.losses import cross_entropy
from landscape_mpi.plane import Course, Plane, RandomDirections


def parameters(network):
    """Theta by name."""
    return {name: tensor.detach().clone() for name, tensor in network.named_parameters()}


def plane_of(network, ignore="biasbn", axes=2):
    """A filter-normalised plane through the network as it is."""
    theta, directions = parameters(network), RandomDirections(0, "filter", ignore)
    return Plane.along(theta, [directions.draw(theta, axis) for axis in range(axes)])


def settle(network, inputs):
    """Give batch norm the statistics of the inputs, weights that are not 1, and put the network in eval mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(inputs)
    return network.eval()


def image_task(images=6, size=32, classes=10, dtype=torch.float32):
    """Gaussian images with arbitrary classes."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(images, 3, size, size, generator=generator)
    return Task({"train": Split("train", inputs, torch.arange(images) % classes)}, None, cross_entropy, dtype)


def curve_of(network, kind):
    """A bent curve from the network to a neighbour of it, of one axis."""
    theta = parameters(network)
    to, bend = (RandomDirections(seed, "filter", "biasbn").draw(theta, 0) for seed in (1, 2))
    end = {name: theta[name] + direction for name, direction in to.items()}
    return Plane(theta, (to, bend), course=Course(kind), axes=1, end=end)


def deviation(network, engine, points, task=None, ignore="biasbn", batch=4, plane=None):
    """The engine's description, and its largest deviation of an image's loss from float64's, relative to the loss."""
    task = task or image_task()
    plane = plane or plane_of(network, ignore)
    ours = build_engine(engine, network, plane, task, batch)
    double = Task(task.splits, task.normalisation, task.loss, torch.float64)
    reference = EagerEvaluator(network.double(), plane, double, batch)
    everything = slice(0, ours.count("train"))
    worst = 0.0
    for point in points:
        found, exact = (one.per_example(point, "train", everything) for one in (ours, reference))
        worst = max(worst, float(np.max(np.abs(found.losses - exact.losses) / np.maximum(exact.losses, 1.0))))
    network.float()
    return ours.description, worst

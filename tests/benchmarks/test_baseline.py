"""The baseline of the benchmark of engines: its weights are those of the plane that the engines move along."""

import torch
from torch import nn

from landscape_mpi.evaluate.live import Resident
from landscape_mpi.plane import Plane, RandomDirections


def test_its_weights_are_those_of_the_plane(benchmark_named):
    baseline = benchmark_named("baseline")
    torch.manual_seed(0)
    network, other = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
    theta = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    draw = RandomDirections(0, "filter", "biasbn").draw
    plane = Plane(theta, (draw(theta, 0), draw(theta, 1)))
    baseline.set_weights(network, baseline.Directions(theta, *plane.directions), 0.5, -0.25)
    Resident(other).move(plane, (0.5, -0.25))
    torch.testing.assert_close(network.weight, other.weight)
    assert not torch.equal(network.weight, theta["weight"])

"""Networks that channels last break, swept: the numbers of float64 on weights that were never laid out."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import landscape_mpi
from landscape_mpi.plane import RandomDirections
from support.engines import parameters

GRID = {"alpha": [-1, 1, 3], "beta": [-0.5, 0.5, 2]}


class Windows(nn.Module):
    """Cuts its images by strides, as if they were contiguous."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3, padding=1)
        self.head = nn.Linear(4 * 2 * 16, 5)

    def forward(self, x):
        x = self.convolution(x)
        n, c, h, w = x.shape
        return self.head(x.as_strided((n, c, 2, 4 * w), (c * h * w, h * w, 4 * w, 1))[..., :16].relu().flatten(1))


class Viewed(nn.Module):
    """Flattens by `view`, which tensors that lie channels last refuse."""

    def __init__(self):
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 6, 3), nn.Linear(54, 5)

    def forward(self, x):
        return self.head(nn.functional.max_pool2d(self.convolution(x).relu(), 2).view(-1, 54))


NETWORKS = {
    "view": (
        nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Unflatten(1, (2, 3)), nn.Flatten(), nn.Linear(54, 5)
        ),
        (3, 8, 8),
    ),
    "three dimensions": (nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)), (1, 6, 6, 6)),
    "one dimension": (nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, 5)), (2, 12)),
    "strides": (Windows(), (2, 8, 8)),
    "one channel": (nn.Sequential(nn.Conv2d(1, 6, 3, stride=(1, 2)), nn.Flatten(), nn.Linear(24, 5)), (1, 6, 4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_surface_is_that_of_the_network_as_it_was_made(name, engine):
    network, shape = copy.deepcopy(NETWORKS[name])
    random = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(40, *shape, generator=random), torch.arange(40) % 5
    theta, directions = parameters(network), RandomDirections(0, "filter", "biasbn")
    plane = tuple(directions.draw(theta, axis) for axis in (0, 1))
    surface = landscape_mpi.sweep(network, "cross_entropy", (inputs, targets), plane, GRID, engine=engine, quiet=True)
    exact = copy.deepcopy(network).double()
    for (row, column), found in np.ndenumerate(surface.loss()):
        for name, parameter in exact.named_parameters():
            steps = surface.alpha[column] * plane[0][name].double() + surface.beta[row] * plane[1][name].double()
            parameter.data = theta[name].double() + steps
        with torch.no_grad():
            expected = nn.functional.cross_entropy(exact(inputs.double()), targets).item()
        assert found == pytest.approx(expected, rel=1e-5)

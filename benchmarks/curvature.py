"""How exact the extreme eigenvalues are: beside dense Hessians of small networks, in both precisions. Prints a table.

python benchmarks/curvature.py
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from landscape_mpi.curvature import Extremes, Hessian, extremes, start_vector
from landscape_mpi.evaluate.losses import cross_entropy

IMAGES, BATCH, STEPS = 256, 64, 150
TOLERANCES = (1e-2, 1e-3, 1e-4)


def perceptron() -> nn.Module:
    """Two layers, 248 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 2), nn.Tanh(), nn.Linear(2, 10))


def convolutions() -> nn.Module:
    """Two convolutions with batch norm, 923 parameters."""
    block = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
    block += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
    return nn.Sequential(*block, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"perceptron": perceptron, "convolutions": convolutions}


def main() -> None:
    """Print a row for each network, state, precision and tolerance."""
    torch.set_num_threads(1)
    _print("network | parameters | lambda_min | lambda_max | dtype | tolerance | products | residual | error")
    _print("---|---|---|---|---|---|---|---|---")
    for name, build in NETWORKS.items():
        for steps in (0, STEPS):
            torch.manual_seed(0)
            network, inputs, targets = build(), torch.randn(IMAGES, 3, 6, 6), torch.arange(IMAGES) % 3
            _train(network, inputs, targets, steps)
            _rows(f"{name}, {'trained' if steps else 'fresh'}", network.eval(), inputs, targets)


def _rows(name: str, network: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    exact = _dense(network, inputs.double(), targets)
    for dtype in (torch.float32, torch.float64):
        for tolerance in TOLERANCES:
            found = _search(network.to(dtype), inputs.to(dtype), targets, tolerance)
            error = max(abs(found.smallest - exact[0]), abs(found.largest - exact[-1])) / np.abs(exact).max()
            ends = f"{exact.size} | {exact[0]:.4g} | {exact[-1]:.4g}"
            cost = f"{str(dtype)[6:]} | {tolerance:g} | {found.products} | {found.residual:.1e} | {error:.1e}"
            _print(f"{name} | {ends} | {cost}")


def _print(row: str) -> None:
    sys.stdout.write(f"| {row} |\n")
    sys.stdout.flush()


def _train(network: nn.Module, inputs: Tensor, targets: Tensor, steps: int) -> None:
    """Take some steps, after one that leaves the weights alone and gives batch norm its statistics."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    network.train()(inputs)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(network(inputs), targets).mean().backward()
        optimizer.step()


def _dense(network: nn.Module, inputs: Tensor, targets: Tensor) -> NDArray[np.float64]:
    """Return all eigenvalues of the Hessian of the mean loss, by torch's dense way in float64."""
    network.double()
    names, leaves = zip(*network.named_parameters(), strict=True)

    def mean(flat: Tensor) -> Tensor:
        cuts = torch.split(flat, [leaf.numel() for leaf in leaves])
        parts = {name: cut.view_as(leaf) for name, cut, leaf in zip(names, cuts, leaves, strict=True)}
        return cross_entropy(functional_call(network, parts, (inputs,)), targets).mean()

    flat = torch.cat([leaf.detach().flatten() for leaf in leaves])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(mean, flat)).numpy()  # type: ignore[no-untyped-call]


def _search(network: nn.Module, inputs: Tensor, targets: Tensor, tolerance: float) -> Extremes:
    def loss(images: slice) -> Tensor:
        return cross_entropy(network(inputs[images]), targets[images]).double().sum()

    hessian = Hessian(list(network.parameters()), loss)
    cuts = [slice(first, first + BATCH) for first in range(0, IMAGES, BATCH)]
    start = start_vector(hessian.size, torch.device("cpu"))
    return extremes(lambda v: hessian.times(v, cuts) / IMAGES, start, tolerance)


if __name__ == "__main__":
    main()

"""Every engine on the network of a seed, compared with plain torch in float64 and in float32."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape_mpi.data import Split
from landscape_mpi.engines import CannotFuseError, build_engine
from landscape_mpi.evaluate import Evaluator, Point, Task, choose_layout, lay_out
from landscape_mpi.evaluate.losses import cross_entropy
from landscape_mpi.plane import Plane, RandomDirections
from support.random_networks import CLASSES, IMAGES, Made, random_network

ENGINES = ("eager", "fused", "compiled")
POINTS = ((0.0, 0.0), (0.7, -0.4), (-1.0, 1.0))
BATCH = 8
ROUNDING = 1e-4
"""What float32 may lose of a loss, or of 1; where one rounding costs more at the point, a multiple of that."""
ROUNDINGS = {"compiled": 30}
"""How many roundings an engine may lose, if not ten: Winograd's transforms of 4x4 tiles add and cancel more terms."""
DRAWS = 8
"""How often the weights and inputs of a network are rounded at random to see what one rounding costs."""


Losses = Mapping[Point, NDArray[np.float64]]


@dataclass(frozen=True)
class Trial:
    """What an engine did with a network: its layers, why it refused, what was wrong.

    `convolutions` counts calls of two-dimensional convolutions that pad with zeros: others cannot be fused.
    """

    seed: int
    pieces: tuple[str, ...]
    engine: str
    convolutions: int
    layout: str
    description: str = ""
    refused: str = ""
    wrong: str = ""


def trials(seed: int) -> Iterator[Trial]:
    """Try every engine on the network of a seed."""
    made = random_network(seed)
    task = Task({"train": Split("train", made.inputs, torch.arange(IMAGES) % CLASSES)}, None, cross_entropy)
    plane = _plane(made.network, seed)
    exact, single = (_plainly(made, plane, dtype) for dtype in (torch.float64, torch.float32))
    layout = choose_layout(made.network, task)
    task = replace(task, layout=layout)
    network = lay_out(copy.deepcopy(made.network), layout)
    convolutions = _convolutions(made)
    for engine in ENGINES:
        trial = Trial(seed, made.pieces, engine, convolutions, str(layout).removeprefix("torch."))
        try:
            built = build_engine(engine, network, plane, task, BATCH)
        except CannotFuseError as error:
            yield replace(trial, refused=str(error))
            continue
        yield replace(trial, description=built.description, wrong=_wrong(engine, built, made, plane, exact, single))


def _plane(network: nn.Module, seed: int) -> Plane:
    theta = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    finite = {name: tensor.nan_to_num(1.0, 1.0, 1.0) for name, tensor in theta.items()}
    directions = RandomDirections(seed, "filter", "none" if seed % 3 else "biasbn")
    return Plane(theta, (directions.draw(finite, 0), directions.draw(finite, 1)))


def _convolutions(made: Made) -> int:
    called: list[nn.Module] = []
    for module in made.network.modules():
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
            module.register_forward_hook(lambda module, *_: called.append(module))
    network = copy.deepcopy(made.network)  # with the hooks
    for module in made.network.modules():
        module._forward_hooks.clear()
    with torch.no_grad():
        network(made.inputs[:BATCH].clone())
    return len(called)


def _plainly(made: Made, plane: Plane, dtype: torch.dtype) -> Losses:
    """Return the losses of the images at all points by plain torch, contiguous, in the batches of the engines."""
    return {point: _losses(made, plane, dtype, point) for point in POINTS}


def _losses(
    made: Made, plane: Plane, dtype: torch.dtype, point: Point, each: Callable[[Tensor], Tensor] = Tensor.contiguous
) -> NDArray[np.float64]:
    """Return the losses at a point where `each` has been applied to weights, buffers and inputs."""
    inputs = each(made.inputs.to(dtype))
    task = Task({"train": Split("train", inputs, torch.arange(IMAGES) % CLASSES)}, None, cross_entropy, dtype)
    network = copy.deepcopy(made.network).to(dtype)
    values = plane.at(*point, dtype=dtype)
    for name, parameter in network.named_parameters():
        parameter.data = each(values[name].contiguous())
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.data = each(buffer.data)
    return task.evaluate(network, "train", slice(0, IMAGES), BATCH).losses


def _one_rounding(made: Made, plane: Plane, point: Point, exact: NDArray[np.float64]) -> float:
    """Return what one float32 rounding of each weight and input, up or down at random, changes in float64."""

    def worst(seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)

        def rounded(tensor: Tensor) -> Tensor:
            signs = 2.0 * torch.randint(0, 2, tensor.shape, generator=generator) - 1
            return tensor * (1 + 2**-24 * signs)

        return _lost(_losses(made, plane, torch.float64, point, rounded), exact)

    return max(map(worst, range(DRAWS)))


def _wrong(engine: str, built: Evaluator, made: Made, plane: Plane, exact: Losses, single: Losses) -> str:
    """Say where an engine's losses are others than those of plain torch; empty where they are not."""
    for point in POINTS:
        try:
            losses = built.per_example(point, "train", slice(0, IMAGES)).losses
        except Exception as error:
            return f"at {tuple(point)} it failed ({type(error).__name__}: {error})"
        allowed = max(ROUNDING, 10 * _lost(single[point], exact[point]))
        triples = [tuple(map(float, three)) for three in zip(losses, single[point], exact[point], strict=True)]
        if not all(_same(*three, allowed) for three in triples):
            allowed = max(allowed, ROUNDINGS.get(engine, 10) * _one_rounding(made, plane, point, exact[point]))
        for image, (ours, plain, true) in enumerate(triples):
            if not _same(ours, plain, true, allowed):
                return f"at {tuple(point)} image {image}: {ours:.9g}, plain {plain:.9g}, float64 {true:.9g}"
    return ""


def _lost(plain: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    """Return by how much of it, or of 1, float32 changes a loss at most where both are finite."""
    finite = np.isfinite(plain) & np.isfinite(exact)
    lost = np.abs(plain - exact)[finite] / np.maximum(1.0, np.abs(exact[finite]))
    return float(lost.max(initial=0.0))


def _same(ours: float, plain: float, exact: float, allowed: float) -> bool:
    if not np.isfinite(plain):
        return (
            ours == plain or bool(np.isnan([ours, plain]).all()) or (np.isfinite(exact) and _near(ours, exact, allowed))
        )
    return _near(ours, exact if np.isfinite(exact) else plain, allowed)


def _near(ours: float, expected: float, by: float) -> bool:
    return abs(ours - expected) <= by * max(1.0, abs(expected))  # NaN is not

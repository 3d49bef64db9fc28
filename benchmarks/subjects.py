"""Networks on planes and the ways to evaluate them: what users have today, plain torch, our engines. Times nothing."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import baseline
import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.data import DEFAULT_NORMALISATION, Split, load_split
from landscape_mpi.engines import build_engine
from landscape_mpi.evaluate import Point, Task, build_loss, measure
from landscape_mpi.metrics.registry import METRICS
from landscape_mpi.networks import build_network, load_checkpoint
from landscape_mpi.plane import Plane, RandomDirections

PLAIN = ("baseline", "preloaded")
ENGINES = ("eager", "fused", "compiled")
BATCH = 64
NORMALISATION = DEFAULT_NORMALISATION["cifar10"]
Way = Callable[[Point], float]
"""Evaluates a point and returns its mean loss."""


@dataclass(frozen=True)
class Subject:
    """A network on a plane, and the examples it is evaluated on."""

    network: nn.Module
    plane: Plane
    split: Split

    def task(self, images: int, dtype: torch.dtype = torch.float32) -> Task:
        """Return the evaluation of the first examples."""
        few = Split("train", self.split.inputs[:images], self.split.targets[:images])
        return Task({"train": few}, NORMALISATION, build_loss("cross_entropy", Path()), dtype)


@dataclass(frozen=True)
class Recipe:
    """How a process makes its subject."""

    network: str
    checkpoint: str | None
    shortcut: str
    images: int

    def subject(self) -> Subject:
        """Return the network of the zoo, its batch norm settled on the images, or with a checkpoint's weights."""
        torch.manual_seed(0)
        network = build_network(self.network, {"shortcut": self.shortcut}, Path()).eval()
        split = load_split("shapes10", None, "train", {"images": self.images}, None)
        if self.checkpoint:
            load_checkpoint(network, Path(self.checkpoint))
        else:
            settle(network, NORMALISATION.apply(split.inputs[:128]))
        theta = {key: tensor.detach().clone() for key, tensor in network.named_parameters()}
        draw = RandomDirections(0, "filter", "biasbn").draw
        return Subject(network.eval(), Plane(theta, (draw(theta, 0), draw(theta, 1))), split)


def settle(network: nn.Module, inputs: Tensor) -> None:
    """Give batch norm the statistics of some inputs: the signal of an untrained network then neither dies nor grows."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(inputs)


def ways(subject: Subject, names: Sequence[str]) -> dict[str, Way]:
    """Return the named ways to evaluate a point."""
    if names == PLAIN:
        return {"baseline": today(subject), "preloaded": preloaded(subject)}
    task = subject.task(len(subject.split))
    engines = {name: build_engine(name, subject.network, subject.plane, task, BATCH) for name in names}
    return {
        name: lambda point, engine=engine: measure(engine, point, ["train"], METRICS[:2])["train_loss"]  # type: ignore[misc]
        for name, engine in engines.items()
    }


def today(subject: Subject) -> Way:
    """Return the loop of tomgoldstein/loss-landscape."""
    network, set_weights = _setter(subject)
    pixels = subject.split.inputs.permute(0, 2, 3, 1).contiguous().numpy()
    mean, std = list(NORMALISATION.mean), list(NORMALISATION.std)
    loader = baseline.loader(baseline.Pictures(pixels, subject.split.targets.numpy(), mean, std))

    def way(point: Point) -> float:
        set_weights(point)
        return baseline.evaluate(network, loader)[0]

    return way


def preloaded(subject: Subject) -> Way:
    """Return plain torch on images that are one normalised tensor."""
    network, set_weights = _setter(subject)
    inputs, targets = NORMALISATION.apply(subject.split.inputs), subject.split.targets

    def way(point: Point) -> float:
        set_weights(point)
        return plain_loss(network, inputs, targets)

    return way


def _setter(subject: Subject) -> tuple[nn.Module, Callable[[Point], None]]:
    plane, network = subject.plane, copy.deepcopy(subject.network)
    weights = baseline.Directions(plane.theta, *plane.directions)
    return network, lambda point: baseline.set_weights(network, weights, *point)


def plain_loss(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Return the mean loss by plain torch on a preloaded tensor, NCHW, batch 128."""
    with torch.inference_mode():
        losses = [
            functional.cross_entropy(network(inputs[i : i + 128]), targets[i : i + 128], reduction="sum").item()
            for i in range(0, len(inputs), 128)
        ]
    return sum(losses) / len(inputs)

"""A transformer whose weights are set in place or streamed on a device, beside plain inference; prints nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_ways import Scale, Way, seconds, whole
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.data import Split
from landscape_mpi.engines import ReplayedEvaluator, lanes_of
from landscape_mpi.evaluate import EagerEvaluator, Task, build_loss
from landscape_mpi.evaluate.live import Resident, Streaming
from landscape_mpi.networks.meta import build_empty, materialise
from landscape_mpi.plane import Parameters, Plane, RandomDirections

HEAD = 64
"""Width of a head of attention."""
WAYS = (
    "plain",
    "resident",
    "resident, graph",
    "resident, theta on the host",
    "streamed",
    "streamed, theta on the host",
)
NUMBERS = 1 << 14
"""Weights of the first tensor that are compared with a CPU's."""


@dataclass(frozen=True)
class Sizes:
    """A language model and its texts: 0.5 billion parameters on a device, next to nothing in a dry run."""

    words: int
    width: int
    depth: int
    texts: int
    length: int
    batch: int

    @staticmethod
    def of(scale: Scale) -> "Sizes":
        """Return the sizes for a device."""
        return Sizes(32768, 1536, 16, 32, 512, 8) if scale.device.type == "cuda" else Sizes(50, 64, 2, 3, 8, 2)


class Block(nn.Module):
    """Attention that looks back, and two layers."""

    def __init__(self, width: int) -> None:
        """Make one of a width that is a multiple of HEAD."""
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, length, width] for the same."""
        heads = self.inward(self.norms[0](x)).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.outward(mixed.transpose(1, 2).flatten(2))
        return x + self.layers(self.norms[1](x))


class Model(nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self, sizes: Sizes) -> None:
        """Make one with weights at their usual start."""
        super().__init__()
        self.embed = nn.Embedding(sizes.words, sizes.width)
        self.blocks = nn.Sequential(*(Block(sizes.width) for _ in range(sizes.depth)))
        self.norm, self.head = nn.LayerNorm(sizes.width), nn.Linear(sizes.width, sizes.words, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [n, length, words] for tokens [n, length]."""
        return self.head(self.norm(self.blocks(self.embed(tokens))))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Large:
    """A model without memory for its parameters, theta* in bfloat16 on the CPU as a file has it, and texts."""

    network: nn.Module
    theta: Parameters
    split: Split
    scale: Scale
    batch: int

    @staticmethod
    def of(scale: Scale) -> "Large":
        """Return the model of a device with seeded weights."""
        sizes, generator = Sizes.of(scale), torch.Generator().manual_seed(0)
        network = build_empty(lambda: Model(sizes)).eval()
        theta = {}
        for name, parameter in network.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
            theta[name] = (torch.ones_like(drawn) if "norm" in name and "weight" in name else drawn).bfloat16()
        tokens = torch.randint(0, sizes.words, (sizes.texts, sizes.length), generator=generator).to(scale.device)
        return Large(network, theta, Split("test", tokens, tokens.roll(-1, 1)), scale, sizes.batch)

    def rows(self, points: tuple[tuple[float, float], ...]) -> Iterator[dict[str, Any]]:
        """Yield what each way takes, and whether it gives the bits of the first that moves."""
        task = Task({"test": self.split}, None, build_loss("next_token", Path()), device=self.scale.device)
        draw = RandomDirections(0, "filter", "biasbn").draw
        plane = Plane(self.theta, (draw(self.theta, 0), draw(self.theta, 1)))
        first: list[bytes] = []
        base = 0.0
        for name in WAYS:
            way = self._way(name, plane, task)
            bits = [] if name == "plain" else [way(point).losses.tobytes() for point in points]
            first = first or bits
            took = seconds(self.scale.device, self.scale.rounds, self._turns(way))
            base = base or took
            yield {"way": name, "seconds": took, "of_plain": took / base, "bits": bits in ([], first)}

    @staticmethod
    def _turns(way: Way) -> Any:
        """Return the evaluation of another point at each call, so that weights are rebuilt."""
        count = iter(range(1, 1000))
        return lambda: way((0.001 * next(count), 0.002))

    def _way(self, name: str, plane: Plane, task: Task) -> Way:
        device, here = self.scale.device, Plane(self.theta, ())
        if name.startswith("streamed"):
            live: Resident | Streaming = Streaming(self._copy(), here, device, torch.float32)
        else:
            live = Resident(materialise(self._copy(), device, torch.float32).eval())
            live.move(here, ())
        if name == "plain":
            return lambda _: task.evaluate(live, "test", slice(None), self.batch)
        evaluator = EagerEvaluator(live, plane, task, self.batch)
        if name.endswith("graph") and (lanes := lanes_of(device)[:1]) and isinstance(live, Resident):
            evaluator = ReplayedEvaluator(live, plane, task, self.batch, lanes)
        if name.endswith("host"):
            evaluator._plane = plane.to(device, 0)
        return whole(evaluator, "test")

    def _copy(self) -> nn.Module:
        return build_empty(lambda: Model(Sizes.of(self.scale))).eval()

    def same_weights(self, point: tuple[float, float]) -> bool:
        """Whether the weights that the device rebuilds have the bits of a CPU's."""
        theta = {"embed.weight": self.theta["embed.weight"].flatten()[:NUMBERS].view(-1, 64)}
        draw = RandomDirections(0, "filter", "biasbn").draw
        plane = Plane(theta, (draw(theta, 0), draw(theta, 1)))
        there = plane.to(self.scale.device).at(*point, dtype=torch.float32)["embed.weight"].cpu()
        return torch.equal(there, plane.at(*point, dtype=torch.float32)["embed.weight"])


def measure_large(scale: Scale, points: tuple[tuple[float, float], ...]) -> dict[str, Any]:
    """Return the rows of all ways, and whether weights are those of a CPU."""
    large = Large.of(scale)
    return {
        "parameters": sum(tensor.numel() for tensor in large.theta.values()),
        "tokens": large.split.inputs.numel(),
        "batch": large.batch,
        "rows": list(large.rows(points)),
        "weights_of_a_cpu": large.same_weights(points[1]),
    }

"""Computes the metrics of the Hessian at points of a plane, and forecasts what they cost.

Each is a line of `METHODS`: what it computes from products with the Hessian, and how many of them it takes.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.assemble import without_tf32
from landscape_mpi.curvature import (
    Extremes,
    Hessian,
    Product,
    Sample,
    basis_size,
    differs,
    extremes,
    silent,
    spectrum,
    start_vector,
)
from landscape_mpi.data.split import batches
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Batch, EagerEvaluator, Point, Task
from landscape_mpi.job import Hessian as HessianSection
from landscape_mpi.log import ProgressLine
from landscape_mpi.metrics.hessian import HESSIAN
from landscape_mpi.metrics.spectrum import SPECTRUM
from landscape_mpi.networks.state import cast, duplicate
from landscape_mpi.plane import Plane
from landscape_mpi.plane.counter import standard_normal
from landscape_mpi.plugin import reason
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.unfinished import PointWork

LARGEST = 256
"""Most examples of a batch: two backward passes hold ten times as much as a forward one, and more are no faster."""
PARTS = 16
"""Parts of the examples whose sums are added up in the end: the most ranks that can share one product."""
NO_CURVATURE = (
    "hessian",
    (
        "the network computes something from its weights once, in eval mode or at its first forward pass, and its "
        "losses have no derivatives through that"
    ),
    "one that computes it in every forward pass",
    "leave hessian out",
)
"""The key, what was found, what was expected and the remedy where a network has no derivatives."""
FEW = 2
"""Examples on which derivatives are compared with differences."""
NAMED = 5
"""Parameters that are named in a message."""
NOT_FINITE = "the Hessian is not finite"
REMEDY = (
    "leave hessian out, use use_reentrant=False in torch's checkpoint, detach nothing that is trained, or freeze such "
    "parameters by requires_grad=False"
)
USUAL = 30
"""Products that a search takes to reach a residual of 1e-3: 10 to 40 on networks with a few large eigenvalues."""


class Curved(NamedTuple):
    """What is recorded of the Hessian at a point: results by the names of their datasets, and a note for `/error`."""

    values: Mapping[str, float | NDArray[np.float64]]
    note: str = ""


@dataclass(frozen=True)
class Curvature:
    """The Hessian of the mean loss over the first examples of a split, at points of a plane.

    Attributes:
        evaluator: Puts the network at a point.
        task: The data and the loss.
        split: The name of the split.
        parts: Its examples in at most 16 parts of whole batches, in order: no bit depends on which rank sums which
            part.
        batch: Examples at a time.
        section: What the job says of the Hessian.
        asked: The metrics that are computed at every point, by their keys.
        names: Names of the parameters that the Hessian is taken over, as far as they are trained; None for all.
        tf32: Whether TF32 is allowed elsewhere; here it is not.
        progress: Where products of a spectrum are counted, on rank 0.
    """

    evaluator: EagerEvaluator
    task: Task
    split: str
    parts: tuple[slice, ...]
    batch: Batch
    section: HessianSection
    asked: tuple[str, ...]
    names: frozenset[str] | None
    tf32: bool
    progress: ProgressLine | None = None

    @staticmethod
    def of(experiment: Experiment, plane: Plane, batch: int) -> "Curvature":
        """Return what a job asks for, on this rank; `batch` is the surface's."""
        job, task = experiment.job.values, experiment.task.exact
        evaluator = EagerEvaluator(experiment.theta.network, plane, task, batch)
        split = job.data.splits[0]
        examples, held = job.hessian.images or evaluator.count(split), Batch(min(batch, LARGEST))
        examples = min(examples, evaluator.count(split))
        parts = tuple(batches(examples, held.examples * math.ceil(math.ceil(examples / held.examples) / PARTS)))
        names, tf32 = frozenset(plane.moving) if job.hessian.of == "plane" else None, experiment.precision.tf32
        return Curvature(evaluator, task, split, parts, held, job.hessian, job.curvature, names, tf32)

    @property
    def count(self) -> int:
        """How many examples there are."""
        stop: int = self.parts[-1].stop
        return stop

    @property
    def size(self) -> int:
        """The number of parameters that the Hessian is taken over."""
        return sum(leaf.numel() for leaf in self.leaves(self.evaluator.centre).values())

    @property
    def weight(self) -> float:
        """The sum of the examples' weights: one each, except where a loss ignores some of their targets."""
        weights = self.task.weights[self.split]
        return float(self.count if weights is None else weights[: self.count].sum())

    def at(self, point: Point, work: PointWork | None = None) -> Curved:
        """Return what is recorded of a point; `work`: where its products are kept until it is done."""
        batch = self.batch.examples
        found = [METHODS[key].compute(self, point, work) for key in self.asked]
        notes = [one.note for one in found if one.note]
        if self.batch.examples < batch:
            few = f"{self.batch.examples} examples at a time instead of {batch}"
            notes.append(f"Hessian: {few}, because memory is short")
        values = {name: value for one in found for name, value in one.values.items()}
        return Curved(values, "; ".join(dict.fromkeys(notes)))

    def product(self, hessian: Hessian, vector: Tensor) -> Tensor:
        """Return a product with the Hessian of the mean over all examples, float64 [n], all of it on this rank."""
        return self.mean([self.part(hessian, vector, part) for part in self.parts])

    def leaves(self, point: Point) -> dict[str, Tensor]:
        """Return, by name, the parameters at a point by which derivatives are taken.

        Raises:
            UserError: there are none.
        """
        named = self.evaluator.network_at(point).named_parameters()
        leaves: dict[str, Tensor] = {
            name: leaf for name, leaf in named if leaf.requires_grad and (self.names is None or name in self.names)
        }
        if not leaves:
            raise UserError("hessian", "no parameter to differentiate by requires a gradient", expected="at least one")
        return leaves

    def hessian(self, point: Point) -> Hessian:
        """Return the Hessian of the SUM at a point.

        Raises:
            UserError: there is no parameter to differentiate by, or a complex one.
        """
        network, leaves = self.evaluator.network_at(point), self.leaves(point)
        if odd := next((name for name, leaf in network.named_parameters() if leaf.is_complex()), None):
            raise UserError("hessian", f"the parameter `{odd}` is complex", expected="real ones, so leave hessian out")

        def loss(examples: slice) -> Tensor:
            self.task.pause()
            return self.task.losses_of(network, self.split, examples).sum()

        return Hessian(list(leaves.values()), loss)

    def part(self, hessian: Hessian, vector: Tensor, part: slice) -> Tensor:
        """Return a product with the Hessian of the sum over some of the examples, float64 [n]."""

        def times(batch: int) -> Tensor:
            cuts = batches(part.stop - part.start, batch)
            return hessian.times(vector, (slice(part.start + cut.start, part.start + cut.stop) for cut in cuts))

        with without_tf32(self.tf32):
            return self.batch.attempt(times)

    def mean(self, parts: list[Tensor]) -> Tensor:
        """Return the mean over all examples from the sums over the parts, in their order."""
        total = torch.zeros_like(parts[0])
        for part in parts:
            total += part
        return total / self.weight

    def rehearse(self, examples: int = 2) -> str:
        """Compute one product at theta* on few examples, and check that it is a product with the Hessian of the loss.

        Returns:
            What to say of parameters that the Hessian leaves out; empty where it leaves out none.

        Raises:
            UserError: the loss cannot be differentiated twice, or torch differentiates another function.
        """
        hessian, some = self.hessian(self.evaluator.centre), slice(0, min(examples, self.count))
        try:
            hessian.check(some)
            self.part(hessian, start_vector(hessian.size, self.task.device), some)
        except (RuntimeError, TypeError) as error:
            raise UserError(
                "hessian",
                f"the network or its loss cannot be differentiated twice ({reason(error)})",
                remedy=(
                    "leave hessian out, or use operations that have second derivatives, and use_reentrant=False in "
                    "torch's checkpoint"
                ),
            ) from error
        self._compare(slice(0, min(FEW, self.count)))
        network = self.evaluator.network_at(self.evaluator.centre)
        frozen = [name for name, leaf in network.named_parameters() if not leaf.requires_grad]
        return f"hessian: {_several(frozen)} no gradient, and the Hessian is that over the others." if frozen else ""

    def _compare(self, examples: slice) -> None:
        """Compare derivatives of a copy with differences, in float64 or as far as the network's own dtype allows.

        Raises:
            UserError: they are those of another function.
        """
        try:
            named, loss = self._copy(torch.float64, examples)
            without = silent(named, loss)
            wrong = "" if without else differs(named, loss)
        except (UserError, RuntimeError, TypeError):
            named, loss = self._copy(self.task.dtype, examples)
            without, wrong = silent(named, loss), ""
        if without:
            pronoun = "them" if len(without) > 1 else "it"
            raise UserError(
                "hessian",
                (
                    f"{_several(without)} no gradient although the loss depends on {pronoun}, so that the eigenvalues "
                    "would be those of another function"
                ),
                remedy=REMEDY,
            )
        if wrong:
            raise UserError(
                "hessian",
                (
                    f"the loss has another derivative than torch gives for {wrong} (a detached tensor, or a backward "
                    "pass of its own), so that the eigenvalues would be those of another function"
                ),
                remedy=REMEDY,
            )

    def _copy(self, dtype: torch.dtype, examples: slice) -> tuple[dict[str, Tensor], Callable[[], Tensor]]:
        """Return the trained parameters of a copy of the network at theta*, and its loss of some examples."""
        network = cast(duplicate(self.evaluator.network_at(self.evaluator.centre)), self.task.device, dtype)
        task = replace(self.task, dtype=dtype)
        named: dict[str, Tensor] = {name: leaf for name, leaf in network.named_parameters() if leaf.requires_grad}
        return named, lambda: task.losses_of(network, self.split, examples).sum()


def _several(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return f"the parameter{'s' if len(names) > 1 else ''} {shown} get{'' if len(names) > 1 else 's'}"


def _ends(curvature: Curvature, point: Point, work: PointWork | None) -> Curved:
    """Return both ends of the spectrum."""
    hessian = curvature.hessian(point)
    start, tolerance = start_vector(hessian.size, curvature.task.device), curvature.section.tolerance
    product = partial(curvature.product, hessian)
    with work.kept("ends", product, basis_size(hessian.size)) if work else nullcontext(product) as asked:
        found = extremes(asked, start, tolerance)
    note = ""
    if math.isnan(found.residual):
        note = NOT_FINITE
    elif not found.converged:
        note = f"Hessian: residual {found.residual:.2g} after {found.products} products, not {tolerance:g}"
    return Curved(values_of(found), note)


def _spectrum(curvature: Curvature, point: Point, work: PointWork | None) -> Curved:
    """Return the trace, and nodes and weights of the spectrum by each probe."""
    section, device = curvature.section, curvature.task.device
    hessian = curvature.hessian(point)
    sizes = {name: leaf.numel() for name, leaf in curvature.leaves(point).items()}
    samples = _Samples(work, section, device)

    @contextmanager
    def during(number: int, product: Product) -> Iterator[Product]:
        done, asked = itertools.count(section.steps * len(samples) + 1), section.probes * section.steps

        def counted(vector: Tensor) -> Tensor:
            found, count = product(vector), next(done)
            if curvature.progress:
                curvature.progress.show(lambda _: f"spectrum: {count} of {asked} products of a point")
            return found

        part = f"probe-{number}"
        with work.kept(part, counted, section.steps) if work else nullcontext(counted) as kept:
            yield kept

    found = spectrum(
        partial(curvature.product, hessian),
        lambda number: signs(section.seed, number, sizes).to(device),
        section.probes,
        section.steps,
        samples,
        during,
    )
    numbers: tuple[float | NDArray[np.float64], ...] = (found.trace, found.error, found.nodes, found.weights)
    values = {result.name: number for result, number in zip(SPECTRUM.results, numbers, strict=True)}
    return Curved(values, NOT_FINITE if math.isnan(found.trace) else "")


class _Samples(dict[int, Sample]):
    """What the probes of a point have given, kept until the point is done."""

    def __init__(self, work: PointWork | None, section: HessianSection, device: torch.device) -> None:
        super().__init__()
        self._work, steps = work, section.steps
        for number in range(1, section.probes) if work else ():
            if work and (kept := work.result(f"probe-{number}")) is not None:
                nodes, weights, (quadratic,), image = torch.split(kept, [steps, steps, 1, len(kept) - 2 * steps - 1])
                sample = Sample(nodes.numpy(), weights.numpy(), float(quadratic), image.to(device))
                super().__setitem__(number, sample)

    def __setitem__(self, number: int, sample: Sample) -> None:
        super().__setitem__(number, sample)
        if self._work and number:  # the first probe's basis comes from its products alone
            small = torch.from_numpy(np.r_[sample.nodes, sample.weights, sample.quadratic])
            self._work.finish(f"probe-{number}", torch.cat([small, sample.image.cpu()]))


def signs(seed: int, number: int, sizes: Mapping[str, int]) -> Tensor:
    """Return a probe, float64 [n] of 1 and -1; each sign is a pure function of (seed, number, name, flat index).

    They are the signs of the numbers that directions are drawn from, in streams of their own.

    Args:
        seed: any whole number.
        number: of the probe.
        sizes: how many numbers each parameter has, by name.
    """
    drawn = [standard_normal(seed, number, f"probe of {name}", 0, size) for name, size in sizes.items()]
    return torch.cat([torch.from_numpy(np.where(np.signbit(part), -1.0, 1.0)) for part in drawn])


def values_of(found: Extremes) -> dict[str, float]:
    """Return what was found, by the names of the surface's datasets."""
    numbers = found.smallest, found.largest, found.residual, float(found.products)
    return {result.name: number for result, number in zip(HESSIAN.results, numbers, strict=True)}


def _cost_of_spectrum(section: HessianSection, _: int) -> tuple[int, str, int]:
    products = section.probes * section.steps
    words = f"{products} for the spectrum ({section.probes} probes of {section.steps} steps)"
    return products, words, section.steps + section.probes


class Method(NamedTuple):
    """How a metric of the Hessian is computed at a point, and what that takes.

    `cost`: (the job's section, parameters) -> the number of products, how to say that, and the vectors of all
    parameters, in float64, that are in memory at one time.
    """

    compute: Callable[[Curvature, Point, PointWork | None], Curved]
    cost: Callable[[HessianSection, int], tuple[int, str, int]]


METHODS: Mapping[str, Method] = {
    SPECTRUM.key: Method(_spectrum, _cost_of_spectrum),
    HESSIAN.key: Method(_ends, lambda _, size: (USUAL, f"usually about {USUAL} of them", basis_size(size))),
}
"""The metrics of the Hessian by their keys."""


class Forecast(NamedTuple):
    """What the Hessian costs: in words, in seconds of a product and of a point on one rank, and in megabytes."""

    text: str
    product: float
    seconds: float
    megabytes: float


def forecast(experiment: Experiment, plane: Plane, batch: int) -> Forecast:
    """Return the cost at a point, from a product at theta* of one batch, taken twice: the first one warms up.

    Raises:
        UserError: the network or its loss cannot be differentiated twice.
    """
    curvature = Curvature.of(experiment, plane, batch)
    examples = min(curvature.batch.examples, curvature.count)
    if text := curvature.rehearse(examples):
        experiment.theta.note(text)
    hessian = curvature.hessian(curvature.evaluator.centre)
    vector = start_vector(hessian.size, experiment.device)
    started = time.perf_counter()
    curvature.part(hessian, vector, slice(0, examples))
    product = (time.perf_counter() - started) * curvature.count / examples
    searches = curvature.asked or (HESSIAN.key,)  # a plane of eigenvectors is searched for like both ends
    products, words, vectors = zip(
        *(METHODS[key].cost(curvature.section, hessian.size) for key in searches), strict=True
    )
    text = f"{curvature.count:,} {curvature.split} examples, {product:.3g} s per product, {', '.join(words)}"
    seconds = sum(products) * product if curvature.asked else 0.0
    return Forecast(text, product, seconds, 8 * hessian.size * max(vectors) / 1e6)

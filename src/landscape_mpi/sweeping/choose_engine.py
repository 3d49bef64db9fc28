"""Chooses the batch of a new surface, and the fastest engine that gives what the plain network gives."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import nn

from landscape_mpi.engines import (
    LANES,
    CannotFuseError,
    ReplayedEvaluator,
    build_engine,
    candidates,
    kernel_is_missing,
    lanes_of,
)
from landscape_mpi.engines.cuda_graphs import Lane
from landscape_mpi.errors import CentreMismatchError, Flag, Key, Text, UserError
from landscape_mpi.evaluate import Batch, EagerEvaluator, Evaluator, examples_that_fit, place
from landscape_mpi.evaluate.live import Resident, cuda_name
from landscape_mpi.log import PASSED_OVER, note
from landscape_mpi.metrics.examples import PerExample, summarise
from landscape_mpi.mpi.world import RankError, World, together
from landscape_mpi.plane import Plane
from landscape_mpi.surface import THETA
from landscape_mpi.sweeping.check_network import (
    FAR_EXAMPLES,
    FLAT,
    Comparison,
    around_centre,
    check_moves,
    evaluate_all,
    evaluator_of,
    far_corner,
    in_place,
    needs_afresh,
    per_example_at,
)
from landscape_mpi.sweeping.kept import Kept
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.precision import difference

AFRESH = "each point gets a fresh copy of the network, put into eval mode there"
WORTH = 20_000
"""Examples over all points from which on engines are timed; below, the first engine that agrees is taken."""
SURELY = 0.75
"""Share of the first engine's time below which another engine is preferred to it, so that noise decides nothing."""
TURNS = 3
"""Times that each engine is timed; the shortest counts."""
BATCH_CPU = 64
"""Examples on a CPU; fewer where their outputs would take more than 64 MB."""
SMALLEST, LARGEST = 64, 4096
SAMPLE = 64
"""Examples on which the memory that one example takes is measured."""
SHARE = 0.5
"""Share of the free memory; the rest is for the libraries' work space and for gaps that nothing fits into."""
IN_FLIGHT = LANES + 1
"""Batches whose activations are held at once: one a lane, and one of another size beside them."""
WEIGHT_COPIES = 16
"""Copies of all parameters: network, plane and flat buffers, and their float64 versions while an engine is built."""


@dataclass(frozen=True)
class Engine:
    """An engine that agreed with the plain network.

    Attributes:
        name: As in the job's `evaluate.engine`.
        evaluator: What evaluates points on this rank.
        centre: What the checkpoint gives by the plain network, `train_loss`, `train_acc`, ...
        examples: What each example of each split gives at theta* by this engine, the same on every rank.
        afresh: Whether each point gets a network of its own.
    """

    name: str
    evaluator: Evaluator
    centre: Mapping[str, float]
    examples: Mapping[str, PerExample]
    afresh: bool = False


@dataclass(frozen=True)
class Known:
    """What the sweep of a plane found and the next plane through the same theta* need not look for again.

    Attributes:
        engine: The name of its engine.
        batch: Examples at a time.
        gradients: The mode of torch.
        centre: As `Engine.centre`.
        examples: As `Engine.examples`.
        floor: The precision floor; None where it was not measured.
    """

    engine: str
    batch: int
    gradients: str
    centre: Mapping[str, float]
    examples: Mapping[str, PerExample]
    floor: float | None = None


def choose_engine(
    world: World,
    experiment: Experiment,
    plane: Plane,
    batch: int,
    recorded: str | None,
    *,
    alike: bool = False,
    before: Known | None = None,
    kept: Kept | None = None,
) -> Engine:
    """Return the fastest engine that can be built and agrees; collective, and the same on every rank.

    Args:
        world: The ranks.
        experiment: Network, data and job.
        plane: The plane of the surface.
        batch: Examples at a time.
        recorded: The engine that a surface was begun with, which is then the only one; None for a new surface.
        alike: Whether other runs have to take the same engine, as those of other shards: then nothing is timed.
        before: What is known from another plane through the same theta*: its engine is tried first, and does not
            evaluate theta* again.
        kept: What earlier runs have evaluated at theta*, and where this run keeps it; None where nothing is kept.

    Raises:
        CentreMismatchError: no engine agrees, not even the network's own forward pass.
        UserError: the recorded engine is not available here, or points differ from the network's own losses there.
    """
    if before and (batch, experiment.task.gradients) != (before.batch, before.gradients):
        before = None
    if experiment.theta.is_large:
        return _live(world, experiment, plane, batch, recorded, before, kept)
    return _agreeing(world, experiment, plane, batch, recorded, alike, before)


def _agreeing(
    world: World,
    experiment: Experiment,
    plane: Plane,
    batch: int,
    recorded: str | None,
    alike: bool,
    before: Known | None,
) -> Engine:
    """Return the fastest engine that agrees with copies of the network; collective. Arguments and Raises as above."""
    task = experiment.task
    comparison = together(world, Comparison.of, experiment, plane, batch)
    afresh = needs_afresh(world, experiment, plane, batch, comparison)
    if afresh:
        note(world, f"{AFRESH}: with weights set in place, {afresh}.")
    if comparison.flat:
        note(world, FLAT)
    names = ("eager",) if afresh else candidates(experiment.job.values.evaluate.engine, task, plane)
    trials = _Trials(world, experiment, plane, batch, comparison, bool(afresh), before)
    plain = before.centre if before else trials.plain()
    for name in [recorded] if recorded else trials.in_turn(names, timed=not alike):
        found = trials.trial(name, plain)
        if isinstance(found, Engine):
            return found
        if recorded and recorded != "eager":
            raise _cannot_go_on(recorded, found)
        if name != "eager":
            note(world, f"not the engine {name}: {found}.", PASSED_OVER)
    raise CentreMismatchError(
        f"f(0, 0) does not match: {found}; expected them equal to {experiment.precision.tolerance.relative:.0e}. A "
        "network that draws random numbers in eval mode, or changes its own state, does this."
    )


def _live(
    world: World,
    experiment: Experiment,
    plane: Plane,
    batch: int,
    recorded: str | None,
    before: Known | None,
    kept: Kept | None,
) -> Engine:
    """Return the engine of a network that is moved itself, its own forward pass; collective. Raises as above."""
    reason = "it takes copies of the network, and the weights are held at most once"
    if recorded not in (None, "eager"):
        asked = experiment.job.values.evaluate.weights == "streamed"
        raise _cannot_go_on(recorded, reason, (" without ", Key("evaluate.weights"), ": streamed") if asked else "")
    requested = experiment.job.values.evaluate.engine
    if requested not in ("auto", "eager"):
        note(world, f"not the engine {requested}: {reason}.", PASSED_OVER)
    evaluator = check_moves(world, experiment, plane, batch, beside=before is None)
    at_centre = per_example_at(evaluator, plane.centre)
    if before:
        examples = before.examples
    elif kept:
        cuts = enumerate(experiment.task.splits.items())
        examples = {
            name: kept.fill(THETA, number, slice(0, len(split)), batch, partial(at_centre, name))
            for number, (name, split) in cuts
        }
    else:
        examples = evaluate_all(world, experiment, at_centre, batch)
    plain = Engine("eager", evaluator, summarise(examples, experiment.task.metrics), examples)
    live, lanes = experiment.theta.network, lanes_of(experiment.device)[:1]  # each lane would hold all activations
    return _replayed(world, experiment, plane, plain, live, lanes) if lanes and isinstance(live, Resident) else plain


def _replayed(
    world: World, experiment: Experiment, plane: Plane, plain: Engine, live: Resident, lanes: Sequence[Lane]
) -> Engine:
    """Return the same engine with its batches replayed as CUDA graphs, where the results are the same; collective."""
    task, batch, points = experiment.task, plain.evaluator.batch, around_centre(experiment.job.values.chosen_grid)[:1]
    split = next(iter(task.splits))
    far = [together(world, plain.evaluator.per_example, point, split, slice(0, batch)) for point in points]
    evaluator = together(world, ReplayedEvaluator, live, plane, task, batch, lanes)
    examples = evaluate_all(world, experiment, per_example_at(evaluator, plane.centre), batch)
    tolerance = experiment.precision.tolerance
    reason = difference(plain.centre, summarise(examples, task.metrics), tolerance)
    for point, expected in zip(points, far, strict=True):
        found = together(world, evaluator.per_example, point, split, slice(0, batch))
        before, after = (summarise({split: one}, task.metrics) for one in (expected, found))
        reason = reason or difference(before, after, tolerance)
    if reason := next(filter(None, world.allgather(reason)), None):
        note(world, f"not replayed as CUDA graphs: {reason}.", PASSED_OVER)
        return replace(plain, evaluator=together(world, in_place, experiment, plane, task, batch))
    return replace(plain, evaluator=evaluator, examples=examples)


def _cannot_go_on(recorded: str | None, reason: str, how: Text = "") -> UserError:
    return UserError(
        "output.file",
        f"the surface was begun with the engine {recorded}, which cannot go on here: {reason}",
        remedy=("Go on", how or " where it was begun", ", or start afresh with ", Flag("overwrite")),
    )


@dataclass(frozen=True)
class _Trials:
    """Engines that are built, timed and compared with the plain network; all methods are collective."""

    world: World
    experiment: Experiment
    plane: Plane
    batch: int
    comparison: Comparison
    afresh: bool
    before: Known | None = None
    built: dict[str, Evaluator | str] = field(default_factory=dict)

    def in_turn(self, names: tuple[str, ...], *, timed: bool) -> tuple[str, ...]:
        """Return the names of engines, first that of the plane before, or else the fastest where they are timed."""
        if self.before and self.before.engine in names:
            return tuple(dict.fromkeys((self.before.engine, *names)))
        return self.fastest_first(names) if timed else names

    def fastest_first(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of engines, the fastest one first where that is worth measuring."""
        splits = self.experiment.task.splits
        evaluations = math.prod(self.experiment.job.values.chosen_grid.shape) * sum(map(len, splits.values()))
        ours = [name for name in names if name != "eager"]
        if len(ours) < 2 or evaluations < WORTH:
            return names
        for name in ours:
            with suppress(RankError, UserError):
                self.built[name] = self._build_on_all(name)
        engines = {name: built for name, built in self.built.items() if not isinstance(built, str)}
        split = next(iter(splits))
        try:
            order = fastest_first(self.world, engines, split, min(self.batch, len(splits[split]))) if engines else ()
        except (RankError, UserError):  # its own trial tells which engine failed
            return names
        failed = [name for name in ours if name not in order]  # these say why, before another one is taken
        return (*failed, *order, *(name for name in names if name not in ours))

    def plain(self) -> dict[str, float]:
        """Return what the checkpoint gives by the plain network, with statistics of its own or estimated anew."""
        task, batch = self.experiment.task, Batch(self.batch)
        network = together(self.world, task.calibrated, self.experiment.theta.module)

        def evaluate(split: str, examples: slice) -> PerExample:
            return batch.attempt(lambda n: task.evaluate(network, split, examples, n))

        found = evaluate_all(self.world, self.experiment, evaluate, self.batch)
        return summarise(found, self.experiment.task.metrics)

    def trial(self, name: str, plain: Mapping[str, float]) -> Engine | str:
        """Return the engine, or why it is not available."""
        try:
            built = self.built.pop(name, None) or self._build_on_all(name)
            if isinstance(built, str):
                return built
            at_centre = per_example_at(built, built.centre)
            known = self.before.examples if self.before and self.before.engine == name else None
            examples = known or evaluate_all(self.world, self.experiment, at_centre, self.batch)
            ours = summarise(examples, self.experiment.task.metrics)
            reason = difference(plain, ours, self.experiment.precision.tolerance)
            if not reason and name != "eager":
                found = self.comparison.differs(self.world, built)
                reason = str(found) if found else self._differs_far_away(built)
        except (RankError, UserError) as error:  # the user's own code has run by now, in the plain network
            if name == "eager":
                raise
            return f"it failed ({str(error).strip().rpartition(chr(10))[2]})"
        return reason or Engine(name, built, plain, examples, self.afresh)

    def _build_on_all(self, name: str) -> Evaluator | str:
        """Return the engine, or why one of the ranks cannot build it."""
        built = together(self.world, self._build, name)
        reasons = [reason for reason in self.world.allgather(built if isinstance(built, str) else None) if reason]
        return reasons[0] if reasons else built

    def _build(self, name: str) -> Evaluator | str:
        if kernel_is_missing(name):
            return "this installation has no compiled kernel, because there was no C compiler when it was made"
        experiment = self.experiment
        if self.afresh:
            return evaluator_of(experiment, self.plane, self.batch, afresh=True) if name == "eager" else AFRESH
        try:
            return build_engine(name, experiment.theta.module, self.plane, experiment.task, self.batch)
        except CannotFuseError as error:
            return str(error)

    def _differs_far_away(self, evaluator: Evaluator) -> str | None:
        """Say how the engine differs from the plain network at the corner farthest from the centre."""
        experiment, point = self.experiment, far_corner(self.experiment.job.values.chosen_grid)
        eager = together(self.world, EagerEvaluator, experiment.theta.network, self.plane, experiment.task, self.batch)
        plain, ours = (
            summarise(
                evaluate_all(self.world, experiment, per_example_at(one, point), self.batch, FAR_EXAMPLES),
                experiment.task.metrics,
            )
            for one in (eager, evaluator)
        )
        reason = difference(plain, ours, experiment.precision.tolerance)
        return f"at {place(point)} {reason}" if reason else None


def fastest_first(world: World, engines: Mapping[str, Evaluator], split: str, batch: int) -> tuple[str, ...]:
    """Return the names of engines, the fastest one first where it surely is; collective.

    Args:
        world: The ranks, whose times are added up.
        engines: By name, in the order that is kept where the times do not tell them apart.
        split: The split of which a batch is evaluated, at the centre.
        batch: Examples of that batch.
    """
    # the time of this process alone where it has one thread, since other processes may be busy
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def measure() -> dict[str, float]:
        best = dict.fromkeys(engines, math.inf)
        for turn in range(TURNS + 1):  # the first one warms up
            for name, evaluator in engines.items():
                began = clock()
                evaluator.per_example(evaluator.centre, split, slice(0, batch))
                best[name] = min(best[name], clock() - began) if turn else math.inf
        return best

    found = world.allgather(together(world, measure))
    total = {name: math.fsum(one[name] for one in found) for name in engines}
    first, *others = total
    quick = min(others, key=total.__getitem__, default=first)
    if total[quick] < SURELY * total[first]:
        return quick, *(name for name in total if name != quick)
    return tuple(total)


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
    # every rank looks at the free memory before any rank takes some of it to measure
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
        for _ in range(2):  # the first run includes what the libraries keep
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

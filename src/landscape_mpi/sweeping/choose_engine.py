"""The engine of a surface: the fastest one that agrees with the plain network; writes nothing."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from landscape_mpi.engines import CannotFuseError, build_engine, candidates, kernel_is_missing
from landscape_mpi.errors import CentreMismatchError, UserError
from landscape_mpi.evaluate import Batch, EagerEvaluator, Evaluator, PerImage, Point
from landscape_mpi.job import Axis, Grid
from landscape_mpi.log import log
from landscape_mpi.mpi.world import RankError, World, together
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.collective import Slices, at, evaluate_all, means
from landscape_mpi.sweeping.compare import CENTRE, Comparison, evaluator_of, needs_afresh
from landscape_mpi.sweeping.experiment import Experiment
from landscape_mpi.sweeping.fastest import fastest_first, is_worth_it
from landscape_mpi.sweeping.precision import difference

AFRESH = "each point gets a fresh copy of the network, put into eval mode there"
FLAT = (
    "the first examples give the same losses all over the plane, to the last bit: the parameters that it moves have no "
    "part in them, or the network keeps what it computed from them before it was copied."
)
FAR_IMAGES = 256
"""Images of each split that are compared at the far corner; at the centre all are."""


@dataclass(frozen=True)
class Engine:
    """An engine that agreed with the plain network.

    `centre`: what the checkpoint gives by the plain network, `train_loss`, `train_acc`, ...; `images`: what each image
    of each split gives at theta* by this engine, the same on every rank; `afresh`: whether each point gets a network of
    its own.
    """

    name: str
    evaluator: Evaluator
    centre: Mapping[str, float]
    images: Mapping[str, PerImage]
    afresh: bool = False


def choose_engine(
    world: World, experiment: Experiment, plane: Plane, batch: int, recorded: str | None, *, alike: bool = False
) -> Engine:
    """Return the fastest engine that can be built and agrees; collective, and the same on every rank.

    Args:
        world: The ranks.
        experiment: Network, data and job.
        plane: The plane of the surface.
        batch: Images at a time.
        recorded: The engine that a surface was begun with, which is then the only one; None for a new surface.
        alike: Whether other runs have to take the same engine, as those of other shards: then nothing is measured.

    Raises:
        CentreMismatchError: no engine agrees, not even the network's own forward pass.
        UserError: the recorded engine is not to be had here, or points differ from the network's own losses there.
    """
    task = experiment.task
    comparison = together(world, Comparison.of, experiment, plane, batch)
    afresh = needs_afresh(world, experiment, comparison)
    if afresh:
        log(world, f"note: {AFRESH}: with weights set in place, {afresh}.")
    if comparison.flat:
        log(world, f"note: {FLAT}")
    names = ("eager",) if afresh else candidates(experiment.job.values.evaluate.engine, task, plane)
    choice = _Choice(world, experiment, plane, batch, comparison, bool(afresh))
    plain = choice.plain()
    if not recorded and not alike:
        names = choice.fastest_first(names)
    for name in [recorded] if recorded else names:
        found = choice.attempt(name, plain)
        if isinstance(found, Engine):
            return found
        if recorded and recorded != "eager":
            raise UserError(
                f"output.file: the surface was begun with the engine {recorded}, which cannot go on here: {found}. "
                "Go on where it was begun, or start afresh with --overwrite."
            )
        if name != "eager":
            log(world, f"note: not the engine {name}: {found}.")
    raise CentreMismatchError(
        f"f(0, 0) does not match: {found}; expected them equal to {experiment.precision.tolerance.relative:.0e}. A "
        "network that draws random numbers in eval mode, or changes its own state, does this."
    )


@dataclass(frozen=True)
class _Choice:
    world: World
    experiment: Experiment
    plane: Plane
    batch: int
    comparison: Comparison
    afresh: bool
    built: dict[str, Evaluator | str] = field(default_factory=dict)

    def fastest_first(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of engines, the fastest one first where that is worth measuring; collective."""
        job, task = self.experiment.job.values, self.experiment.task
        images = sum(len(split) for split in task.splits.values())
        ours = [name for name in names if name != "eager"]
        if len(ours) < 2 or not is_worth_it(job, images):
            return names
        for name in ours:
            with suppress(RankError, UserError):
                self.built[name] = self._everywhere(name)
        engines = {name: built for name, built in self.built.items() if not isinstance(built, str)}
        split = next(iter(task.splits))
        some = min(self.batch, len(task.splits[split]))
        try:
            order = fastest_first(self.world, engines, split, some) if engines else ()
        except (RankError, UserError):  # which of them failed, an attempt will tell
            return names
        failed = [name for name in ours if name not in order]  # these say why, before another one is taken
        return (*failed, *order, *(name for name in names if name not in ours))

    def plain(self) -> dict[str, float]:
        """Return what the checkpoint gives by the plain network, with statistics of its own or estimated anew."""
        task, batch = self.experiment.task, Batch(self.batch)
        network = together(self.world, task.calibrated, self.experiment.theta.network)
        found = self._all(lambda split, images: batch.attempt(lambda n: task.evaluate(network, split, images, n)))
        return self._means(found)

    def attempt(self, name: str, plain: Mapping[str, float]) -> Engine | str:
        """Return the engine, or why it is not to be had; collective."""
        try:
            return self._attempt(name, plain)
        except (RankError, UserError) as error:  # the user's own code has run by now, in the plain network
            if name == "eager":
                raise
            return f"it failed ({str(error).strip().rpartition(chr(10))[2]})"

    def _attempt(self, name: str, plain: Mapping[str, float]) -> Engine | str:
        built = self.built.pop(name, None) or self._everywhere(name)
        if isinstance(built, str):
            return built
        images = self._all(at(built, CENTRE))
        reason = self._differ(plain, self._means(images))
        if not reason and name != "eager":
            found = self.comparison.differs(self.world, built)
            reason = str(found) if found else self._far(built)
        return reason or Engine(name, built, plain, images, self.afresh)

    def _everywhere(self, name: str) -> Evaluator | str:
        """Return the engine, or why one of the ranks cannot build it."""
        built = together(self.world, self._build, name)
        reasons = [reason for reason in self.world.allgather(built if isinstance(built, str) else None) if reason]
        return reasons[0] if reasons else built

    def _build(self, name: str) -> Evaluator | str:
        if kernel_is_missing(name):
            return "this installation has no compiled kernel, for want of a C compiler when it was made"
        experiment = self.experiment
        if self.afresh:
            return evaluator_of(experiment, self.plane, self.batch, afresh=True) if name == "eager" else AFRESH
        try:
            return build_engine(name, experiment.theta.network, self.plane, experiment.task, self.batch)
        except CannotFuseError as error:
            return str(error)

    def _far(self, evaluator: Evaluator) -> str | None:
        """Say how the engine differs from the plain network at the corner farthest from the centre."""
        point = far_corner(self.experiment.job.values.chosen_grid)
        network, task = self.experiment.theta.network, self.experiment.task
        plain = together(self.world, EagerEvaluator, network, self.plane, task, self.batch)
        reason = self._differ(*(self._means(self._all(at(one, point), FAR_IMAGES)) for one in (plain, evaluator)))
        return f"at alpha {point.alpha:g}, beta {point.beta:g} {reason}" if reason else None

    def _all(self, evaluate: Slices, limit: int | None = None) -> dict[str, PerImage]:
        return evaluate_all(self.world, self.experiment, evaluate, self.batch, limit)

    def _means(self, found: Mapping[str, PerImage]) -> dict[str, float]:
        return means(found, self.experiment.job.values.metrics)

    def _differ(self, plain: Mapping[str, float], ours: Mapping[str, float]) -> str | None:
        return difference(plain, ours, self.experiment.precision.tolerance)


def far_corner(grid: Grid) -> Point:
    """Return the corner of a grid that is farthest from the centre."""
    return Point(_farthest(grid.alpha), 0.0 if grid.beta is None else _farthest(grid.beta))


def _farthest(axis: Axis) -> float:
    coordinates = axis.coordinates()
    return float(coordinates[np.abs(coordinates).argmax()])

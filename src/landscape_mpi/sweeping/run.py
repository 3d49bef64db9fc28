"""The sweep from job to finished surface: the order of the steps, each of which lives elsewhere."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from landscape_mpi.assemble import keep_memory
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import MODES
from landscape_mpi.job import JobFile, SweepJob, load_job
from landscape_mpi.log import log, noter
from landscape_mpi.mpi.signals import Stop, stop_time
from landscape_mpi.mpi.slurm import job_end
from landscape_mpi.mpi.world import World, on_root, together
from landscape_mpi.plane import Plane
from landscape_mpi.surface import (
    DONE,
    Shard,
    Surface,
    check_replaceable,
    check_writable,
    create_surface,
    journal_folder,
    lock_surface,
    parse_shard,
    seal,
)
from landscape_mpi.surface.makers import differences, enlist, parse, text_of
from landscape_mpi.surface.status import LAST_DIGITS, known_makers, without_numbers
from landscape_mpi.surface.write import forget
from landscape_mpi.sweeping import full, sampled
from landscape_mpi.sweeping.batch_size import choose_batch
from landscape_mpi.sweeping.choose_engine import Engine, choose_engine
from landscape_mpi.sweeping.context import Ready, visits
from landscape_mpi.sweeping.cost import precision_error
from landscape_mpi.sweeping.curvature import NO_CURVATURE, Curvature
from landscape_mpi.sweeping.deaths import note_of
from landscape_mpi.sweeping.eigenplane import Made, make_plane
from landscape_mpi.sweeping.experiment import Experiment, load_experiment
from landscape_mpi.sweeping.planes import output_path, repeats
from landscape_mpi.sweeping.provenance import attributes, maker
from landscape_mpi.sweeping.resume import Identity, find_surface, new_surface
from landscape_mpi.sweeping.sources import Named, Source


@dataclass(frozen=True)
class Options:
    """The operational flags of a sweep; none of them is part of the experiment.

    `through_root`: whether rank 0 alone sees the file and writes for all.
    """

    device: str = "auto"
    overwrite: bool = False
    quiet: bool = False
    shard: str | None = None
    time_limit: float | None = None
    tolerant: bool = False
    through_root: bool = False
    verbose: bool = False


def sweep(path: Path, options: Options, world: World, stop: Stop | None = None) -> Exit:
    """Compute every point of a job that its surface files do not hold yet, in a process made for it; collective.

    Raises:
        UserError: a mistake in the job or in what it points at; nothing has been written.
        CentreMismatchError: f(0, 0) is not the loss of the checkpoint; nothing has been written.
    """
    keep_memory()
    job = on_root(world, load_job, path, SweepJob)
    return sweep_job(job, Named(job, noter(world)), options, world, stop or Stop())


def sweep_job(job: JobFile[SweepJob], source: Source, options: Options, world: World, stop: Stop) -> Exit:
    """Compute every point of a job that its surface files do not hold yet; collective. Raises as `sweep`."""
    began = time.time()
    end = on_root(world, job_end, os.environ)  # the same for all, and one question for all
    stop.limit(stop_time(options.time_limit, end, began))
    shard = on_root(world, parse_shard, options.shard, os.environ) if options.shard else None
    for repeat in range(repeats(job.values)):
        place = _place(output_path(job, repeat), shard)
        on_root(world, _check_output, place, options.overwrite)
    experiment = load_experiment(job, source, options.device, world, stop)
    codes = [Exit.COMPLETE]
    for repeat in range(repeats(job.values)):
        known = None if options.overwrite else _place(output_path(job, repeat), shard)
        given = together(world, source.plane, experiment.theta, job.values)
        made = Made(given) if given else make_plane(world, experiment, known)
        plane, identity = experiment.plane(world, repeat, made.plane)
        identity = replace(identity, shard=shard, facts=made.facts)
        there = replace(experiment, job=identity.job)
        codes.append(_PlaneSweep(there, output_path(job, repeat), plane, identity, options, world).run())
        if codes[-1] == Exit.RUN_AGAIN:
            break
    return max(codes)


@dataclass(frozen=True)
class _PlaneSweep:
    """One plane of a job on its way into one surface file."""

    experiment: Experiment
    output: Path
    plane: Plane
    identity: Identity
    options: Options
    world: World

    @property
    def path(self) -> Path:
        """The file that this run writes."""
        return _place(self.output, self.identity.shard)

    def run(self) -> Exit:
        """Compute what the surface file lacks; collective."""
        self._find()  # another sweep's file is refused before a lock lies beside it
        with ExitStack() as held:
            on_root(self.world, held.enter_context, lock_surface(self.path))
            surface = self._find()
            if surface is None or not self._complete(surface):
                return self._fill(surface)
            on_root(self.world, seal, self.path)
            on_root(self.world, note_of(self.path).unlink, missing_ok=True)
            share = f" of shard {self.identity.shard}" if self.identity.shard else ""
            log(self.world, f"{self.path}: all {surface.done} points{share} are there; nothing to do.")
            return sampled.leave(self.world, surface)

    def _complete(self, surface: Surface) -> bool:
        """Whether every point of this run has a result that stays."""
        mine = visits(self.experiment.job.values, self.identity)
        return all(surface.status[index] == DONE for index in mine) and (surface.sealed or not surface.sampled)

    def _find(self) -> Surface | None:
        """Return the surface to go on with, the same on every rank."""
        if self.options.overwrite:
            return None
        return on_root(self.world, find_surface, self.path, self.identity)

    def _fill(self, surface: Surface | None) -> Exit:
        """Choose the engine, create the file where there is none, and compute what is missing."""
        recorded = str(surface.attributes.get("gradients")) if surface else None
        if recorded in MODES and recorded != self.experiment.task.gradients:  # by another version of torch
            task = replace(self.experiment.task, gradients=recorded)
            return replace(self, experiment=replace(self.experiment, task=task))._fill(surface)
        if surface and surface.unsound:
            log(self.world, f"note: {self.path}: {without_numbers(surface.unsound)}, and computed again.")
            on_root(self.world, forget, self.path, surface.status)
        batch = int(str(surface.attributes["batch"])) if surface else choose_batch(self.world, self.experiment)
        engine = self._engine(batch, str(surface.attributes["engine"]) if surface else None)
        stream = None if self.options.quiet else sys.stderr
        folder = journal_folder(self.output)
        ready = Ready(
            self.world,
            self.experiment,
            self.identity,
            self.path,
            folder,
            surface,
            engine,
            batch,
            stream,
            self.options.tolerant,
            self._curvature(batch, engine),
            self.options.through_root,
            self.options.verbose,
        )
        if self.options.overwrite:
            on_root(self.world, sampled.clear, ready)
        sampled.admit(ready)
        if surface is None:
            on_root(self.world, note_of(self.path).unlink, missing_ok=True)
            cost = self._cost(engine)
            on_root(self.world, self._create, batch, engine.name, cost)
        makers, elsewhere = self._enlist(surface, batch, engine.name)
        ready = replace(ready, makers=makers, elsewhere=elsewhere)
        return sampled.fill(ready) if sampled.can_save(ready) else full.fill(ready)

    def _enlist(self, surface: Surface | None, batch: int, engine: str) -> tuple[list[int], str]:
        """Record what each rank computes with, and say where not all points are computed alike.

        Returns:
            The number of each rank's maker; in an old file that has no list none, and what to note at its points.
        """
        mine = text_of(together(self.world, maker, self.experiment.device, engine, batch))
        texts = self.world.allgather(mine)
        earlier = known_makers(surface) if surface else []
        if found := differences([*earlier, *map(parse, dict.fromkeys(texts))]):
            log(self.world, f"note: {self.path}: not all points are computed alike ({found}): {LAST_DIGITS}.")
        numbers = on_root(self.world, enlist, self.path, texts)
        return numbers, "" if numbers or not found else f"computed otherwise than points before: {mine}"

    def _engine(self, batch: int, recorded: str | None) -> Engine:
        """Return the engine, once it has agreed with the plain network."""
        alike = self.identity.shard is not None
        engine = choose_engine(self.world, self.experiment, self.plane, batch, recorded, alike=alike)
        log(self.world, f"engine {engine.name}: {engine.evaluator.description}.")
        anew = ", running statistics estimated anew in both" if self.experiment.anew else ""
        log(self.world, f"f(0, 0): {_describe(engine.centre)}{anew}.")
        return engine

    def _curvature(self, batch: int, engine: Engine) -> Curvature | None:
        """Return what finds the Hessian's eigenvalues at every point, once a product is known to be possible."""
        if "hessian" not in self.experiment.job.values.metrics:
            return None
        if engine.afresh:
            raise UserError(NO_CURVATURE)
        curvature = together(self.world, Curvature.of, self.experiment, self.plane, batch)
        if text := together(self.world, curvature.rehearse):
            self.experiment.theta.note(text)
        return curvature

    def _cost(self, engine: Engine) -> dict[str, float]:
        """Return what is recorded of a precision below float32; nothing of the others."""
        if not self.experiment.precision.reduced:
            return {}
        error = precision_error(self.world, self.experiment, self.plane, engine.evaluator)
        dtype = self.experiment.job.values.evaluate.dtype
        log(self.world, f"{dtype}: mean losses deviate from those of float32 by up to {error:.2g} of them.")
        return {"precision_error": error}

    def _create(self, batch: int, engine: str, cost: Mapping[str, float]) -> None:
        job, evaluate = self.experiment.job, self.experiment.job.values.evaluate
        fixed: dict[str, str | int] = {
            "dtype": evaluate.dtype,
            "engine": engine,
            "batch": batch,
            "batchnorm": evaluate.batchnorm,
            "gradients": self.experiment.task.gradients,
            **({"batchnorm_images": self.experiment.anew} if self.experiment.anew else {}),
            **{f"{name}_size": len(split) for name, split in self.experiment.splits.items()},
        }
        provenance = attributes(self.plane, self.experiment.device, job.path.parent)
        create_surface(self.path, new_surface(self.identity, self.plane, {**fixed, **cost, **provenance}))


def _check_output(path: Path, overwrite: bool) -> None:
    check_writable(path)
    if overwrite:
        check_replaceable(path)


def _place(surface: Path, shard: Shard | None) -> Path:
    """Return the file that a run writes for a surface: its shard's own where it is for one."""
    return shard.path(surface) if shard else surface


def _describe(values: Mapping[str, float]) -> str:
    shown = [f"{name} {value:.6g}" for name, value in values.items() if not name.endswith("_stderr")]
    return ", ".join(shown).replace("_", " ") + "; the plane and the checkpoint agree"

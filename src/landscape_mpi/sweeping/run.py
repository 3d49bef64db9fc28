"""Runs a sweep from its job to the finished surface: the order of the steps, one message and exit code at the end."""

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec

from landscape_mpi.assemble import keep_memory
from landscape_mpi.errors import CentreMismatchError, Exit, UserError
from landscape_mpi.evaluate import MODES
from landscape_mpi.files.atomic import lock_path
from landscape_mpi.job import JobFile, SweepJob, load_job
from landscape_mpi.log import ProgressLine, log, note, noter, say
from landscape_mpi.metrics.examples import summarise
from landscape_mpi.metrics.registry import SIZE, STDERR
from landscape_mpi.mpi.failures import note_of
from landscape_mpi.mpi.scheduler import HEARD, PieceError
from landscape_mpi.mpi.shutdown import Interrupted, Stop, job_end, stop_time
from landscape_mpi.mpi.world import RankError, World, failure_text, on_root, together
from landscape_mpi.plane import Plane
from landscape_mpi.surface import (
    DONE,
    THETA,
    Surface,
    check_replaceable,
    check_writable,
    create_surface,
    discard_early,
    journal_folder,
    lock_surface,
    parse_shard,
    products_folder,
    seal,
)
from landscape_mpi.surface.identity import Identity
from landscape_mpi.surface.status import without_numbers
from landscape_mpi.surface.write import forget
from landscape_mpi.sweeping import full, sampled
from landscape_mpi.sweeping.choose_engine import Engine, Known, choose_batch, choose_engine
from landscape_mpi.sweeping.context import GO_ON, Options, SweepContext, points_of
from landscape_mpi.sweeping.curvature import NO_CURVATURE, Curvature
from landscape_mpi.sweeping.floor import floor_text, is_measured, precision_error, precision_floor
from landscape_mpi.sweeping.kept import Kept
from landscape_mpi.sweeping.large import team_of
from landscape_mpi.sweeping.load import Experiment, JobSource, Source, load_experiment
from landscape_mpi.sweeping.planes.build import build_plane, output_path, repeats
from landscape_mpi.sweeping.provenance import attributes, register_platforms
from landscape_mpi.sweeping.resume import find_surface, new_surface
from landscape_mpi.sweeping.unfinished import Unfinished

P = ParamSpec("P")


def sweep(path: Path, options: Options, world: World, stop: Stop | None = None) -> Exit:
    """Compute every point of a job that its surface files do not hold yet, in a process made for it; collective.

    Raises:
        UserError: a mistake in the job or in what it points at; nothing has been written.
        CentreMismatchError: f(0, 0) is not the loss of the checkpoint; nothing has been written.
    """
    keep_memory()
    job = on_root(world, load_job, path, SweepJob, options.settings)
    return sweep_job(job, JobSource(job, noter(world)), options, world, stop or Stop())


def sweep_job(job: JobFile[SweepJob], source: Source, options: Options, world: World, stop: Stop) -> Exit:
    """Compute every point of a job that its surface files do not hold yet; collective. Raises as `sweep`."""
    began = time.time()
    end = on_root(world, job_end, os.environ)  # rank 0 alone asks, so that all ranks have the same end
    stop.limit(stop_time(options.time_limit, end, began))
    shard = on_root(world, parse_shard, options.shard, os.environ) if options.shard else None
    outputs = [output_path(job, repeat) for repeat in range(repeats(job.values))]
    paths = [shard.path(output) if shard else output for output in outputs]
    for path in paths:
        on_root(world, check_writable, path)
        if options.overwrite:
            on_root(world, check_replaceable, path)
    codes, before = [Exit.COMPLETE], None
    with nullcontext() if options.group is None else team_of(world, options.group) as team:
        experiment = load_experiment(job, source, options.device, world, stop, team)
        for repeat, (output, path) in enumerate(zip(outputs, paths, strict=True)):
            known = None if options.overwrite else path
            # all planes get the grid of the first one, so that their curves can be drawn in one figure
            journals = on_root(world, journal_folder, output)
            experiment, plane, identity = build_plane(world, experiment, repeat, known, shard=shard, journals=journals)
            code, before = _sweep_plane(world, options, experiment, plane, identity, path, journals, before)
            codes.append(code)
            if codes[-1] == Exit.RUN_AGAIN:
                break
    return max(codes)


def _sweep_plane(
    world: World,
    options: Options,
    experiment: Experiment,
    plane: Plane,
    identity: Identity,
    path: Path,
    journals: Path,
    before: Known | None,
) -> tuple[Exit, Known | None]:
    """Compute what the surface file of one plane lacks; collective.

    Args:
        world: The ranks.
        options: The operational flags.
        experiment: Network, data and job.
        plane: The plane.
        identity: What fixes every number of the surface.
        path: The surface file.
        journals: The folder of its journals.
        before: What an earlier repeat has found at theta*.

    Returns:
        How it ended, and what the next repeat may take as known.
    """

    def find() -> Surface | None:
        return None if options.overwrite else on_root(world, find_surface, path, experiment.job.values, identity)

    if not on_root(world, lock_path(path).exists):
        find()  # another sweep's file is refused before a lock lies beside it
    with ExitStack() as held:
        on_root(world, held.enter_context, lock_surface(path))
        found = find()
        mine = points_of(experiment.job.values, identity.shard)
        if (
            found is None
            or not all(found.status[index] == DONE for index in mine)
            or (found.sampled and not found.sealed)
        ):
            try:
                context = _prepare(world, options, experiment, plane, identity, path, journals, found, before)
            except (UserError, CentreMismatchError) as refused:
                if found is None:  # a refused sweep leaves nothing behind
                    on_root(world, discard_early, journals, "range", identity.shard)
                if isinstance(refused, CentreMismatchError):  # else theta*'s results are right, and may take hours
                    on_root(world, discard_early, journals, "theta", identity.shard)
                raise
            can_save = sampled.can_save(context.experiment)
            code = sampled.fill(context) if can_save else full.fill(context)
            if code == Exit.COMPLETE and not can_save:
                on_root(world, discard_early, journals, "theta", identity.shard)
            engine, mode = context.engine, context.experiment.task.gradients
            return code, Known(engine.name, context.batch, mode, engine.centre, engine.examples, context.floor)
        on_root(world, seal, path)
        on_root(world, note_of(path).unlink, missing_ok=True)
        share = f" of shard {identity.shard}" if identity.shard else ""
        log(world, f"{path}: all {found.done} points{share} are there; nothing to do.")
        return sampled.exit_of(world, found), before


def _prepare(
    world: World,
    options: Options,
    experiment: Experiment,
    plane: Plane,
    identity: Identity,
    path: Path,
    journals: Path,
    found: Surface | None,
    before: Known | None,
) -> SweepContext:
    """Choose batch and engine, or take those of the surface that was found, and create the file where there is none."""
    recorded = found.attributes if found else {}
    mode = str(recorded.get("gradients"))
    if mode in MODES:  # another version of torch may have chosen another mode
        experiment = replace(experiment, task=replace(experiment.task, gradients=mode))
    if found and found.unsound:
        note(world, f"{path}: {without_numbers(found.unsound)}, and computed again.")
        on_root(world, forget, path, found.status)
    batch = int(str(recorded["batch"])) if found else before.batch if before else choose_batch(world, experiment)
    name = str(recorded["engine"]) if found else None
    engine = _engine(world, options, experiment, plane, identity, journals, batch, name, before)
    log(world, f"engine {engine.name}: {engine.evaluator.description}.")
    centre = ", ".join(f"{key} {value:.6g}" for key, value in engine.centre.items() if not key.endswith(STDERR))
    anew = ", running statistics estimated anew in both" if experiment.calibration_examples else ""
    log(world, f"f(0, 0): {centre.replace('_', ' ')}; the plane and the checkpoint agree{anew}.")
    context = SweepContext(
        world=world,
        options=options,
        experiment=experiment,
        plane=plane,
        identity=identity,
        path=path,
        journals=journals,
        found=found,
        engine=engine,
        batch=batch,
    )
    context = replace(context, curvature=_curvature(context))
    context = replace(context, unfinished=_unfinished(context))
    if options.overwrite:
        on_root(world, sampled.discard_journals, context)
    sampled.check_journals(context)
    if found is None:
        context = replace(context, floor=_create_surface(context, before))
        on_root(world, discard_early, journals, "range", identity.shard)  # the file holds what was found
    elif (floor := found.precision_floor) is not None:
        log(world, floor_text(context.job.evaluate.dtype, floor))
    platforms, platform_note = register_platforms(context)
    return replace(context, platforms=platforms, platform_note=platform_note)


def _engine(
    world: World,
    options: Options,
    experiment: Experiment,
    plane: Plane,
    identity: Identity,
    journals: Path,
    batch: int,
    name: str | None,
    before: Known | None,
) -> Engine:
    """Return the recorded or a newly chosen engine, with theta*'s losses, some of which were kept; collective."""
    alike, is_large = identity.shard is not None, experiment.theta.is_large
    if not (is_large or sampled.can_save(experiment)):
        return choose_engine(world, experiment, plane, batch, name, alike=alike, before=before)
    job, mode, sizes = experiment.job.values, experiment.task.gradients, map(len, experiment.splits.values())
    names = dict(zip(experiment.splits, sizes, strict=True))
    digest = identity.digest(job, f"theta {mode}", batch)
    team = experiment.team.size if experiment.team else 1
    with Kept(
        world,
        journals,
        digest,
        "theta",
        shard=identity.shard,
        team=team,
        fresh=options.overwrite or not (is_large or name),
    ) as kept:
        there = kept.whole(names)
        if there and name and not (is_large or before):
            centre = summarise(there, experiment.task.metrics)
            before = Known(name, batch, mode, centre, there)
        if kept.examples:
            log(world, f"theta*: the results of {kept.examples:,} of its examples are there.")
        engine = choose_engine(world, experiment, plane, batch, name, alike=alike, before=before, kept=kept)
        for number, found in enumerate(engine.examples.values()):
            together(world, kept.put, THETA, number, found)
    return engine


def _curvature(context: SweepContext) -> Curvature | None:
    """Return what computes the Hessian's results at points, once a product is known to be possible; collective.

    Raises:
        UserError: the network cannot be differentiated twice.
    """
    if not context.job.curvature:
        return None
    if context.engine.afresh:
        raise UserError(*NO_CURVATURE)
    curvature = together(context.world, Curvature.of, context.experiment, context.plane, context.batch)
    if text := together(context.world, curvature.rehearse):
        context.experiment.theta.note(text)
    return replace(curvature, progress=ProgressLine() if context.world.rank == 0 else None)


def _unfinished(context: SweepContext) -> Unfinished | None:
    """Return where products of points are kept until the points are done; None where none are kept."""
    if context.curvature is None or context.options.through_root:
        return None
    device = context.experiment.device.type
    mark = context.identity.digest(context.job, f"{context.engine.name} on {device}", context.batch)
    unfinished = Unfinished(products_folder(context.path), mark)
    if context.found is None:
        on_root(context.world, unfinished.forget)
    return unfinished


def _measured_floor(context: SweepContext) -> float | None:
    """Return the floor of a new surface, after a message about it; None where it is not measured; collective."""
    world, experiment, dtype = context.world, context.experiment, context.job.evaluate.dtype
    if not is_measured(experiment):
        return None
    engine = context.engine
    try:
        floor = precision_floor(world, experiment, context.plane, engine.evaluator, afresh=engine.afresh)
    except (RankError, UserError) as error:  # the network has been evaluated in the precision of the sweep by now
        reason = str(error).strip().rpartition("\n")[2]
        note(world, f"what {dtype} can resolve is not known, because the network fails in float64: {reason}")
        return None
    log(world, floor_text(dtype, floor))
    return floor


def _create_surface(context: SweepContext, before: Known | None) -> float | None:
    """Create the surface file, with all that fixes its numbers, and return the precision floor; collective.

    The other repeats take the floor of the first, because their directions have the same lengths.
    """
    world, experiment, plane = context.world, context.experiment, context.plane
    on_root(world, note_of(context.path).unlink, missing_ok=True)
    fixed: dict[str, str | int | float] = {
        "dtype": context.job.evaluate.dtype,
        "engine": context.engine.name,
        "batch": context.batch,
        "batchnorm": context.job.evaluate.batchnorm,
        "gradients": experiment.task.gradients,
        **({"batchnorm_examples": experiment.calibration_examples} if experiment.calibration_examples else {}),
        **{f"{name}{SIZE}": len(split) for name, split in experiment.splits.items()},
        **sampled.recorded(context),
        **({"hessian_parameters": context.curvature.size} if context.curvature else {}),
    }
    if experiment.precision.reduced:
        error = precision_error(world, experiment, plane, context.engine.evaluator)
        log(world, f"{fixed['dtype']}: the maximum relative error of mean losses against float32 is {error:.2g}.")
        fixed["precision_error"] = error
    floor = before.floor if before and before.floor is not None else _measured_floor(context)
    if floor is not None:
        fixed["precision_floor"] = floor

    def create() -> None:
        provenance = attributes(plane, experiment.device, experiment.job.path.parent)
        create_surface(context.path, new_surface(experiment, plane, context.identity, {**fixed, **provenance}))

    on_root(world, create)
    return floor


def guarded(world: World, verbose: bool, action: Callable[P, Exit], *args: P.args, **kwargs: P.kwargs) -> Exit:
    """Run a collective action and return the exit code; `verbose` shows tracebacks of the user's own code as well.

    If every rank raises an error together, rank 0 prints it and all ranks end in good order. Any other error happened
    to one rank alone. All ranks then end at once, because the others may be waiting for that rank.
    """
    try:
        code = action(*args, **kwargs)
        world.barrier()  # a launcher kills the other ranks as soon as one has exited with an error
        return code
    except Interrupted as reason:
        return _leave(world, f"stopped by {reason}; {GO_ON}", Exit.RUN_AGAIN, logging.INFO)
    except UserError as error:
        return _leave(world, error.told(verbose), Exit.USER)
    except (CentreMismatchError, RankError) as error:
        return _leave(world, f"error: {error}", Exit.INTERNAL)
    except PieceError as error:
        return _end(world, f"error: {error}", error.code)
    except BaseException:
        return _end(world, f"error: {failure_text(world)}")


def guarded_call(world: World, action: Callable[P, Exit], *args: P.args, **kwargs: P.kwargs) -> Exit:
    """Run a collective action within somebody else's program and return the exit code; nothing is printed.

    An error that every rank raises together is raised; any other error ends all ranks where there are several.
    """
    try:
        return action(*args, **kwargs)
    except (UserError, CentreMismatchError, RankError, Interrupted):
        raise
    except BaseException as error:
        piece = error if isinstance(error, PieceError) else None
        if world.size > 1:
            _end(world, f"error: {piece or failure_text(world)}", piece.code if piece else Exit.INTERNAL)
        if piece and isinstance(piece.__cause__, UserError):
            raise piece.__cause__ from piece.__cause__.__cause__
        raise


def _leave(world: World, text: str, code: Exit, level: int = logging.ERROR) -> Exit:
    log(world, text, level)
    world.barrier()
    return code


def _end(world: World, text: str, code: int = Exit.INTERNAL) -> Exit:
    say(text, logging.ERROR, world.rank)
    if world.size > 1:
        time.sleep(HEARD)
        world.abort(code)
    return Exit(code)

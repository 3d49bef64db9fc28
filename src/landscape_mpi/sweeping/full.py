"""Fills a surface with every example at every point: each rank takes points, coarse to fine, and writes its results."""

from landscape_mpi.errors import Exit
from landscape_mpi.log import Progress, log, ranks
from landscape_mpi.mpi.dispenser import Handlers
from landscape_mpi.mpi.scheduler import share_out
from landscape_mpi.mpi.world import together
from landscape_mpi.sampling import all_examples_because
from landscape_mpi.surface import Record, Writer, open_writer
from landscape_mpi.sweeping.context import Index, SweepContext
from landscape_mpi.sweeping.exit import some_failed, stopped
from landscape_mpi.sweeping.point import Deaths, PointComputer


def fill(context: SweepContext) -> Exit:
    """Compute the points that a surface lacks; collective."""
    world, job, path, missing = context.world, context.job, context.path, context.missing
    # a rank alone writes by itself: MPI keeps the system's reason for a refusal to itself, and dies of the next one
    communicator = None if context.options.through_root or world.size == 1 else world.communicator
    writer = together(world, open_writer, path, communicator, world.rank == 0, context.platforms)
    if job.sampling:
        for name, split in context.experiment.splits.items():
            context.log_all_examples(name, all_examples_because(job.sampling.error, len(split)))
    done = context.found.done if context.found else 0
    plan = f"{done} points are there, {len(missing)} to do" if done else f"{len(missing)} points"
    log(world, f"{path}: {plan}, on {ranks(world.size, context.options.group)}.")
    progress = Progress(done + len(missing), done)
    failed: list[Record] = []

    def arrived(record: Record) -> None:
        writer.at_root(record)
        progress.step()
        if writer.name_lost:
            context.experiment.stop.limit(0)

    def given_up(index: Index, text: str) -> None:
        failed.append(Record.failure(index, text))
        writer.at_failure(failed[-1])

    deaths = Deaths(path)
    deaths.log(world, missing)
    compute = PointComputer(context)
    handlers = Handlers(compute, writer.at_rank, arrived, given_up, context.options.tolerant, deaths.at)
    complete = share_out(world, missing, handlers, context.experiment.stop, context.experiment.team)
    return _close(context, writer, complete, failed, deaths)


def _close(context: SweepContext, writer: Writer, complete: bool, failed: list[Record], deaths: Deaths) -> Exit:
    """Close the file, marked where no point is missing, and say how the sweep ended; collective, as rank 0 has it."""
    world, path = context.world, context.path
    complete, failed = world.bcast((complete, failed))
    together(world, writer.sync)
    together(world, writer.finish, world.barrier, complete and not failed)
    if not complete:
        return stopped(context)
    if world.rank == 0:
        deaths.end(record.index for record in failed)
    if failed:
        return some_failed(context, [record.note for record in failed])
    log(world, f"{path}: complete. Draw it: landscape-plot {path}")
    return Exit.COMPLETE

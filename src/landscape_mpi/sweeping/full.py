"""A surface filled with every image at every point: each rank takes points, coarse to fine, and writes them."""

from landscape_mpi.errors import Exit
from landscape_mpi.log import log
from landscape_mpi.mpi.dispenser import Handlers
from landscape_mpi.mpi.scheduler import share_out
from landscape_mpi.mpi.world import World, together
from landscape_mpi.sampling import all_images_because
from landscape_mpi.surface import Record, Writer, open_writer
from landscape_mpi.sweeping.context import Ready
from landscape_mpi.sweeping.deaths import Deaths
from landscape_mpi.sweeping.point import Index
from landscape_mpi.sweeping.points import Computer
from landscape_mpi.sweeping.progress import Progress


def fill(ready: Ready) -> Exit:
    """Compute the points that a surface lacks; collective."""
    world, job, order = ready.world, ready.job, ready.missing
    # a rank alone writes by itself: MPI keeps the system's reason for a refusal to itself, and dies of the next one
    communicator = None if ready.through_root or world.size == 1 else world.communicator
    writer = together(world, open_writer, ready.path, communicator, world.rank == 0, ready.makers)
    if job.sampling:
        for name, split in ready.experiment.splits.items():
            ready.tell_whole(name, all_images_because(job.sampling.error, len(split)))
    done = ready.found.done if ready.found else 0
    log(world, f"{ready.path}: {_plan(done, len(order))}, on {ranks(world.size)}.")
    compute = Computer(ready.attempts, job.data.splits, job.metrics, _constants(ready), ready.curvature)
    progress = Progress(done + len(order), done, ready.stream)

    def arrived(record: Record) -> None:
        writer.at_root(record)
        progress.step()
        if writer.name_lost:
            ready.experiment.stop.limit(0)

    failed: list[Record] = []

    def given_up(index: Index, text: str) -> None:
        failed.append(Record.failure(index, text))
        writer.at_rest(failed[-1])

    deaths = Deaths(ready.path)
    deaths.log(world, order)
    handlers = Handlers(compute, writer.at_source, arrived, given_up, ready.tolerant, deaths.at)
    complete = share_out(world, order, handlers, ready.experiment.stop)
    complete = _close(world, writer, complete, failed, deaths)
    if not complete:
        return ready.stopped()
    if failed:
        return ready.some_failed([record.note for record in failed])
    log(world, f"{ready.path}: complete. Draw it: landscape-plot {ready.path}")
    return Exit.COMPLETE


def _close(world: World, writer: Writer, complete: bool, failed: list[Record], deaths: Deaths) -> bool:
    """Close the file, marked where no point is missing; return on every rank what rank 0 says."""
    complete = world.bcast(complete)
    failed[:] = world.bcast(failed)
    together(world, writer.settle)
    together(world, writer.finish, world.barrier, complete and not failed)
    if complete and world.rank == 0:
        deaths.end(record.index for record in failed)
    return complete


def ranks(count: int) -> str:
    """Return the number of ranks in words."""
    return f"{count} rank{'s' if count > 1 else ''}"


def _plan(done: int, todo: int) -> str:
    return f"{done} points are there, {todo} to do" if done else f"{todo} points"


def _constants(ready: Ready) -> dict[str, float]:
    """Return what a surface with error bars says of points on all images."""
    if ready.job.sampling is None:
        return {}
    short = ["loss", "acc"] if "accuracy" in ready.job.metrics else ["loss"]
    splits = ready.experiment.splits
    bars = {f"{split}_{name}_bar": 0.0 for split in splits for name in short}
    return {**bars, **{f"{name}_images": len(split) for name, split in splits.items()}}

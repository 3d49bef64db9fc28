"""A surface filled with every image at every point: each rank takes points, coarse to fine, and writes them."""

from landscape_mpi.errors import Exit
from landscape_mpi.ranks import Handlers, World, alone, finish_alone, share_out, tell, together
from landscape_mpi.sampling import all_images_because
from landscape_mpi.surface import Record, Writer, open_writer
from landscape_mpi.sweeping.attempt import Index
from landscape_mpi.sweeping.points import Computer
from landscape_mpi.sweeping.progress import Progress
from landscape_mpi.sweeping.ready import Ready


def fill(ready: Ready) -> Exit:
    """Compute the points that a surface lacks; collective."""
    world, job, order = ready.world, ready.job, ready.missing
    # where the launcher lets ranks live on, each opens the file by itself: the others would wait for a dead one within
    # HDF5, where no thread of theirs could see that it is dead
    shared = world.itself if world.watch else world.communicator
    # a rank alone writes by itself: MPI keeps the system's reason for a refusal to itself, and dies of the next one
    communicator = None if ready.through_root or world.size == 1 else shared
    writer = together(world, lambda: open_writer(ready.path, communicator, world.rank == 0))
    if job.sampling:
        for name, split in ready.experiment.splits.items():
            ready.tell_whole(name, all_images_because(job.sampling.error, len(split)))
    done = ready.found.done if ready.found else 0
    tell(world, f"{ready.path}: {_plan(done, len(order))}, on {ranks(world.size)}.")
    compute = Computer(ready.attempts, job.data.splits, job.metrics, _constants(ready), ready.curvature)
    progress = Progress(done + len(order), done, ready.stream)

    def arrived(record: Record) -> None:
        writer.at_root(record)
        progress.step()
        if writer.adrift:
            ready.experiment.stop.limit(0)

    failed: list[Record] = []

    def given_up(index: Index, text: str) -> None:
        failed.append(Record.failure(index, text))
        writer.at_rest(failed[-1])

    give_up = given_up if ready.tolerant else None
    handlers = Handlers(compute, writer.at_source, arrived, give_up, place=ready.attempts.name)
    complete = share_out(world, order, handlers, ready.experiment.stop)
    complete = _close(world, writer, complete, failed)
    if not complete:
        return ready.stopped()
    if failed:
        return ready.some_failed([record.note for record in failed])
    tell(world, f"{ready.path}: complete. Draw it: landscape-plot {ready.path}")
    return Exit.COMPLETE


def _close(world: World, writer: Writer, complete: bool, failed: list[Record]) -> bool:
    """Close the file, marked where no point is missing; return on every rank that comes back what rank 0 says."""
    if alone(world):
        finish_alone(world, writer.settle)
        writer.finish(lambda: None, complete and not failed)
        return complete
    complete = world.from_root(complete)
    failed[:] = world.from_root(failed)
    together(world, writer.settle)
    together(world, lambda: writer.finish(world.meet, complete and not failed))
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

"""Ranks that sleep instead of computing: real messages, a real surface file, no torch; `scaling.py` starts them.

mpirun -n RANKS python benchmarks/sleepers.py CASES     (a JSON list; rank 0 prints what all ranks saw)
"""

import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from landscape_mpi.metrics.registry import asked, result_names
from landscape_mpi.mpi.communicator import open_world
from landscape_mpi.mpi.dispenser import Handlers
from landscape_mpi.mpi.scheduler import share_out
from landscape_mpi.mpi.world import World, on_root
from landscape_mpi.surface import NewSurface, Record, Writer, create_surface, open_writer
from landscape_mpi.surface.write import RootWriter

RESULTS = result_names(("train", "test"), asked(("loss", "accuracy")))


@dataclass(frozen=True)
class Case:
    """Points that take `shortest` to `longest` seconds, `each` of them a rank, or `total` on all ranks together.

    With `asking` the points of all ranks but 0 take no time, and those of rank 0 `longest`: what is left is messages.
    Without `written` no rank holds a file to write to.
    """

    name: str
    shortest: float
    longest: float
    each: int = 0
    total: int = 0
    asking: bool = False
    written: bool = True

    def points(self, ranks: int) -> list[float]:
        """Return the seconds of every point: their logarithms are spread evenly, and the same each time."""
        draw = random.Random(0)
        ratio = self.longest / self.shortest
        return [self.shortest * ratio ** draw.random() for _ in range(self.total or self.each * ranks)]

    def pause(self, rank: int) -> float | None:
        """Return what every point of a rank takes, whatever `points` says; None where that is followed."""
        return (0.0 if rank else self.longest) if self.asking else None


@dataclass(frozen=True)
class Stay:
    """What a rank saw of a case: moments and durations in seconds.

    `slept` is what its points should have taken, `late` how much longer they took, `cpu` the time of all its threads
    and `own` that of the computing one alone; `idle` and `idle_cpu` are of the wait for the others at the end.
    """

    begun: float
    ended: float
    points: int
    slept: float
    late: float
    cpu: float
    own: float
    idle: float
    idle_cpu: float


class Sleeper:
    """Computes a point by sleeping."""

    def __init__(self, rank: int, points: list[float], pause: float | None) -> None:
        """Sleep as long as the points say, or for `pause` whatever they say."""
        self._rank, self._pauses, self._pause = rank, points, pause
        self.points, self.slept, self.late = 0, 0.0, 0.0

    def __call__(self, index: tuple[int]) -> Record:
        """Sleep, and return results that look like any."""
        pause = self._pauses[index[0]] if self._pause is None else self._pause
        started = time.perf_counter()
        if pause:
            time.sleep(pause)
        seconds = time.perf_counter() - started
        self.points, self.slept, self.late = self.points + 1, self.slept + pause, self.late + seconds - pause
        return Record(index, dict.fromkeys(RESULTS, 1.0), self._rank, seconds)


def _given_up(index: tuple[int, ...], text: str) -> None:
    raise RuntimeError(f"the point {index} was given up: {text}")


def stay(world: World, case: Case, folder: Path) -> Stay:
    """Compute all points of a case; collective."""
    points = case.points(world.size)
    path = folder / f"{case.name}.h5"
    writer = _surface(world, path, len(points)) if case.written else RootWriter(path, root=False)
    sleeper = Sleeper(world.rank, points, case.pause(world.rank))
    order = [(i,) for i in range(len(points))]
    world.barrier()
    begun, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
    share_out(world, order, Handlers(sleeper, writer.at_rank, writer.at_root, _given_up))
    ended, cpu_ended, own = time.perf_counter(), time.process_time(), time.thread_time() - own
    world.barrier()
    idle, idle_cpu = time.perf_counter() - ended, time.process_time() - cpu_ended
    writer.finish(world.barrier, complete=True)
    found = sleeper.points, sleeper.slept, sleeper.late
    return Stay(begun, ended, *found, cpu_ended - cpu, own, idle, idle_cpu)


def _surface(world: World, path: Path, points: int) -> Writer:
    new = NewSurface((np.linspace(-1, 1, points),), RESULTS, ([],), "")
    on_root(world, create_surface, path, new)
    return open_writer(path, world.communicator, world.rank == 0)


def main() -> None:
    """Run the cases named on the command line and print what every rank saw."""
    cases = [Case(**case) for case in json.loads(sys.argv[1])]
    world = open_world()
    world.barrier()
    ready = time.time()
    with TemporaryDirectory() as own:
        folder = world.bcast(Path(own))
        stays = [[asdict(seen) for seen in world.allgather(stay(world, case, folder))] for case in cases]
        world.barrier()
    torch = any(world.allgather("torch" in sys.modules))
    if world.rank == 0:
        sys.stdout.write(json.dumps({"ready": ready, "torch": torch, "stays": stays}))


if __name__ == "__main__":
    main()

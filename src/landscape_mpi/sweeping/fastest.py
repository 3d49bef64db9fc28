"""Which of several engines is the fastest here, measured on a batch at the centre; the same on every rank."""

import math
import time
from collections.abc import Callable, Mapping
from typing import ParamSpec

import torch

from landscape_mpi.evaluate import Evaluator, Point
from landscape_mpi.job import SweepJob
from landscape_mpi.mpi.world import World, together

P = ParamSpec("P")
WORTH = 20_000
"""Images over all points from which on a measurement pays; below, the first engine that agrees is taken."""
SURELY = 0.75
"""An engine is preferred to the first one where it takes less than this of its time: noise is to decide nothing."""
TURNS = 3


def is_worth_it(job: SweepJob, images: int) -> bool:
    """Whether a job is so large that the fastest engine should be looked for."""
    return math.prod(job.chosen_grid.shape) * images >= WORTH


def fastest_first(world: World, engines: Mapping[str, Evaluator], split: str, batch: int) -> tuple[str, ...]:
    """Return the names of engines, the fastest one first where it surely is; collective.

    Args:
        world: The ranks, whose times are added up.
        engines: By name, in the order that is kept where the times do not tell them apart.
        split: Of which a batch is evaluated.
        batch: Images of it.
    """
    images = slice(0, batch)

    def measure() -> dict[str, float]:
        best = dict.fromkeys(engines, math.inf)
        for turn in range(TURNS + 1):  # the first one warms up
            for name, evaluator in engines.items():
                taken = _taken(evaluator.per_image, Point(0.0, 0.0), split, images)
                best[name] = min(best[name], taken) if turn else math.inf
        return best

    found = world.allgather(together(world, measure))
    total = {name: math.fsum(one[name] for one in found) for name in engines}
    first, *others = total
    quick = min(others, key=total.__getitem__, default=first)
    if total[quick] < SURELY * total[first]:
        return quick, *(name for name in total if name != quick)
    return tuple(total)


def _taken(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Return the seconds that work takes: of this process alone where it has one thread, since others may be busy."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    work(*args, **kwargs)
    return clock() - began

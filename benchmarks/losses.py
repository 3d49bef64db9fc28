"""Per-example losses of a job at every point of its grid, by the fastest engine: what staircase.py is judged on.

    python benchmarks/losses.py job.yaml OUT.npz

OUT.npz holds `losses` float32 [points, examples] of the first split, row by row of the grid, and `labels` [examples].
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping.choose_engine import choose_batch, choose_engine
from landscape_mpi.sweeping.full import point_at
from landscape_mpi.sweeping.load import JobSource, load_experiment
from landscape_mpi.sweeping.planes.build import build_plane


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate all points and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    world, job = Solo(), load_job(options.job, SweepJob)
    experiment = load_experiment(job, JobSource(job), "auto", world)
    with TemporaryDirectory() as journals:  # the range of an axis that is `auto` is looked for
        experiment, plane, _ = build_plane(world, experiment, 0, None, journals=Path(journals))
    job = experiment.job
    engine = choose_engine(world, experiment, plane, choose_batch(world, experiment), None)
    (name, split), *_ = experiment.splits.items()
    axes, shape, started = job.values.chosen_grid.coordinates(), job.values.chosen_grid.shape, time.perf_counter()
    every = slice(0, len(split))
    losses = [engine.evaluator.per_example(point_at(axes, index), name, every).losses for index in np.ndindex(*shape)]
    labels = split.targets.numpy().astype(np.int64)
    np.savez_compressed(options.out, losses=np.array(losses, np.float32), labels=labels)
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{options.out}: {len(losses)} points, {len(split)} examples, {seconds:.0f} s by {engine.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

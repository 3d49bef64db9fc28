"""How far sampled surfaces are from the full one: errors, how many bars cover them, and shifts of contours in cells.

    python benchmarks/shifts.py FULL.h5 SAMPLED.h5 ... [--metric train_loss]

A contour's shift is the distance, in cells of the grid, from each of its corners to the nearest contour of the full
surface at the same level; levels are those that landscape-plot draws.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import contourpy
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.scale import scale_of
from landscape_mpi.surface.read import Surface, read_surface, share_used

Values = NDArray[np.float64]
HEAD = f"{'':16}{'used':>8}{'error: median / 95th / largest':>34}{'covered':>9}{'contour shift: median / largest':>34}"


@dataclass(frozen=True)
class Row:
    """Relative errors in percent, the share of points within their bars, and shifts in cells."""

    name: str
    used: float
    errors: Values
    covered: float
    shifts: Values

    def __str__(self) -> str:
        errors = " / ".join(f"{value:.2f}" for value in np.quantile(self.errors, (0.5, 0.95, 1)))
        shifts = f"{np.median(self.shifts):.3f} / {self.shifts.max():.3f} cells"
        return f"{self.name:16}{self.used:8.2%}{errors + ' %':>34}{self.covered:9.3f}{shifts:>34}"


def compare(full: Surface, sampled: Surface, metric: str) -> Row:
    """Return how far a sampled surface is from the full one, at the points that do not stand on all examples."""
    truth, found, bars = full.metrics[metric], sampled.metrics[metric], sampled.metrics[f"{metric}_bar"]
    estimated = bars > 0
    off = np.abs(found - truth)[estimated]
    errors = 100 * off / np.abs(truth[estimated])
    field = field_of(full, metric)
    levels = scale_of([field], Options()).levels
    shifts = np.concatenate([shift(np.log(truth), np.log(found), np.log(level)) for level in levels])
    covered = float((off <= bars[estimated]).mean())
    return Row(sampled.path.stem, share_used(sampled) or 1.0, errors, covered, shifts)


def shift(truth: Values, found: Values, level: float) -> Values:
    """Return how far each corner of a contour of `found` [ny, nx] is from the nearest one of `truth`, in cells."""
    there = [line for line in contourpy.contour_generator(z=truth).lines(level) if len(line) > 1]
    ours = [line for line in contourpy.contour_generator(z=found).lines(level) if len(line) > 1]
    if not there or not ours:
        return np.empty(0)
    starts = np.concatenate([line[:-1] for line in there])
    along = np.concatenate([np.diff(line, axis=0) for line in there])
    return np.array([_distance(corner, starts, along) for line in ours for corner in line])


def _distance(corner: Values, starts: Values, along: Values) -> float:
    """Return the distance of a corner [2] to the nearest of some pieces of lines [n, 2]."""
    squared = np.maximum((along**2).sum(axis=1), 1e-30)
    place = np.clip(((corner - starts) * along).sum(axis=1) / squared, 0, 1)
    return float(np.min(np.linalg.norm(starts + place[:, None] * along - corner, axis=1)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("full", type=Path)
    parser.add_argument("sampled", type=Path, nargs="+")
    parser.add_argument("--metric", default="train_loss")
    options = parser.parse_args(arguments)
    full = read_surface(options.full)
    rows = [str(compare(full, read_surface(path), options.metric)) for path in options.sampled]
    sys.stdout.write("\n".join([HEAD, *rows]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

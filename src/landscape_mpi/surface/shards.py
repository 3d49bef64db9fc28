"""Orders the points of a grid from coarse to fine, and divides them into shards, each for a run of its own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import Flag, UserError

T = TypeVar("T")
TASK_VARIABLES = ("SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "SGE_TASK_ID", "LSB_JOBINDEX")
"""What schedulers call the number of a task of an array."""
LONGEST = 40
"""Characters of a share: Python refuses to read a number of thousands of digits."""
NAME = re.compile(r"(?P<index>\d+)/(?P<count>\d+)")
SLUG = re.compile(r"\.shard-\d+-of-\d+(?=\.|$)")
"""The part of a shard's name that the name of its surface lacks."""


def coarse_to_fine(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return every grid index once: the corners, then the middles, then the middles between those, and so on.

    Whenever the work is stopped, the points done are spread over the whole grid, so an unfinished surface can be
    drawn. Inside a level the order is shuffled by a fixed seed.
    """
    levels = [axis_levels(points) for points in shape]
    indices = list(product(*(range(points) for points in shape)))
    shuffle = np.random.default_rng(0).permutation(len(indices))
    keys = [max(level[i] for level, i in zip(levels, index, strict=True)) for index in indices]
    return [indices[k] for k in sorted(range(len(indices)), key=lambda k: (keys[k], shuffle[k]))]


def axis_levels(points: int) -> NDArray[np.int64]:
    """Return for each index of an axis the level of halving at which it first appears; the ends and middle are 0."""
    levels = np.full(points, -1)
    level, pieces = 0, 2
    while (levels < 0).any():
        marks = np.rint(np.linspace(0, points - 1, pieces + 1)).astype(int)
        levels[marks[levels[marks] < 0]] = level
        level, pieces = level + 1, 2 * pieces
    return levels


@dataclass(frozen=True)
class Shard:
    """Share `index` of `count`, counted from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        """Return e.g. `3/8`."""
        return f"{self.index}/{self.count}"

    @property
    def slug(self) -> str:
        """Return e.g. `shard-3-of-8`, as in names of files."""
        return f"shard-{self.index}-of-{self.count}"

    def path(self, surface: Path) -> Path:
        """Return the file of this share: `s.shard-3-of-8.h5` beside `s.h5`."""
        return surface.with_name(f"{surface.stem}.{self.slug}{surface.suffix}")

    def of(self, visits: Sequence[T]) -> list[T]:
        """Return every `count`-th point in the order of visits: each share is spread over the whole grid."""
        return list(visits[self.index :: self.count])


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """Return the share that `--shard I/N` or `--shard auto/N` names.

    Array variables are read for `auto` alone, and N is never taken from them: `--array=3,5` refills two shards of N.

    Raises:
        UserError: it is neither, I is not within 0 to N - 1, or there is no array variable.
    """
    wanted = text.strip()
    if wanted.startswith("auto/"):
        wanted = f"{_task(environment)}/{wanted.removeprefix('auto/')}"
    found = NAME.fullmatch(wanted) if len(wanted) < LONGEST else None
    if not found or not _is_share(found):
        shown = text if wanted == text.strip() else f"{text}, which is {wanted} here"
        raise UserError(Flag("shard"), f"found {shown}", expected="I/N with I from 0 to N - 1, such as 3/8, or auto/N")
    return Shard(int(found["index"]), int(found["count"]))


def recorded_shard(value: object) -> Shard | None:
    """Return the share that a surface's attribute `shard` names; None where it is no share of anything."""
    found = NAME.fullmatch(value) if isinstance(value, str) and len(value) < LONGEST else None
    return Shard(int(found["index"]), int(found["count"])) if found and _is_share(found) else None


def _is_share(found: re.Match[str]) -> bool:
    return int(found["index"]) < int(found["count"])


def _task(environment: Mapping[str, str]) -> str:
    for name in TASK_VARIABLES:
        if environment.get(name, "").isdecimal():
            return environment[name]
    raise UserError(
        Flag("shard"),
        f"found auto, and none of {', '.join(TASK_VARIABLES)} is set to a number",
        expected="to run as a task of an array",
        remedy="write I/N otherwise",
    )

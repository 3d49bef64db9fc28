"""Whether a surface has all that is written into its file, in type and shape; reads no file.

A file that only looks like a surface would otherwise fail at its first write, after hours of work.
"""

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.job import Axis, SweepJob
from landscape_mpi.metrics.names import dtype_of, result_names
from landscape_mpi.surface.read import Kind, Surface
from landscape_mpi.surface.same import metrics_of
from landscape_mpi.surface.schema import LONGEST, check_schema


def check_whole(surface: Surface, job: SweepJob) -> None:
    """Refuse a surface that a sweep of its own job could not be written into.

    Raises:
        UserError: a dataset is missing, or has another type (also in byte order) or shape than the schema says, the
            schema is another one, or the coordinates are not those of the job, to the bit.
    """
    check_schema(surface.path, surface.attributes.get("schema"))
    for name, kind in _layout(surface, job).items():
        found = surface.kinds.get(name)
        if found != kind:
            raise UserError(
                surface.path,
                f"`{name}` is {_words(found)}",
                expected=f"{_words(kind)}, as in every surface that a sweep has begun",
                remedy="the file is damaged or not one of ours",
            )
    for name, axis, there in (("x", job.chosen_grid.alpha, surface.alpha), ("y", job.chosen_grid.beta, surface.beta)):
        _check_coordinates(f"{surface.path}: `{name}coordinates`", there, axis)


def _check_coordinates(where: str, found: NDArray[np.float64] | None, axis: Axis | None) -> None:
    """Refuse coordinates that are not those of the job, to the bit."""
    there = np.empty(0) if found is None else found
    expected = np.empty(0) if axis is None else axis.coordinates()
    if there.tobytes() == expected.tobytes():
        return
    if there.size != expected.size:
        words = f"found {there.size} of them, expected {expected.size}"
    else:
        place = int(np.flatnonzero(there != expected)[0])
        words = f"found {there[place]:.17g} at place {place}, expected {expected[place]:.17g}"
    raise UserError(
        "",
        f"{where} are not those of its job: {words}",
        remedy="the file is damaged, and its points may lie elsewhere than it says",
    )


def _layout(surface: Surface, job: SweepJob) -> dict[str, Kind]:
    shape = surface.shape
    results = result_names(job.data.splits, metrics_of(surface), sampled=job.sampling is not None)
    books = {"status": "u1", "seconds": "f8", "rank": "i4", "error": f"S{LONGEST}"}
    ends = {"complete": "u1", "finished": "f8", "rounds": "i8"}
    return {
        **{name: (np.dtype(dtype_of(name)), shape) for name in results},
        **{name: (np.dtype(kind), shape) for name, kind in books.items()},
        **{name: (np.dtype(kind), ()) for name, kind in ends.items()},
        "audit": (np.dtype("f8"), (4,)),
    }


def _words(kind: Kind | None) -> str:
    return "missing" if kind is None else f"{kind[0].str} {list(kind[1] or ())}"

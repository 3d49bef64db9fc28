"""The files of a command line -> surfaces, with paths of other files on them; knows nothing of how they are drawn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from landscape_mpi.errors import UserError
from landscape_mpi.surface.foreign.loss_landscape import read_projection
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.trajectory import joined


def read_given(paths: Sequence[Path], projections: Sequence[Path]) -> list[Surface]:
    """Read surfaces; projections, where there are any, take the place of the paths that the surfaces have.

    One surface takes any number of them, each a run of its own; several take one each.

    Raises:
        UserError: a file cannot be read, there are not as many projections as surfaces, or a surface is a line.
    """
    surfaces = [read_surface(path) for path in paths]
    if not projections:
        return surfaces
    if len(surfaces) == 1:
        return [_with(surfaces[0], projections)]
    if len(projections) != len(surfaces):
        raise UserError(
            f"--trajectory: found {len(projections)} of them for {len(surfaces)} surfaces; expected one each, in the "
            "same order."
        )
    return [_with(surface, [projection]) for surface, projection in zip(surfaces, projections, strict=True)]


def _with(surface: Surface, projections: Sequence[Path]) -> Surface:
    if surface.is_line:
        raise UserError(f"--trajectory: {surface.path} is a line; expected a plane, on which a path can be drawn.")
    runs = [read_projection(projection) for projection in projections]
    named = [projection.stem for projection in projections]
    return replace(surface, trajectory=runs[0] if len(runs) == 1 else joined(runs, named))

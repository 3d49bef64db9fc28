"""The files of a command line -> surfaces, with paths of other files on them; knows nothing of how they are drawn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from landscape_mpi.errors import UserError
from landscape_mpi.surface.projection import read_projection
from landscape_mpi.surface.read import Surface, read_surface


def read_given(paths: Sequence[Path], projections: Sequence[Path]) -> list[Surface]:
    """Read surfaces; a projection, where there are any, takes the place of the path that each surface has.

    Raises:
        UserError: a file cannot be read, there are not as many projections as surfaces, or a surface is a line.
    """
    surfaces = [read_surface(path) for path in paths]
    if not projections:
        return surfaces
    if len(projections) != len(surfaces):
        raise UserError(
            f"--trajectory: found {len(projections)} of them for {len(surfaces)} surfaces; expected one each, in the "
            "same order."
        )
    return [_with(*pair) for pair in zip(surfaces, projections, strict=True)]


def _with(surface: Surface, projection: Path) -> Surface:
    if surface.is_line:
        raise UserError(f"--trajectory: {surface.path} is a line; expected a plane, on which a path can be drawn.")
    return replace(surface, trajectory=read_projection(projection))

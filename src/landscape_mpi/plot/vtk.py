"""A plane as a structured grid for ParaView (.vts), in VTK's own XML format; knows nothing of figures.

The format: https://docs.vtk.org/en/latest/vtk_file_formats/vtkxml_file_format.html
"""

import argparse
import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError, printable
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.fill import linear
from landscape_mpi.plot.scale import scale_of
from landscape_mpi.plot.wish import Wish
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.refusal import whole

Values = NDArray[np.float64]

ENDING = ".vts"
HIDDEN = 2
"""The bit of `vtkGhostType` that hides a point and every cell around it."""
OF_FIGURES = ("kind", "levels", "title", "output")


def check_vtk(options: argparse.Namespace) -> None:
    """Refuse what does not go with `--vtk`, before any work is done.

    Raises:
        UserError: another ending, no folder, several surfaces, or a flag of figures.
    """
    path: Path = options.vtk
    if path.suffix.lower() != ENDING:
        raise UserError(f"--vtk: {path}: found {path.suffix or 'no ending'}; expected {ENDING}.")
    if not path.parent.is_dir():
        raise UserError(f"--vtk: {path}: there is no folder {path.parent}; create it or choose another.")
    if len(options.surface) > 1:
        raise UserError(f"--vtk: found {len(options.surface)} surfaces; expected one for each file.")
    for flag in OF_FIGURES:
        if getattr(options, flag) is not None:
            raise UserError(f"--vtk: found --{flag} as well, which is for figures; leave one of them out.")


def write_grid(surface: Surface, wish: Wish, path: Path) -> None:
    """Write a plane whose height is a metric, on the scale of a 3-D figure, with every result as point data.

    Raises:
        UserError: the surface is a line, has no such metric or nothing to show, or the file cannot be written.
    """
    if surface.beta is None or min(surface.shape) < 2:
        found = "a line" if surface.beta is None else f"{surface.shape[1]} x {surface.shape[0]} points"
        raise UserError(f"--vtk: {surface.path}: found {found}, which has no area; expected a plane.")
    field = field_of(surface, wish.metric)
    scale = scale_of([field], wish)
    heights = scale.height(linear(field))
    grid = "\n".join(_grid(surface, heights)) + "\n"
    with whole(path, "choose another place with --vtk") as aside:
        aside.write_text(grid, encoding="utf-8")


def _grid(surface: Surface, heights: Values) -> Iterator[str]:
    """Yield the lines of the file; x runs along alpha, y along beta."""
    rows, columns = surface.shape
    extent = f'"0 {columns - 1} 0 {rows - 1} 0 0"'
    yield '<VTKFile type="StructuredGrid" version="1.0" byte_order="LittleEndian" header_type="UInt64">'
    yield f"<StructuredGrid WholeExtent={extent}><Piece Extent={extent}>"
    yield '<PointData Scalars="zvalue">'
    for name, values in _point_data(surface, heights).items():
        yield _array(name, values)
    yield "</PointData><Points>"
    yield _array("Points", _points(surface, heights))
    yield "</Points></Piece></StructuredGrid></VTKFile>"


def _point_data(surface: Surface, heights: Values) -> Mapping[str, NDArray[Any]]:
    """Return the arrays by name; the last one takes gaps out of the picture."""
    hidden = np.where(np.isnan(heights), HIDDEN, 0).astype(np.uint8)
    return {**surface.metrics, "status": surface.status, "zvalue": heights, "vtkGhostType": hidden}


def _points(surface: Surface, heights: Values) -> Values:
    """Return the places of the points [ny, nx, 3]; a gap, which is hidden, lies lowest: NaN is no place."""
    alpha, beta = np.meshgrid(surface.alpha, np.asarray(surface.beta))
    return np.stack([alpha, beta, np.where(np.isnan(heights), np.nanmin(heights), heights)], axis=-1)


def _array(name: str, values: NDArray[Any]) -> str:
    """Return an array element: the number of bytes and the bytes, in base64, of [ny, nx] or [ny, nx, components]."""
    kind, dtype = ("UInt8", "u1") if values.dtype == np.uint8 else ("Float64", "<f8")
    raw = values.astype(dtype).tobytes()
    content = base64.b64encode(len(raw).to_bytes(8, "little") + raw).decode()
    components = values.shape[2] if values.ndim == 3 else 1
    layout = f'type="{kind}" NumberOfComponents="{components}" format="binary"'
    return f"<DataArray Name={quoteattr(printable(name))} {layout}>{content}</DataArray>"

"""Writes a plane or a volume as a structured grid for ParaView (.vts), and a path on a plane as a line (.vtp).

Both are VTK's XML.

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

from landscape_mpi.errors import Flag, UserError, printable
from landscape_mpi.files.atomic import atomic_write, in_words
from landscape_mpi.files.paths import check_target
from landscape_mpi.plot.field import between, field_of, linear
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.scale import scale_of
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.training import Trajectory

Values = NDArray[np.float64]

ENDING, PATH_ENDING = ".vts", ".vtp"
HIDDEN = 2
"""The bit of `vtkGhostType` that hides a point and every cell around it."""
TYPES = {np.dtype(np.uint8): ("UInt8", "u1"), np.dtype(np.int64): ("Int64", "<i8")}
"""What VTK calls a type, and how it is stored; every other type is stored as float64."""
OF_FIGURES = ("kind", "levels", "title", "caption")


def check_vtk(arguments: argparse.Namespace) -> None:
    """Refuse what does not go with `--vtk`, before any work is done.

    Raises:
        UserError: another ending, no folder, several surfaces, or a flag of figures.
    """
    path: Path = arguments.vtk
    if path.suffix.lower() != ENDING:
        raise UserError(Flag("vtk"), f"{path}: found {path.suffix or 'no ending'}", expected=ENDING)
    check_target(path, Flag("vtk"))
    if len(arguments.surface) > 1:
        raise UserError(Flag("vtk"), f"found {len(arguments.surface)} surfaces", expected="one for each file")
    for flag in OF_FIGURES:
        if getattr(arguments, flag) is not None:
            raise UserError(
                Flag("vtk"), ("found ", Flag(flag), " as well, which is for figures"), remedy="leave one of them out"
            )


def write_grid(surface: Surface, options: Options, path: Path) -> list[Path]:
    """Write a volume, or a plane whose height is a metric on the scale of a 3-D figure; every result is point data.

    The path of a training run becomes a line in a file of its own, beside the first file.

    Returns:
        The files.

    Raises:
        UserError: the surface is a line or has one point along an axis, has no such metric or nothing to show, or a
            file cannot be written.
    """
    if surface.beta is None or min(surface.shape) < 2:
        found = "a line" if surface.beta is None else f"{' x '.join(map(str, reversed(surface.shape)))} points"
        raise UserError(
            Flag("vtk"), f"{surface.path}: found {found}, which has no area", expected="a plane or a volume"
        )
    field = field_of(surface, options.metric)
    scale = scale_of([field], options)
    if surface.kind == "volume":
        alpha, beta, gamma = surface.axes
        z, y, x = np.meshgrid(gamma, beta, alpha, indexing="ij")
        files = {path: _grid(surface, np.stack([x, y, z], axis=-1), scale.height(field.values))}
        if (run := surface.trajectory) is not None and len(run.coordinates) == len(surface.axes):
            files[path.with_suffix(PATH_ENDING)] = _line(run, np.stack(run.coordinates, axis=-1), {})
    else:
        heights = scale.height(linear(field))
        alpha, beta = np.meshgrid(surface.alpha, np.asarray(surface.beta))
        files = {path: _grid(surface, _places(alpha, beta, heights, heights), heights)}
        if (run := surface.trajectory) is not None and run.beta is not None:
            places = _places(run.alpha, run.beta, between(heights, field, run.alpha, run.beta), heights)
            files[path.with_suffix(PATH_ENDING)] = _line(run, places, {"zvalue": places[..., 2]})
    for target, lines in files.items():
        with in_words(target, ("choose another place with ", Flag("vtk"))), atomic_write(target) as aside:
            aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [*files]


def _grid(surface: Surface, places: Values, shown: Values) -> Iterator[str]:
    """Yield the lines of the file: x runs along alpha, y along beta, and z along gamma or with the height.

    Args:
        surface: a plane or a volume.
        places: where its points are, [..., 3].
        shown: the metric on its scale, the shape of the surface; points where it is NaN are hidden.
    """
    layers, rows, columns = (1, 1, *surface.shape)[-3:]
    extent = f'"0 {columns - 1} 0 {rows - 1} 0 {layers - 1}"'
    yield _opening("StructuredGrid")
    yield f"<StructuredGrid WholeExtent={extent}><Piece Extent={extent}>"
    hidden = np.where(np.isnan(shown), HIDDEN, 0).astype(np.uint8)  # takes gaps out of the picture
    data: dict[str, NDArray[Any]] = {
        **surface.metrics,
        "status": surface.status,
        "zvalue": shown,
        "vtkGhostType": hidden,
    }
    yield from _points(data, places)
    yield "</Piece></StructuredGrid></VTKFile>"


def _line(run: Trajectory, places: Values, more: Mapping[str, Values]) -> Iterator[str]:
    """Yield the lines of the file of a path, one point per checkpoint, with more point data."""
    count = run.alpha.size
    data = {name: getattr(run, name) for name in ("epoch", "residual", "train_loss", "lr")}
    yield _opening("PolyData")
    yield f'<PolyData><Piece NumberOfPoints="{count}" NumberOfLines="{len(run.runs)}">'
    yield from _points({**data, **more}, places)
    ends = np.cumsum([one.alpha.size for one in run.runs])
    yield f"<Lines>{_array('connectivity', np.arange(count))}{_array('offsets', ends)}</Lines>"
    yield "</Piece></PolyData></VTKFile>"


def _opening(kind: str) -> str:
    return f'<VTKFile type="{kind}" version="1.0" byte_order="LittleEndian" header_type="UInt64">'


def _points(data: Mapping[str, NDArray[Any]], places: Values) -> Iterator[str]:
    """Yield what belongs to the points of either file, and where they are."""
    yield f'<PointData Scalars="{"zvalue" if "zvalue" in data else "train_loss"}">'
    for name, values in data.items():
        yield _array(name, values)
    yield "</PointData><Points>"
    yield _array("Points", places, components=3)
    yield "</Points>"


def _places(alpha: Values, beta: Values, height: Values, heights: Values) -> Values:
    """Return where points are [..., 3]; points without a height get the lowest height, because NaN is no place."""
    return np.stack([alpha, beta, np.where(np.isnan(height), np.nanmin(heights), height)], axis=-1)


def _array(name: str, values: NDArray[Any], components: int = 1) -> str:
    """Return an array element: the number of bytes and the bytes, in base64."""
    kind, dtype = TYPES.get(values.dtype, ("Float64", "<f8"))
    raw = values.astype(dtype).tobytes()
    content = base64.b64encode(len(raw).to_bytes(8, "little") + raw).decode()
    layout = f'type="{kind}" NumberOfComponents="{components}" format="binary"'
    return f"<DataArray Name={quoteattr(printable(name))} {layout}>{content}</DataArray>"

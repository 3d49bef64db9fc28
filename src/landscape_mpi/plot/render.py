"""Composes the pictures of --kind render, landscapes lit by sun and sky on a transparent background, and their films.

VTK draws them where it can; elsewhere matplotlib draws the same meshes with the same light, facet by facet.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from landscape_mpi.log import say
from landscape_mpi.plot import labels, style
from landscape_mpi.plot.camera import AZIMUTH, ELEVATION, Camera, cameras
from landscape_mpi.plot.field import Field, field_of
from landscape_mpi.plot.opengl import Mesh, NotDrawnError, Pixels, drawn
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.relief import VERTICES, mesh_of
from landscape_mpi.plot.scale import Scale, above_least, scale_of
from landscape_mpi.surface.read import Surface

KIND = "render"
DPI = 200
"""Pixels an inch: titles are as large as in other figures."""
ALONE, BESIDE, FRAME = (1600, 1200), (1100, 900), (800, 600)
"""The default width and height, in pixels, of a single picture, of a panel among several, and of a film."""
_MOST_COLUMNS = 4
_HEAD = 56
"""The height of a line of titles in pixels."""
_TITLES = "#777777"
"""A grey that can be read on white and on black."""
_FACETS = 240
"""The most facets along an axis that matplotlib draws."""


@dataclass(frozen=True, eq=False)
class Frames:
    """A film of landscapes: a figure that shows one picture after the other.

    Attributes:
        figure: it has one panel and is opaque.
        image: what the panel shows.
        pictures: the pictures of the frames.
        titles: the titles of the frames.
    """

    figure: Figure
    image: AxesImage
    pictures: Sequence[Pixels]
    titles: Sequence[str]

    def frames(self) -> Iterator[Figure]:
        """Yield the figure once a frame, each time with other content."""
        for picture, title in zip(self.pictures, self.titles, strict=True):
            self.image.set_data(picture)
            self.image.axes.set_title(title)
            yield self.figure


def compose(surfaces: Sequence[Surface], options: Options) -> Figure:
    """Draw surfaces side by side, all on one scale and seen by the same camera; the background is transparent.

    The label of the figure, which a PNG file keeps as its description, has the facts that other figures have in their
    captions.

    Raises:
        UserError: the options do not suit the surfaces.
    """
    fields, options = above_least([field_of(surface, options.metric) for surface in surfaces], options)
    scale = scale_of(fields, options)
    titles = labels.panel_titles(fields) if len(fields) > 1 else [""]
    titles = labels.captioned(titles, options.captions, "panel")
    title = labels.checked(options.title) if options.title else ""
    if len(fields) == 1 and not options.captions:
        titles, title = [title], ""
    rows = math.ceil(len(fields) / _MOST_COLUMNS)
    columns = math.ceil(len(fields) / rows)
    top, head = _HEAD * bool(title), _HEAD * any(titles)
    width, height = options.size or (ALONE if len(fields) == 1 else (columns * BESIDE[0], top + rows * BESIDE[1]))
    size = width // columns, (height - top) // rows - head
    azimuth, elevation = options.view or (AZIMUTH, ELEVATION)
    meshes = [mesh_of(field, scale, options.levels or (), azimuth) for field in fields]
    (camera,) = cameras(_corners(meshes), [azimuth], size, elevation)
    pictures = _draw([(mesh, camera) for mesh in meshes], size)
    with mpl.rc_context(style.RC):
        figure = _figure((width, height))
        figure.patch.set_alpha(0)
        if title:
            figure.suptitle(title, color=_TITLES, y=1 - 12 / height)
        for index, (picture, words) in enumerate(zip(pictures, titles, strict=True)):
            row, column = divmod(index, columns)
            bottom = height - top - (row + 1) * (size[1] + head)
            _show(figure, (column * size[0], bottom), picture).set_title(words, color=_TITLES)
    figure.set_label(_facts(fields, scale))
    return figure


def compose_film(fields: Sequence[Field], titles: Sequence[str], options: Options, turn: int) -> Frames:
    """Make a frame of each field, all on one scale; a single field is seen from all around in `turn` frames.

    Args:
        fields: the fields of the frames.
        titles: the titles of the frames.
        options: the options of the picture.
        turn: how many frames a single field has.

    Raises:
        UserError: the options do not suit the fields.
    """
    scale = scale_of(fields, options)
    azimuth, elevation = options.view or (AZIMUTH, ELEVATION)
    width, height = options.size or FRAME
    vertices = min(VERTICES, VERTICES * max(width, height) // max(ALONE))
    meshes = [mesh_of(field, scale, options.levels or (), azimuth, vertices) for field in fields]
    size = width, height - _HEAD * any(titles)
    if len(fields) > 1:
        (camera,) = cameras(_corners(meshes), [azimuth], size, elevation)
        shots = [(mesh, camera) for mesh in meshes]
    else:
        around = [azimuth + 360 * step / turn for step in range(turn)]
        shots = [(meshes[0], camera) for camera in cameras(_corners(meshes), around, size, elevation)]
        titles = list(titles) * turn
    pictures = _draw(shots, size)
    with mpl.rc_context(style.RC):
        figure = _figure((width, height))
        axes = _show(figure, (0, 0), pictures[0])
    return Frames(figure, axes.images[0], pictures, titles)


def _corners(meshes: Sequence[Mesh]) -> NDArray[np.float64]:
    """Return enough points of meshes [n, 3] to know where they end."""
    return np.concatenate([mesh.points[::4, ::4].reshape(-1, 3) for mesh in meshes]).astype(np.float64)


def _figure(size: tuple[int, int]) -> Figure:
    # a thousandth of a pixel more: matplotlib rounds the number of pixels down
    return Figure(figsize=((size[0] + 1e-3) / DPI, (size[1] + 1e-3) / DPI), dpi=DPI)


def _show(figure: Figure, place: tuple[int, int], picture: Pixels) -> Axes:
    """Show a picture pixel by pixel, its lower left corner at a place of the figure."""
    height, width, _ = picture.shape
    across, up = figure.bbox.size
    axes = figure.add_axes((place[0] / across, place[1] / up, width / across, height / up))
    axes.imshow(picture, aspect="auto")
    axes.set_axis_off()
    return axes


def _facts(fields: Sequence[Field], scale: Scale) -> str:
    panels = [labels.facts([field]) for field in fields]
    shared = [*labels.shared(panels), *labels.scale_facts(fields, scale), *labels.cut_facts(scale)]
    if any(field.bars is not None and (field.bars > 0).any() for field in fields):
        shared.append("smoothed within the error bars")
    names = labels.panel_titles(fields)
    own = [
        f"{name}: {', '.join(fact for fact in panel if fact not in shared)}"
        for name, panel in zip(names, panels, strict=True)
        if set(panel) - set(shared)
    ]
    return " · ".join([", ".join(names), fields[0].quantity.label, *shared, *own])


def _draw(shots: Sequence[tuple[Mesh, Camera]], size: tuple[int, int]) -> list[Pixels]:
    """Return a picture of each mesh as its camera sees it, by VTK if that is possible."""
    meshes = list({id(mesh): mesh for mesh, _ in shots}.values())
    numbers = {id(mesh): number for number, mesh in enumerate(meshes)}
    try:
        return drawn(meshes, [(numbers[id(mesh)], camera) for mesh, camera in shots], size)
    except NotDrawnError as why:
        say(f"note: matplotlib draws this picture, in coarser facets: {why}", logging.WARNING)
        return [by_matplotlib(mesh, camera, size) for mesh, camera in shots]


def by_matplotlib(mesh: Mesh, camera: Camera, size: tuple[int, int]) -> Pixels:
    """Return a picture of a mesh, [height, width, 4], painted from the farthest facet to the nearest."""
    step = math.ceil(max(mesh.whole.shape) / _FACETS)
    places = camera.project(mesh.points[::step, ::step].astype(np.float64), size)
    colours = mesh.colours[::step, ::step] / 255
    here, beyond = slice(None, -1), slice(1, None)
    ways = [(here, here), (here, beyond), (beyond, beyond), (beyond, here)]  # the corners, one after the other around
    facets = np.stack([places[way] for way in ways], axis=2)
    whole = mesh.whole[::step, ::step][: facets.shape[0], : facets.shape[1]]
    shades = np.mean([colours[way] for way in ways], axis=0)[whole]
    facets = facets[whole]
    farthest_first = np.argsort(-facets[..., 2].mean(axis=1), kind="stable")
    painted = shades[farthest_first]
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, size[0]), ylim=(0, size[1]))
    corners = facets[farthest_first][..., :2]
    axes.add_collection(PolyCollection(list(corners), facecolors=painted, edgecolors=painted, linewidths=0.5))
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.array(canvas.buffer_rgba())  # type: ignore[no-untyped-call]

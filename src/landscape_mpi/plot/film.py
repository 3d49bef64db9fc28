"""Surfaces and options -> the frames of a film, on one scale in one layout; knows nothing of files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from landscape_mpi.errors import UserError
from landscape_mpi.plot import labels, panels, style
from landscape_mpi.plot.compose import draw_plane, panel_size, plane_texts
from landscape_mpi.plot.field import Field, field_of
from landscape_mpi.plot.kinds import LINE, PLANES, Kind, check_levels, kind_of
from landscape_mpi.plot.least import above_least
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.origin import plain
from landscape_mpi.plot.scale import Scale, scale_of
from landscape_mpi.surface.read import Surface

TURN = 36
"""The frames of a film in which one surface turns around."""
_TURNING = "surface"


@dataclass(frozen=True, eq=False)
class Film:
    """A figure that shows one frame after the other.

    Attributes:
        figure: with one panel; colour bar and caption hold for all frames.
        panel: the axes of the panel.
        fields: what the frames show.
        kind: of picture.
        scale: of all frames.
        texts: a title and facts for each frame.
    """

    figure: Figure
    panel: Any
    fields: Sequence[Field]
    kind: Kind
    scale: Scale
    texts: panels.Texts

    def frames(self) -> Iterator[Figure]:
        """Yield the figure once a frame, each time with other content."""
        for index in range(len(self.fields)):
            self.panel.clear()
            picture = self.draw(index)
            if self.kind.label:
                self.kind.label(self.panel, picture)
            yield from self._turned() if len(self.fields) == 1 else [self.figure]

    def draw(self, index: int) -> Any:
        """Draw a frame without the labels of contours, for which the layout must be settled; return the picture."""
        picture = draw_plane(self.panel, self.fields[index], self.kind, self.scale)
        panels.head(self.panel, self.texts.titles[index], self.texts.own[index])
        return picture

    def _turned(self) -> Iterator[Figure]:
        first = self.panel.azim
        for index in range(TURN):
            self.panel.view_init(elev=self.panel.elev, azim=first + 360 * index / TURN)
            yield self.figure


def compose_film(surfaces: Sequence[Surface], options: Options) -> Film:
    """Make a frame of each surface, all on one scale; a single surface turns around.

    Raises:
        UserError: the options do not suit the surfaces.
    """
    kind = _kind(surfaces, options)
    fields, options = above_least([field_of(surface, options.metric) for surface in surfaces], options)
    scale = scale_of(fields, options)
    texts = plane_texts(fields, replace(options, captions=()), kind, scale)
    titles = labels.captioned(texts.titles, options.captions, "frame")
    titles = [_title(field, title, options) for field, title in zip(fields, titles, strict=True)]
    texts = panels.Texts(titles, texts.own, texts.shared)
    with mpl.rc_context(style.RC):
        figure, (panel,) = panels.panels(1, panel_size(fields[0], kind), _spare(kind), kind.projection)
        film = Film(figure, panel, fields, kind, scale, texts)
        _settle(film)
    return film


def _kind(surfaces: Sequence[Surface], options: Options) -> Kind:
    """Return the kind of picture: as asked, else contours of several surfaces, relief of one."""
    alone = len(surfaces) == 1
    name = kind_of(surfaces, _TURNING if alone and not options.kind and not surfaces[0].is_line else options.kind)
    if name == LINE:
        raise UserError(f"--movie: {surfaces[0].path} is a line; expected planes.")
    if alone and name != _TURNING:
        raise UserError(
            f"--movie: one surface has nothing to move in --kind {name}; expected more surfaces or --kind {_TURNING}."
        )
    check_levels(name, options.levels)
    return PLANES[name]


def _settle(film: Film) -> None:
    """Lay the figure out for all frames: with the one that has most to say above its panel."""
    shown = range(len(film.fields))
    fullest = max(shown, key=lambda index: (len(film.texts.own[index]), len(film.texts.titles[index])))
    picture = film.draw(fullest)
    if film.kind.colours:
        label = film.fields[0].quantity.label
        panels.bar(film.figure, [film.panel], film.kind.colours(film.scale), film.scale, label)
    panels.write(film.figure, [], panels.Texts([], [], film.texts.shared))
    panels.settle(film.figure, [picture])


def _spare(kind: Kind) -> float:
    return style.BAR if kind.colours else 0


def _title(field: Field, title: str, options: Options) -> str:
    """Return what stands above a frame: its caption, else whose landscape, and after which epoch or from which file."""
    if options.captions:
        return f"{labels.checked(options.title)}, {title}" if options.title else title
    epoch = field.origin.epoch
    if epoch is None and not options.title:
        return title
    whose = labels.checked(options.title) if options.title else field.origin.network
    which = plain(field.surface.path.stem) if epoch is None else f"epoch {epoch}"
    return f"{whose}, {which}" if whose else which

"""Makes films, a frame for each surface or one surface turning around, on one scale, and writes them to files."""

import io
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter
from matplotlib.figure import Figure
from PIL import Image

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.files.atomic import atomic_write
from landscape_mpi.plot import density, labels, render, style
from landscape_mpi.plot.field import Field, field_of
from landscape_mpi.plot.figure import (
    LINE,
    PLANES,
    Kind,
    Texts,
    check_levels,
    draw_bar,
    draw_plane,
    kind_of,
    plane_panels,
    plane_texts,
    settle,
    write,
    write_head,
)
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.origin import plain
from landscape_mpi.plot.scale import Scale, above_least, number, scale_of
from landscape_mpi.surface.read import Surface

TURN = 36
"""The frames of a film in which one surface turns around."""
DEFAULT_FPS = 4
_DPI = 200
_TURNING = "surface"
_WHITE = 255
"""The number of the colour of a GIF that is white."""
_LOOKED_AT = 1 << 20
"""About how many pixels of all frames are used to choose the colours of a GIF."""


class GifWriter(AbstractMovieWriter):
    """Writes a GIF, in white and the 255 colours that come near to all colours of all frames.

    Pillow by itself takes a palette for each frame, by how many pixels have a colour. A small area, such as a narrow
    minimum, would then get the colour of something else, and a different one in every frame.
    """

    def setup(self, fig: Figure, outfile: str | Path, dpi: float | None = None) -> None:
        """Begin a file that shows a figure."""
        super().setup(fig, outfile, dpi)
        self._frames: list[Image.Image] = []

    def grab_frame(self, **savefig_kwargs: Any) -> None:
        """Keep what the figure shows."""
        buffer = io.BytesIO()
        self.fig.savefig(buffer, format="rgba", dpi=self.dpi, **savefig_kwargs)
        frame = Image.frombuffer("RGBA", self.frame_size, buffer.getvalue(), "raw", "RGBA", 0, 1)
        self._frames.append(frame.convert("RGB"))

    def finish(self) -> None:
        """Write the file."""
        palette = _palette(self._frames)
        first, *others = (_quantised(frame, palette) for frame in self._frames)
        first.save(self.outfile, format="GIF", save_all=True, append_images=others, duration=1000 // self.fps, loop=0)


def _palette(frames: Sequence[Image.Image]) -> Image.Image:
    """Return an image in the colours that come near to those of frames of one size."""
    step = max(1, math.isqrt(len(frames) * frames[0].width * frames[0].height // _LOOKED_AT))
    some = np.concatenate([np.asarray(frame)[::step, ::step] for frame in frames])
    palette = Image.fromarray(some).quantize(_WHITE, method=Image.Quantize.MAXCOVERAGE, kmeans=3)
    colours = (palette.getpalette() or [])[: 3 * _WHITE]
    palette.putpalette([*colours, *[0] * (3 * _WHITE - len(colours)), 255, 255, 255])
    return palette


def _quantised(frame: Image.Image, palette: Image.Image) -> Image.Image:
    """Return a frame in the colours of a palette; white pixels stay white, for which Pillow takes a similar colour."""
    found = frame.quantize(palette=palette, dither=Image.Dither.NONE)
    white = np.asarray(frame).min(axis=2) == 255
    found.paste(_WHITE, mask=Image.fromarray(255 * white.astype(np.uint8)))
    return found


FORMATS: Mapping[str, type[FFMpegWriter | GifWriter]] = {".gif": GifWriter, ".mp4": FFMpegWriter}


@dataclass(frozen=True, eq=False)
class Film:
    """A figure that shows one frame after the other.

    Attributes:
        figure: with one panel; colour bar and caption hold for all frames.
        panel: the axes of the panel.
        fields: what the frames show.
        kind: the kind of picture.
        scale: the scale of all frames.
        texts: a title and facts for each frame.
    """

    figure: Figure
    panel: Any
    fields: Sequence[Field]
    kind: Kind
    scale: Scale
    texts: Texts

    def frames(self) -> Iterator[Figure]:
        """Yield the figure once a frame, each time with other content."""
        for index in range(len(self.fields)):
            self.panel.clear()
            picture = self.draw(index)
            if self.kind.label:
                self.kind.label(self.panel, picture)
            if len(self.fields) > 1:
                yield self.figure
                continue
            first = self.panel.azim
            for step in range(TURN):
                self.panel.view_init(elev=self.panel.elev, azim=first + 360 * step / TURN)
                yield self.figure

    def draw(self, index: int) -> Any:
        """Draw a frame without the labels of contours, for which the layout must be settled; return the picture."""
        picture = draw_plane(self.panel, self.fields[index], self.kind, self.scale)
        write_head(self.panel, self.texts.titles[index], self.texts.own[index])
        return picture


def compose_film(surfaces: Sequence[Surface], options: Options) -> Film | render.Frames:
    """Make a frame of each surface, all on one scale; a single surface turns around.

    Raises:
        UserError: the options do not suit the surfaces.
    """
    kind = _kind(surfaces, options)
    if kind is None:
        return _rendered(surfaces, options)
    fields, options = above_least([field_of(surface, options.metric) for surface in surfaces], options)
    scale = scale_of(fields, options)
    texts = plane_texts(fields, replace(options, captions=()), kind, scale)
    titles = labels.captioned(texts.titles, options.captions, "frame")
    if len(surfaces) > 1 and len({surface.path for surface in surfaces}) == 1 and surfaces[0].gamma is not None:
        # planes of one volume, whose gamma stands below the title
        whose = labels.checked(options.title) if options.title else labels.panel_titles(fields[:1])[0]
        titles = list(options.captions) or [whose] * len(fields)
    else:
        titles = [_title(field, title, options) for field, title in zip(fields, titles, strict=True)]
    texts = Texts(titles, texts.own, texts.shared)
    with mpl.rc_context(style.RC):
        figure, (panel,) = plane_panels(fields[:1], kind)
        film = Film(figure, panel, fields, kind, scale, texts)
        # the layout of all frames is that of the frame with the most text above its panel
        shown = range(len(fields))
        picture = film.draw(max(shown, key=lambda index: (len(texts.own[index]), len(titles[index]))))
        draw_bar(figure, [panel], kind, scale, fields[0].quantity.label)
        write(figure, [], Texts([], [], texts.shared))
        settle(figure, [picture])
    return film


def _rendered(surfaces: Sequence[Surface], options: Options) -> render.Frames:
    """Make a film of lit landscapes, which have no small print: gamma stands in the title.

    A single landscape has no title.
    """
    fields, options = above_least([field_of(surface, options.metric) for surface in surfaces], options)
    titles = labels.captioned(labels.panel_titles(fields), options.captions, "frame")
    if len(fields) == 1 and not (options.captions or options.title):
        return render.compose_film(fields, [""], options, TURN)
    titles = [_title(field, title, options) for field, title in zip(fields, titles, strict=True)]
    if not options.captions:
        gammas = ("" if at is None else f", {labels.GAMMA} = {number(at)}" for at in (one.gamma for one in surfaces))
        titles = [title + gamma for title, gamma in zip(titles, gammas, strict=True)]
    return render.compose_film(fields, titles, options, TURN)


def _kind(surfaces: Sequence[Surface], options: Options) -> Kind | None:
    """Return the kind of picture: as asked, else contours of several surfaces, a surface in three dimensions of one.

    None is for lit pictures, which have no axes.
    """
    alone = len(surfaces) == 1
    if options.kind == density.KIND:
        raise UserError(Flag("movie"), (Flag("kind", (density.KIND,)), " has no film"), expected="a kind for planes")
    name = kind_of(surfaces, _TURNING if alone and not options.kind and not surfaces[0].is_line else options.kind)
    if name == LINE:
        raise UserError(Flag("movie"), f"{surfaces[0].path} is a line", expected="planes")
    if name == render.KIND:
        return None
    if alone and name != _TURNING:
        raise UserError(
            Flag("movie"),
            ("one surface has nothing to move in ", Flag("kind", (name,))),
            expected=("more surfaces or ", Flag("kind", (_TURNING,)), f" or {render.KIND}"),
        )
    check_levels(name, options.levels)
    return PLANES[name]


def _title(field: Field, title: str, options: Options) -> str:
    """Return the title of a frame: its caption, else the network, and the epoch or the name of the file."""
    if options.captions:
        return f"{labels.checked(options.title)}, {title}" if options.title else title
    epoch = field.origin.epoch
    if epoch is None and not options.title:
        return title
    whose = labels.checked(options.title) if options.title else field.origin.network
    which = plain(field.surface.path.stem) if epoch is None else f"epoch {epoch}"
    return f"{whose}, {which}" if whose else which


def check_format(path: Path) -> None:
    """Refuse a format that needs a program which is not installed.

    Raises:
        UserError: it is an MP4 and there is no ffmpeg.
    """
    writer = FORMATS[path.suffix.lower()]
    if issubclass(writer, FFMpegWriter) and not writer.isAvailable():
        raise UserError(
            Flag("movie"), f"{path}: an .mp4 needs the program ffmpeg, found none", remedy="install it or choose a .gif"
        )


def save_film(film: Film | render.Frames, path: Path, fps: int) -> None:
    """Write a film of `fps` frames per second; a failed write leaves the file that was there.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_write(path) as aside:
            writer = FORMATS[path.suffix.lower()](fps=fps)
            with mpl.rc_context(style.RC), writer.saving(film.figure, str(aside), _DPI):
                for _ in film.frames():
                    writer.grab_frame()
    except (OSError, subprocess.CalledProcessError) as error:
        found = error.strerror if isinstance(error, OSError) else f"ffmpeg ended with code {error.returncode}"
        raise UserError(Flag("movie"), f"{path}: cannot be written ({found})", remedy="choose another place") from error

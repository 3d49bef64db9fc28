"""Films -> files; knows nothing of surfaces."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import atomic_write
from landscape_mpi.plot.film import Film
from landscape_mpi.plot.style import RC

FORMATS: Mapping[str, type[FFMpegWriter | PillowWriter]] = {".gif": PillowWriter, ".mp4": FFMpegWriter}
DEFAULT_FPS = 4
_DPI = 200


def check_format(path: Path) -> None:
    """Refuse a format whose program is missing.

    Raises:
        UserError: it is an MP4 and there is no ffmpeg.
    """
    if not FORMATS[path.suffix.lower()].isAvailable():
        raise UserError(f"--movie: {path}: an .mp4 needs the program ffmpeg, found none; install it or choose a .gif.")


def save_film(film: Film, path: Path, fps: int) -> None:
    """Write a film of so many frames a second; a failed write leaves what was there.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_write(path) as aside:
            _write(film, FORMATS[path.suffix.lower()](fps=fps), aside)
    except (OSError, subprocess.CalledProcessError) as error:
        found = error.strerror if isinstance(error, OSError) else f"ffmpeg ended with code {error.returncode}"
        raise UserError(f"--movie: {path}: cannot be written ({found}); choose another place.") from error


def _write(film: Film, writer: AbstractMovieWriter, path: Path) -> None:
    with mpl.rc_context(RC), writer.saving(film.figure, str(path), _DPI):
        for _ in film.frames():
            writer.grab_frame()

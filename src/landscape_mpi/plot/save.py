"""Writes figures as image files, and refuses places where no file can be written."""

from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from landscape_mpi.errors import Either, Text, UserError
from landscape_mpi.files import paths
from landscape_mpi.files.atomic import atomic_write
from landscape_mpi.plot.style import RC

# The date is left out, so that the same surface always gives the same file.
_FORMATS: Mapping[str, Any] = {
    ".png": {"dpi": 200},
    ".pdf": {"dpi": 300, "metadata": {"CreationDate": None}},
    ".svg": {"dpi": 300, "metadata": {"Date": None}},
}
OUTPUT = Either("-o", python="output")


def check_target(path: Path, endings: Iterable[str] = _FORMATS, flag: Text = OUTPUT) -> None:
    """Refuse a path that nothing can be written to, before any work is done.

    Raises:
        UserError: its ending is none of those of the flag, or its folder does not exist.
    """
    if path.suffix.lower() not in endings:
        found = f"the ending {path.suffix!r}" if path.suffix else "no ending"
        raise UserError(flag, f"{path}: found {found}", expected=f"one of {', '.join(endings)}")
    paths.check_target(path, flag)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the path's ending names; a failed write leaves what was there.

    Raises:
        UserError: the file cannot be written.
    """
    write(path, image_of(figure, path.suffix.lower()))


def image_of(figure: Figure, ending: str, dpi: float | None = None) -> bytes:
    """Return a figure as the bytes of a file of a format; `dpi`: pixels an inch, if not those of files."""
    image, settings = BytesIO(), {**_FORMATS[ending], **({} if dpi is None else {"dpi": dpi})}
    with mpl.rc_context(RC):
        figure.savefig(image, format=ending[1:], **settings)
    return image.getvalue()


def write(path: Path, data: bytes, flag: Text = OUTPUT) -> None:
    """Write the bytes of a file that a flag asked for; one that is there is replaced whole or stays.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_write(path) as aside:
            aside.write_bytes(data)
    except OSError as error:
        raise UserError(
            flag, f"{path}: cannot be written ({error.strerror})", remedy=("choose another place with ", flag)
        ) from error

"""What the system says against writing, put into words; knows nothing of what is written."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import written_aside

HDF5_CODE = re.compile(r"errno = (\d+)")
"""How HDF5 hands on the system's reason."""
MEND = "what it holds by now is kept: mend that, such as by making space, and run the same command again"


@contextmanager
def in_words(path: Path, advice: str = MEND) -> Iterator[None]:
    """Turn what the system says against writing into a sentence.

    Args:
        path: what is written.
        advice: what to do, or what was expected.

    Raises:
        UserError: the system refused.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be written ({reason(error)}); {advice}.") from error


@contextmanager
def whole(path: Path, advice: str) -> Iterator[Path]:
    """Give a place to write a file at; it becomes `path` once it is whole, and is gone where it does not.

    Args:
        path: what is written, or replaced.
        advice: as for `in_words`.

    Raises:
        UserError: the system refused.
    """
    with in_words(path, advice), written_aside(path) as aside:
        yield aside


def reason(error: Exception) -> str:
    """Return the system's own words, such as `No space left on device`, wherever an exception keeps them."""
    found = HDF5_CODE.search(str(error))
    code = error.errno if isinstance(error, OSError) and error.errno else int(found[1]) if found else 0
    return os.strerror(code) if code else " ".join(str(error).split())

"""Reads a batch of CIFAR-10's Python layout without running what is in it; knows pickles, not images.

A pickle is a program. This reader gives it inert stand-ins for the five names that the official files (written
by Python 2) and files written with numpy use, and refuses every other name: a stream imports nothing, calls
nothing but the stand-ins, allocates no array. Bytes become an array once shape, dtype and length agree.
"""

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.data.pickles import refuse_hostile_pickle
from landscape_mpi.errors import UserError

MAX_BYTES = 64 << 20
"""10,000 images written by numpy 2 under protocol 2 (latin-1 text as UTF-8) take at most 61.8 MB."""


class StoredArray:
    """What a stream says of an array: not trusted, and not yet an array."""

    def __init__(self) -> None:
        self._state: object = None

    def __setstate__(self, state: object) -> None:
        self._state = state

    def to_uint8(self) -> NDArray[np.uint8] | None:
        """Return the uint8 array of two dimensions that it describes, not copied, or None."""
        match self._state:
            case (
                int(),
                (int(rows), int(columns)),
                StoredDtype(code="u1" | b"u1"),
                bool(fortran),
                bytes(raw),
            ) if min(rows, columns) > 0 and rows * columns == len(raw):
                flat = np.frombuffer(raw, np.uint8)
                return flat.reshape((rows, columns), order="F" if fortran else "C")
        return None


class StoredDtype:
    """The code of a dtype, such as `u1`; the byte order and the rest mean nothing for single bytes."""

    def __init__(self, code: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


def read_pickled_batch(path: Path) -> Mapping[str, Any]:
    """Return the dictionary that the pickle in `path` holds, arrays as `StoredArray`, text keys as `str`.

    Raises:
        UserError: If the file is too large, truncated, names anything it may not, or holds no dictionary.
    """
    data = _read_at_most(path, MAX_BYTES)
    try:
        refuse_hostile_pickle(data)
        content = _Unpickler(data, path).load()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged stream can raise nearly anything
        raise UserError(
            path,
            (
                f"cannot be read as a batch of CIFAR-10 ({type(error).__name__}: {error}); the file is truncated or "
                "damaged"
            ),
            expected="the official one",
        ) from error
    if not isinstance(content, dict):
        raise UserError(path, f"holds a {type(content).__name__}", expected="a dictionary with data and labels")
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _read_at_most(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UserError(path, f"is larger than {limit:,} bytes", expected="one batch of at most 10,000 images")
    return data


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._path = path
        self._allowed = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise UserError(
                self._path,
                (
                    f"the pickle names {module}.{name}, which no batch of CIFAR-10 needs, so it was refused and "
                    "nothing in it was run"
                ),
                remedy="get the file again from its official source",
            ) from None


def _stand_ins() -> dict[tuple[str, str], Callable[..., object]]:
    """Return what a stream gets for the allowed names; made anew each time, as it could set attributes."""

    def reconstruct(*_: object) -> StoredArray:
        return StoredArray()

    def dtype(code: object, *_: object) -> StoredDtype:
        return StoredDtype(code)

    def ndarray(*_: object) -> object:
        raise ValueError("numpy.ndarray is called; expected it only as an argument of _reconstruct")

    def encode(text: str, encoding: object) -> bytes:
        if encoding not in ("latin1", b"latin1"):
            raise ValueError(f"text encoded as {encoding!r}; expected latin1")
        return text.encode("latin-1")

    return {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): ndarray,
        ("numpy", "dtype"): dtype,
        ("_codecs", "encode"): encode,
    }

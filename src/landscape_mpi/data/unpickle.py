"""Checks pickles that may be malicious, and reads those of CIFAR-10 without executing anything in them."""

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError

DEPTH = 1000
"""Deepest nesting of tuples: Python hashes them by a recursion in C, which crashes at some 100,000 levels."""
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class HostileError(ValueError):
    """A pickle that no writer of data makes."""


def refuse_hostile_pickle(data: bytes | IO[bytes], length: int | None = None) -> None:
    """Check one pickle, to its end, for what would exhaust the memory or the stack of a reader.

    Args:
        data: The pickle, or a stream that stands at its beginning.
        length: The length of the stream.

    Raises:
        HostileError: a memo index is beyond the pickle, and a reader would allocate memory up to it; or tuples are too
            deep within each other.
        Exception: it is no pickle.
    """
    length = len(data) if isinstance(data, bytes) else length or 0
    depths = _Depths()
    for opcode, argument, _ in pickletools.genops(data):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > length:
            raise HostileError(f"memo index {argument} in a stream of {length} bytes")
        if depths.after(opcode, argument) > DEPTH:
            raise HostileError(f"tuples more than {DEPTH} deep within each other")


class _Depths:
    """How deep tuples lie within each other on a reader's stack and in its memo; other objects count 0."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._memo: dict[int, int] = {}

    def after(self, opcode: pickletools.OpcodeInfo, argument: object) -> int:
        """Follow one instruction; return the depth of what lies on top of the stack."""
        name = opcode.name
        if name == "MARK" or (name == "POP" and self._marks and self._marks[-1] == len(self._stack)):
            self._marks.append(len(self._stack)) if name == "MARK" else self._marks.pop()
        elif name == "MEMOIZE" or "PUT" in name:
            self._memo[len(self._memo) if argument is None else int(str(argument))] = self._stack[-1]
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        elif "GET" in name:
            self._stack.append(self._memo.get(int(str(argument)), 0))
        elif name == "TUPLE" or name in _TUPLES:
            inner = self._pop(None if name == "TUPLE" else _TUPLES[name])
            self._stack.append(1 + max(inner, default=0))
        else:
            self._follow(opcode)
        return self._stack[-1] if self._stack else 0

    def _follow(self, opcode: pickletools.OpcodeInfo) -> None:
        """Follow an instruction that makes no tuple."""
        taken = opcode.stack_before
        if pickletools.markobject in taken:
            self._pop(None)
            taken = taken[: taken.index(pickletools.markobject)]
        self._pop(len(taken))
        self._stack.extend(0 for _ in opcode.stack_after)

    def _pop(self, count: int | None) -> list[int]:
        """Take `count` objects off the stack; None: all objects down to the last mark."""
        if count is None and not self._marks:
            raise ValueError("an instruction without its mark")
        place = self._marks.pop() if count is None else len(self._stack) - (count or 0)
        if place < 0:
            raise ValueError("an instruction without its objects")
        taken, self._stack[place:] = self._stack[place:], []
        return taken


MAX_BYTES = 64 << 20
"""10,000 images written by numpy 2 under protocol 2 (latin-1 text as UTF-8) take at most 61.8 MB."""


class StoredArray:
    """The state of a numpy array as a stream describes it, not trusted."""

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
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(path, f"is larger than {MAX_BYTES:,} bytes", expected="one batch of at most 10,000 images")
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
    """Return what a stream gets for the allowed names; made again each time, as a stream could set attributes."""

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

"""Reads files of torch.save that hold more than weights: every name in the pickle becomes an inert stand-in.

A pickle is a program. In this reader it can call only stand-ins made for this one reading: nothing is
imported, no code of the file or of a library runs, no attribute of a real class is set. Tensors are views of the mapped
file, made once the pickle has ended.
"""

import io
import mmap
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from landscape_mpi.data.unpickle import refuse_hostile_pickle

NEVER = frozenset(
    {"os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy", "ctypes", "pty", "code"}
)
NEVER_BUILTIN = frozenset({"eval", "exec", "compile", "__import__", "open", "breakpoint", "input", "globals"})
"""Modules and functions that no training script leaves in a file of weights: a file that names them is malicious."""
_PYTHON = ("builtins", "__builtin__", "_codecs", "copyreg", "copy_reg")
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_DTYPES = {name for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class StandIn(dict[Any, Any]):
    """The object that any name of a file makes: it keeps items and a state that are given to it, and does nothing."""

    state: object = None

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        self.state = state

    def append(self, _: object) -> None:
        """Take an item of a list, and drop it."""

    extend = add = append
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


class _Storage(NamedTuple):
    """Bytes of the file that tensors share."""

    dtype: str
    key: str
    values: int
    view: tuple[str, int, int] | None


class _Stored(NamedTuple):
    """What a file says of a tensor; not trusted, and not yet a tensor."""

    storage: _Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


Start = Callable[[_Storage], int]
"""A storage -> where its first byte lies in the file; raises where the file is too short for it."""


@dataclass(frozen=True)
class Inert:
    """The content of a file, tensors in plain containers, and the names of what was replaced by stand-ins."""

    content: Any
    names: tuple[str, ...]

    @property
    def harmful(self) -> str | None:
        """The first name that only a malicious file has; None where there is none."""
        for name in self.names:
            module, _, rest = name.partition(".")
            if module in NEVER or (module in _PYTHON and rest in NEVER_BUILTIN):
                return name
        return None

    @property
    def foreign(self) -> tuple[str, ...]:
        """The names that the user is told: not the containers of Python itself."""
        return tuple(name for name in self.names if name.partition(".")[0] not in _PYTHON)


def read_inert(path: Path) -> Inert:
    """Return what a file of torch.save holds, zip or legacy.

    Raises:
        Exception: nearly any, where it is no such file or is damaged.
    """
    with path.open("rb") as file:
        raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # lives as long as a tensor is a view of it
    pickled, start = _archive(path, raw) if zipfile.is_zipfile(path) else _legacy(raw)
    content, names = _unpickle(pickled)
    return Inert(_Plain(raw, start).of(content), tuple(sorted(names)))


def _archive(path: Path, raw: mmap.mmap) -> tuple[bytes, Start]:
    """Return the pickle of an archive, and where its storages lie."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        (pickled,) = [name for name in members if name.endswith("/data.pkl")]
        root = pickled.removesuffix("data.pkl")
        order = members.get(f"{root}byteorder")
        if order is not None and archive.read(order) != b"little":
            raise ValueError("an archive of another byte order")
        text = archive.read(pickled)

    def start(storage: _Storage) -> int:
        member = members[f"{root}data/{storage.key}"]
        if member.compress_type != zipfile.ZIP_STORED or member.file_size < storage.values * _itemsize(storage.dtype):
            raise ValueError(f"storage {storage.key} is too short")
        head = raw[member.header_offset : member.header_offset + 30]
        return member.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")

    return text, start


def _legacy(raw: mmap.mmap) -> tuple[bytes, Start]:
    """Return the pickle of a file from before the archives, and where its storages lie: one after the other."""
    magic, _protocol, _system, content, keys = (_one_pickle(raw) for _ in range(5))
    if _unpickle(magic)[0] != _LEGACY_MAGIC:
        raise ValueError("no file of torch.save")
    dtypes: dict[str, str] = {}
    _unpickle(content, lambda storage: dtypes.setdefault(storage.key, storage.dtype))
    starts, place = {}, raw.tell()
    for key in _unpickle(keys)[0]:
        starts[key] = place + 8
        place += 8 + int.from_bytes(raw[place : place + 8], "little") * _itemsize(dtypes[key])
    return content, lambda storage: starts[storage.key]


def _one_pickle(raw: mmap.mmap) -> bytes:
    """Return the pickle at which the file stands, and go to its end."""
    begin = raw.tell()
    for _ in pickletools.genops(raw):  # type: ignore[arg-type]  # reads as a file does
        pass
    return raw[begin : raw.tell()]


def _itemsize(dtype: str) -> int:
    found: torch.dtype = getattr(torch, dtype)
    return found.itemsize


def _unpickle(data: bytes, seen: Callable[[_Storage], object] = lambda _: None) -> tuple[Any, set[str]]:
    refuse_hostile_pickle(data)
    unpickler = _Unpickler(data, seen)
    return unpickler.load(), unpickler.names


class _Unpickler(pickle.Unpickler):
    """Knows no class: what it returns for a name is made for this reading alone."""

    def __init__(self, data: bytes, seen: Callable[[_Storage], object]) -> None:
        super().__init__(io.BytesIO(data), encoding="latin-1")
        self.names: set[str] = set()
        self._seen = seen
        self._known = _tensor_names()

    def find_class(self, module: str, name: str) -> Any:
        known = self._known.get((module, name))
        if known is not None:
            return known
        self.names.add(f"{module}.{name}")
        return self._known.setdefault((module, name), type("StandIn", (StandIn,), {}))

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "module":  # old files have the source of a network's classes beside it
            return pid[1]
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or dtype not in _DTYPES or not isinstance(count, int) or count < 0:
            raise ValueError("no storage of numbers")
        storage = _Storage(dtype, str(key), count, view[0] if view else None)
        self._seen(storage)
        return storage


def _tensor_names() -> dict[tuple[str, str], Any]:
    """Return stand-ins for what torch.save writes of tensors; made anew each time, as a stream could set attributes."""

    def tensor(storage: _Storage, offset: int, size: Any, stride: Any, *rest: object) -> object:
        odd = len(rest) > 2 and rest[2]  # bits that say that the numbers stand for others: conjugated, negative
        return StandIn() if odd else _Stored(storage, storage.dtype, offset, tuple(size), tuple(stride))

    def typed(storage: _Storage, offset: int, size: Any, stride: Any, *rest: Any) -> object:
        odd = len(rest) > 3 and rest[3]
        return StandIn() if odd else _Stored(storage, rest[2], offset, tuple(size), tuple(stride))

    def parameter(data: object, *_: object) -> object:
        return data

    class Ordered(StandIn):
        def __init__(self, items: Any = ()) -> None:  # Python 2 hands the items over, Python 3 sets them afterwards
            self.update(items)

        def __setstate__(self, state: object) -> None:
            """Ignore the versions that a state dict has as an attribute."""

    rebuilt = {
        "_rebuild_tensor": tensor,
        "_rebuild_tensor_v2": tensor,
        "_rebuild_tensor_v3": typed,
        "_rebuild_parameter": parameter,
        "_rebuild_parameter_with_state": parameter,
    }
    return {
        **{("torch._utils", name): function for name, function in rebuilt.items()},
        ("collections", "OrderedDict"): Ordered,
        ("torch", "Size"): type("Size", (StandIn,), {}),
        **{("torch", name): dtype for name, dtype in _STORAGES.items()},
        ("torch.storage", "UntypedStorage"): "uint8",
        **{("torch", name): name for name in _DTYPES},
    }


class _Plain:
    """Turns containers with stored tensors into new plain containers with tensors; all else becomes None."""

    def __init__(self, raw: mmap.mmap, start: Start) -> None:
        self._raw, self._start = raw, start
        self._made: dict[int, Any] = {}
        self._waiting: list[tuple[Any, Any]] = []

    def of(self, content: Any) -> Any:
        """Return the same content; a container that holds itself does so in the result too."""
        top = self._one(content)
        while self._waiting:
            old, new = self._waiting.pop()
            if isinstance(new, dict):
                new.update({key: self._one(value) for key, value in old.items()})
            else:
                new.extend(self._one(value) for value in old)
        return top

    def _one(self, value: Any) -> Any:
        if isinstance(value, _Stored):
            return self._tensor(value)
        if not isinstance(value, dict | list | tuple):
            return value if isinstance(value, str | int | float) else None
        if id(value) not in self._made:
            self._made[id(value)] = {} if isinstance(value, dict) else []
            old = {**value, **_inside(value)} if isinstance(value, StandIn) else value
            self._waiting.append((old, self._made[id(value)]))
        return self._made[id(value)]

    def _tensor(self, stored: _Stored) -> Tensor:
        storage, dtype = stored.storage, getattr(torch, stored.dtype)
        begin, size = self._start(storage), storage.values * _itemsize(storage.dtype)
        if storage.view is not None:
            _, offset, size = storage.view
            begin, size = begin + offset * _itemsize(storage.dtype), size * _itemsize(storage.dtype)
        if size == 0:
            return torch.empty(stored.size, dtype=dtype)
        count = size // dtype.itemsize
        if begin % dtype.itemsize:  # old files are not aligned
            flat = torch.frombuffer(bytearray(self._raw[begin : begin + size]), dtype=dtype, count=count)
        else:
            flat = torch.frombuffer(self._raw, dtype=dtype, count=count, offset=begin)
        return flat.as_strided(stored.size, stored.stride, stored.offset)


def _inside(thing: StandIn) -> dict[Any, Any]:
    """Return what an object of a class kept under names; for a pickled network, its state dict."""
    state = thing.state[0] if isinstance(thing.state, tuple) and thing.state else thing.state
    if not isinstance(state, dict):
        return {}
    return dict(_tensors_of(state)) if "_parameters" in state and "_modules" in state else state


def _tensors_of(state: Mapping[str, Any], prefix: str = "", depth: int = 100) -> Iterator[tuple[str, Any]]:
    """Yield names and tensors of a network that was pickled whole, from what its modules keep."""
    for kept in ("_parameters", "_buffers"):
        for name, tensor in (state.get(kept) or {}).items():
            if tensor is not None:
                yield f"{prefix}{name}", tensor
    for name, module in (state.get("_modules") or {}).items() if depth else ():
        inner = getattr(module, "state", None)
        if isinstance(inner, dict):
            yield from _tensors_of(inner, f"{prefix}{name}.", depth - 1)

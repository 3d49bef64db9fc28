"""Reads the weights that lie at a path, as data only: one file, a Hugging Face folder or an index of shards."""

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from landscape_mpi.data.unpickle import HostileError, refuse_hostile_pickle
from landscape_mpi.errors import UserError
from landscape_mpi.files import paths
from landscape_mpi.networks.torch_files import read_inert

IN_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
)
"""Names under which a Hugging Face folder holds its weights; the first that is there counts."""
LEGACY_PICKLES = 5
"""Number of pickles in a file from before the archives: magic number, protocol, system, content, storage keys."""
MAX_INDEX = 1 << 24
"""The most bytes of an index; the indexes of the largest models take some hundred thousand."""
MAPS = Path("/proc/self/maps")
"""The file that says which memory of this process stands for which file."""
_EXPECTED = "a .safetensors file, one torch.save wrote, a Hugging Face folder or its *.index.json"


@dataclass(frozen=True)
class Content:
    """What a file holds: containers with tensors, and names that stood beside them and were not executed."""

    loaded: Any
    names: tuple[str, ...] = ()


class InFile(NamedTuple):
    """A tensor in one of some files: the file's number, the byte where it begins, and how it lies there."""

    file: int
    begin: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def sha256(path: Path, key: str = "model.checkpoint") -> str:
    """Return the SHA-256 of a checkpoint's bytes, in hexadecimal; of several files: the index, then shards by name.

    Raises:
        UserError: there is no such file.
    """
    digest = hashlib.sha256()
    for file in files_of(path, key):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def read_weights(path: Path, key: str, *, mapped: bool = False) -> Content:
    """Return what lies at a path; `key` is the job's key that names it, for messages.

    The tensors of a `.safetensors` file, and with `mapped` those of an archive of torch.save, are views of the file.
    Only the parts that are used are read, once for all processes of a machine. Changes to them stay in the process.

    Raises:
        UserError: there is nothing, or no file of weights.
    """
    files = files_of(path, key)
    if len(files) == 1:
        return _read(files[0], key, mapped)
    index, *shards = files
    parts = {shard.name: _read(shard, key, mapped) for shard in shards}
    state = {}
    for name, shard in _weight_map(index, key).items():
        held = parts[shard].loaded
        if not isinstance(held, Mapping) or name not in held:
            raise UserError(key, f"{index} says that {shard} holds `{name}`, which is not in it", expected="its own")
        state[name] = held[name]
    return Content(state, tuple(sorted({name for part in parts.values() for name in part.names})))


def places(state: Mapping[str, Tensor], files: Sequence[Path]) -> dict[str, InFile]:
    """Return where tensors that are views of some files lie in them, from Linux's list of mapped memory.

    Tensors that begin between two numbers of their dtype are left out: torch makes no views of such places.
    """
    numbers = {file.stat().st_ino: number for number, file in enumerate(files)}
    mapped: list[tuple[range, int, int]] = []  # addresses, the file, and where in it the first of them lies
    with suppress(OSError):
        inodes = "|".join(map(str, numbers))
        lines = rf"^(\w+)-(\w+) \S+ (\w+) \S+ ({inodes})\s"  # a process with PyTorch has thousands of other lines
        for begin, end, offset, inode in re.findall(lines.encode(), MAPS.read_bytes(), re.MULTILINE):
            mapped.append((range(int(begin, 16), int(end, 16)), numbers[int(inode)], int(offset, 16)))
    found = {}
    for name, tensor in state.items():
        at = tensor.data_ptr()
        for addresses, file, start in mapped if tensor.nbytes else ():
            if at in addresses:
                begin = at - addresses.start + start
                if begin % tensor.dtype.itemsize == 0:
                    found[name] = InFile(file, begin, tensor.dtype, tuple(tensor.shape), tensor.stride())
    return found


def views(places: Mapping[str, InFile], files: Sequence[Path]) -> dict[str, Tensor]:
    """Return tensors that lie in files as views of the files, which are mapped; changes stay in this process."""
    raw: dict[int, Tensor] = {}
    found = {}
    for name, (file, begin, dtype, shape, stride) in places.items():
        if file not in raw:
            size = files[file].stat().st_size
            raw[file] = torch.from_file(str(files[file]), shared=False, size=size, dtype=torch.uint8)
        numbers = 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
        part = raw[file][begin : begin + numbers * dtype.itemsize]
        found[name] = part.view(dtype).as_strided(shape, stride)
    return found


def files_of(path: Path, key: str) -> list[Path]:
    """Return the files of a checkpoint: one of weights, or an index and its shards by name.

    Raises:
        UserError: there is no such file, or an index names a file that is not beside it.
    """
    file = _in_folder(path, key) if paths.found(path) == paths.FOLDER else path
    paths.check_input(file, key, _EXPECTED)
    if file.suffix != ".json" and not _begins_with(file, b"{"):
        return [file]
    return [file, *(_beside(file, name, key) for name in sorted(set(_weight_map(file, key).values())))]


def _begins_with(file: Path, letter: bytes, place: int = 0) -> bool:
    """Whether a letter stands at a place in a file: the links of a cache lead to files whose names have no ending."""
    with file.open("rb") as stream:
        return stream.read(place + 1)[place:] == letter


def _in_folder(folder: Path, key: str) -> Path:
    found = next((folder / name for name in IN_FOLDER if paths.found(folder / name) == paths.FILE), None)
    if found is None:
        inside = paths.names_in(folder, key)
        others = sorted(name for name in inside if name.endswith((".safetensors", ".pt", ".pth", ".bin")))
        has = f" (it has {', '.join(others[:3])}: name the file)" if others else ""
        raise UserError(key, f"the folder {folder} holds none of {', '.join(IN_FOLDER[:4])}{has}")
    return found


def _weight_map(index: Path, key: str) -> dict[str, str]:
    """Return which shard holds which tensor."""
    if index.stat().st_size > MAX_INDEX:
        raise UserError(key, f"{index} is larger than {MAX_INDEX:,} bytes", expected="an index of shards")
    try:
        found = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(key, f"{index} is not an index of shards ({type(error).__name__} while reading it)") from None
    shards = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
        raise UserError(
            key, f'{index} has no "weight_map" of names to files', expected=f"an index of shards, or {_EXPECTED}"
        )
    return shards


def _beside(index: Path, name: str, key: str) -> Path:
    """Return a shard, which lies in the folder of its index or where the cache of Hugging Face links to."""
    shard = index.parent / name
    if Path(name).name != name or not name.endswith((".safetensors", ".bin")) or "\0" in name:
        raise UserError(key, f"{index} names the shard {name[:80]!r}", expected="a .safetensors or .bin file beside it")
    if paths.found(shard) != paths.FILE:
        raise UserError(
            key,
            f"{index} names the shard {name:.80}, and there is no such file beside it",
            expected="a folder with all shards",
            remedy="name that folder, where the index is a link",
        )
    folder, place = index.parent.resolve(), shard.resolve()
    blobs = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else folder
    if not (place.is_relative_to(folder) or place.is_relative_to(blobs)):
        raise UserError(key, f"{shard} is a link to {place}, outside of its folder", expected="the shard itself")
    return shard


def _read(path: Path, key: str, mapped: bool) -> Content:
    try:
        if path.suffix == ".safetensors" or _begins_with(path, b"{", 8):
            return Content(load_file(path))
        _refuse_compressed(path, key)
        return _read_torch(path, mapped)
    except UserError:
        raise
    except SafetensorError as error:
        raise UserError(key, f"{path} is not a safetensors file ({error})") from None
    except Exception as error:  # a damaged file can raise nearly anything
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise UserError(key, f"there is not enough memory to read {path}", remedy="the file may be sound") from None
        raise UserError(
            key,
            f"{path} is not a file of weights alone and was not executed ({_reason(error)})",
            expected="a .safetensors file, or a state dict saved by torch.save",
        ) from None


def _read_torch(path: Path, mapped: bool) -> Content:
    """Read a file of torch.save; names in its pickle that torch does not allow are read as inert stand-ins."""
    _look_through(path)
    try:
        views = mapped and _is_stored(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are meant for torch's own developers
            return Content(torch.load(path, map_location="cpu", weights_only=True, mmap=views))
    except pickle.UnpicklingError:
        try:
            inert = read_inert(path)
        except Exception:  # neither reader can read it, and torch's message is clearer
            inert = None
        if inert is None:
            raise
        if inert.harmful:
            raise pickle.UnpicklingError(f"Unsupported GLOBAL {inert.harmful}") from None
        return Content(inert.content, inert.foreign)


def _look_through(path: Path) -> None:
    """Refuse pickles that would crash any reader; what is no pickle at all is left to the readers.

    Raises:
        HostileError: there is such a pickle.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                for _ in range(LEGACY_PICKLES):
                    refuse_hostile_pickle(file, path.stat().st_size)
            return
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("data.pkl"):
                    refuse_hostile_pickle(archive.read(name))
    except HostileError:
        raise
    except Exception:
        return


def _refuse_compressed(path: Path, key: str) -> None:
    """Refuse an archive that would take more memory than its file has bytes; torch.save compresses nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed, size = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        if claimed > size:
            raise UserError(
                key,
                f"{path} claims to hold {claimed:,} bytes in a file of {size:,}",
                expected="a file that torch.save wrote, which is not compressed",
            )


def _is_stored(path: Path) -> bool:
    """Return whether a file is an archive whose members lie in it uncompressed, and may be mapped."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def _reason(error: Exception) -> str:
    """Return in words why torch does not read a file; torch's own message advises loading it unsafely."""
    if "TorchScript" in str(error):
        return "it is a program of TorchScript, of which state_dict() can be saved"
    if isinstance(error, HostileError):
        return str(error)
    named = re.search(r"(?:U|u)nsupported (?:global: )?GLOBAL (\S+)", str(error))
    return f"it names {named[1]}" if named else f"{type(error).__name__} while reading it"

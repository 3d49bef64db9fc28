"""A checkpoint file -> theta* in the network, as data only: no pickle of it is ever executed."""

import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from landscape_mpi.errors import UserError

_NESTS = ("state_dict", "model", "model_state_dict", "net")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_checkpoint(network: nn.Module, path: Path, key: str = "model.checkpoint") -> None:
    """Load a state dict into the network, strictly: every tensor of the one fits one of the other.

    The state dict may sit under "state_dict" or "model", and its keys may carry DataParallel's "module.".
    `num_batches_tracked`, which old files lack and evaluation ignores, may be absent. `key` is the job's key that names
    the file, for messages.

    Raises:
        UserError: no such file, not a file of weights, or tensors missing, unexpected or of another shape.
    """
    network.load_state_dict(open_checkpoint(network, path, key), strict=False)


def load_state(network: nn.Module, state: Mapping[str, Tensor], key: str) -> None:
    """Load a state dict that is in memory, as `load_checkpoint` does a file's; `key` is named in messages."""
    found = _without_prefix(dict(state))
    _check_fit(network.state_dict(), found, f"{key}: the state dict")
    network.load_state_dict(found, strict=False)


def open_checkpoint(network: nn.Module, path: Path, key: str, *, mapped: bool = False) -> dict[str, Tensor]:
    """Return the state dict of a file, once all of it fits the network; `key` and Raises as for `load_checkpoint`.

    The tensors of a `.safetensors` file, and with `mapped` those of a torch file, are views of the file: only what is
    looked at is read, and it counts as memory of the process only until the tensors are dropped.
    """
    state = _without_prefix(read_state(path, key, mapped=mapped))
    _check_fit(network.state_dict(), state, f"{key}: {path}")
    return state


def read_state(path: Path, key: str, *, mapped: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file or of a torch file read with `weights_only=True`.

    Raises:
        UserError: the file is missing or is not a file of weights.
    """
    if not path.is_file():
        raise UserError(f"{key}: no file {path}; expected a .safetensors file or one torch.save wrote.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_compressed(path, key)
        views = mapped and _is_stored(path)
        return _tensors(torch.load(path, map_location="cpu", weights_only=True, mmap=views), f"{key}: {path}")
    except UserError:
        raise
    except SafetensorError as error:
        raise UserError(f"{key}: {path} is not a safetensors file ({error}).") from None
    except Exception as error:  # a damaged file can raise nearly anything
        raise UserError(
            f"{key}: {path} is not a file of weights alone and was not executed ({_reason(error)}); "
            "expected a .safetensors file, or a state dict saved by torch.save."
        ) from None


def _refuse_compressed(path: Path, key: str) -> None:
    """Refuse an archive that would take more memory than its file has bytes; torch.save compresses nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed, size = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        if claimed > size:
            raise UserError(
                f"{key}: {path} claims to hold {claimed:,} bytes in a file of {size:,}; expected a file "
                "that torch.save wrote, which is not compressed."
            )


def _is_stored(path: Path) -> bool:
    """Whether a file is an archive whose members lie in it as they are, and may be mapped."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def _reason(error: Exception) -> str:
    """Return what torch found; its own message goes on to advise loading the file unsafely."""
    named = re.search(r"(?:U|u)nsupported (?:global: )?GLOBAL (\S+)", str(error))
    return f"it names {named[1]}" if named else f"{type(error).__name__} while reading it"


def _tensors(loaded: Any, where: str) -> dict[str, Tensor]:
    while isinstance(loaded, Mapping) and (nest := next((key for key in _NESTS if _nested(loaded, key)), None)):
        loaded = loaded[nest]
    if not isinstance(loaded, Mapping) or not any(isinstance(value, Tensor) for value in loaded.values()):
        raise UserError(
            f"{where} holds a {type(loaded).__name__} without tensors; expected a state dict, "
            'or one under "state_dict" or "model".'
        )
    state = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    for name, tensor in state.items():
        if not _is_plain(tensor):
            raise UserError(
                f"{where} holds `{name}` as a {tensor.layout} tensor of {tensor.dtype} on "
                f"{tensor.device}; expected plain arrays of real numbers."
            )
    return state


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is an array of real numbers that is there: not sparse, nested, quantised, complex or meta."""
    strange = tensor.is_nested or tensor.is_quantized or tensor.is_complex() or tensor.is_meta
    return tensor.layout == torch.strided and not strange


def _nested(loaded: Mapping[Any, Any], key: str) -> bool:
    return isinstance(loaded.get(key), Mapping)


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], file: str) -> None:
    """Name the first tensor that keeps the checkpoint from fitting the network."""
    where = f"{file} is of another network than model.build"
    for name, tensor in expected.items():
        if name not in found and not name.endswith("num_batches_tracked"):
            raise UserError(f"{where}: the tensor `{name}` {list(tensor.shape)} is missing from it.")
        if name in found and found[name].shape != tensor.shape:
            raise UserError(
                f"{where}: the tensor `{name}` is {list(found[name].shape)} in it "
                f"and {list(tensor.shape)} in the network."
            )
    for name, tensor in found.items():
        if name not in expected:
            raise UserError(f"{where}: it holds `{name}` {list(tensor.shape)}, which the network does not have.")

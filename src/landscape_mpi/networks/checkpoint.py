"""A checkpoint -> theta* in the network: read as data only, names fitted to each other, numbers as the file says."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape_mpi.errors import UserError
from landscape_mpi.networks.copies import cast
from landscape_mpi.networks.entries import Found, find_state
from landscape_mpi.networks.files import read_weights
from landscape_mpi.networks.fit import Wanted

CHECKPOINT = "model.checkpoint"


def load_checkpoint(
    network: nn.Module,
    path: Path,
    key: str = CHECKPOINT,
    entry: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[str, ...]:
    """Load what a file says of every tensor of the network; return what a user should know of how it was found.

    What may lie at `path`, where in it the weights may be, and which names fit, is in docs/job.md, "Checkpoints".

    Args:
        network: Its parameters and buffers are replaced.
        path: A file, a folder or an index of shards.
        key: The job's key that names it, for messages.
        entry: `model.entry`: the set of weights that is meant; files of other keys may lack it.
        dtype: What the network will be evaluated in; it is made as wide where the file has digits beyond it.

    Raises:
        UserError: no such file, not a file of weights, or tensors missing, unexpected or of another shape.
    """
    found = open_checkpoint(network, path, key, entry)
    _widen(network, found.state, dtype)
    network.load_state_dict(found.state, strict=False)
    return found.notes


def load_state(network: nn.Module, state: Mapping[str, Tensor], key: str) -> tuple[str, ...]:
    """Load a state dict that is in memory, as `load_checkpoint` does a file's; `key` is named in messages."""
    found = _fitted(network, state, f"{key}: the state dict", None, asked=True)
    network.load_state_dict(found.state, strict=False)
    return found.notes


def open_checkpoint(
    network: nn.Module, path: Path, key: str, entry: str | None = None, *, mapped: bool = False
) -> Found:
    """Return the tensors of a file by the network's names, once all fit; arguments and Raises as for `load_checkpoint`.

    `mapped`: as for `read_weights`.
    """
    content = read_weights(path, key, mapped=mapped)
    found = _fitted(network, content.loaded, f"{key}: {path}", entry, asked=key == CHECKPOINT)
    if not content.names:
        return found
    shown = ", ".join(content.names[:4]) + (f" and {len(content.names) - 4} more" if len(content.names) > 4 else "")
    return Found(
        found.state, (f"{key}: {path} holds {shown} beside the weights: not executed, left out.", *found.notes)
    )


def _fitted(network: nn.Module, content: object, file: str, entry: str | None, *, asked: bool) -> Found:
    wanted = Wanted.of(network)
    found = find_state(wanted, content, file, entry, asked=asked)
    for name, tensor in found.state.items():
        _check_numbers(tensor, wanted.tensors[name], f"{file} holds `{name}`")
    return found


def _check_numbers(tensor: Tensor, ours: Tensor, where: str) -> None:
    """Refuse a tensor that is no plain array, or whose numbers the network's tensor cannot hold."""
    strange = tensor.is_nested or tensor.is_quantized or tensor.is_meta
    if tensor.layout != torch.strided or strange:
        raise UserError(
            "", f"{where} as a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}", expected="plain arrays"
        )
    if tensor.is_complex() and not ours.is_complex():
        raise UserError(
            "",
            (
                f"{where} as complex numbers ({tensor.dtype}), and the network has real ones ({ours.dtype}), which "
                "would lose the imaginary parts"
            ),
            expected="plain arrays of real numbers, or a network of complex ones",
        )
    whole = not (ours.is_floating_point() or ours.is_complex())
    if whole and tensor.is_floating_point() and not torch.equal(tensor.to(ours.dtype).to(tensor.dtype), tensor):
        raise UserError("", f"{where} as {tensor.dtype}, and the network has whole numbers there ({ours.dtype})")


def _widen(network: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Give a network the dtype of its evaluation, where the file has digits that its own dtype would drop."""
    ours = network.state_dict()
    for name, tensor in state.items():
        held, found = ours[name].dtype.to_real(), tensor.dtype.to_real()
        both = held.is_floating_point and found.is_floating_point
        if both and _digits(held) < min(_digits(found), _digits(dtype)):
            cast(network, torch.device("cpu"), dtype)
            return


def _digits(dtype: torch.dtype) -> float:
    return -torch.finfo(dtype).eps

"""Writes the checkpoints of a training run: epoch-0000.safetensors and so on, each whole or not at all."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import atomic_write, reason

HISTORY = "history.h5"
OURS = re.compile(r"epoch-\d{4,}\.safetensors")
"""How checkpoints of a run are called; `epoch-best.safetensors` is somebody else's."""


def prepare_folder(folder: Path) -> None:
    """Make the folder where there is none.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            "train.output", f"{folder} cannot be made ({error.strerror})", expected="a folder to write in"
        ) from None


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of ours in a folder, the first epoch first."""
    return sorted(path for path in folder.glob("epoch-*.safetensors") if OURS.fullmatch(path.name))


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Return where the checkpoint of an epoch is."""
    return folder / f"epoch-{epoch:04d}.safetensors"


def save_checkpoint(state: Mapping[str, Tensor], folder: Path, epoch: int) -> Path:
    """Write parameters and running statistics of a network, and return the file's path.

    Raises:
        UserError: The file cannot be written.
    """
    path = checkpoint_path(folder, epoch)
    write_tensors(path, state)
    return path


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors and texts as a safetensors file, which replaces an older one whole and survives a power cut.

    Raises:
        UserError: The file cannot be written.
    """
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    try:
        # save_file leaves a file that only its owner can read
        with atomic_write(path) as aside:
            aside.write_bytes(save(plain, None if metadata is None else dict(metadata)))
    except OSError as error:
        raise UserError(
            "train.output", f"{path} cannot be written ({reason(error)})", expected="a folder with space"
        ) from error

"""The folder of a training run: epoch-0000.safetensors and so on, each whole or not at all; knows no training."""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from landscape_mpi.errors import UserError

HISTORY = "history.h5"


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Make the folder; checkpoints of an earlier run are removed if `overwrite`, else refused.

    Raises:
        UserError: The folder holds a run already, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"train.output: {folder} cannot be made ({error.strerror}); expected a folder to write in."
        ) from None
    earlier = sorted(folder.glob("epoch-*.safetensors"))
    if earlier and not overwrite:
        raise UserError(
            f"train.output: {folder} already holds {len(earlier)} checkpoints of a run; remove them, name another "
            "folder, or say --overwrite."
        )
    for path in (*earlier, folder / HISTORY):
        path.unlink(missing_ok=True)


def save_checkpoint(network: nn.Module, folder: Path, epoch: int) -> Path:
    """Write parameters and running statistics of the network, and return the file's path.

    Raises:
        UserError: The file cannot be written.
    """
    path = folder / f"epoch-{epoch:04d}.safetensors"
    aside = folder / f".{path.name}.writing"
    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    try:
        aside.write_bytes(save(state))  # save_file leaves a file that only its owner can read
        aside.replace(path)
    except OSError as error:
        raise UserError(f"train.output: {path} cannot be written ({error}); expected a folder with space.") from error
    return path

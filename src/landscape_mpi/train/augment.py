"""The paper's augmentation on whole batches; knows no network and no data set."""

import torch
from torch import Tensor
from torch.nn import functional

from landscape_mpi.errors import UserError


def augment(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Return each image shifted by up to `padding` pixels each way over black, and flipped left to right or not.

    A random crop of the padded image and a horizontal flip, as in the paper's training (appendix A).

    Args:
        images: [n, channels, height, width] of any dtype, before normalisation, where black is 0.
        generator: On the CPU, so that every device draws the same.
        padding: Width of the black border in pixels.

    Raises:
        UserError: The inputs are no images.
    """
    if images.ndim != 4:
        raise UserError(
            "train.augment",
            f"the inputs have shape {list(images.shape)}, expected images",
            remedy="write `augment: false`",
        )
    n, _, height, width = images.shape
    shift_y, shift_x = (torch.randint(2 * padding + 1, (n, 1), generator=generator) for _ in range(2))
    flip = torch.randint(2, (n, 1), generator=generator).bool()
    rows, columns = shift_y + torch.arange(height), shift_x + torch.arange(width)
    columns = torch.where(flip, columns.flip(1), columns)
    return _pick(functional.pad(images, (padding,) * 4), rows, columns)


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return image[:, rows, columns] of each image; rows is [n, height], columns [n, width]."""
    rows, columns = rows.to(images.device), columns.to(images.device)
    which = torch.arange(len(images), device=images.device)
    picked = images[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)

"""Inputs as the network wants them, computed on whatever device they lie on; knows nothing of files."""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from landscape_mpi.errors import UserError


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, in units of the scaled inputs (1.0 is white).

    Raises:
        UserError: If the lengths differ or are 0, or a number is not finite, or a deviation is not positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise UserError(
                "data.normalize",
                f"found {len(self.mean)} values in mean and {len(self.std)} in std",
                expected="one of each for every channel",
            )
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise UserError(
                "data.normalize",
                f"found mean {list(self.mean)} and std {list(self.std)}",
                expected="finite numbers, and above 0 in std",
            )

    def apply(self, inputs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return (x - mean) / std for each channel (dimension 1), with x = inputs / 255 where they are uint8.

        The order of the operations is that of torchvision's `ToTensor` and `Normalize`: the same bits.

        Args:
            inputs: [n, channels, ...], uint8 or floating point; left as they are.
            dtype: The floating-point type to compute in and to return.

        Raises:
            UserError: If the inputs have another number of channels.
        """
        if inputs.ndim < 2 or inputs.shape[1] != len(self.mean):
            raise UserError(
                "data.normalize",
                f"has {len(self.mean)} channels, but the inputs have shape {list(inputs.shape)}",
                expected=f"[n, {len(self.mean)}, ...]",
            )
        shape = (-1,) + (1,) * (inputs.ndim - 2)
        mean, std = (_constants(values, dtype, inputs.device).reshape(shape) for values in (self.mean, self.std))
        scaled = inputs.to(dtype) / 255 if inputs.dtype == torch.uint8 else inputs.to(dtype, copy=True)
        return scaled.sub_(mean).div_(std)


@cache
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the values as a tensor; made once, because each copy to a device waits for all that it still has to do."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


DEFAULT_NORMALISATION: dict[str, Normalisation] = {
    "cifar10": Normalisation((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)),
    "shapes10": Normalisation((0.37, 0.37, 0.37), (0.24, 0.24, 0.24)),
}
"""What `data.normalize` is where a job leaves it out; a user's callable has none."""

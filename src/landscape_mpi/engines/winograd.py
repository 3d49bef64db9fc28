"""Winograd's F(4x4, 3x3) (Lavin & Gray 2016, arXiv:1509.09308, section 4) in plain torch: a quarter of the products."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.engines.layer import Shape
from landscape_mpi.engines.polynomial import Polynomial

P, Q = 3 / 4, 3 / 2
"""The points 0, +-P, +-Q and infinity of the interpolation: exact in binary, and half the error of 0, +-1, +-2."""

GP, GQ = 1 / (2 * P**2 * (P**2 - Q**2)), 1 / (2 * Q**2 * (Q**2 - P**2))
G = (
    (1 / (P * Q) ** 2, 0, 0),
    (GP, GP * P, GP * P**2),
    (GP, -GP * P, GP * P**2),
    (GQ, GQ * Q, GQ * Q**2),
    (GQ, -GQ * Q, GQ * Q**2),
    (0, 0, 1),
)
"""Weights [3] -> [6]."""

B_T = (
    ((P * Q) ** 2, 0, -(P**2) - Q**2, 0, 1, 0),
    (0, -P * Q**2, -(Q**2), P, 1, 0),
    (0, P * Q**2, -(Q**2), -P, 1, 0),
    (0, -Q * P**2, -(P**2), Q, 1, 0),
    (0, Q * P**2, -(P**2), -Q, 1, 0),
    (0, (P * Q) ** 2, 0, -(P**2) - Q**2, 0, 1),
)
"""Inputs [6] -> [6]."""

A_T = (
    (1, 1, 1, 1, 1, 0),
    (0, P, -P, Q, -Q, 0),
    (0, P**2, P**2, Q**2, Q**2, 0),
    (0, P**3, -(P**3), Q**3, -(Q**3), 1),
)
"""Products [6] -> outputs [4]."""

TILE, PATCH = 4, 6
WORKING_SET = 1 << 18
"""Elements of transformed input at a time, so that they stay in the cache."""
FEWEST_CHANNELS = 128
"""With fewer the transforms cost more than the products they save: plain torch passes over memory for each of them."""


def transform_weight(weight: Tensor) -> Tensor:
    """Return G w G^T: [out, in, 3, 3] -> [36, in, out], in the weight's dtype."""
    g = torch.tensor(G, dtype=weight.dtype, device=weight.device)
    return torch.einsum("ai,oqij,bj->abqo", g, weight, g).flatten(0, 1)


class WinogradLayer:
    """3x3 convolutions of stride 1 with enough channels."""

    label: ClassVar[str] = "Winograd"

    @staticmethod
    def fits(shape: Shape) -> bool:
        """Whether Winograd's algorithm applies and saves time."""
        return shape.same_3x3 and min(shape.channels_in, shape.channels) >= FEWEST_CHANNELS

    @staticmethod
    def transform(weight: Polynomial) -> Polynomial:
        """Return [36, in, out]."""
        return weight.map(transform_weight)

    @staticmethod
    def build(shape: Shape, weight: Tensor, bias: Tensor) -> nn.Module:
        """Return the module in plain torch."""
        return WinogradConvolution(weight, bias, shape.relu)


class WinogradConvolution(nn.Module):
    """Patches [6, 6] -> B^T d B -> products with the transformed weights -> A^T m A -> tiles [4, 4]."""

    def __init__(self, weight: Tensor, bias: Tensor, relu: bool) -> None:
        """Take transformed weights [36, in, out] and a bias [out]."""
        super().__init__()
        self._weight, self._bias, self._relu = weight, bias, relu
        like = {"dtype": weight.dtype, "device": weight.device}
        inputs, outputs = torch.tensor(B_T, **like), torch.tensor(A_T, **like)  # type: ignore[arg-type]
        self._inputs, self._outputs = torch.kron(inputs, inputs), torch.kron(outputs, outputs)

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Map [n, in, h, w] to [n, out, h, w], channels last."""
        n, channels, height, width = x.shape
        rows, columns = -(-height // TILE), -(-width // TILE)
        images = max(1, WORKING_SET // (PATCH * PATCH * rows * columns * channels))
        shape = (n, self._weight.shape[2], height, width)
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for start in range(0, n, images):
            y[start : start + images] = self._tiles(x[start : start + images], rows, columns)[:, :, :height, :width]
        if residual is not None:
            y += residual
        return y.relu_() if self._relu else y

    def _tiles(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Return the convolution of some images, on a whole number of tiles."""
        patches = self._inputs @ _patches(x, rows, columns)
        products = torch.bmm(patches.view(PATCH * PATCH, -1, x.shape[1]), self._weight)
        tiles = (self._outputs @ products.flatten(1)).view(TILE, TILE, len(x), rows, columns, -1)
        whole = tiles.permute(2, 3, 0, 4, 1, 5).reshape(len(x), TILE * rows, TILE * columns, -1)
        return (whole + self._bias).permute(0, 3, 1, 2)


def _patches(x: Tensor, rows: int, columns: int) -> Tensor:
    """Return the overlapping patches [36, n * rows * columns * channels] of images that zeros surround."""
    n, channels, height, width = x.shape
    margins = (0, 0, 1, TILE * columns + 1 - width, 1, TILE * rows + 1 - height)
    padded = functional.pad(x.permute(0, 2, 3, 1), margins)
    image, line, pixel, _ = padded.stride()
    shape = (PATCH, PATCH, n, rows, columns, channels)
    views = padded.as_strided(shape, (line, pixel, image, TILE * line, TILE * pixel, 1))
    return views.reshape(PATCH * PATCH, -1)

"""Normalises directions with respect to theta, by filter, by layer or by weight; computes the norms for it.

Squares are added in float64 in an order that never changes. Number j of a row is added to sum j % 16, one after the
other, and the 16 sums are added in halves. So a row's norm does not depend on the instruction set, on the number of
rows or on the length of the pieces that are worked on. Norms of complex tensors are over absolute values.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.plane import counter
from landscape_mpi.plane.parameters import Parameters, double, real, single

Normaliser = Callable[[Tensor, Tensor], Tensor]
Scales = Mapping[str, Tensor]
"""By name, what the random numbers of a parameter are multiplied by: float32, one a filter, or one for all."""

LANES = 16
"""Sums of a row."""
_PIECE = 1 << 15
"""Numbers at a time, a multiple of LANES."""

Doubles = NDArray[np.float64]
_Part = Callable[[int, int], Doubles]


def filter_normalise(d: Tensor, theta: Tensor) -> Tensor:
    """Give every filter of d the norm of theta's: d_ij <- d_ij / ||d_ij|| * ||theta_ij|| (Li et al., section 4).

    A filter is a slice along dimension 0; a fully connected layer is a 1x1 convolution, so its filters are the rows
    of its weight. A tensor of at most one dimension has no filters and takes d = theta, as in the authors' code.

    Args:
        d: direction, any float dtype.
        theta: parameter of the same shape.

    Returns:
        The rescaled direction; a filter whose norm is 0 on either side becomes 0.
    """
    if theta.dim() <= 1:
        return theta.clone()
    shape = (-1, *[1] * (theta.dim() - 1))
    d_norms, theta_norms = (row_norms(real(tensor).flatten(1)).view(shape) for tensor in (d, theta))
    return _rescale(d, theta, d_norms, theta_norms)


def layer_normalise(d: Tensor, theta: Tensor) -> Tensor:
    """Give d the norm of theta over the whole tensor: d <- d / ||d|| * ||theta||; one dimension takes d = theta."""
    if theta.dim() <= 1:
        return theta.clone()
    d_norm, theta_norm = (row_norms(real(tensor).reshape(1, -1))[0] for tensor in (d, theta))
    return _rescale(d, theta, d_norm, theta_norm)


def weight_normalise(d: Tensor, theta: Tensor) -> Tensor:
    """Scale d elementwise by theta: d <- d * theta."""
    return d * theta


def leave(d: Tensor, theta: Tensor) -> Tensor:  # noqa: ARG001 - one of the interchangeable normalisers
    """Return d as it was drawn."""
    return d


NORMALISERS: Mapping[str, Normaliser] = {
    "filter": filter_normalise,
    "layer": layer_normalise,
    "weight": weight_normalise,
    "none": leave,
}


def steepest(gradient: Parameters, theta: Parameters, normalise: str) -> dict[str, Tensor]:
    """Return the direction along which a loss rises most, among those as long as random ones with this normalisation.

    To first order the loss rises by the inner product of its gradient g and the direction d. Under `filter` it is
    largest where each filter of d points the same way as that of g and has the norm of that of theta: d is the
    filter-normalised gradient. The same holds under `layer` for whole tensors. Under `none` all of d has the norm
    sqrt(n) of n standard normal numbers, so d = g times a number. Under `weight` d / theta has that norm, so
    d = g theta^2 times a number (adaptive sharpness, Kwon et al., ICML 2021). A tensor of at most one dimension is one
    filter. With one step and no normalisation this is the ascent of sharpness-aware minimisation (Foret et al., ICLR
    2021).

    Args:
        gradient: By the names of the parameters that move, of any float dtype.
        theta: The parameters.
        normalise: "filter", "layer", "weight" or "none".

    Returns:
        By the names of the gradient, float32 or complex64; 0 where the gradient is 0.
    """
    found: dict[str, Tensor] = {}
    if normalise in ("filter", "layer"):
        for name, g in gradient.items():
            tensor = single(theta[name])
            filters = len(tensor) if normalise == "filter" and tensor.dim() > 1 else 1
            shape = filters, tensor.numel() // max(filters, 1)
            found[name] = filter_normalise(g.cpu().reshape(shape), tensor.reshape(shape)).view(tensor.shape)
        return found

    def scaled(name: str, number: float = 1.0) -> Tensor:
        return double(gradient[name].cpu()) * (number * double(theta[name]) if normalise == "weight" else number)

    squares = sum(float(row_norms(real(scaled(name)).reshape(1, -1))[0]) ** 2 for name in gradient)
    size = math.sqrt(sum(real(g).numel() for g in gradient.values()) / squares) if squares else 0.0
    return {
        name: single(scaled(name, size) * (double(theta[name]) if normalise == "weight" else 1)) for name in gradient
    }


def _rescale(d: Tensor, theta: Tensor, d_norm: Tensor, theta_norm: Tensor) -> Tensor:
    scale = torch.where(d_norm > 0, theta_norm / d_norm, torch.zeros_like(d_norm))
    return (double(d) * scale).to(theta.dtype)


def scales_of(seed: int, axis: int, normalise: str, theta: Parameters, names: Iterable[str]) -> dict[str, Tensor]:
    """Return what the random numbers of some parameters are multiplied by: float32, one a filter or one a layer.

    d_ij <- d_ij / ||d_ij|| * ||theta_ij|| (Li et al., section 4) over each slice along dimension 0, or over the whole
    tensor under `layer`; 0 where a norm is 0. Tensors that have no such scale are left out: tensors of at most one
    dimension, and all tensors under `weight` and `none`.
    """
    found: dict[str, Tensor] = {}
    if normalise not in ("filter", "layer"):
        return found
    for name in names:
        tensor = real(theta[name])
        if theta[name].dim() > 1:
            rows = len(tensor) if normalise == "filter" else 1
            width = tensor.numel() // max(rows, 1)
            drawn = drawn_norms(counter.stream_keys(seed, axis, name), rows, width)
            ours = row_norms(tensor.reshape(rows, width))
            found[name] = torch.where(drawn > 0, ours / drawn, torch.zeros_like(drawn)).float()
    return found


def row_norms(rows: Tensor) -> Tensor:
    """Return the Euclidean norm of each row, float64 [n] on the CPU for [n, m] of any real dtype and device."""
    kernel = counter.library()
    if kernel and rows.device.type == "cpu" and rows.dtype in counter.KINDS and rows.is_contiguous():
        return norms_by_kernel(rows.detach(), (0, 0), rows.shape[0], rows.shape[1], kernel.landscape_normal_level())
    return norms_by_numpy(rows.detach(), (0, 0), rows.shape[0], rows.shape[1])


def drawn_norms(keys: counter.Keys, rows: int, width: int) -> Tensor:
    """Return the norm of each row of the first `rows` rows of a stream's numbers, float64 [rows]."""
    kernel = counter.library()
    if kernel:
        return norms_by_kernel(None, keys, rows, width, kernel.landscape_normal_level())
    return norms_by_numpy(None, keys, rows, width)


def norms_by_kernel(array: Tensor | None, keys: counter.Keys, rows: int, width: int, level: int) -> Tensor:
    """Return norms of the rows of an array, or of a stream if it is None, by the instruction set `LEVELS[level]`."""
    norms = torch.zeros(rows, dtype=torch.float64)
    address, kind = (None, 0) if array is None else (array.data_ptr(), counter.KINDS[array.dtype])
    counter.library().landscape_norms(
        norms.data_ptr(), address, kind, *keys, counter.table_address(), rows, width, level
    )
    return norms


def norms_by_numpy(array: Tensor | None, keys: counter.Keys, rows: int, width: int) -> Tensor:
    """Return the same norms by numpy."""
    flat = None if array is None else array.reshape(-1)

    def part(start: int, stop: int) -> Doubles:
        numbers = counter.draw(keys, start, stop) if flat is None else flat[start:stop].to("cpu", torch.float64).numpy()
        wide: Doubles = numbers.astype(np.float64)
        return wide

    return _norms(part, rows, width)


def _norms(part: _Part, rows: int, width: int) -> Tensor:
    """Return norms of rows whose flat numbers `part` gives, piece by piece."""
    norms = np.zeros(rows)
    if width <= _PIECE:
        some = _PIECE // max(width, LANES)
        for first in range(0, rows, some):
            last = min(first + some, rows)
            numbers = part(first * width, last * width).reshape(last - first, width)
            norms[first:last] = _joined(_added(np.zeros((last - first, LANES)), numbers))
        return torch.from_numpy(norms)
    for row in range(rows):
        sums = np.zeros((1, LANES))
        for start in range(row * width, (row + 1) * width, _PIECE):
            sums = _added(sums, part(start, min(start + _PIECE, (row + 1) * width))[None])
        norms[row] = _joined(sums)[0]
    return torch.from_numpy(norms)


def _added(sums: Doubles, numbers: Doubles) -> Doubles:
    """Return sums [n, LANES] after the squares of numbers [n, m] were added to them, one after the other."""
    n, m = numbers.shape
    squares = np.zeros((n, 1 + -(-m // LANES), LANES))
    squares[:, 0] = sums
    squares[:, 1:].reshape(n, -1)[:, :m] = numbers * numbers
    return np.add.accumulate(squares, axis=1)[:, -1]


def _joined(sums: Doubles) -> Doubles:
    """Return the norms of rows whose sums are [n, LANES]."""
    while (half := sums.shape[1] // 2) > 0:
        sums = sums[:, :half] + sums[:, half:]
    norms: Doubles = np.sqrt(sums[:, 0])
    return norms

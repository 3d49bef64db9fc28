"""Fills a tensor with the weights at a point of a plane, W = theta + alpha d + beta e, from theta and its directions.

A direction is a stored part, or it is drawn: its numbers are then a function of (seed, axis, name, index) and are made
as they are needed, so that it takes no memory but a scale per row. Weights are always made anew from theta, never by
undoing a step, and at coordinates 0 they are theta to the bit.

A result in float32 has the same bits on every processor: d = fl(z s) for a drawn number z and its scale s, and
W = fl(W + fl(alpha d)) with alpha in float32. One direction is added after the other, from W = theta on. A result in
float64 is computed in the same way in float64, with d as it is in float32. A result in bfloat16 or float16 is rounded
once from float32.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from landscape_mpi.plane import counter

_PIECE = 1 << 16
"""Weights at a time on a CPU: few enough that intermediate results stay in the cache."""
_DEVICE_PIECE = 1 << 22
"""Weights at a time elsewhere."""
_STORED, _SCALED, _BY_ROW, _BY_WEIGHT, _ITSELF = range(5)
"""Kinds of directions, as kernel/normal.h counts them."""


@dataclass(frozen=True)
class Rows:
    """A scale for each row of a tensor, where a row is a slice along its first dimension.

    Attributes:
        scales: float32 [rows], contiguous, of the whole tensor, on the device of the weights.
        width: numbers in a row.
    """

    scales: Tensor
    width: int


@dataclass(frozen=True)
class Drawn:
    """A direction's part for one tensor, drawn anew whenever it is needed: d = fl(z s), z standard normal.

    Attributes:
        seed: of the direction.
        axis: 0 for delta, 1 for eta, 2 for a third direction.
        name: of the tensor, in the network.
        scale: s: of each row, one number, or "theta" for theta itself, rounded to float32 (normalisation by weight).
    """

    seed: int
    axis: int
    name: str
    scale: Rows | float | Literal["theta"] = 1.0

    @property
    def keys(self) -> counter.Keys:
        """The keys of its numbers."""
        return counter.stream_keys(self.seed, self.axis, self.name)


@dataclass(frozen=True)
class Itself:
    """The direction of a tensor that takes d = theta, rounded to float32."""


Part = Tensor | Drawn | Itself
"""A direction's part for one tensor. A tensor holds it for the indices that are rebuilt: float32, flat, contiguous."""
Step = tuple[float, Part]
"""A coordinate, alpha of alpha d, and the direction d."""


def rebuild(out: Tensor, theta: Tensor, steps: Sequence[Step], start: int = 0) -> None:
    """Fill `out` with theta + alpha d + ..., for the flat indices `start` to `start + len(out) - 1` of a tensor.

    Args:
        out: [n], contiguous, float32, float64, bfloat16 or float16.
        theta: [n], contiguous, of the same indices and device, any of these dtypes; it may be `out` itself.
        steps: coordinates and directions, in the order in which they are added; those with coordinate 0 are left out.
        start: flat index of the first weight in the whole tensor.
    """
    taken = [(coordinate, part) for coordinate, part in steps if coordinate != 0]
    if not taken:
        out.copy_(theta)
        return
    kernel = counter.library()
    if kernel is None or out.device.type != "cpu" or out.dtype == torch.float64:
        by_torch(out, theta, taken, start)
    elif out.dtype == torch.float32 and theta.dtype in counter.KINDS:
        by_kernel(out, theta, taken, start, kernel.landscape_normal_level())
    else:
        _through_float32(out, theta, taken, start, kernel.landscape_normal_level())


def _through_float32(out: Tensor, theta: Tensor, steps: Sequence[Step], start: int, level: int) -> None:
    """Fill `out` on the CPU piece by piece, by the kernel, which reads no float64 and writes only float32."""
    rounded = torch.empty(min(_PIECE, out.numel()))
    for first, there, some in _pieces(out.numel(), _PIECE, steps):
        origin, into = theta[there], out[there]
        weights = into if out.dtype == torch.float32 else rounded[: len(into)]
        known = origin if origin.dtype in counter.KINDS else origin.float()
        by_kernel(weights, known, some, start + first, level)
        if weights is not into:
            into.copy_(weights)


def _pieces(count: int, size: int, steps: Sequence[Step]) -> Iterator[tuple[int, slice, list[Step]]]:
    """Yield where pieces of a tensor begin, where they are, and the steps there."""
    for first in range(0, count, size):
        there = slice(first, min(first + size, count))
        yield first, there, [(c, part[there] if isinstance(part, Tensor) else part) for c, part in steps]


def by_kernel(out: Tensor, theta: Tensor, steps: Sequence[Step], start: int, level: int) -> None:
    """Fill `out`, float32 on the CPU, from theta in a dtype of KINDS, by the instruction set `LEVELS[level]`."""
    counter.library().landscape_rebuild(
        *(out.data_ptr(), theta.data_ptr(), counter.KINDS[theta.dtype], out.numel(), start),
        *(_packed_steps(steps), len(steps), counter.table_address(), level),
    )


def rebuild_rows(out: Tensor, theta: Tensor, steps: Sequence[Step], rows: Tensor) -> None:
    """Fill `out` with some rows of what `rebuild` makes of a whole tensor [n, width].

    Args:
        out: [k, width], contiguous, on the CPU, of a dtype that `rebuild` takes.
        theta: [n, width], contiguous, on the CPU.
        steps: as of `rebuild`, for the whole tensor.
        rows: places of the rows in the tensor, int64 [k], contiguous.
    """
    width, kernel = out.shape[1], counter.library()
    taken = [(coordinate, part) for coordinate, part in steps if coordinate != 0]
    if kernel is not None and taken and out.dtype == torch.float32 and theta.dtype in counter.KINDS:
        _rows_by_kernel(out, theta, taken, rows.tolist(), kernel.landscape_normal_level())
        return
    for into, row in zip(out, rows.tolist(), strict=True):
        there = slice(row * width, (row + 1) * width)
        some: list[Step] = [(x, part[there] if isinstance(part, Tensor) else part) for x, part in taken]
        rebuild(into, theta[row], some, there.start)


def _rows_by_kernel(out: Tensor, theta: Tensor, steps: Sequence[Step], rows: Sequence[int], level: int) -> None:
    """Fill `out` as `rebuild_rows` does; steps are packed once for all rows, because rows may be short."""
    packed, width, draw = _packed_steps(steps), out.shape[1], counter.library().landscape_rebuild
    whole = [(one, one.numbers) for one in packed if one.part == _STORED]
    to, origin, kind = out.data_ptr(), theta.data_ptr(), counter.KINDS[theta.dtype]
    for row in rows:
        for one, numbers in whole:
            one.numbers = numbers + row * width * out.itemsize
        place = origin + row * width * theta.itemsize
        draw(to, place, kind, width, row * width, packed, len(steps), counter.table_address(), level)
        to += width * out.itemsize


class _PackedStep(ctypes.Structure):
    """A step as kernel/rebuild.c reads it."""

    _fields_ = (
        ("coordinate", ctypes.c_float),
        ("scale", ctypes.c_float),
        ("numbers", ctypes.c_void_p),
        *((name, ctypes.c_uint64) for name in ("width", "first", "second")),
        ("part", ctypes.c_int),
    )


def _packed_steps(steps: Sequence[Step]) -> ctypes.Array[_PackedStep]:
    return (_PackedStep * len(steps))(*[_packed(coordinate, part) for coordinate, part in steps])


def _packed(coordinate: float, part: Part) -> _PackedStep:
    if isinstance(part, Tensor):
        return _PackedStep(coordinate, 0, part.data_ptr(), 0, 0, 0, _STORED)
    if isinstance(part, Itself):
        return _PackedStep(coordinate, 0, None, 0, 0, 0, _ITSELF)
    if isinstance(part.scale, Rows):
        return _PackedStep(coordinate, 0, part.scale.scales.data_ptr(), part.scale.width, *part.keys, _BY_ROW)
    if isinstance(part.scale, str):
        return _PackedStep(coordinate, 0, None, 0, *part.keys, _BY_WEIGHT)
    return _PackedStep(coordinate, part.scale, None, 0, *part.keys, _SCALED)


def by_torch(out: Tensor, theta: Tensor, steps: Sequence[Step], start: int) -> None:
    """Fill `out` by the operations of torch, piece by piece: the reference, for any dtype and device."""
    size = _PIECE if out.device.type == "cpu" else _DEVICE_PIECE
    for first, there, some in _pieces(out.numel(), size, steps):
        _fill(out[there], theta[there], some, start + first)


def _fill(out: Tensor, theta: Tensor, steps: Sequence[Step], start: int) -> None:
    """Fill a piece; each multiplication and each addition is rounded alone."""
    double = out.dtype == torch.float64
    weights = theta.to(torch.float64 if double else torch.float32, copy=True)
    for coordinate, part in steps:
        d = direction(part, theta, start)
        weights += d.double().mul_(coordinate) if double else d * float(np.float32(coordinate))
    out.copy_(weights)


def direction(part: Part, theta: Tensor, start: int) -> Tensor:
    """Return a direction's part for the flat indices from `start` on, float32 [n]; `theta` [n] is of these indices."""
    if isinstance(part, Tensor):
        return part
    if isinstance(part, Itself):
        return theta.float()
    stop = start + theta.numel()
    if theta.device.type == "cpu":
        z = torch.from_numpy(counter.draw(part.keys, start, stop))
    else:
        z = counter.by_torch(part.keys, start, stop, theta.device)
    if isinstance(part.scale, Rows):
        return z * _by_row(part.scale, start, stop)
    return z * (theta.float() if part.scale == "theta" else float(np.float32(part.scale)))


def _by_row(rows: Rows, start: int, stop: int) -> Tensor:
    """Return the scale of each flat index from `start` to `stop - 1`; one number where all are of one row."""
    if start == stop:
        return rows.scales[:0]
    first, last = start // rows.width, (stop - 1) // rows.width
    if first == last:
        return rows.scales[first]
    return rows.scales[first : last + 1].repeat_interleave(rows.width)[start - first * rows.width :][: stop - start]

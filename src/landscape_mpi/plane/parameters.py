"""Arithmetic of parameters by name: inner products, fingerprints, and the dtypes of real and complex tensors.

Every other module of plane/ is built on it, so it imports none of them.
"""

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]
"""Tensors by the names that the network gives them; those of a random direction are drawn when they are asked for."""
PIECE = 1 << 20
"""Numbers that are worked on at a time, or a row of a tensor where that is more."""


def feed(digest: "hashlib._Hash", parameters: Parameters) -> None:
    """Give names, shapes and bytes of parameters to a digest."""
    for name, tensor in parameters.items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        if stays(tensor):  # zeros of any number in the memory of one
            for start in range(0, tensor.nbytes, PIECE):
                digest.update(bytes(min(PIECE, tensor.nbytes - start)))
            continue
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


def row_pieces(tensor: Tensor) -> Iterator[slice]:
    """Yield slices of the first dimension, a few rows each; a tensor without dimensions gives one slice.

    >>> list(row_pieces(torch.empty(5, 1 << 19)))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    rows = len(tensor) if tensor.dim() else 1
    step = max(PIECE * rows // max(tensor.numel(), 1), 1)
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def dot(a: Parameters, b: Parameters) -> float:
    """Return the inner product of two sets of parameters, accumulated in float64; a complex number counts as a pair."""
    total = 0.0
    for name in a:
        one, other = (real(double(tensor)).flatten() for tensor in (a[name], b[name]))
        total += torch.dot(one, other).item()
    return total


def double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, a complex one in complex128."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def single(tensor: Tensor) -> Tensor:
    """Return a tensor in float32, a complex one in complex64."""
    return tensor.to(torch.complex64 if tensor.is_complex() else torch.float32)


def real(tensor: Tensor) -> Tensor:
    """Return a tensor [...] as it is, a complex one as the pairs [..., 2] of its real and imaginary parts."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def can_move(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that a direction can change: real or complex, not whole."""
    return tensor.is_floating_point() or tensor.is_complex()


def standing(theta: Tensor) -> Tensor:
    """Return the direction of a parameter that stays: zeros of its shape, float32 or complex64, in one number's memory.

    >>> stays(standing(torch.ones(1000, 1000))), stays(torch.zeros(1000, 1000))
    (True, False)
    """
    return torch.zeros((), dtype=single(theta.new_empty(0)).dtype).expand(theta.shape)


def stays(direction: Tensor) -> bool:
    """Whether a direction's tensor is one that `standing` returned; other tensors of zeros count as a move."""
    return direction.untyped_storage().nbytes() == direction.element_size() and not direction.any()

"""Real and complex tensors in one precision or another, and complex ones as pairs of real numbers; knows no plane."""

import torch
from torch import Tensor


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

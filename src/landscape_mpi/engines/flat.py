"""All that moves with the point, in one buffer a monomial: a point is one pass of fused axpys. Knows no network."""

from collections.abc import Mapping

import torch
from torch import Tensor

from landscape_mpi.engines.polynomial import CONSTANT, Exponents, Polynomial

ALIGNMENT = 16
"""Elements; 64 bytes of float32: where a tensor starts must not change the bits of a product."""


class FlatPlane:
    """Polynomials of (alpha, beta) side by side in flat buffers on a device, and the buffer of the present point."""

    def __init__(self, entries: Mapping[str, Polynomial], device: torch.device, dtype: torch.dtype) -> None:
        """Lay the entries out and stand at (0, 0)."""
        self._shapes = {name: entry.coefficients[CONSTANT].shape for name, entry in entries.items()}
        self._starts, length = _layout(self._shapes)
        self._buffers: dict[Exponents, Tensor] = {CONSTANT: torch.zeros(length, device=device, dtype=dtype)}
        for name, entry in entries.items():
            for key, tensor in entry.coefficients.items():
                if key not in self._buffers:
                    self._buffers[key] = torch.zeros(length, device=device, dtype=dtype)
                self._view(self._buffers[key], name).copy_(tensor)
        self._constant = self._buffers.pop(CONSTANT)
        self._point = self._constant.clone()

    def __getitem__(self, name: str) -> Tensor:
        """Return the entry at the present point; the same memory at every point."""
        return self._view(self._point, name)

    def move(self, alpha: float, beta: float) -> None:
        """Go to a point: every view that was handed out changes with it."""
        self._point.copy_(self._constant)
        for (i, j), buffer in self._buffers.items():
            self._point.add_(buffer, alpha=alpha**i * beta**j)

    @property
    def nbytes(self) -> int:
        """Memory of all buffers, in bytes."""
        return self._point.nbytes * (2 + len(self._buffers))

    def _view(self, buffer: Tensor, name: str) -> Tensor:
        shape = self._shapes[name]
        return buffer.narrow(0, self._starts[name], shape.numel()).view(shape)


def _layout(shapes: Mapping[str, torch.Size]) -> tuple[dict[str, int], int]:
    """Return where each entry starts, aligned, and the length of it all, in elements."""
    starts, end = {}, 0
    for name, shape in shapes.items():
        starts[name] = end
        end += -(-shape.numel() // ALIGNMENT) * ALIGNMENT
    return starts, end

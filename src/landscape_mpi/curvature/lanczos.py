"""Finds the largest and the smallest eigenvalue of a symmetric matrix from its products with vectors, by Lanczos.

The method is Lanczos with full reorthogonalisation and thick restarts (Wu and Simon, SIAM J. Matrix Anal. Appl. 22,
2000). ARPACK asks for a residual relative to each eigenvalue itself, and hardly converges where the smallest is near 0.
A map of |lambda_min / lambda_max| needs an error that is small relative to the larger of the two.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""v float64 [n] -> H v float64 [n], for a symmetric H."""
MOST = 500
"""The largest number of products."""
STEADY = 10
"""Products over which neither end may move: a small residual alone may belong to an eigenvalue inside the spectrum."""
ROOM = 2_000_000_000
"""Most bytes of a basis."""
SHORTEST, LONGEST = 20, 60
"""Fewest and most vectors of a basis."""
NOTHING = 1e-13
"""The remainder of a product is rounding below this share of the largest eigenvalue: the basis spans everything."""
COLUMNS = 1 << 16
"""Columns of a basis that are rotated at a time, in place."""


@dataclass(frozen=True, eq=False)
class Extremes:
    """The smallest and the largest eigenvalue, algebraically, with their eigenvectors and their accuracy.

    Attributes:
        smallest: the most negative eigenvalue, or the least positive one; NaN where products are not finite.
        largest: the largest eigenvalue.
        residual: the larger of ||H v - lambda v|| over both, relative to max |lambda|.
        products: the number of products with H.
        converged: whether the residual came down to the tolerance within the products allowed.
        lowest: unit eigenvector of the smallest, float64 [n] on the CPU; its entry of largest magnitude is positive.
        highest: the same of the largest.
    """

    smallest: float
    largest: float
    residual: float
    products: int
    converged: bool
    lowest: Tensor
    highest: Tensor


def start_vector(size: int, device: torch.device) -> Tensor:
    """Return the vector that every search begins with, float64 [size]: Gaussian, drawn on the CPU, always the same."""
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn.to(device)


def apart(vector: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of a vector, float64 [n], orthogonal to a basis [k, n], and its parts along the basis, [k]."""
    rest, seen = vector, vector.new_zeros(len(basis))
    for _ in range(2):  # twice is enough (Parlett)
        part = basis @ rest
        rest = rest - part @ basis
        seen += part
    return rest, seen


class Search:
    """A search for both ends of the spectrum of H; the caller multiplies: `vector` -> `take` until `found`."""

    def __init__(self, start: Tensor, tolerance: float, most: int = MOST) -> None:
        """Begin a search.

        Args:
            start: where to begin, float64 [n], not in an invariant subspace: a random vector is not.
            tolerance: at the end ||H v - lambda v|| <= tolerance * max |lambda| for both eigenvalues. Neither has moved
                by more than that over the last 10 products, so that both are ends of the spectrum.
            most: the largest number of products.
        """
        self.found: Extremes | None = None
        self._krylov = _Krylov(start)
        self._tolerance, self._most = tolerance, most
        self._past: deque[tuple[float, float]] = deque(maxlen=STEADY)
        self._count = 0

    @property
    def vector(self) -> Tensor:
        """The vector to multiply H with next, float64 [n], of unit length."""
        return self._krylov.vector

    def take(self, product: Tensor) -> None:
        """Take H times `vector`, float64 [n]."""
        self._count += 1
        krylov = self._krylov
        if not torch.isfinite(product).all():
            nothing = torch.full_like(product, torch.nan, device="cpu")
            self.found = Extremes(np.nan, np.nan, np.nan, self._count, False, nothing, nothing)
            return
        krylov.grow(product)
        self._past.append(krylov.ends)
        moved = max(abs(a - b) for a, b in zip(self._past[0], self._past[-1], strict=True))
        steady = len(self._past) == STEADY and moved <= self._tolerance * krylov.scale
        done = krylov.exhausted or (krylov.residual <= self._tolerance and steady)
        if done or self._count == self._most:
            vectors = (krylov.ritz_vector(which) for which in (0, -1))
            self.found = Extremes(*krylov.ends, krylov.residual, self._count, done, *vectors)


def extremes(product: Product, start: Tensor, tolerance: float, most: int = MOST) -> Extremes:
    """Return both ends of the spectrum of H, given H v of any v; the rest as for `Search`."""
    search = Search(start, tolerance, most)
    while search.found is None:
        search.take(product(search.vector))
    return search.found


def basis_size(size: int) -> int:
    """Return how many vectors of some size a search keeps: 60, or fewer for millions of entries, at least 20."""
    return max(SHORTEST, min(LONGEST, ROOM // (8 * size)))


class _Krylov:
    """An orthonormal basis of vectors [n], and the matrix of H in it."""

    def __init__(self, start: Tensor) -> None:
        size = len(start)
        self.vector: Tensor = start / torch.linalg.vector_norm(start)
        self._basis = start.new_empty(min(basis_size(size), size), size)
        self._matrix = np.zeros((len(self._basis), len(self._basis)))
        self._used = 0

    def grow(self, product: Tensor) -> None:
        """Take `vector`, whose product with H is given, into the basis; `vector` is then the next one."""
        if self._used == len(self._basis):
            self._restart()
        self._used += 1
        basis, row = self._basis[: self._used], self._used - 1
        basis[row] = self.vector
        rest, seen = apart(product, basis)
        self._matrix[row, : row + 1] = self._matrix[: row + 1, row] = seen.cpu().numpy()
        self._left = float(torch.linalg.vector_norm(rest))
        self.vector = rest / self._left if self._left else rest
        # torch is used here because it uses only the threads that a rank has
        values, mix = torch.linalg.eigh(torch.from_numpy(self._matrix[: row + 1, : row + 1]))
        self._values, self._mix = values.numpy(), mix.numpy()

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest Ritz value."""
        return float(self._values[0]), float(self._values[-1])

    @property
    def residual(self) -> float:
        """The larger of ||H v - lambda v|| of both ends, relative to max |lambda|; 0 where there is nothing left."""
        residual = self._left * float(np.abs(self._mix[-1, [0, -1]]).max())
        return residual / self.scale if residual else 0.0

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans everything that products can reach."""
        return self._used == self._basis.shape[1] or self._left <= NOTHING * self.scale

    def ritz_vector(self, which: int) -> Tensor:
        """Return a Ritz vector of unit length, on the CPU, by its number in ascending order of the values."""
        mixed = torch.from_numpy(self._mix[:, which].copy()).to(self._basis.device) @ self._basis[: self._used]
        mixed /= torch.linalg.vector_norm(mixed)
        return (mixed * torch.sign(mixed[mixed.abs().argmax()])).cpu()

    @property
    def scale(self) -> float:
        """The largest magnitude of a Ritz value."""
        return float(np.abs(self._values).max())

    def _restart(self) -> None:
        """Keep the Ritz vectors at both ends, half of the basis, and go on from there."""
        quarter = len(self._basis) // 4
        kept = np.r_[:quarter, len(self._basis) - quarter : len(self._basis)]
        turn = torch.from_numpy(self._mix[:, kept].T.copy()).to(self._basis.device)
        for columns in torch.split(self._basis, COLUMNS, dim=1):
            columns[: len(kept)] = turn @ columns
        self._matrix[: len(kept), : len(kept)] = np.diag(self._values[kept])
        self._used = len(kept)

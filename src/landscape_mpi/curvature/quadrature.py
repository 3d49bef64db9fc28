"""Computes spectral measures of a symmetric matrix from products alone: stochastic Lanczos quadrature, and the trace.

For a vector v of length 1, f -> v' f(H) v is an integral over the eigenvalues of H, each weighted by the square of v's
part along its eigenvector. k steps of Lanczos from v give its Gauss quadrature. The eigenvalues of the tridiagonal
matrix are the nodes, and the squared first entries of its eigenvectors are the weights. Polynomials of degree 2 k - 1
are exact (Golub and Meurant, Matrices, Moments and Quadrature with Applications, 2010). The mean over random v is the
spectrum (Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38, 2017). Every vector is made orthogonal to all vectors
before it; otherwise eigenvalues that have been found would appear again, as ghosts.
"""

from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.curvature.lanczos import NOTHING, Product, apart
from landscape_mpi.metrics.examples import mean_and_error

Floats = NDArray[np.float64]
Probe = Callable[[int], Tensor]
"""Number of a probe -> v float64 [n], random with E[v v'] = I, and always the same."""
FEWEST = 3
"""From this number of probes on, one gives the subspace whose trace is known, and the others the rest of the trace."""


class Krylov(NamedTuple):
    """What products with H make of a vector v.

    Attributes:
        basis: orthonormal rows Q, float64 [k, n]; k is the number of products, or less where they reach nothing new.
        matrix: Q H Q', tridiagonal, float64 [k, k] on the CPU.
        product: H v, float64 [n].
    """

    basis: Tensor
    matrix: Tensor
    product: Tensor

    def quadrature(self, steps: int) -> tuple[Floats, Floats]:
        """Return nodes, ascending, and weights, float64 [steps]; beyond k, nodes are NaN and weights are 0."""
        values, vectors = torch.linalg.eigh(self.matrix)
        nodes, weights = np.full(steps, np.nan), np.zeros(steps)
        nodes[: len(values)], weights[: len(values)] = values.numpy(), vectors[0].square().numpy()
        return nodes, weights


def krylov(product: Product, start: Tensor, steps: int) -> Krylov | None:
    """Return what some products with H make of a vector, float64 [n]; None where a product is not finite."""
    most, size = min(steps, len(start)), torch.linalg.vector_norm(start)
    basis, vector = start.new_empty(most, len(start)), start / size
    diagonal, beside, first = list[float](), list[float](), start
    for step in range(most):
        basis[step] = vector
        rest = product(vector)
        if not torch.isfinite(rest).all():
            return None
        first = first if step else size * rest
        rest, seen = apart(rest, basis[: step + 1])
        diagonal.append(float(seen[-1]))
        beside.append(float(torch.linalg.vector_norm(rest)))
        if beside[-1] <= NOTHING * max(map(abs, [*diagonal, *beside])):
            break
        vector = rest / beside[-1]
    middle, off = torch.tensor(diagonal, dtype=torch.float64), torch.tensor(beside[:-1], dtype=torch.float64)
    matrix = torch.diag(middle) + torch.diag(off, 1) + torch.diag(off, -1)
    return Krylov(basis[: len(diagonal)], matrix, first)


class Spectrum(NamedTuple):
    """The spectral measure of H seen by some probes, and its trace; all NaN where a product is not finite.

    Attributes:
        nodes: float64 [probes, steps], ascending; NaN after the last.
        weights: the same shape, with a sum of 1 in each row; 0 after the last node.
        trace: the sum of all eigenvalues.
        error: the standard error of the trace; NaN for a single sample.
    """

    nodes: Floats
    weights: Floats
    trace: float
    error: float


class Sample(NamedTuple):
    """What a probe v has given.

    Attributes:
        nodes: float64 [steps].
        weights: float64 [steps].
        quadratic: v' H v.
        image: H v, float64 [n].
    """

    nodes: Floats
    weights: Floats
    quadratic: float
    image: Tensor


def spectrum(
    product: Product,
    probe: Probe,
    probes: int,
    steps: int,
    samples: MutableMapping[int, Sample] | None = None,
    during: Callable[[int, Product], AbstractContextManager[Product]] = lambda _, product: nullcontext(product),
) -> Spectrum:
    """Return the quadratures of some probes, and the trace by the same products.

    The trace is the mean of v' H v (Hutchinson, Commun. Stat. Simul. Comput. 19, 1990). From three probes on, the trace
    over the subspace Q of the first probe is taken exactly. The other probes give the part outside of it, g' H g with
    g = v - Q' Q v, for which H v is known already. As in Hutch++ (Meyer, Musco, Musco and Woodruff, SOSA 2021), this
    takes the few large eigenvalues out of the variance. Krylov subspaces do it without products of their own (Chen and
    Hallman, SIAM J. Matrix Anal. Appl. 44, 2023).

    Args:
        product: H times a vector.
        probe: the random vectors.
        probes: the number of probes.
        steps: the number of products for each probe.
        samples: the results of the probes are put here, by their numbers; probes that have one are not asked again.
            The first probe is always asked, for its basis.
        during: (number of a probe, product) -> the product that is used while that probe is asked.
    """
    samples = {} if samples is None else samples
    first: Krylov | None = None
    for number in reversed(range(probes)):  # the first comes last: the samples of all others are taken by its basis
        if number and number in samples:
            continue
        vector = probe(number)
        with during(number, product) as asked:
            first = krylov(asked, vector, steps)
        if first is None:
            nothing = np.full((probes, steps), np.nan)
            return Spectrum(nothing, nothing.copy(), np.nan, np.nan)
        samples[number] = Sample(*first.quadrature(steps), float(vector @ first.product), first.product)
    every = [samples[number] for number in range(probes)]
    nodes, weights = (np.stack([one[place] for one in every]) for place in (0, 1))
    quadratic = np.array([one.quadratic for one in every])
    if probes < FEWEST or first is None:
        return Spectrum(nodes, weights, *mean_and_error(quadratic))
    basis, matrix = first.basis, first.matrix.to(first.basis.device)
    for number in reversed(range(1, probes)):
        inside, seen = basis @ probe(number), basis @ every[number].image
        quadratic[number] += float(inside @ (matrix @ inside) - 2 * (inside @ seen))
    rest, error = mean_and_error(quadratic[1:])
    return Spectrum(nodes, weights, float(torch.trace(matrix)) + rest, error)

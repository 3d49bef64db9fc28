"""Computes the table of the random numbers, the constants in plane/counter.py: for each power of two of the tail, |z|.

    python benchmarks/normal_table.py

A row has five whole numbers: |z| 2^21 in the middle of the octave, and the coefficients of g, g^2, g^3 and g^4 as the
generator rounds them, fitted by least squares and rounded one after the other, the highest first. Prints the rows and
how far each is from the quantile of the normal distribution.
"""

import sys

import numpy as np
import torch
from numpy.typing import NDArray

from landscape_mpi.plane.counter import powers, size_of

OCTAVES = 32
TERMS = 5
UNITS = (2.0**-21, *[2.0**-31] * 4)
"""What a one of each number of a row is worth, times its power of g."""


def octave(leading: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the fractions [n] in the octave of 31-bit words with `leading` zeros, and the tail in the middle of each.

    Zeros are counted in 32 bits, so that the word 0 has 32 of them.
    """
    power = 31 - leading
    if power < 0:
        return np.zeros(1, np.int32), np.array([0.5 / 2.0**32])
    if power <= 16:  # every word has a fraction of its own
        steps = np.arange(2**power)
        return (steps << (16 - power)).astype(np.int32), (2.0**power + steps + 0.5) / 2.0**32
    steps = np.arange(2**16)
    return steps.astype(np.int32), 2.0**power * (1 + (steps + 0.5) / 2.0**16) / 2.0**32


def quantile(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return z with P(Z > z) = tail."""
    found: NDArray[np.float64] = -torch.special.ndtri(torch.from_numpy(tail)).numpy()
    return found


def fitted(leading: int) -> list[int]:
    """Return a row of the table."""
    fraction, tail = octave(leading)
    g = fraction - 2**15
    terms = np.stack([np.ones(g.size), *powers(g)], 1) * UNITS
    weights = np.maximum(1 - (g / 2.0**15) ** 2, 1e-4) ** -0.25  # the ends of an octave count more
    row, rest = [0] * TERMS, quantile(tail)
    for last in reversed(range(min(TERMS, g.size))):
        some = terms[:, : last + 1]
        row[last] = round(float(np.linalg.lstsq(some * weights[:, None], rest * weights, rcond=None)[0][-1]))
        rest = rest - some[:, last] * row[last]
    return row


def main() -> int:
    """Print the table."""
    for leading in range(1, OCTAVES + 1):
        row = fitted(leading)
        fraction, tail = octave(leading)
        off = size_of(np.array(row, np.int32)[:, None], fraction) * UNITS[0] - quantile(tail)
        sys.stdout.write(f"    {tuple(row)},  # {leading}: within {np.abs(off).max():.1e}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

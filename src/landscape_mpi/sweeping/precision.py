"""Says what each `evaluate.dtype` stands for, and how close two evaluations of a point have to be in it.

The modules that load a network and that compare engines import this module; it imports neither.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.registry import is_mean


@dataclass(frozen=True)
class Tolerance:
    """The largest difference of two losses that count as equal: `relative` times the first, plus `absolute`."""

    relative: float
    absolute: float

    def same(self, plain: float, ours: float) -> bool:
        """Whether two losses agree; NaN agrees with NaN."""
        if plain == ours or (math.isnan(plain) and math.isnan(ours)):
            return True
        if not (math.isfinite(plain) and math.isfinite(ours)):
            return False
        return abs(ours - plain) <= self.relative * abs(plain) + self.absolute


@dataclass(frozen=True)
class Precision:
    """How the forward pass computes; sums of losses are float64 always.

    Attributes:
        dtype: Of weights, inputs and all that autocast leaves alone.
        autocast: The dtype to which torch's autocast takes the forward pass down, or None.
        words: Whether matrices are multiplied as sums of bfloat16 words.
        tf32: Whether products of float32 may be taken of TF32, with 10 bits after the point instead of 23.
        tolerance: How close an engine comes to the plain network in the same precision.
    """

    dtype: torch.dtype
    autocast: torch.dtype | None = None
    tf32: bool = False
    words: bool = False
    tolerance: Tolerance = Tolerance(1e-5, 1e-8)

    @property
    def reduced(self) -> bool:
        """Whether it is below float32."""
        return self.tf32 or self.words or self.autocast is not None


PRECISIONS = {
    "float32": Precision(torch.float32),
    "float64": Precision(torch.float64),
    # a fused layer rounds products of other weights than the plain network: those with batch norm in them
    "tf32": Precision(torch.float32, tf32=True, tolerance=Tolerance(1e-2, 1e-4)),
    "bfloat16": Precision(torch.float32, autocast=torch.bfloat16, tolerance=Tolerance(5e-2, 1e-3)),
    "bfloat16x2": Precision(torch.float32, words=True, tolerance=Tolerance(1e-4, 1e-6)),
}
"""By the values of `evaluate.dtype`."""


def difference(plain: Mapping[str, float], ours: Mapping[str, float], tolerance: Tolerance) -> str | None:
    """Say which mean loss differs by more than the tolerance; None where none does."""
    for name, expected in plain.items():
        if is_mean(name, LOSS) and not tolerance.same(expected, ours[name]):
            split = name.rpartition("_")[0]
            return f"the plain {split} loss is {expected:.9g}, and the one on the plane is {ours[name]:.9g}"
    return None


def deviation(exact: Mapping[str, float], ours: Mapping[str, float]) -> float:
    """Return the maximum relative error of the mean losses; inf where only one of two is finite."""
    errors = [0.0]
    for name, value in exact.items():
        other = ours[name]
        if not is_mean(name, LOSS) or value == other or (math.isnan(value) and math.isnan(other)):
            continue
        finite = math.isfinite(value) and math.isfinite(other) and value != 0
        errors.append(abs(other - value) / abs(value) if finite else math.inf)
    return max(errors)

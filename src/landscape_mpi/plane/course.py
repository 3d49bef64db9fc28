"""Goes along a curve between two networks: coordinates along the curve -> coordinates of the plane that it lies in.

The curves are those with one bend of T. Garipov et al., "Loss surfaces, mode connectivity, and fast ensembling of DNNs"
(NeurIPS 2018, arXiv:1802.10026), section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from landscape_mpi.job import CURVES


@dataclass(frozen=True)
class Course:
    """A curve from theta to another network, by coordinates (t,) or (t, s): s = 0 is the line, s = 1 is the curve.

    The plane's directions are to - theta, where "to" is the other network, and the way from the middle of the straight
    line to the bend.

    >>> Course("bezier")((0.5,)), Course("polygon")((0.5,)), Course("polygon")((0.5, 0.0))
    ((0.5, 0.5), (0.5, 1.0), (0.5, 0.0))
    """

    curve: str

    def __call__(self, point: Sequence[float]) -> tuple[float, float]:
        """Return the coordinates along both directions."""
        t, share = point if len(point) > 1 else (point[0], 1.0)
        return t, share * CURVES[self.curve](t)

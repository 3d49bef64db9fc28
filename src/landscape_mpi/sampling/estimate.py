"""Means over all images from a weighted prefix, by calibration; knows arrays, neither levels nor rounds.

Deville and Särndal, "Calibration estimators in survey sampling", JASA 87 (1992); Särndal, Swensson and Wretman, "Model
assisted survey sampling" (1992), chapters 5 to 7. "SSW" below is the latter.
"""

from dataclasses import dataclass

import numpy as np

from landscape_mpi.sampling.order import Floats, Ints

LEAST_APART = 1e-6
"""A regressor is dropped if, scaled to length 1, it lies nearer than this to the span of those before it."""
FEWEST = 5
"""A class with fewer images than this in a prefix shares a stratum with other such classes."""


@dataclass(frozen=True)
class Calibration:
    """A least-squares fit on p regressors with known or estimated means; those that add nothing are left out.

    `kept` int64 [k]: the regressors in use. `weights` float64 [n]: calibrated weights w. `basis` [n, k] and `triangle`
    [k, k]: QR factors of the weighted and scaled regressors. `scales` [k], `roots` [n]: their scales, sqrt(d).
    """

    kept: Ints
    weights: Floats
    basis: Floats
    triangle: Floats
    scales: Floats
    roots: Floats

    def coefficients(self, values: Floats) -> Floats:
        """Return B [k, points] = (sum d x x')^-1 sum d x y', from values y [n, points] (SSW 6.4.2)."""
        projected = self.basis.T @ (self.roots[:, None] * values)
        return np.asarray(np.linalg.solve(self.triangle, projected) / self.scales[:, None], np.float64)


def calibrate(regressors: Floats, design: Floats, means: Floats) -> Calibration:
    """Return the weights nearest to the design weights that reproduce the means: sum w x = m.

    w_i = d_i x_i' (sum d x x')^-1 m (Deville and Särndal 1992, chi-squared distance); the estimate of a mean is then
    sum w y = B m, which is exact for whatever is linear in x. A regressor that is a combination of earlier ones on
    this prefix is left out, so those whose means are known best come first.

    Args:
        regressors: x [n, p], finite.
        design: d [n], design weights 1 / pi, up to a factor.
        means: m [p], over all images.
    """
    roots = np.sqrt(design)
    weighted = roots[:, None] * regressors
    largest = np.abs(weighted).max(axis=0, initial=0.0)
    scales = largest * np.linalg.norm(weighted / np.where(largest > 0, largest, 1.0), axis=0)
    kept = np.flatnonzero(scales > 0)
    basis, triangle = np.linalg.qr(weighted[:, kept] / scales[kept])
    apart = np.abs(np.diag(triangle)) > LEAST_APART
    if not apart.all():
        kept = kept[apart]
        basis, triangle = np.linalg.qr(weighted[:, kept] / scales[kept])
    weights = roots * (basis @ np.linalg.solve(triangle.T, means[kept] / scales[kept]))
    return Calibration(kept, weights, basis, triangle, scales[kept], roots)


def strata(prefix: Ints, whole: Ints, most: int) -> tuple[Floats, Floats]:
    """Return class indicators of a prefix [n, k] and the shares of the same strata among all images [k].

    Classes too rare in the prefix to tell anything (absent, fewer than 5 images, or beyond the `most` largest) are
    collapsed into one stratum (SSW 3.7.1 on strata with few elements); if that is too rare as well, the smallest
    other joins it. The shares sum to 1: some combination of the indicators is the constant.
    """
    count = int(whole.max()) + 1
    seen = np.bincount(prefix, minlength=count)
    ranked = np.argsort(-seen, kind="stable")
    own = ranked[: most if count <= most else most - 1]
    own = own[seen[own] >= FEWEST]
    while len(own) and 0 < len(own) < count and seen[np.setdiff1d(ranked, own)].sum() < FEWEST:
        own = own[:-1]
    stratum = np.full(count, len(own))
    stratum[own] = np.arange(len(own))
    used = np.unique(stratum)
    shares = np.bincount(stratum[whole], minlength=len(own) + 1)[used] / len(whole)
    return (stratum[prefix][:, None] == used).astype(np.float64), shares


def noise(calibration: Calibration, pi: Floats, residuals: Floats) -> Floats:
    """Return each image's share in the errors [n, points]: n / (n - p) w_i sqrt(1 - pi_i) e_i.

    The columns' squares sum to the variances of the estimates about B m, their products to the covariances (SSW 6.6.4
    for Poisson sampling, with calibrated weights; n / (n - p) makes up for the degrees of freedom the fit has used).
    """
    n, p = calibration.basis.shape
    factor = calibration.weights * np.sqrt(1.0 - pi) * (n / (n - p))
    shares: Floats = factor[:, None] * residuals
    return shares

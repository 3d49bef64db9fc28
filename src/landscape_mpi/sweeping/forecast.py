"""What a search for the Hessian's eigenvalues costs, from one product that is timed; writes nothing."""

import time
from dataclasses import dataclass

from landscape_mpi.curvature import basis_size, start_vector
from landscape_mpi.evaluate import Point
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.curvature import Curvature
from landscape_mpi.sweeping.experiment import Experiment

USUAL = 30
"""Products that a search takes to a residual of 1e-3: 10 to 40 on networks with a few large eigenvalues."""


@dataclass(frozen=True)
class Forecast:
    """What one search takes: in words, in seconds on one rank, and of memory beside the activations."""

    text: str
    seconds: float
    megabytes: float


NO_SEARCH = Forecast("", 0.0, 0.0)
"""Of a job that asks for no Hessian."""


def forecast(experiment: Experiment, plane: Plane, batch: int) -> Forecast:
    """Return what one search takes, by a product at theta* of one batch, taken twice: the first one warms up.

    Raises:
        UserError: the network or its loss cannot be differentiated twice.
    """
    curvature = Curvature.of(experiment, plane, batch)
    images = min(curvature.batch.images, curvature.count)
    if text := curvature.rehearse(images):
        experiment.theta.note(text)
    hessian = curvature.hessian(Point(0.0, 0.0))
    vector = start_vector(hessian.size, experiment.device)
    started = time.perf_counter()
    curvature.part(hessian, vector, slice(0, images))
    product = (time.perf_counter() - started) * curvature.count / images
    text = f"{curvature.count:,} {curvature.split} images, {product:.3g} s a product, usually about {USUAL} of them"
    return Forecast(text, USUAL * product, 8 * hessian.size * basis_size(hessian.size) / 1e6)

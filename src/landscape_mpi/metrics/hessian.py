"""The metric `hessian`: both ends of the spectrum of the Hessian of the first split's mean loss (docs/curvature.md)."""

from landscape_mpi.metrics.base import Metric, Result

HESSIAN = Metric(
    key="hessian",
    results=(
        Result("min_eig", "smallest Hessian eigenvalue"),
        Result("max_eig", "largest Hessian eigenvalue"),
        Result("hessian_residual", "residual of the Hessian eigenvalues"),
        Result("hessian_iterations", "products for the Hessian eigenvalues"),
    ),
    of="point",
    needs="gradients",
    cost="about 300 evaluations of its examples",
    keys=("tolerance",),
)

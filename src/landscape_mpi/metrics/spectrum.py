"""The metric `spectrum`: the density of the Hessian's eigenvalues, and its trace (docs/curvature.md)."""

from landscape_mpi.metrics.base import Metric, Result

SPECTRUM = Metric(
    key="spectrum",
    results=(
        Result("trace", "trace of the Hessian"),
        Result("trace_stderr", "standard error of the trace of the Hessian"),
        Result("spectrum_nodes", "nodes of the spectrum", axes=("probes", "steps")),
        Result("spectrum_weights", "weights of the spectrum", axes=("probes", "steps")),
    ),
    of="point",
    needs="gradients",
    cost="about 10 evaluations of its examples for each of `probes` times `steps` products: 3,000",
    keys=("probes", "steps", "seed"),
)

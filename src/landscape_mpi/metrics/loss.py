"""The metric `loss`: the mean over a split of the loss that the job names, with its standard error."""

from landscape_mpi.metrics.base import Metric, Result

LOSS = Metric(
    key="loss",
    results=(Result("loss", "loss", "nats", shown=True),),
    of="examples",
    needs="nothing",
    cost="nothing: it is what a point is evaluated for",
)

"""Where network, data and loss of a sweep come from: what a job's names stand for; objects are for others to give."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from landscape_mpi.assemble import build_model, open_split
from landscape_mpi.data import Split
from landscape_mpi.evaluate import Loss, build_loss
from landscape_mpi.job import JobFile, SweepJob
from landscape_mpi.networks import load_checkpoint, sha256
from landscape_mpi.networks.copies import duplicate
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.load import Theta
from landscape_mpi.sweeping.precision import PRECISIONS


class Source(Protocol):
    """What a sweep is made of; each method is called on every rank, or on one rank a node."""

    def network(self) -> tuple[nn.Module, str]:
        """Return the network at theta*, on the CPU, before eval mode, the sweep's own; and a fingerprint of it."""

    def end(self, theta: Theta, key: str, name: str) -> nn.Module:
        """Return the network that `plane.to` or `plane.via` names, on the CPU, not yet put into eval mode."""

    def split(self, name: str) -> Split:
        """Return a split of the data, in memory of the CPU."""

    def loss(self) -> Loss:
        """Return the loss."""

    def plane(self, theta: Theta, job: SweepJob) -> Plane | None:
        """Return the plane where its directions are given; None where the job says how to find them."""


@dataclass(frozen=True)
class Named:
    """The files and modules that a job names; `note` gets what a user should know of how weights were found.

    Raises:
        UserError: something is missing or does not fit.
    """

    job: JobFile[SweepJob]
    note: Callable[[str], None] = lambda _: None

    def network(self) -> tuple[nn.Module, str]:
        """Build the network and load its checkpoint."""
        model = self.job.values.model
        checkpoint, dtype = self.job.resolve(model.checkpoint), PRECISIONS[self.job.values.evaluate.dtype].dtype
        network = build_model(self.job)
        for text in load_checkpoint(network, checkpoint, entry=model.entry, dtype=dtype):
            self.note(text)
        return network, sha256(checkpoint)

    def end(self, theta: Theta, key: str, name: str) -> nn.Module:
        """Load a checkpoint into a copy of the network."""
        network = duplicate(theta.origin)
        load_checkpoint(network, self.job.resolve(name), key, self.job.values.model.entry)
        return network

    def split(self, name: str) -> Split:
        """Return a split of the job's data."""
        return open_split(self.job, name)

    def loss(self) -> Loss:
        """Return the loss, which may be the user's own."""
        return build_loss(self.job.values.loss, self.job.path.parent, self.job.values.loss_options)

    def plane(self, theta: Theta, job: SweepJob) -> Plane | None:  # noqa: ARG002 - a job's planes are all to be found
        """Return None: the job says where its directions come from."""
        return None

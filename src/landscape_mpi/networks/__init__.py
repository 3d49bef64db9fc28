"""Builds the paper's networks or the user's own, and loads checkpoints without executing anything in them."""

from landscape_mpi.networks.checkpoint import load_checkpoint, load_state, open_checkpoint
from landscape_mpi.networks.files import sha256
from landscape_mpi.networks.zoo import ZOO, build_network

__all__ = ["ZOO", "build_network", "load_checkpoint", "load_state", "open_checkpoint", "sha256"]

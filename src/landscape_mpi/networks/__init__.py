"""The paper's networks, the user's own, and checkpoints read safely; knows nothing of MPI, HDF5 or planes."""

from landscape_mpi.networks.checkpoint import load_checkpoint, load_state, open_checkpoint
from landscape_mpi.networks.files import sha256
from landscape_mpi.networks.zoo import ZOO, build_network

__all__ = ["ZOO", "build_network", "load_checkpoint", "load_state", "open_checkpoint", "sha256"]

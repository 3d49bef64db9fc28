"""Which device a rank computes on, from plain numbers; knows neither torch nor MPI."""

import re
from collections.abc import Mapping

from landscape_mpi.errors import UserError

LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


def choose_device(requested: str, local_rank: int, cuda_devices: int) -> str:
    """Return `cpu` or `cuda:K` for a rank.

    Args:
        requested: `auto`, `cpu`, `cuda` or `cuda:K`.
        local_rank: the rank among those on the same node.
        cuda_devices: how many CUDA devices this process sees; more ranks than devices share them in turn.

    Raises:
        UserError: the request is not understood, or asks for a device that is not there.
    """
    if requested == "cpu" or (requested == "auto" and cuda_devices == 0):
        return "cpu"
    wanted = re.fullmatch(r"auto|cuda(?::(\d+))?", requested)
    if not wanted:
        raise UserError(f"--device: found {requested!r}; expected auto, cpu, cuda or cuda:K.")
    index = int(wanted[1]) if wanted[1] else local_rank % max(cuda_devices, 1)
    if index >= cuda_devices:
        raise UserError(f"--device: found {requested!r}, and this process sees {cuda_devices} CUDA devices; use cpu.")
    return f"cuda:{index}"


def local_rank_from(environment: Mapping[str, str]) -> int:
    """Return the node-local rank that a launcher wrote into the environment, else 0.

    Only a fallback for a process without MPI: under `mpirun` in a one-node batch job SLURM_LOCALID is 0 everywhere.
    """
    for name in LOCAL_RANK_VARIABLES:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    return 0

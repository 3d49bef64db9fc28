"""Reads from the environment which launcher (mpirun, srun) started this process, and what a rank gets of its node."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from landscape_mpi.errors import Flag, UserError

LAUNCHERS = (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "PMI_RANK"))
"""Variables of an mpirun: the number of processes, and the number of this one."""
STEP, TASKS, TASK = "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"
"""Variables of a step of SLURM. An mpirun within the step leaves them to its processes, and is the nearer launcher."""
LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
"""Variables with the number of a process on its node, the nearest launcher's first."""
MESSENGERS = ("PMIX_RANK", "PMI_RANK", "PMI_FD")
"""Variables without which MPI cannot ask for the other processes, unless it was built for SLURM alone."""
SHELL = "SLURM_PTY_PORT"
"""The variable that `srun --pty` sets: it starts one shell, however many tasks the step has."""


@dataclass(frozen=True)
class Launcher:
    """The launcher that started this process.

    Attributes:
        variable: the variable of the environment that holds the number of processes.
        size: the number of processes; 1 where it is not known.
        rank: the number of this process.
        slurm: whether it is SLURM itself, within a step.
        mute: whether only SLURM's variables are there, and no service that MPI could ask for the other processes.
        in_shell: whether this is the shell of a step, or was started in one.
    """

    variable: str
    size: int
    rank: int
    slurm: bool = False
    mute: bool = False
    in_shell: bool = False

    @property
    def many(self) -> bool:
        """Whether it started several processes of this program."""
        return self.size > 1 and not self.in_shell


def launcher_of(environment: Mapping[str, str]) -> Launcher | None:
    """Return the nearest launcher; None where the environment names none."""
    for variable, number in LAUNCHERS:
        size, rank = _number(environment.get(variable)), _number(environment.get(number))
        if size:
            return Launcher(variable, size, rank)
    speaks = next((name for name in MESSENGERS if name in environment), None)
    if STEP not in environment and TASKS not in environment:
        return Launcher(speaks, 1, 0) if speaks else None
    size, rank = _number(environment.get(TASKS)) or 1, _number(environment.get(TASK))
    return Launcher(TASKS, size, rank, slurm=True, mute=not speaks, in_shell=SHELL in environment)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def local_rank_from(environment: Mapping[str, str]) -> int:
    """Return the node-local rank that a launcher wrote into the environment, else 0.

    Only a fallback for a process without MPI: under `mpirun` in a one-node batch job SLURM_LOCALID is 0 everywhere.
    """
    found = (environment[name] for name in LOCAL_RANKS if environment.get(name, "").isdecimal())
    return int(next(found, 0))


def check_launcher(size: int, environment: Mapping[str, str]) -> None:
    """Refuse a launcher that started several processes which do not see each other.

    Raises:
        UserError: the world has one rank and the environment says that there are more.
    """
    launcher = launcher_of(environment)
    if size == 1 and launcher and launcher.many:
        raise UserError(
            "",
            (
                f"the launcher started {launcher.size} processes ({launcher.variable}) and each sees a world of 1: it "
                "belongs to another MPI than the one mpi4py loads (see `python -m landscape_mpi --version`)"
            ),
            remedy="use the mpirun of that one",
        )


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
        raise UserError(Flag("device"), f"found {requested!r}", expected="auto, cpu, cuda or cuda:K")
    index = int(wanted[1]) if wanted[1] else local_rank % max(cuda_devices, 1)
    if index >= cuda_devices:
        raise UserError(
            Flag("device"), f"found {requested!r}, and this process sees {cuda_devices} CUDA devices", remedy="use cpu"
        )
    return f"cuda:{index}"


def free_memory() -> int | None:
    """Return how many bytes of memory this node, or this job's share of it, can still give; None where unknown.

    Memory that the page cache holds counts as free, as the kernel counts it.
    """
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError, IndexError):  # a limit of version 2 of the kernel's groups, as SLURM sets it
        folder = Path(
            "/sys/fs/cgroup", Path("/proc/self/cgroup").read_text().split("::")[1].splitlines()[0].lstrip("/")
        )
        for place in (folder, *folder.parents):
            if (limit := place / "memory.max").exists() and (text := limit.read_text().strip()) != "max":
                used = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
                found.append(int(text) - int(used["anon"]) - int(used.get("shmem", 0)))
    return max(min(found), 0) if found else None

"""Who started this process, and how many beside it: the nearest launcher that the environment speaks of."""

from collections.abc import Mapping
from dataclasses import dataclass

LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
"""Variables that tell a process how many of them there are, and which it is. Whoever is started within another comes
first: mpirun runs within a step of SLURM's, whose variables stay, and not the other way round."""
MESSENGERS = ("PMIX_RANK", "PMI_RANK", "PMI_FD")
"""Variables without which MPI has nobody to ask for the other processes, unless it was built for SLURM alone."""
SHELL = "SLURM_PTY_PORT"
"""What `srun --pty` sets: a shell, of which there is one however many tasks the step has."""


@dataclass(frozen=True)
class Launcher:
    """Who started this process.

    Attributes:
        variable: which says how many processes there are.
        size: their number.
        rank: the number of this one.
        mute: whether SLURM alone speaks, and nobody whom MPI could ask for the others.
        shell: whether this is a shell of a step, or was started in one.
    """

    variable: str
    size: int
    rank: int
    mute: bool
    shell: bool


def launcher_of(environment: Mapping[str, str]) -> Launcher | None:
    """Return the nearest launcher; None where nobody says that there was one."""
    for variable, number in LAUNCHERS:
        size, rank = environment.get(variable, ""), environment.get(number, "")
        if size.isdecimal() and int(size):
            slurm = variable.startswith("SLURM")
            mute = slurm and not any(name in environment for name in MESSENGERS)
            return Launcher(
                variable, int(size), int(rank) if rank.isdecimal() else 0, mute, slurm and SHELL in environment
            )
    return None

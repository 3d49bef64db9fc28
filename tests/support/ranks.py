"""Which of a command's processes is which rank, by the variables of its launcher."""

from contextlib import suppress
from pathlib import Path

from landscape_mpi.mpi.launcher import launcher_of


def rank_of(pid: int) -> int | None:
    """Return the rank of a process; None where no launcher started it, or where it has ended."""
    with suppress(OSError):
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        launcher = launcher_of(dict(variable.split("=", 1) for variable in variables if "=" in variable))
        return launcher.rank if launcher else None
    return None


def process_of(run, rank):
    """The process of a rank: the child of what the launcher started."""
    parents = {}
    for pid in run.members():
        if rank_of(pid) == rank:
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    # it has children of its own, such as that which reads files of others
    return next(pid for pid, parent in parents.items() if parent in parents and parents[parent] not in parents)

"""Checks a fresh environment, run as `mpirun -n 2`: do mpirun, mpi4py and h5py belong together?"""

import sys
import tempfile
from pathlib import Path

import h5py
import mpi4py
from mpi4py import MPI

LIBRARY = {"apt": "Open MPI", "pip": "MPICH"}


def complaint(comm: MPI.Comm, way: str) -> str | None:
    """Say in one sentence what does not fit, if anything."""
    library = MPI.Get_library_version().splitlines()[0]
    if not library.startswith(LIBRARY[way]):
        return (
            f"mpi4py loaded {library!r} instead of {LIBRARY[way]}; "
            "see the variables MPI4PY_LIBMPI, MPI4PY_MPIABI and LD_LIBRARY_PATH."
        )
    if comm.size == 1:
        return f"mpirun is not that of {library!r}; put the right one first in PATH."
    if h5py.get_config().mpi != (way == "apt"):
        return f"h5py has {'no ' if way == 'apt' else ''}MPI; remove the environment and run `make setup` again."
    return None


def write_together(comm: MPI.Comm) -> None:
    """Let every rank write its number into one file and read all of them back."""
    folder = comm.bcast(tempfile.mkdtemp() if comm.rank == 0 else None)
    path = Path(folder) / "ranks.h5"
    with h5py.File(path, "w", driver="mpio", comm=comm) as file:
        file.create_dataset("rank", (comm.size,), "i4")[comm.rank] = comm.rank
    if comm.rank == 0:
        with h5py.File(path) as file:
            numbers = list(file["rank"])
        path.unlink()
        path.parent.rmdir()
        if numbers != list(range(comm.size)):
            sys.exit(f"parallel HDF5 wrote {numbers}")


def main() -> None:
    """Check, and print one line that says what is there."""
    comm, way = MPI.COMM_WORLD, sys.argv[1]
    if problem := complaint(comm, way):
        sys.exit(problem if comm.rank == 0 else 1)
    if way == "apt":
        write_together(comm)
    if comm.rank == 0:
        mpi = " ".join(MPI.Get_library_version().replace(",", " ").split()[:3])
        kind = "parallel" if way == "apt" else "serial"
        sys.stdout.write(f"        {mpi}, mpi4py {mpi4py.__version__}, ")
        sys.stdout.write(f"h5py {h5py.__version__} with {kind} HDF5 {h5py.version.hdf5_version}\n")


main()

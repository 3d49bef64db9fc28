"""Ranks that only coordinate start fast: nothing heavy is loaded with them."""

import subprocess
import sys

MODULES = "landscape_mpi.mpi.scheduler, landscape_mpi.mpi.communicator"
IMPORT = f"import sys, {MODULES}; print(sorted({{'torch', 'mpi4py', 'matplotlib'}} & set(sys.modules)))"


def test_importing_ranks_loads_neither_torch_nor_mpi():
    run = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"

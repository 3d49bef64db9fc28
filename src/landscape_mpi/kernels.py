"""Finds the compiled kernels of the package; where it was installed without a C compiler there are none."""

import ctypes
from importlib.util import find_spec


def load_kernel(extension: str) -> ctypes.CDLL | None:
    """Return the library of an extension module, such as `landscape_mpi.plane._kernel`; None where it was not built."""
    spec = find_spec(extension)
    return None if spec is None or spec.origin is None else ctypes.CDLL(spec.origin)

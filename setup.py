"""Everything about the package is declared in setup.cfg, but for the kernels: C that is compiled where it can be."""

from setuptools import Extension, setup

WINOGRAD = "src/landscape_mpi/engines/kernel/"
PLANE = "src/landscape_mpi/plane/kernel/"

setup(
    ext_modules=[
        Extension(
            "landscape_mpi.engines._winograd",
            [WINOGRAD + "winograd.c"],
            depends=[WINOGRAD + "lanes.h"],
            extra_compile_args=["-O3"],
            optional=True,  # without a C compiler the package works, by other engines
            py_limited_api=True,
        ),
        Extension(
            "landscape_mpi.plane._kernel",
            [PLANE + name for name in ("normal.c", "widen.c", "rebuild.c", "norms.c")],
            depends=[PLANE + "normal.h"],
            extra_compile_args=["-O3", "-ffp-contract=off"],
            optional=True,  # without a C compiler numpy draws the same numbers, more slowly
            py_limited_api=True,
        ),
    ]
)

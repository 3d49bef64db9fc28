"""Everything about the package is declared in setup.cfg, but for the kernel: C that is compiled where it can be."""

from setuptools import Extension, setup

KERNEL = "src/landscape_mpi/engines/kernel/"

setup(
    ext_modules=[
        Extension(
            "landscape_mpi.engines._winograd",
            [KERNEL + "winograd.c"],
            depends=[KERNEL + "lanes.h"],
            extra_compile_args=["-O3"],
            optional=True,  # without a C compiler the package works, by other engines
            py_limited_api=True,
        )
    ]
)

"""Everything about the package is declared in setup.cfg, but for its description and the kernels.

The description is README.md without what only the repository can show: pictures and links by relative paths.
The kernels are C that is compiled where it can be: libraries that know neither Python nor torch and choose their
instructions when they run, so that one wheel serves every Python and every processor of an architecture.
"""

import re
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

WINOGRAD = "src/landscape_mpi/engines/kernel/"
PLANE = "src/landscape_mpi/plane/kernel/"


class Libraries(build_ext):
    """Name a library as every Python finds it, without the version of this one."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return the path below the sources."""
        return fullname.replace(".", "/") + ".so"


class Wheel(bdist_wheel):
    """Name the wheel for every Python 3 of this machine's platform."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return Python, ABI and platform."""
        return "py3", "none", super().get_tag()[2]


RELATIVE = r"\((?!https?:)[^)]*\)"
readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
readme = re.sub(r"!\[[^]]*\]" + RELATIVE + r"\n*", "", readme)

setup(
    long_description=re.sub(r"\[([^]]+)\]" + RELATIVE, r"\1", readme),
    long_description_content_type="text/markdown",
    cmdclass={"build_ext": Libraries, "bdist_wheel": Wheel},
    ext_modules=[
        Extension(
            "landscape_mpi.engines._winograd",
            [WINOGRAD + "winograd.c"],
            depends=[WINOGRAD + "lanes.h"],
            extra_compile_args=["-O3"],
            optional=True,  # without a C compiler the package works, by other engines
        ),
        Extension(
            "landscape_mpi.plane._kernel",
            [PLANE + name for name in ("normal.c", "avx512.c", "widen.c", "rebuild.c", "norms.c")],
            depends=[PLANE + "normal.h", PLANE + "sixteens.h"],
            extra_compile_args=["-O3", "-ffp-contract=off"],
            optional=True,  # without a C compiler numpy draws the same numbers, more slowly
        ),
    ],
)

"""A sweep that notes when each step of its start is over; `startup.py` runs it in the place of landscape_mpi.

python benchmarks/watched.py FOLDER sweep job.yaml     (every rank leaves its moments in FOLDER)
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from landscape_mpi.mpi.failures import Parent
from landscape_mpi.mpi.world import World

PYTHON, IMPORTS, MPI, POINT = "launch and Python", "imports", "MPI", "first point"
CALLS = {
    "network, checkpoint": ("landscape_mpi.sweeping.load", "theta_of"),
    "data": ("landscape_mpi.sweeping.load", "load_data"),
    "directions": ("landscape_mpi.sweeping.run", "build_plane"),
    "engine, centre check": ("landscape_mpi.sweeping.run", "choose_engine"),
    "surface file": ("landscape_mpi.sweeping.full", "open_writer"),
    POINT: ("landscape_mpi.sweeping.full", "measure"),
}
"""The functions that end the steps after MPI, by the module that looks them up."""

STEPS = (PYTHON, IMPORTS, MPI, *CALLS)


class Moments:
    """When each step was over for the first time: seconds since the epoch, and CPU seconds since the process began."""

    def __init__(self) -> None:
        """Start with no moment."""
        self.ends: dict[str, tuple[float, float]] = {}

    def note(self, step: str) -> None:
        """Note that a step is over."""
        self.ends.setdefault(step, (time.time(), time.process_time()))

    def watch(self, step: str, module: str, function: str) -> None:
        """Note the end of a step whenever a function of a module has returned."""
        owner = import_module(module)
        setattr(owner, function, self._noting(step, getattr(owner, function)))

    def _noting(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            self.note(step)
            return result

        return noted


def watch(moments: Moments) -> None:
    """Note the imports once the sweep opens its world; only then are its modules there to be watched."""
    from landscape_mpi.mpi import communicator

    opened = communicator.open_world

    def open_world(parent: Parent | None = None) -> World:
        moments.note(IMPORTS)
        world = opened(parent)
        moments.note(MPI)
        for step, (module, function) in CALLS.items():
            moments.watch(step, module, function)
        return world

    communicator.open_world = open_world


def main() -> int:
    """Run the command line after FOLDER as `python -m landscape_mpi` does; return its exit code."""
    moments = Moments()
    moments.note(PYTHON)
    watch(moments)
    from landscape_mpi.__main__ import main as landscape_mpi

    folder = Path(sys.argv.pop(1))
    code = landscape_mpi()
    (folder / f"{os.getpid()}.json").write_text(json.dumps(moments.ends))
    return code


if __name__ == "__main__":
    sys.exit(main())

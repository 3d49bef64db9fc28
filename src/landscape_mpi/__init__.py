"""Loss landscapes of neural networks, swept by many MPI ranks into one HDF5 surface file."""

from importlib import import_module
from typing import Any

__version__ = "0.2.0.dev0"

# These names are imported only when they are asked for: plotting imports this package and must not load torch.
# Types are in __init__.pyi, where no import of this module's own leads to all others.
_HOMES = {
    "LiveFigure": ("landscape_mpi.plot.live", "LiveFigure"),
    "PointDone": ("landscape_mpi.sweeping.on_point", "PointDone"),
    "Surface": ("landscape_mpi.api", "Surface"),
    "UserError": ("landscape_mpi.errors", "UserError"),
    "open": ("landscape_mpi.api", "open_surface"),
    "sweep": ("landscape_mpi.api", "sweep"),
}
__all__ = ["LiveFigure", "PointDone", "Surface", "UserError", "__version__", "open", "sweep"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

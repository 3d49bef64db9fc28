from landscape_mpi.api import Surface as Surface
from landscape_mpi.api import open_surface as open  # noqa: A004
from landscape_mpi.api import sweep as sweep
from landscape_mpi.errors import UserError as UserError
from landscape_mpi.plot.live import LiveFigure as LiveFigure
from landscape_mpi.sweeping.on_point import PointDone as PointDone

__version__: str
__all__ = ["LiveFigure", "PointDone", "Surface", "UserError", "__version__", "open", "sweep"]

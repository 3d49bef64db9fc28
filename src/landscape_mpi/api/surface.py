"""Defines the surface that `sweep` and `open_surface` return: arrays by name, sharpness, figures and files."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.api.call import in_arguments
from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import atomic_write, in_words
from landscape_mpi.job import AXES
from landscape_mpi.metrics.registry import STDERR, axes_of
from landscape_mpi.plot.options import Options, parse_levels
from landscape_mpi.surface import read_surface
from landscape_mpi.surface.barrier import Barrier, barriers, is_bent, plane_of
from landscape_mpi.surface.read import Surface as Found
from landscape_mpi.surface.schema import DONE
from landscape_mpi.surface.sharpness import Sharpness, sharpness
from landscape_mpi.surface.spectrum import Density, density, nearest
from landscape_mpi.surface.status import state

if TYPE_CHECKING:
    import xarray

    from landscape_mpi.plot.run import Figure

Values = NDArray[np.float64]
ADVICE = "expected a place that can be written, with space for the whole file"


@dataclass(frozen=True, eq=False, repr=False)
class Surface:
    """Losses and other results over a line, a plane or a volume.

    Arrays are float64 [n_beta, n_alpha], or [n_alpha] on a line: the row is beta, the column alpha, as in the file.

    Attributes:
        found: what the file holds.
        path: the file; None where none is kept.
        content: the bytes of a file that is not kept.
        writes: whether `save` and `plot` write files: not on ranks other than 0.
    """

    found: Found
    path: Path | None = None
    content: bytes | None = None
    writes: bool = True

    @property
    def alpha(self) -> Values:
        """Coordinates along delta, float64 [n_alpha]."""
        return self.found.alpha

    @property
    def beta(self) -> Values | None:
        """Coordinates along eta, float64 [n_beta]; None on a line."""
        return self.found.beta

    @property
    def metrics(self) -> Mapping[str, Values]:
        """Every result by name, such as `train_loss` (nats) or `test_acc` (percent); NaN where a point is not done."""
        return self.found.metrics

    @property
    def attributes(self) -> Mapping[str, object]:
        """The attributes of the file: engine, dtype, fingerprints, versions, ..."""
        return self.found.attributes

    @property
    def complete(self) -> bool:
        """Whether every point has its final result."""
        return self.found.complete

    @property
    def precision_floor(self) -> float | None:
        """The |f - f(0, 0)| below which rounding decides, in the unit of the loss; None where it was not measured."""
        return self.found.precision_floor

    def __repr__(self) -> str:
        """Return one line: the size, the results and how complete they are."""
        names = ", ".join(name for name in self.metrics if not name.endswith(STDERR))
        shape = " x ".join(map(str, self.found.shape))
        return f"Surface({self.found.kind} of {shape} points: {names}; {state(self.found)})"

    @property
    def gamma(self) -> Values | None:
        """Coordinates along the third direction of a volume, float64 [n_gamma]; None for a plane or a line."""
        return self.found.axes[2] if len(self.found.axes) > 2 else None

    def at(self, gamma: float) -> "Surface":
        """Return the plane of a volume that is nearest to `gamma`.

        Raises:
            UserError: this is no volume, or `gamma` is outside it.
        """
        return replace(self, found=self.found.at(gamma), path=None)

    def loss(self, split: str | None = None) -> Values:
        """Return the mean loss of a split, in nats where it is cross entropy; by default of the training set.

        Raises:
            UserError: there is none of that split.
        """
        return self._metric(split, "loss")

    def accuracy(self, split: str | None = None) -> Values:
        """Return the accuracy on a split in percent, by default on the training set. Raises as `loss`."""
        return self._metric(split, "acc")

    def sharpness(self, split: str | None = None) -> Sharpness:
        """Return the sharpness of the loss of a split, as in `info` (docs/sharpness.md).

        Raises:
            UserError: there is no loss of that split, or the surface is a volume or goes along a curve.
        """
        if len(self.found.axes) > 2:
            raise UserError("sharpness", "this is a volume", remedy="take a plane of it: surface.at(gamma)")
        if is_bent(plane_of(self.found), self.found):
            raise UserError("sharpness", "alpha goes along a curve", expected="a plane or a straight line")
        return sharpness(self.loss(split), self.alpha, self.beta, self.found.status == DONE)

    def barrier(self, split: str | None = None, beta: float = 0.0) -> Barrier:
        """Return how far the loss of a split rises above the line between alpha 0 and 1, as in `info`.

        For a plane it is the rise along one beta. In a sweep in the coordinates of a curve, beta is 0 for the straight
        line and 1 for the curve (docs/barriers.md).

        Raises:
            UserError: there is no loss of that split, or there are no points at alpha 0 and alpha 1.
        """
        self.loss(split)
        found = barriers(self.found, beta)
        name = f"{split}_loss" if split else next(iter(sorted(found, key=lambda one: not one.startswith("train"))), "")
        if name not in found:
            raise UserError(
                "barrier", "no points lie at alpha 0 and alpha 1 there", expected="a line or a plane that has them"
            )
        return found[name]

    def density(self, *point: float, bandwidth: float | None = None) -> Density:
        """Return the density of the Hessian's eigenvalues at a point, of a sweep with the metric `spectrum`.

        Args:
            point: alpha, beta, ...: the nearest point of the grid is taken; coordinates that are left out are 0.
            bandwidth: the standard deviation of the Gaussian that each node is drawn as, in the unit of eigenvalues;
                None for a 200th of the range of the nodes.

        Raises:
            UserError: there is no spectrum, or none at that point yet.
        """
        if bandwidth is not None and not 0 < bandwidth < math.inf:
            raise UserError("bandwidth", f"found {bandwidth:g}", expected="a number above 0")
        return density(self.found, nearest(self.found, point), bandwidth)

    def plot(
        self,
        *others: "Surface | str",
        kind: str | None = None,
        metric: str | None = None,
        log: bool | None = None,
        levels: str | Sequence[float] | None = None,
        vmin: float | None = None,
        vmax: float | None = None,
        title: str | None = None,
        caption: str | Sequence[str] = (),
        bandwidth: float | None = None,
        output: str | Path | None = None,
    ) -> "Figure":
        """Draw this surface, and others beside it on one scale, as landscape-plot does; a notebook shows the figure.

        For a volume it draws the plane at the gamma nearest to 0; `surface.at(gamma).plot()` draws another.

        Args:
            others: more panels; text at the first place is the kind.
            kind: contour, filled, heat, surface or line; or density, for a sweep with the metric `spectrum`.
            metric: by default the training loss; on a line every loss and accuracy.
            log: logarithmic (True) or linear (False) colours and heights.
            levels: the levels of contours, as "FIRST:LAST:STEP" or as numbers.
            vmin: the lower end of the colour scale.
            vmax: the upper end.
            title: replaces the title.
            caption: replaces the titles of the panels, one each.
            bandwidth: the bandwidth of a density, as for `density`.
            output: a .png, .pdf or .svg to write as well.

        Raises:
            UserError: the surfaces cannot be drawn like that, or the file cannot be written.
        """
        from landscape_mpi.plot.run import draw_inline  # it imports matplotlib, which only figures need

        kind, panels = _panels(others, kind)
        captions = (caption,) if isinstance(caption, str) else tuple(caption)
        try:
            parsed = None if levels is None else parse_levels(levels)
            options = Options(kind, metric, log, parsed, vmin, vmax, title, captions, bandwidth)
            surfaces = [self.found, *(other.found for other in panels)]
            return draw_inline(surfaces, options, output if self.writes else None)
        except UserError as error:
            raise in_arguments(error) from error.__cause__

    def to_xarray(self) -> "xarray.Dataset":
        """Return every result with named axes: `alpha` comes last, after `beta` and `gamma`.

        Raises:
            UserError: xarray is not installed.
        """
        try:
            import xarray
        except ImportError:
            raise UserError("to_xarray", "xarray is not installed", remedy="pip install xarray") from None
        axes = dict(reversed(list(zip(AXES, self.found.axes, strict=False))))
        results: dict[str, Any] = {"status": self.found.status, **self.metrics}
        named = {name: (tuple(axes), values) for name, values in results.items()}
        named |= {name: ((*axes, *axes_of(name)), values) for name, values in self.found.arrays.items()}
        return xarray.Dataset(named, coords=axes, attrs=dict(self.attributes))

    def save(self, path: str | Path) -> "Surface":
        """Write the surface file, with job and directions, and return the surface of that path; under MPI on rank 0.

        Raises:
            UserError: it cannot be written, or this is a plane of a volume, which is no file.
        """
        if self.found.gamma is not None:
            raise UserError(
                "save", "this is a plane of a volume, which has no file of its own", remedy="save the volume itself"
            )
        target = Path(path)
        if self.writes:
            with in_words(target, ADVICE), atomic_write(target) as aside:
                if self.content is not None:
                    aside.write_bytes(self.content)
                else:
                    shutil.copyfile(self.found.path, aside)
        return replace(self, found=replace(self.found, path=target), path=target, content=None)

    def _metric(self, split: str | None, name: str) -> Values:
        known = sorted((m for m in self.metrics if m.endswith(f"_{name}")), key=lambda m: not m.startswith("train"))
        wanted = f"{split}_{name}" if split else next(iter(known), "")
        if wanted not in known:
            raise UserError(
                "", f"found no {wanted or name} in the surface", expected=f"one of {', '.join(self.metrics)}"
            )
        return self.metrics[wanted]


def _panels(others: Sequence[object], kind: str | None) -> tuple[str | None, list[Surface]]:
    """Return the kind, which may stand at the first place, and the surfaces to draw as well."""
    if others and isinstance(others[0], str):
        if kind is not None:
            raise UserError("kind", f"found {others[0]!r} and {kind!r}", expected="one of them")
        kind, others = others[0], others[1:]
    panels = [other for other in others if isinstance(other, Surface)]
    if len(panels) < len(others):
        strange = next(other for other in others if not isinstance(other, Surface))
        raise UserError("plot", f"found a {type(strange).__name__}", expected="surfaces, and options by their names")
    return kind, panels


def open_surface(path: str | Path) -> Surface:
    """Return the surface that a file holds, finished or not, from this or another tool that landscape-plot reads.

    Raises:
        UserError: the file holds none.
    """
    return Surface(read_surface(Path(path)), Path(path))

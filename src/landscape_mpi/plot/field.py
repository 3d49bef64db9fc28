"""One metric of one surface, ready to be drawn; knows nothing of colours or of figures."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.metrics.loss import LOSS
from landscape_mpi.metrics.names import BAR, RELATIVE, is_mean
from landscape_mpi.plot.curvature import has_ratio, ratio
from landscape_mpi.plot.origin import Origin, origin_of
from landscape_mpi.plot.quantity import RATIO, Quantity, quantity
from landscape_mpi.surface.info import has_bars, relative, widest
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.schema import DONE


@dataclass(frozen=True, eq=False)
class Field:
    """One metric of one surface.

    Attributes:
        surface: what the metric belongs to.
        origin: where the surface came from.
        quantity: what the metric is.
        values: float64 [ny, nx] or [nx]; NaN where there is no finite result.
        done: bool of the same shape, where there is a result, finite or not.
        bars: float64 of the same shape, 95 % error bars in the unit of the values; None where there are none.
        widest: the largest of them, relative in percent for a loss, in points for an accuracy; NaN without any.
        infinite: how many results are inf.
        undefined: how many results are NaN.
    """

    surface: Surface
    origin: Origin
    quantity: Quantity
    values: NDArray[np.float64]
    done: NDArray[np.bool_]
    bars: NDArray[np.float64] | None
    widest: float
    infinite: int
    undefined: int

    @property
    def alpha(self) -> NDArray[np.float64]:
        """Coordinates along delta, [nx]."""
        return self.surface.alpha

    @property
    def beta(self) -> NDArray[np.float64]:
        """Coordinates along eta, [ny]; a line has the one coordinate 0."""
        return np.zeros(1) if self.surface.beta is None else self.surface.beta

    @property
    def finite(self) -> NDArray[np.float64]:
        """The finite results, flat."""
        return self.values[np.isfinite(self.values)]


def field_of(surface: Surface, metric: str | None = None) -> Field:
    """Return one metric of a surface.

    Args:
        surface: what was read.
        metric: its name; left out: train_loss, else the first loss, else the first metric. Beside those in the file
            there is NAME_relbar for what has error bars: the bars in percent of the values; and eig_ratio for
            surfaces with both ends of the Hessian's spectrum.

    Raises:
        UserError: the surface has no such metric, or nothing to draw in it.
    """
    name = _named(surface, metric) if metric else default_metric(surface)
    origin = origin_of(surface)
    results, done = _results(surface, name), surface.status == DONE
    barred = has_bars(surface, name)
    values = np.where(np.isfinite(results), results, np.nan)
    field = Field(
        surface,
        origin,
        quantity(name, nats=origin.loss == "cross_entropy"),
        values,
        done,
        bars=surface.metrics[name + BAR] if barred else None,
        widest=widest(surface, name) if barred else math.nan,
        infinite=int(np.isinf(results).sum()),
        undefined=int((np.isnan(results) & done).sum()),
    )
    return _drawable(field)


def default_metric(surface: Surface) -> str:
    """Return train_loss where it is there, else the first loss, else the first metric."""
    names = list(surface.metrics)
    losses = [name for name in names if is_mean(name, LOSS)]
    return "train_loss" if "train_loss" in losses else (losses or names)[0]


def _results(surface: Surface, name: str) -> NDArray[np.float64]:
    if name in surface.metrics:
        return surface.metrics[name]
    if name == RATIO:
        return ratio(surface)
    return relative(surface, name.removesuffix(RELATIVE))


def _named(surface: Surface, metric: str) -> str:
    names = [*surface.metrics, *(name + RELATIVE for name in surface.metrics if has_bars(surface, name))]
    names += [RATIO] if has_ratio(surface) else []
    if metric in names:
        return metric
    near = difflib.get_close_matches(metric, names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(f"--metric: {surface.path} has no {metric}{hint}; it has {_listed(names)}.")


def _drawable(field: Field) -> Field:
    surface, metric = field.surface, field.quantity.metric
    if not field.done.any():
        raise UserError(f"{surface.path}: nothing to draw yet: 0 of {surface.points} points are done.")
    if not field.finite.size:
        raise UserError(
            f"{surface.path}: nothing to draw: {metric} is NaN or inf at all {surface.done} points that are done."
        )
    return field


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""Draws the density of the Hessian's eigenvalues: as a curve at a point, as a heat map along a line."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.job import AXES
from landscape_mpi.metrics.spectrum import SPECTRUM
from landscape_mpi.plot.labels import along_words, alpha_label
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.origin import origin_of
from landscape_mpi.plot.scale import number
from landscape_mpi.plot.style import BLUE, FAINT, GAP, GREY, colours
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.spectrum import NODES, Density, density, ends, nearest, places, usual_bandwidth

KIND = "density"
DENSITY_LABEL = "share of eigenvalues per unit"
EIGENVALUE_LABEL = "eigenvalue of the Hessian"
SIZE = "hessian_parameters"
"""The attribute of a surface that says how many parameters the Hessian covers."""
LEAST = 1e-8
"""The density of a single eigenvalue, in shares of the highest density, if the number of parameters is not known."""


def is_along(surfaces: Sequence[Surface], options: Options) -> bool:
    """Return whether spectra are drawn along lines, not at single points.

    Raises:
        UserError: both are mixed, or an option has no meaning for spectra.
    """
    for flag, given in (("metric", options.metric), ("levels", options.levels)):
        if given:
            raise UserError(Flag(flag), (Flag("kind", (KIND,)), " has no use for it"), remedy="leave it out")
    along = [surface.is_line and surface.points > 1 for surface in surfaces]
    if any(along) and not all(along):
        raise UserError(
            surfaces[along.index(False)].path,
            f"shows one point, {surfaces[along.index(True)].path} a line",
            expected="one or the other in a figure",
        )
    return any(along)


def bandwidth_of(surfaces: Sequence[Surface], options: Options) -> float:
    """Return the bandwidth of all panels: as asked, else the usual one of the widest range of eigenvalues."""
    if options.bandwidth is not None:
        return options.bandwidth
    every = [ends(surface, () if surface.is_line else nearest(surface)) for surface in surfaces]
    return usual_bandwidth(min(low for low, _ in every), max(high for _, high in every))


def draw_at(axes: Axes, surface: Surface, found: Density, scale: Normalize) -> list[str]:
    """Draw the density at the point nearest to theta*, with its standard error; return the facts of the caption."""
    low, high = float(scale.vmin or 0), float(scale.vmax or 0)
    beyond = 1e-3 * low  # values that a log scale cannot show are drawn below its lower end
    lower, upper = np.maximum(found.density - found.stderr, beyond), found.density + found.stderr
    axes.fill_between(found.eigenvalues, lower, upper, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(found.eigenvalues, np.maximum(found.density, beyond), color=BLUE, linewidth=1.0)
    axes.axvline(0, color=GREY, linewidth=0.5, dashes=(4, 3))
    if isinstance(scale, LogNorm):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(number))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(low, high)
    axes.margins(x=0.01)
    axes.set_axisbelow(True)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel(EIGENVALUE_LABEL)
    axes.set_ylabel(DENSITY_LABEL)
    return facts_at(surface, found)


def facts_at(surface: Surface, found: Density) -> list[str]:
    """Return what a caption says of the density at a point: where it is, trace, data, probes and bandwidth."""
    place = ", ".join(f"{name} = {at:g}" for name, at in zip(AXES, found.point, strict=False))
    trace, error = (float(surface.metrics[result.name][nearest(surface)]) for result in SPECTRUM.results[:2])
    spread = f" ± {number(float(f'{error:.2g}'))}" if np.isfinite(error) else ""
    facts = ["at θ*" if not any(found.point) else f"at {place}", f"trace {number(trace)}{spread}"]
    shaded = ["standard error shaded"] if np.isfinite(found.stderr).any() else []
    return [*facts, *_facts(surface, found.bandwidth), *shaded]


def draw_along(axes: Axes, surface: Surface, found: Mapping[int, Density], scale: Normalize) -> list[str]:
    """Draw the densities at points of a line as a heat map, grey where there is none; return facts of the caption."""
    first = next(iter(found.values()))
    values = np.full((surface.points, len(first.eigenvalues)), np.nan)
    for place, one in found.items():
        values[place] = np.maximum(one.density, float(scale.vmin or 0))
    axes.set_facecolor(GAP)
    axes.pcolormesh(
        surface.alpha,
        first.eigenvalues,
        np.ma.masked_invalid(values.T),
        cmap=colours(),
        norm=scale,
        rasterized=True,
        gid="density",
    )
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    origin = origin_of(surface)
    axes.set_xlabel(alpha_label(origin))
    axes.set_ylabel(EIGENVALUE_LABEL)
    return [*filter(None, [along_words(origin)]), *_facts(surface, first.bandwidth)]


def densities_at(surfaces: Sequence[Surface], bandwidth: float) -> list[Density]:
    """Return the density of each surface at the point nearest to theta*."""
    return [density(surface, nearest(surface), bandwidth) for surface in surfaces]


def densities_along(surfaces: Sequence[Surface], bandwidth: float) -> list[dict[int, Density]]:
    """Return the densities of each line by the numbers of its points, at the eigenvalues that the panels share."""
    every = [ends(surface) for surface in surfaces]
    rows = places(min(low for low, _ in every), max(high for _, high in every), bandwidth)
    known = [np.flatnonzero(np.isfinite(surface.arrays[NODES]).any(axis=(1, 2))) for surface in surfaces]
    return [
        {int(place): density(surface, (int(place),), bandwidth, rows) for place in where}
        for surface, where in zip(surfaces, known, strict=True)
    ]


def scale_of(found: Sequence[Density], surfaces: Sequence[Surface], options: Options) -> Normalize:
    """Return the scale of densities that all panels share, logarithmic if not asked otherwise.

    It goes down to a tenth of the density that a single eigenvalue gives.

    Raises:
        UserError: the ends that are asked for make no scale.
    """
    highest = max(float(one.density.max()) for one in found)
    sizes = [size for surface in surfaces if isinstance(size := surface.attributes.get(SIZE), int) and size > 0]
    peak = 1 / (max(sizes) * found[0].bandwidth * math.sqrt(2 * math.pi)) if sizes else LEAST * highest
    low = 0.0 if options.log is False else min(0.1 * peak, 0.1 * highest)
    low, high = low if options.low is None else options.low, 1.5 * highest if options.high is None else options.high
    if not low < high or (options.log is not False and low <= 0):
        raise UserError(
            (Flag("vmin"), " and ", Flag("vmax")),
            f"found {low:g} and {high:g}",
            expected=f"ends of a scale that the densities, up to {highest:.3g}, lie on",
        )
    return Normalize(low, high) if options.log is False else LogNorm(low, high)


def _facts(surface: Surface, bandwidth: float) -> list[str]:
    origin, size = origin_of(surface), surface.attributes.get(SIZE)
    over = f"{size:,} parameters" if isinstance(size, int) else None
    width = f"Gaussian bandwidth {number(float(f'{bandwidth:.2g}'))}"
    return [fact for fact in (origin.data, origin.hessian.get(SPECTRUM.key), over, width) if fact]

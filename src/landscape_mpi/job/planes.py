"""The planes that a job may ask for, one struct a `plane.kind`, with their defaults; knows no file and no torch."""

from typing import Annotated, Literal

from msgspec import Meta

from landscape_mpi.job.section import Positive, Seed, Values

Normalise = Literal["filter", "layer", "weight", "none"]
Ignore = Literal["biasbn", "none"] | tuple[str, ...]
Only = Annotated[tuple[str, ...], Meta(min_length=1)]


class RandomPlane(Values, tag="random", tag_field="kind", frozen=True, kw_only=True):
    """Directions drawn from a Gaussian, one generator each, then normalised."""

    seed: Seed = 0
    normalize: Normalise = "filter"
    ignore: Ignore = "biasbn"
    only: Only | None = None
    repeats: Positive = 1
    trajectory: str | None = None


class PcaPlane(Values, tag="pca", tag_field="kind", frozen=True, kw_only=True):
    """The principal components of a training run's checkpoints, seen from theta*."""

    trajectory: str
    normalize: Normalise = "none"
    ignore: Ignore = "biasbn"
    only: Only | None = None


class InterpolatedPlane(Values, tag="interpolate", tag_field="kind", frozen=True, kw_only=True):
    """From theta* to other checkpoints: delta = to - theta*, eta = via - theta*, as they are unless normalised."""

    to: str
    via: str | None = None
    normalize: Normalise = "none"
    ignore: Ignore = "none"
    only: Only | None = None


class HessianPlane(Values, tag="hessian", tag_field="kind", frozen=True, kw_only=True):
    """Eigenvectors of the Hessian at theta*: of its largest eigenvalue, and of the most negative one."""

    normalize: Normalise = "none"
    ignore: Ignore = "none"
    only: Only | None = None


class FilePlane(Values, tag="file", tag_field="kind", frozen=True, kw_only=True):
    """Directions stored in a direction file or a surface file, used as they are."""

    path: str
    trajectory: str | None = None


Plane = RandomPlane | InterpolatedPlane | PcaPlane | HessianPlane | FilePlane

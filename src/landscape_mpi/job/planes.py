"""The planes that a job may ask for, one struct a `plane.kind`, with their defaults; knows no file and no torch."""

from typing import Annotated, Literal

from msgspec import Meta

from landscape_mpi.job.section import Seed, Values

Normalise = Literal["filter", "layer", "weight", "none"]
Ignore = Literal["biasbn", "none"] | tuple[str, ...]
Only = Annotated[tuple[str, ...], Meta(min_length=1)]


Trajectory = str | Annotated[tuple[str, ...], Meta(min_length=1)]


class RandomPlane(Values, tag="random", tag_field="kind", frozen=True, kw_only=True):
    """Directions drawn from a Gaussian, one generator each, then normalised.

    Attributes:
        seed: of the generators
        normalize: what a direction's filters, layers or weights are rescaled to
        ignore: what stays where it is: `biasbn` (tensors of one dimension: biases and batch norm), `none`, or name
            patterns such as `["*.bias"]`
        only: name patterns of the parameters to perturb, such as `["layer3.*"]`; none stands for all
        repeats: k planes with seeds `seed` to `seed + k - 1`, in files `NAME.r0.h5`, `NAME.r1.h5`, ...
        trajectory: checkpoints of a training run whose path on the plane is kept as well; a list for several runs
    """

    seed: Seed = 0
    normalize: Normalise = "filter"
    ignore: Ignore = "biasbn"
    only: Only | None = None
    repeats: Annotated[int, Meta(ge=1, le=10_000)] = 1
    trajectory: Trajectory | None = None


class PcaPlane(Values, tag="pca", tag_field="kind", frozen=True, kw_only=True):
    """The principal components of a training run's checkpoints, seen from theta*.

    Attributes:
        trajectory: the checkpoints: a pattern such as `"nets/vgg9/epoch-*.safetensors"` (`*`, `?`, `[0-9]`, `**` for
            folders), relative to the job file; a list for several runs, a pattern each
        normalize: of the components; as for `random`
        ignore: as for `random`; left out of the components too
        only: as for `random`; all others are left out of the components too
    """

    trajectory: Trajectory
    normalize: Normalise = "none"
    ignore: Ignore = "biasbn"
    only: Only | None = None


class InterpolatedPlane(Values, tag="interpolate", tag_field="kind", frozen=True, kw_only=True):
    """From theta* to other checkpoints: delta = to - theta*, eta = via - theta*, as they are unless normalised.

    Attributes:
        to: the checkpoint at alpha = 1; any file that `model.checkpoint` may be
        via: the checkpoint at beta = 1: required with `grid.beta`, and refused without it
        normalize: as for `random`; anything but `none` ends elsewhere than at `to` and `via`
        ignore: as for `random`; anything but `none` ends elsewhere than at `to` and `via`
        only: as for `random`; ends elsewhere than at `to` and `via`
    """

    to: str
    via: str | None = None
    normalize: Normalise = "none"
    ignore: Ignore = "none"
    only: Only | None = None

    @property
    def whole(self) -> bool:
        """Whether the plane goes all the way to its ends: nothing is rescaled, ignored or left out."""
        return self.normalize == "none" and self.ignore == "none" and self.only is None


class HessianPlane(Values, tag="hessian", tag_field="kind", frozen=True, kw_only=True):
    """Eigenvectors of the Hessian at theta*: of its largest eigenvalue, and of the most negative one.

    Attributes:
        normalize: as for `random`; anything but `none` bends the eigenvectors
        ignore: as for `random`; the Hessian is that over the parameters that are left
        only: as for `random`; the Hessian is that over these parameters
    """

    normalize: Normalise = "none"
    ignore: Ignore = "none"
    only: Only | None = None


class FilePlane(Values, tag="file", tag_field="kind", frozen=True, kw_only=True):
    """Directions stored in a direction file or a surface file, used as they are.

    Attributes:
        path: ours, or one that tomgoldstein/loss-landscape wrote
        trajectory: as for `random`
    """

    path: str
    trajectory: Trajectory | None = None


Plane = RandomPlane | InterpolatedPlane | PcaPlane | HessianPlane | FilePlane

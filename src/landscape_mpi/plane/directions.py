"""Makes directions: drawn at random, the way to other parameters, or arrays of a file; normalised, or as they are."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.errors import Key, UserError
from landscape_mpi.plane.drawn import DrawnDirection, Scales, scales_of
from landscape_mpi.plane.normalise import NORMALISERS
from landscape_mpi.plane.parameters import Parameters, double, real, single, standing

Ignore = str | Sequence[str]
"""Which parameters stay: "biasbn" (tensors of at most one dimension), "none", or fnmatch patterns on their names."""
Stored = Sequence[tuple[str | None, NDArray[np.float32]]]
"""A direction as files hold it: (name if known, array), in `named_parameters()` or state dict order; a complex tensor
as pairs of real numbers, [..., 2]."""

UNUSED = "num_batches_tracked"
"""How the names of buffers end that no forward pass in eval mode looks at."""


@dataclass(frozen=True)
class RandomDirections:
    """How random directions are drawn: seed, normalisation and which parameters stay where they are.

    `only`, where given, are patterns of the parameters to perturb.
    """

    seed: int
    normalise: str
    ignore: Ignore
    only: Sequence[str] | None = None

    def draw(self, theta: Parameters, axis: int, scales: Scales | None = None) -> DrawnDirection:
        """Return direction `axis` (0 is delta, 1 is eta); its tensors are drawn when they are asked for.

        Args:
            theta: the parameters.
            axis: counted from 0.
            scales: as `scales_of` returns them of all parameters that move, where they are known; else they are found.

        Raises:
            UserError: a pattern matches no parameter, or nothing is left to perturb.
        """
        names = moved(theta, self.ignore, self.only)
        if scales is None:
            scales = scales_of(self.seed, axis, self.normalise, theta, names)
        return DrawnDirection(self.seed, axis, self.normalise, theta, frozenset(names), scales)


def difference(to: Mapping[str, Tensor], theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the way from theta to other parameters, to - theta, float32 or complex64."""
    return {name: single(double(to[name]) - double(tensor)) for name, tensor in theta.items()}


def scale_direction(
    d: Mapping[str, Tensor],
    theta: Mapping[str, Tensor],
    normalise: str,
    ignore: Ignore,
    only: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Return a direction normalised with respect to theta, and zero where parameters stay; float32 or complex64.

    Args:
        d: The direction, float32, by the names of the parameters that move; others are not looked at.
        theta: The parameters.
        normalise: "filter", "layer", "weight" or "none".
        ignore: Which parameters stay.
        only: Patterns of the parameters to perturb; None for all.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to perturb.
    """
    names = set(moved(theta, ignore, only))
    scale = NORMALISERS[normalise]
    return {
        name: scale(d[name], single(tensor)) if name in names else standing(tensor) for name, tensor in theta.items()
    }


def moved(theta: Mapping[str, Tensor], ignore: Ignore, only: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the parameters that do not stay; arguments as for `scale_direction`.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to perturb.
    """
    patterns = [] if isinstance(ignore, str) else list(ignore)
    for key, wanted in (("plane.ignore", patterns), ("plane.only", only or [])):
        for pattern in wanted:
            if not any(fnmatchcase(name, pattern) for name in theta):
                raise UserError(
                    key,
                    f"the pattern {pattern!r} matches no parameter",
                    remedy=f"the network's {len(theta)} are {', '.join(list(theta)[:4])}, ...",
                )
    names = tuple(
        name
        for name, tensor in theta.items()
        if not (ignore == "biasbn" and tensor.dim() <= 1)
        and not any(fnmatchcase(name, pattern) for pattern in patterns)
        and (only is None or any(fnmatchcase(name, pattern) for pattern in only))
    )
    if not names:
        raise UserError("plane", "`ignore` and `only` leave no parameter to perturb", expected="at least one")
    return names


def fit_direction(
    stored: Stored,
    theta: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    where: str,
    statistics: Collection[str] = (),
) -> dict[str, Tensor]:
    """Return a stored direction by parameter name, and by name what it holds of the statistics that may move.

    Args:
        stored: the arrays in the order of the parameters, or of the state dict (tomgoldstein/loss-landscape's
            "states" files; old ones lack `num_batches_tracked`).
        theta: the parameters.
        state: the state dict, for the second order.
        where: file and group, for messages.
        statistics: names in the state dict of the running statistics that may move.

    Raises:
        UserError: the number, a name or a shape does not fit, or the direction moves what has to stay.
    """
    untracked = [name for name in state if not name.endswith(UNUSED)]
    orders = [names for names in (list(theta), list(state), untracked) if len(names) == len(stored)]
    if not orders:
        raise UserError(
            "plane.path",
            (
                f"{where} holds {len(stored)} tensors and the network has {len(theta)} parameters ({len(state)} with "
                "its statistics)"
            ),
            remedy="it belongs to another network",
        )
    direction: dict[str, Tensor] = {}
    for (given, array), name in zip(stored, orders[0], strict=True):
        expected = theta[name] if name in theta else state[name]
        if given not in (None, name) or array.size != real(expected).numel():
            raise UserError(
                "plane.path",
                (
                    f"{where} holds `{given or name}` {list(array.shape)} where the network has `{name}` "
                    f"{list(expected.shape)}"
                ),
                remedy="it belongs to another network",
            )
        if name in theta or name in statistics:
            numbers = torch.from_numpy(np.array(array, np.float32)).reshape(real(expected).shape)
            direction[name] = torch.view_as_complex(numbers) if expected.is_complex() else numbers
        elif np.any(array) and not name.endswith(UNUSED):
            raise UserError(
                "plane.path",
                (
                    f"{where} moves `{name}`, which ",
                    Key("evaluate.batchnorm"),
                    " leaves alone: running statistics move with batchnorm: move, and other buffers never",
                ),
                remedy="use a direction of weights alone",
            )
    return direction

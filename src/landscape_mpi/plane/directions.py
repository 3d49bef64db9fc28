"""Where delta and eta come from: drawn at random, or the way to other parameters; knows no file format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from landscape_mpi.errors import UserError
from landscape_mpi.plane.counter import standard_normal
from landscape_mpi.plane.kinds import double, real, single
from landscape_mpi.plane.normalise import NORMALISERS

Parameters = dict[str, Tensor]
Ignore = str | Sequence[str]
"""Which parameters stay: "biasbn" (tensors of at most one dimension), "none", or fnmatch patterns on their names."""


@dataclass(frozen=True)
class RandomDirections:
    """How random directions are drawn: seed, normalisation and which parameters stay where they are.

    `only`, where given, are patterns of the parameters to perturb.
    """

    seed: int
    normalise: str
    ignore: Ignore
    only: Sequence[str] | None = None

    def draw(self, theta: Mapping[str, Tensor], axis: int) -> Parameters:
        """Return direction `axis` (0 is delta, 1 is eta), float32 on the CPU; zero where parameters stay.

        Of complex parameters both the real and the imaginary part are normal, complex64.

        Raises:
            UserError: a pattern matches no parameter, or nothing is left to perturb.
        """
        drawn = {name: self._draw(name, theta[name], axis) for name in moved(theta, self.ignore, self.only)}
        return scale_direction(drawn, theta, self.normalise, self.ignore, self.only)

    def _draw(self, name: str, tensor: Tensor, axis: int) -> Tensor:
        wanted = real(single(tensor))
        drawn = torch.from_numpy(standard_normal(self.seed, axis, name, 0, wanted.numel())).reshape(wanted.shape)
        return torch.view_as_complex(drawn) if tensor.is_complex() else drawn


def difference(to: Mapping[str, Tensor], theta: Mapping[str, Tensor]) -> Parameters:
    """Return the way from theta to other parameters, to - theta, float32 or complex64."""
    return {name: single(double(to[name]) - double(tensor)) for name, tensor in theta.items()}


def scale_direction(
    d: Mapping[str, Tensor],
    theta: Mapping[str, Tensor],
    normalise: str,
    ignore: Ignore,
    only: Sequence[str] | None = None,
) -> Parameters:
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
        name: scale(d[name], single(tensor)) if name in names else torch.zeros_like(single(tensor))
        for name, tensor in theta.items()
    }


def moved(theta: Mapping[str, Tensor], ignore: Ignore, only: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the parameters that do not stay; arguments as for `scale_direction`.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to perturb.
    """
    moves = _chooser(theta, ignore, only)
    names = tuple(name for name, tensor in theta.items() if moves(name, tensor))
    if not names:
        raise UserError("plane: `ignore` and `only` leave no parameter to perturb; expected at least one.")
    return names


def _chooser(theta: Mapping[str, Tensor], ignore: Ignore, only: Sequence[str] | None) -> Callable[[str, Tensor], bool]:
    patterns = [] if isinstance(ignore, str) else list(ignore)
    _check_patterns("plane.ignore", patterns, theta)
    _check_patterns("plane.only", only or [], theta)

    def moves(name: str, tensor: Tensor) -> bool:
        if ignore == "biasbn" and tensor.dim() <= 1:
            return False
        return not _matches(name, patterns) and (only is None or _matches(name, only))

    return moves


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(key: str, patterns: Sequence[str], theta: Mapping[str, Tensor]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in theta):
            raise UserError(
                f"{key}: the pattern {pattern!r} matches no parameter; the network's {len(theta)} are "
                f"{', '.join(list(theta)[:4])}, ..."
            )

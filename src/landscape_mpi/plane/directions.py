"""Where delta and eta come from: drawn at random, or given by name or by position; knows no file format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from landscape_mpi.errors import UserError
from landscape_mpi.plane.normalise import NORMALISERS

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class RandomDirections:
    """How random directions are drawn: seed, normalisation and which parameters stay where they are.

    `ignore` is "biasbn" (tensors of at most one dimension), "none", or fnmatch patterns on parameter names; `only`,
    where given, are patterns of the parameters to perturb.
    """

    seed: int
    normalise: str
    ignore: str | Sequence[str]
    only: Sequence[str] | None = None

    def draw(self, theta: Mapping[str, Tensor], axis: int) -> Parameters:
        """Return direction `axis` (0 is delta, 1 is eta), float32 on the CPU, one generator each.

        Raises:
            UserError: a pattern matches no parameter, or nothing is left to perturb.
        """
        moves = self._chooser(theta)
        if not any(moves(name, tensor) for name, tensor in theta.items()):
            raise UserError("plane: `ignore` and `only` leave no parameter to perturb; expected at least one.")
        generator = torch.Generator().manual_seed(2 * self.seed + axis)
        normalise = NORMALISERS[self.normalise]
        direction = {}
        for name, tensor in theta.items():
            # drawn even where it is not used, so that `ignore` and `only` do not change the other tensors
            d = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
            direction[name] = normalise(d, tensor.float()) if moves(name, tensor) else torch.zeros_like(d)
        return direction

    def _chooser(self, theta: Mapping[str, Tensor]) -> Callable[[str, Tensor], bool]:
        patterns = [] if isinstance(self.ignore, str) else list(self.ignore)
        _check_patterns("plane.ignore", patterns, theta)
        _check_patterns("plane.only", self.only or [], theta)

        def moves(name: str, tensor: Tensor) -> bool:
            if self.ignore == "biasbn" and tensor.dim() <= 1:
                return False
            return not _matches(name, patterns) and (self.only is None or _matches(name, self.only))

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

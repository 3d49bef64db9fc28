"""Makes directions: drawn at random, the way to other parameters, or arrays of a file; normalised, or as they are."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.errors import Key, UserError
from landscape_mpi.plane.counter import GENERATOR
from landscape_mpi.plane.normalise import NORMALISERS, Scales, scales_of
from landscape_mpi.plane.parameters import Parameters, double, feed, real, row_pieces, single, standing
from landscape_mpi.plane.rebuild import Drawn, Itself, Part, Rows, direction

Ignore = str | Sequence[str]
"""Which parameters stay: "biasbn" (tensors of at most one dimension), "none", or fnmatch patterns on their names."""
Stored = Sequence[tuple[str | None, NDArray[np.float32]]]
"""A direction as files hold it: (name if known, array), in `named_parameters()` or state dict order; a complex tensor
as pairs of real numbers, [..., 2]."""

UNUSED = "num_batches_tracked"
"""The end of the names of buffers that no forward pass in eval mode reads."""


@dataclass(frozen=True, eq=False)
class DrawnDirection(Mapping[str, Tensor]):
    """A random direction by the names of all parameters; a tensor is drawn anew each time that it is asked for.

    Attributes:
        seed: of the random numbers.
        axis: 0 for delta, 1 for eta, 2 for a third one.
        normalise: "filter", "layer", "weight" or "none".
        theta: the parameters.
        moving: the names of those that move; the direction is 0 in all others.
        scales: as `scales_of` returns them for these names.
    """

    seed: int
    axis: int
    normalise: str
    theta: Parameters
    moving: frozenset[str]
    scales: Scales

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor of the direction, float32 or complex64 on the CPU; zeros take no memory.

        Both the real and the imaginary part are normal numbers where the parameter is complex.
        """
        theta, part = self.theta[name], self.part(name)
        if part is None:
            return standing(theta)
        found = direction(part, real(theta).reshape(-1).cpu(), 0).view(real(theta).shape)
        return torch.view_as_complex(found) if theta.is_complex() else found

    def pieces(self, name: str) -> Iterator[Tensor]:
        """Yield a tensor of the direction a few rows at a time, float32 on the CPU; complex numbers as pairs.

        Each piece is [n, ...] for n entries of the first dimension; a tensor without dimensions gives its one number.
        """
        theta, part = real(self.theta[name]), self.part(name)
        width = theta[:1].numel() if theta.dim() else 1
        for rows in row_pieces(theta):
            some = theta[rows] if theta.dim() else theta
            if part is None:
                yield torch.zeros(some.shape)
            else:
                yield direction(part, some.reshape(-1).cpu(), rows.start * width).view(some.shape)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of all parameters."""
        return iter(self.theta)

    def __len__(self) -> int:
        """Return the number of parameters."""
        return len(self.theta)

    def part(self, name: str, device: torch.device | None = None) -> Part | None:
        """Return how the tensor of a parameter is drawn, there or on another device; None where it stays.

        A tensor of at most one dimension has no filters and takes d = theta under `filter` and `layer`, as in the
        authors' code.
        """
        if name not in self.moving:
            return None
        if self.normalise == "weight":
            return Drawn(self.seed, self.axis, name, "theta")
        if self.normalise == "none":
            return Drawn(self.seed, self.axis, name)
        if self.theta[name].dim() <= 1:
            return Itself()
        scales = self.scales[name].to(device)
        rows = Rows(scales, real(self.theta[name]).numel() // max(scales.numel(), 1))
        return Drawn(self.seed, self.axis, name, rows)

    def to(self, device: torch.device) -> "DrawnDirection":
        """Return the direction with its scales on a device."""
        scales = {name: tensor.to(device) for name, tensor in self.scales.items()}
        return DrawnDirection(self.seed, self.axis, self.normalise, self.theta, self.moving, scales)

    def fingerprint(self) -> str:
        """Return the SHA-256 of what the direction is drawn by: generator, seed, axis, names, shapes and scales."""
        digest = hashlib.sha256(f"{GENERATOR} {self.seed} {self.axis} {self.normalise}".encode())
        for name, tensor in self.theta.items():
            if name in self.moving:
                digest.update(f"{name}{tuple(tensor.shape)}{tensor.is_complex()}".encode())
        feed(digest, self.scales)
        return digest.hexdigest()


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
    """Return a stored direction by name, for the parameters and for the statistics that may move.

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

"""Holds a line, plane or volume through theta* in parameter space, and sets tensors to its points."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from landscape_mpi.plane.course import Course
from landscape_mpi.plane.directions import DrawnDirection
from landscape_mpi.plane.parameters import Parameters, feed, real, row_pieces, stays
from landscape_mpi.plane.rebuild import Part, Step, rebuild, rebuild_rows


@dataclass(frozen=True)
class Plane:
    """All theta + alpha delta + beta eta + ..., one direction per axis; parameters in `named_parameters()` order.

    Attributes:
        theta: the origin, by name.
        directions: delta of a line; delta and eta of a plane; a third one of a volume.
        statistics: buffers by name, as a plane of their own, where some move along with the parameters: the running
            statistics of batch norm (the "states" of the paper's code), and what else differs between two checkpoints.
            None where no buffer moves; norms and angles are of parameters alone.
        course: how points lie in the plane, where their coordinates are along a curve in it.
        axes: how many coordinates a point has; 0 for one per direction.
        end: the parameters at alpha = 1, where they are to equal a network's to the bit: theta + delta is rounded.
    """

    theta: Parameters
    directions: tuple[Parameters, ...]
    statistics: "Plane | None" = None
    course: Course | None = None
    axes: int = 0
    end: Parameters | None = None

    @staticmethod
    def along(theta: Parameters, directions: Sequence[Parameters], buffers: Parameters | None = None) -> "Plane":
        """Return the plane along some directions.

        Args:
            theta: the origin.
            directions: for each parameter, and for each of the buffers, how it moves.
            buffers: what moves along with the parameters; none or empty where nothing does.
        """
        statistics = Plane.along(buffers, directions) if buffers else None
        own = (d if isinstance(d, DrawnDirection) else {name: d[name] for name in theta} for d in directions)
        return Plane(theta, tuple(own), statistics)

    @property
    def centre(self) -> tuple[float, ...]:
        """The coordinates of theta: 0 along each direction."""
        return (0.0,) * (self.axes or len(self.directions))

    def reached(self, point: Sequence[float]) -> Sequence[float]:
        """Return how far along each direction a point lies."""
        return self.course(point) if self.course else point

    def _is_end(self, point: Sequence[float]) -> bool:
        return self.end is not None and tuple(self.reached(point)) == (1.0, *[0.0] * (len(self.directions) - 1))

    @property
    def moving(self) -> tuple[str, ...]:
        """The parameters in which some direction is not 0, by name; the same where directions were read from a file."""
        found = set[str]()
        for d in self.directions:
            found |= set(d.moving) if isinstance(d, DrawnDirection) else {name for name in d if bool(d[name].any())}
        return tuple(name for name in self.theta if name in found)

    def set(self, name: str, point: Sequence[float], out: Tensor) -> None:
        """Set a tensor to theta + alpha delta + beta eta + ... of one parameter; at the centre it is theta to the bit.

        Args:
            name: of the parameter.
            point: alpha, beta, ...: one per direction.
            out: of the parameter's shape; rounded to its dtype. Tensors on another device are copied to its device.
        """
        if self.end is not None and self._is_end(point):
            out.copy_(self.end[name])
            return
        theta, parts = self.parts(name, device=out.device)
        steps: list[Step] = [(x, part) for x, part in zip(self.reached(point), parts, strict=True) if part is not None]
        whole = out if out.is_contiguous() else torch.empty(out.shape, dtype=out.dtype, device=out.device)
        rebuild(real(whole).view(-1), theta, steps)
        if whole is not out:
            out.copy_(whole)

    def set_rows(self, name: str, point: Sequence[float], rows: Tensor, out: Tensor) -> None:
        """Set a tensor to some rows of what `set` makes of a parameter [n, width]; not along a curve.

        Args:
            name: of the parameter, which is on the CPU.
            point: alpha, beta, ...: one per direction.
            rows: which ones, int64 [k], contiguous.
            out: [k, width], contiguous, on the CPU.
        """
        theta, parts = self.parts(name)
        steps: list[Step] = [(x, part) for x, part in zip(point, parts, strict=True) if part is not None]
        rebuild_rows(out, theta.view(self.theta[name].shape), steps, rows)

    def parts(
        self, name: str, some: slice = slice(None), device: torch.device | None = None
    ) -> tuple[Tensor, list[Part | None]]:
        """Return theta, and each direction, for some numbers of a parameter, as `rebuild` takes them.

        Args:
            name: of the parameter.
            some: which of its numbers, counted flat; real and imaginary part of a complex one are two.
            device: of what is returned; None for that of the plane.

        Returns:
            theta [n], contiguous, and a part for each direction; None where the parameter stays.
        """
        theta = real(self.theta[name]).reshape(-1)[some]
        device = device or theta.device
        parts: list[Part | None] = []
        for direction in self.directions:
            if isinstance(direction, DrawnDirection):
                parts.append(direction.part(name, device))
            else:
                stored = direction[name]
                parts.append(None if stays(stored) else real(stored).reshape(-1)[some].to(device))
        return theta.to(device), parts

    def moves(self, name: str) -> bool:
        """Whether a parameter has other values at other points."""
        return any(name in d.moving if isinstance(d, DrawnDirection) else not stays(d[name]) for d in self.directions)

    def at(self, *point: float, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Return theta + alpha delta + beta eta + ...; at the centre it is theta to the bit.

        Args:
            point: alpha, beta, ...: one per direction.
            dtype: of what is returned; complex tensors get the complex dtype of the same precision. None for theta's.
        """
        found = {}
        for name, tensor in self.theta.items():
            kind = dtype or tensor.dtype.to_real()
            kind = kind.to_complex() if tensor.is_complex() else kind
            found[name] = torch.empty(tensor.shape, dtype=kind, device=tensor.device)
            self.set(name, point, found[name])
        return found

    def to(self, device: torch.device, room: int | None = None) -> "Plane":
        """Return the plane for weights on a device; what is drawn is drawn there.

        Args:
            device: of the weights.
            room: bytes that theta and the directions that are held may take there. Where they take more they stay where
                they are, and `set` takes them to the device one tensor after the other. None for no limit.
        """
        stays_here = room is not None and self.nbytes > room
        theta = self.theta if stays_here else {name: tensor.to(device) for name, tensor in self.theta.items()}
        directions = (d.to(device) if isinstance(d, DrawnDirection) else d for d in self.directions)
        if not stays_here:
            directions = (d if isinstance(d, DrawnDirection) else _direction_to(d, device) for d in directions)
        statistics = self.statistics and self.statistics.to(device)
        return replace(self, theta=theta, directions=tuple(directions), statistics=statistics)

    @property
    def nbytes(self) -> int:
        """Bytes of theta and of the directions that are held."""
        held = [self.theta, *(d for d in self.directions if not isinstance(d, DrawnDirection))]
        return sum(tensor.nbytes for part in held for tensor in part.values())

    def cosine(self, one: int, other: int) -> float:
        """Return the cosine of the angle between two directions; NaN where there is none, or one of them is zero."""
        if max(one, other) >= len(self.directions):
            return math.nan
        lengths = self.norms[one] * self.norms[other]
        return self._products[one][other] / lengths if lengths else math.nan

    @cached_property
    def norms(self) -> tuple[float, ...]:
        """The norm of each direction over all parameters."""
        return tuple(math.sqrt(row[axis]) for axis, row in enumerate(self._products))

    @cached_property
    def _products(self) -> tuple[tuple[float, ...], ...]:
        """Inner products of any two directions, in float64; what is drawn is drawn once, a piece at a time."""
        axes = range(len(self.directions))
        total = [[0.0 for _ in axes] for _ in axes]
        for name in self.theta:
            for parts in zip(*(_pieces(direction, name) for direction in self.directions), strict=True):
                flat = [part.reshape(-1).double() for part in parts]
                for one in axes:
                    for other in axes[: one + 1]:
                        total[one][other] += torch.dot(flat[one], flat[other]).item()
        return tuple(tuple(total[max(i, j)][min(i, j)] for j in axes) for i in axes)

    def fingerprint(self) -> str:
        """Return the SHA-256 of what makes the plane, in hexadecimal: theta and the directions, byte for byte.

        Drawn directions count by their recipe, names, shapes and scales; theta then counts by the scales only.
        Statistics are part of it where they move.
        """
        digest = hashlib.sha256()
        drawn = [direction for direction in self.directions if isinstance(direction, DrawnDirection)]
        if drawn and len(drawn) == len(self.directions):
            for direction in drawn:
                digest.update(direction.fingerprint().encode())
        else:
            second: tuple[Parameters, ...] = ({},) if len(self.directions) == 1 else ()  # a line has an empty second
            for part in (self.theta, *self.directions, *second):
                digest.update(b"|")
                feed(digest, part)
        if self.statistics is not None:
            digest.update(self.statistics.fingerprint().encode())
        return digest.hexdigest()


def _pieces(direction: Parameters, name: str) -> Iterator[Tensor]:
    """Return a tensor of a direction a few rows at a time; complex numbers as pairs."""
    if isinstance(direction, DrawnDirection):
        return direction.pieces(name)
    tensor = real(direction[name])
    return (tensor[rows] if tensor.dim() else tensor for rows in row_pieces(tensor))


def _direction_to(direction: Parameters, device: torch.device) -> Parameters:
    """Return a direction on a device; tensors of zeros that take no memory take none there."""
    return {
        name: tensor[(0,) * tensor.dim()].to(device).expand(tensor.shape) if stays(tensor) else tensor.to(device)
        for name, tensor in direction.items()
    }

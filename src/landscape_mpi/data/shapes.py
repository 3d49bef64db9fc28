"""`shapes10`: CIFAR-shaped images of ten shapes, made on the spot; knows nothing of torch, files or jobs.

Everything after the random bits is sums, products, quotients and comparisons, which IEEE 754 rounds exactly:
the same bytes on every machine. Images are drawn in blocks, each by a generator of its own, so the first n of
them do not depend on n.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError

SIDE = 32
BLOCK = 200
STREAMS = {"train": 0, "test": 1}
DEFAULT_IMAGES = {"train": 4000, "test": 1000}

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ShapesOptions:
    """The `data.options` of shapes10.

    Attributes:
        images: Number of images of each split; None for 4000 of `train` and 1000 of `test`.
        seed: Whole number from 0; another one draws other images of the same kind.
        noise: Width of the uniform pixel noise on each side, as a fraction of white.
        contrast: Least difference between a shape's colour and its ground, summed over the channels.
    """

    images: int | None = None
    seed: int = 0
    noise: float = 0.3
    contrast: float = 0.5

    def __post_init__(self) -> None:
        if self.images is not None and not _is_whole(self.images, 1):
            raise _wrong_option("images", self.images, "a whole number from 1")
        if not _is_whole(self.seed, 0):
            raise _wrong_option("seed", self.seed, "a whole number from 0")
        for name, value in (("noise", self.noise), ("contrast", self.contrast)):
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise _wrong_option(name, value, "a number from 0 to 1")

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> "ShapesOptions":
        """Return the options of a job, refusing unknown ones."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise UserError(f"data.options.{name}: shapes10 has no such option, expected some of {known}")
        return cls(**options)


def draw_shapes10(split: str, options: ShapesOptions, limit: int | None = None) -> tuple[Bytes, Bytes]:
    """Return the first images of a split, uint8 [n, 3, 32, 32], and their classes, uint8 [n].

    The classes are balanced and shuffled within blocks of 200 images. The splits come from disjoint streams.

    Args:
        split: `train` or `test`.
        options: How many images there are, and how hard they are.
        limit: The largest number of images to draw; None for all of them.
    """
    images = options.images or DEFAULT_IMAGES[split]
    wanted = min(images, limit or images)
    blocks = [_draw_block(split, options, number) for number in range(-(-wanted // BLOCK))]
    pixels, labels = (np.concatenate(parts)[:wanted] for parts in zip(*blocks, strict=True))
    return pixels, labels


def _draw_block(split: str, options: ShapesOptions, number: int) -> tuple[Bytes, Bytes]:
    random = np.random.default_rng([options.seed, STREAMS[split], number])
    labels = random.permutation(np.repeat(np.arange(len(SHAPES), dtype=np.uint8), BLOCK // len(SHAPES)))
    inside = _draw_shapes(random, labels)[:, None]
    ground, ink = _draw_colours(random, options.contrast)
    image = np.where(inside, ink, ground) + _draw_texture(random) + _draw_noise(random, options.noise)
    return (image.clip(0, 1) * np.float32(255)).astype(np.uint8), labels


def _draw_shapes(random: np.random.Generator, labels: Bytes) -> Mask:
    """Return which pixels [n, 32, 32] belong to the shape, each at a place, size and angle of its own."""
    u, v = _draw_frames(random, len(labels))
    inside = np.zeros(u.shape, np.bool_)
    for label, shape in enumerate(SHAPES):
        mine = labels == label
        inside[mine] = shape(u[mine], v[mine])
    return inside


def _draw_frames(random: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Return the coordinates (u, v) of every pixel [n, 32, 32] in the frame of the image's shape.

    The angle lies between -90 and 90 degrees and comes from the rational parametrisation of the circle.
    """
    axis: Floats = np.linspace(-1, 1, SIDE, dtype=np.float32)
    t, x0, y0 = (_uniform(random, (n, 1, 1), -1, 1) for _ in range(3))
    size = _uniform(random, (n, 1, 1), 0.55, 0.9)
    x = (axis[None, None, :] - (1 - size) * x0) / size
    y = (axis[None, :, None] - (1 - size) * y0) / size
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    return cosine * x + sine * y, cosine * y - sine * x


def _draw_colours(random: np.random.Generator, contrast: float) -> tuple[Floats, Floats]:
    """Return the colours of ground and shape, each [n, 3, 1, 1], that differ by `contrast` or more in all."""
    ground = _uniform(random, (BLOCK, 3, 1, 1), 0.2, 0.8)
    step = _uniform(random, (BLOCK, 3, 1, 1), -1, 1)
    total = np.abs(step).sum(axis=1, keepdims=True, dtype=np.float32)
    return ground, ground + step * (np.float32(contrast) / np.minimum(total, 1))


def _draw_texture(random: np.random.Generator) -> Floats:
    """Return a slope of brightness and blotches of colour, [n, 3, 32, 32]."""
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    slope = _uniform(random, (BLOCK, 1, 1, 1), -0.15, 0.15) * axis
    slope = slope + _uniform(random, (BLOCK, 1, 1, 1), -0.15, 0.15) * axis[:, None]
    blotches = _uniform(random, (BLOCK, 3, 8, 8), -0.08, 0.08)
    return slope + blotches.repeat(4, axis=2).repeat(4, axis=3)


def _draw_noise(random: np.random.Generator, width: float) -> Floats:
    return _uniform(random, (BLOCK, 3, SIDE, SIDE), -width, width)


def _uniform(random: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> Floats:
    return np.float32(low) + np.float32(high - low) * random.random(shape, dtype=np.float32)


def _box(u: Floats, v: Floats) -> Floats:
    return np.maximum(np.abs(u), np.abs(v))


def _disc(u: Floats, v: Floats) -> Mask:
    return u * u + v * v < 0.8


def _ring(u: Floats, v: Floats) -> Mask:
    square = u * u + v * v
    return (square < 0.9) & (square > 0.3)


def _square(u: Floats, v: Floats) -> Mask:
    return _box(u, v) < 0.75


def _frame(u: Floats, v: Floats) -> Mask:
    return (_box(u, v) < 0.85) & (_box(u, v) > 0.5)


def _triangle(u: Floats, v: Floats) -> Mask:
    return (v > -0.6) & (v + 2 * np.abs(u) < 0.95)


def _plus(u: Floats, v: Floats) -> Mask:
    return (np.minimum(np.abs(u), np.abs(v)) < 0.28) & (_box(u, v) < 0.95)


def _bars(u: Floats, v: Floats) -> Mask:
    return (_box(u, v) < 0.85) & ((np.abs(v) > 0.5) | (np.abs(v) < 0.17))


def _half_disc(u: Floats, v: Floats) -> Mask:
    return (u * u + v * v < 1) & (v > -0.1)


def _checks(u: Floats, v: Floats) -> Mask:
    return (u * v > 0) & (_box(u, v) < 0.9)


def _dots(u: Floats, v: Floats) -> Mask:
    return (np.abs(u) - 0.5) ** 2 + (np.abs(v) - 0.5) ** 2 < 0.16


SHAPES: tuple[Callable[[Floats, Floats], Mask], ...] = (
    _disc, _ring, _square, _frame, _triangle, _plus, _bars, _half_disc, _checks, _dots,
)  # fmt: skip


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _wrong_option(name: str, value: object, expected: str) -> UserError:
    return UserError(f"data.options.{name}: found {value!r}, expected {expected} for shapes10")

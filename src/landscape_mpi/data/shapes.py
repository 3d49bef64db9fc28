"""Draws the data set `shapes10`: synthetic images of ten shapes, as large as those of CIFAR-10.

Everything after the random bits is sums, products, quotients and comparisons, which IEEE 754 rounds exactly, so the
bytes are the same on every machine. Images are drawn in blocks, each by its own generator, so the first n images do
not depend on n.
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
TEST_SHARE = 4

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ShapesOptions:
    """The `data.options` of shapes10.

    Attributes:
        images: Number of training images; the test split has a quarter as many.
        seed: Whole number from 0; another one draws other images of the same kind.
        noise: Each value of a pixel is off by up to this fraction of white, evenly distributed.

    Raises:
        UserError: A value out of its range.
    """

    images: int = 4000
    seed: int = 0
    noise: float = 0.1

    def __post_init__(self) -> None:
        for name, value, least in (("images", self.images, TEST_SHARE), ("seed", self.seed, 0)):
            if type(value) is not int or value < least:
                raise _wrong_option(name, value, f"a whole number >= {least}")
        if type(self.noise) not in (int, float) or not 0 <= self.noise <= 1:
            raise _wrong_option("noise", self.noise, "a number from 0 to 1")

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> "ShapesOptions":
        """Return the options of a job.

        Raises:
            UserError: An unknown option, or a value out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise UserError(f"data.options.{name}", "found no such option", expected=f"one of {', '.join(known)}")
        return cls(**options)

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return self.images if split == "train" else self.images // TEST_SHARE


def draw_shapes10(split: str, options: ShapesOptions, limit: int | None = None) -> tuple[Bytes, Bytes]:
    """Return the first images of a split, uint8 [n, 3, 32, 32], and their classes, uint8 [n].

    The classes are balanced and shuffled within blocks of 200 images. The splits come from disjoint streams.

    Args:
        split: `train` or `test`.
        options: How many images there are, and how noisy they are.
        limit: The largest number of images to draw; None for all of them.
    """
    images = options.count(split)
    wanted = min(images, limit or images)
    blocks = [_draw_block(split, options, number) for number in range(-(-wanted // BLOCK))]
    pixels, labels = (np.concatenate(parts)[:wanted] for parts in zip(*blocks, strict=True))
    return pixels, labels


def _draw_block(split: str, options: ShapesOptions, number: int) -> tuple[Bytes, Bytes]:
    random = np.random.default_rng([options.seed, STREAMS[split], number])
    labels = random.permutation(np.repeat(np.arange(len(SHAPES), dtype=np.uint8), BLOCK // len(SHAPES)))
    inside = _draw_shapes(random, labels)[:, None]
    ground, ink = _draw_colours(random)
    noise = _uniform(random, (BLOCK, 3, SIDE, SIDE), -options.noise, options.noise)
    image = np.where(inside, ink, ground) + _draw_texture(random) + noise
    return (image.clip(0, 1) * np.float32(255)).astype(np.uint8), labels


def _draw_shapes(random: np.random.Generator, labels: Bytes) -> Mask:
    """Return which pixels [n, 32, 32] belong to the shape, each at a place, size and angle of its own.

    (u, v) are the coordinates of every pixel [n, 32, 32] in the frame of the image's shape, which is turned by up to 23
    degrees either way: t is the tangent of half the angle.
    """
    n = len(labels)
    x0, y0 = (_uniform(random, (n, 1, 1), -1, 1) for _ in range(2))
    t = _uniform(random, (n, 1, 1), -0.2, 0.2)
    size = _uniform(random, (n, 1, 1), 0.7, 0.95)
    x = (_axis() - (1 - size) * x0) / size
    y = (_axis()[:, None] - (1 - size) * y0) / size
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    u, v = cosine * x + sine * y, cosine * y - sine * x
    inside = np.zeros(u.shape, np.bool_)
    for label, shape in enumerate(SHAPES):
        mine = labels == label
        inside[mine] = shape(u[mine], v[mine])
    return inside


def _draw_colours(random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the colours of ground and shape, each [n, 3, 1, 1].

    They differ by 0 to 2, summed over the channels. The faintest shapes cannot be told from the noise, which keeps
    every network below 100 %. Most shapes are brighter than their ground; otherwise training would take hours.
    """
    ground = _uniform(random, (BLOCK, 3, 1, 1), 0.1, 0.5)
    step = _uniform(random, (BLOCK, 3, 1, 1), -0.3, 1)
    contrast = _uniform(random, (BLOCK, 1, 1, 1), 0, 2)
    return ground, ground + step * (contrast / np.abs(step).sum(axis=1, keepdims=True, dtype=np.float32))


def _draw_texture(random: np.random.Generator) -> Floats:
    """Return a slope of brightness and blotches of colour, [n, 3, 32, 32]."""
    across, down = (_uniform(random, (BLOCK, 1, 1, 1), -0.15, 0.15) for _ in range(2))
    blotches = _uniform(random, (BLOCK, 3, 8, 8), -0.08, 0.08)
    return across * _axis() + down * _axis()[:, None] + blotches.repeat(4, axis=2).repeat(4, axis=3)


def _axis() -> Floats:
    return np.linspace(-1, 1, SIDE, dtype=np.float32)


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
    inside: Mask = (v > -0.6) & (v + 2 * np.abs(u) < 0.95)
    return inside


def _plus(u: Floats, v: Floats) -> Mask:
    return (np.minimum(np.abs(u), np.abs(v)) < 0.28) & (_box(u, v) < 0.95)


def _bars(u: Floats, v: Floats) -> Mask:
    return (_box(u, v) < 0.85) & ((np.abs(v) > 0.5) | (np.abs(v) < 0.17))


def _half_disc(u: Floats, v: Floats) -> Mask:
    return (u * u + v * v < 1) & (v > -0.1)


def _checks(u: Floats, v: Floats) -> Mask:
    return (u * v > 0) & (_box(u, v) < 0.9)


def _dots(u: Floats, v: Floats) -> Mask:
    return _disc((np.abs(u) - 0.5) * 2.24, (np.abs(v) - 0.5) * 2.24)


SHAPES: tuple[Callable[[Floats, Floats], Mask], ...] = (
    _disc, _ring, _square, _frame, _triangle, _plus, _bars, _half_disc, _checks, _dots,
)  # fmt: skip


def _wrong_option(name: str, value: object, expected: str) -> UserError:
    return UserError(f"data.options.{name}", f"found {value!r} for shapes10", expected=expected)

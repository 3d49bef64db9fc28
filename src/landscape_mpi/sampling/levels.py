"""The prefixes that points are evaluated on, from the first level to all images; knows the target and the number N."""

from itertools import takewhile

import numpy as np

FIRST = {0.01: 1000.0, 0.02: 800.0, 0.05: 400.0}
"""Images of the first level by target: relative 95 % error bar -> n_0."""
FULLEST = 0.75
"""Once this share of a full sweep is used, the rest is evaluated too: what could still be saved is not worth rounds."""
AIM = 0.75
"""A promoted point aims at this share of the target, so that it need not be promoted again at once."""


def first_level(error: float) -> int:
    """Return n_0, the images of the first level: 400, 800, 1000 for 5, 2, 1 %.

    Between these it is interpolated over the logarithm of the target, beyond them it is that of the nearest.
    """
    targets = np.log(list(FIRST))
    return round(float(np.interp(np.log(error), targets, list(FIRST.values()))))


def prefixes(error: float, images: int) -> tuple[int, ...]:
    """Return the number of images of each level: n_0 2^l as long as that is below N, then N.

    Args:
        error: target, the relative 95 % error bar; 0 asks for all images.
        images: N.

    Raises:
        ValueError: the target is negative or no number, or there are no images.
    """
    if not error >= 0 or images < 1:
        raise ValueError(f"found error {error} and {images} images; expected error >= 0 and an image; mend the job.")
    if all_images_because(error, images):
        return (images,)
    first = first_level(error)
    return (*takewhile(lambda n: n < images, (first << level for level in range(64))), images)


def all_images_because(error: float, images: int) -> str:
    """Return why nothing can be saved, as a clause, or an empty string where something can.

    No bar is narrower than L / n_0 before all images are used (see `metrics.base.relative_floor`); a target at which
    even that misses the aim of a promotion can only be met by all images.
    """
    if error == 0:
        return "error: 0 asks for them"
    first = first_level(error)
    if images <= first:
        return f"there are {images} and the first level alone takes {first}"
    if AIM * error * first <= 1:
        return f"bars of {error:.3g} are too tight to pay: only all images can meet less than {1 / (AIM * first):.2g}"
    return ""

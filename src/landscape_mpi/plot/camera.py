"""Places cameras that look at a landscape from its side, far enough away for all of it to be in the picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

ANGLE = 26.0
"""The vertical angle of view, in degrees: that of a short telephoto lens."""
ELEVATION = 31.0
"""How far above the horizon the camera stands, in degrees."""
AZIMUTH = 302.0
"""Where it stands, in degrees from +alpha towards +beta: in front of the corner of largest alpha and smallest beta."""
FILLED = 0.96
"""The share of the picture's width or height that the landscape takes, whichever is the tighter."""
_ROUNDS = 40


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera that stands upright.

    Attributes:
        place: where it is, float64 [3].
        focus: the point in the middle of its picture, float64 [3].
    """

    place: Values
    focus: Values

    def project(self, points: Values, size: tuple[int, int]) -> Values:
        """Return where points [..., 3] are in a picture of so many pixels: x from the left, y from below, depth."""
        away = self.place - self.focus
        distance = float(np.linalg.norm(away))
        back = away / distance
        right, up = _sides(back)
        seen = points - self.focus
        depth = distance - seen @ back
        scale = size[1] / 2 / np.tan(np.radians(ANGLE) / 2) / depth
        return np.stack([size[0] / 2 + seen @ right * scale, size[1] / 2 + seen @ up * scale, depth], axis=-1)


def cameras(
    points: Values, azimuths: Sequence[float], size: tuple[int, int], elevation: float = ELEVATION
) -> list[Camera]:
    """Return a camera for each azimuth, all at one distance; the pictures hold all points with little space around.

    Args:
        points: [n, 3].
        azimuths: in degrees, from +x towards +y.
        size: width and height of the picture in pixels.
        elevation: above the horizon, in degrees.
    """
    around = [towards(azimuth, elevation) for azimuth in azimuths]
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    distance, aside, above = 3.0, 0.0, 0.0
    for _ in range(_ROUNDS):  # of a fixed-point iteration: nearer points are larger in the picture
        found = [_camera(centre, back, distance, aside, above) for back in around]
        places = np.concatenate([camera.project(points, size)[:, :2] for camera in found])
        low, high = places.min(axis=0), places.max(axis=0)
        pixel = 2 * distance * np.tan(np.radians(ANGLE) / 2) / size[1]
        aside += float((low[0] + high[0] - size[0]) / 2 * pixel)
        above += float((low[1] + high[1] - size[1]) / 2 * pixel)
        distance *= float(((high - low) / size).max()) / FILLED
    return found


def towards(azimuth: float, elevation: float) -> Values:
    """Return the unit vector that points to an azimuth and an elevation in degrees."""
    around, above = np.radians((azimuth, elevation))
    return np.array([np.cos(around) * np.cos(above), np.sin(around) * np.cos(above), np.sin(above)])


def _camera(centre: Values, back: Values, distance: float, aside: float, above: float) -> Camera:
    right, up = _sides(back)
    focus = centre + aside * right + above * up
    return Camera(focus + distance * back, focus)


def _sides(back: Values) -> tuple[Values, Values]:
    """Return the directions right and up in the picture of a camera that has `back` behind it."""
    right = np.array([-back[1], back[0], 0.0]) / np.hypot(back[0], back[1])
    return right, np.cross(back, right)

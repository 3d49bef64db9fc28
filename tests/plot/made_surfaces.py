"""Surface files with known values, written to the schema by hand; knows nothing of the package under test."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

JOB = """\
model:
  build: resnet56
  options: {shortcut: none}
  checkpoint: nets/resnet56.t7
data: {build: cifar10, root: data, limit: 500}
plane: {kind: random, seed: 3}
grid: {alpha: [-1, 1, 9], beta: [-1, 1, 7]}
output: {file: made.h5}
"""

Values = NDArray[np.float64]


def bowl(alpha: Values, beta: Values) -> Values:
    """Return an off-centre bowl [ny, nx], steeper along beta: no transposition leaves it as it is."""
    return 0.05 + 2 * (alpha[None, :] - 0.1) ** 2 + 5 * (beta[:, None] + 0.2) ** 2 + 0.3 * alpha[None, :]


def bowls(alpha: Values, beta: Values, gamma: Values) -> Values:
    """Return bowls [nz, ny, nx] that rise along gamma, and are no mirror image of themselves along it."""
    return bowl(alpha, beta)[None] + gamma[:, None, None] ** 2 + 0.5 * gamma[:, None, None] + 1


def chaos(alpha: Values, beta: Values) -> Values:
    """Return a rugged surface [ny, nx] over five decades, as of a deep network without shortcuts."""
    x, y = alpha[None, :], beta[:, None]
    ridges = 2 * np.sin(9 * x + 4 * np.sin(5 * y)) + 1.5 * np.cos(11 * y - 3 * x)
    return 0.02 + np.exp(1.5 + 2.2 * ridges * np.hypot(x, y) / 2) * (x**2 + y**2)


def write(
    path: Path,
    alpha: Values,
    beta: Values | None,
    metrics: Mapping[str, NDArray[np.generic]],
    *,
    status: NDArray[np.uint8] | None = None,
    job: str | None = JOB,
    attributes: Mapping[str, object] | None = None,
    gamma: Values | None = None,
) -> Path:
    """Write a surface file of the product's schema; without a status every point is done."""
    named = {"zcoordinates": gamma, "ycoordinates": beta, "xcoordinates": alpha}
    axes = [(name, axis) for name, axis in named.items() if axis is not None]
    shape = tuple(len(axis) for _, axis in axes)
    arrays = {
        **metrics,
        "status": np.ones(shape, np.uint8) if status is None else status,
        "seconds": np.full(shape, 0.5),
        "rank": np.zeros(shape, np.int32),
        "error": np.zeros(shape, "S200"),
    }
    with h5py.File(path, "w") as file:
        for name, axis in axes:
            file.create_dataset(name, data=axis).make_scale(name)
        for name, array in arrays.items():
            dataset = file.create_dataset(name, data=array)
            for index, (axis, _) in enumerate(axes if np.shape(array) == shape else []):
                dataset.dims[index].attach_scale(file[axis])
        file["complete"] = np.uint8(bool((arrays["status"] == 1).all()))
        file["audit"] = np.full(4, np.nan)
        if job is not None:
            raw = job.encode()
            file.create_dataset("job", data=raw, dtype=h5py.string_dtype("utf-8", max(len(raw), 1)))
        file.attrs.update({"schema": 2, "seed": 3, "device": "cpu", **(attributes or {})})
    return path


def write_foreign(path: Path, alpha: Values, beta: Values, metrics: Mapping[str, Values]) -> Path:
    """Write a plane as tomgoldstein/loss-landscape does: [nx, ny] on disk, filled in the order of [ny, nx]."""
    with h5py.File(path, "w") as file:
        file["xcoordinates"], file["ycoordinates"] = alpha, beta
        file["dir_file"] = "directions.h5"
        for name, values in metrics.items():
            file[name] = values.ravel().reshape(len(alpha), len(beta))
    return path


def write_losscape(path: Path, alpha: Values, beta: Values, losses: Values) -> Path:
    """Write a plane as losscape's create_3D_losscape does: a mesh, and losses[i, j] at X[i, j], Y[i, j]."""
    columns, rows = np.meshgrid(alpha, beta)
    with h5py.File(path, "w") as file:
        for name, values in (("X", columns), ("Y", rows), ("losses", losses)):
            file.create_dataset(name, data=values)
    return path


def write_landscaper(path: Path, axis: Values, losses: Values) -> Path:
    """Write a plane [ny, nx] or a line as landscaper's compute and save do: each direction has the same coordinates.

    The cube of losses is filled by grid points (i, j), i steps along the first direction, j along the second.
    """
    cube = np.zeros((axis.size,) * losses.ndim)
    for point in np.ndindex(cube.shape):
        cube[point] = losses[point[::-1]]
    np.savez(path, loss=cube, coordinates=[axis] * losses.ndim)
    return path


def coarse(shape: tuple[int, int], stride: int) -> NDArray[np.uint8]:
    """Return the status of a plane of which only every `stride`-th row and column is done."""
    status = np.zeros(shape, np.uint8)
    status[::stride, ::stride] = 1
    return status

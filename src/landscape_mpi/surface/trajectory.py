"""The path of a training run on a plane, as a surface file holds it: `/trajectory`; knows no checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.surface import untrusted

GROUP = "trajectory"
EXPLAINED = "explained_variance_ratio"
_COLUMNS = ("alpha", "beta", "residual", "epoch", "train_loss", "lr")
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Checkpoints of a run, in its order, projected onto a plane or a line; float64 [n] each but for `epoch`.

    Attributes:
        alpha: least-squares coordinate along delta.
        beta: the same along eta; None on a line.
        residual: distance from the plane, over the parameters that it moves.
        epoch: int64, from the file's name.
        train_loss: of the history beside the checkpoints; NaN where there is none.
        lr: learning rate of the epoch that ended there; NaN where it is not known.
        explained: shares of the variance that the components have; empty where the plane is none of components.
    """

    alpha: Values
    beta: Values | None
    residual: Values
    epoch: NDArray[np.int64]
    train_loss: Values
    lr: Values
    explained: tuple[float, ...] = field(default=())

    @property
    def drops(self) -> NDArray[np.intp]:
        """Where the learning rate changed: the last checkpoint before it did, of each change."""
        known = np.flatnonzero(np.isfinite(self.lr))
        before: NDArray[np.intp] = known[:-1][np.diff(self.lr[known]) != 0]
        return before


def write_trajectory(file: h5py.File, trajectory: Trajectory) -> None:
    """Write the group `/trajectory`, one dataset a column."""
    group = file.create_group(GROUP)
    for name in _COLUMNS:
        if (values := getattr(trajectory, name)) is not None:
            group.create_dataset(name, data=values)
    if trajectory.explained:
        group.attrs[EXPLAINED] = np.array(trajectory.explained)


def read_trajectory(file: h5py.File) -> Trajectory | None:
    """Return the path that a file holds; None where it holds none.

    Raises:
        UserError: it is not what `write_trajectory` writes.
    """
    if GROUP not in file:
        return None
    group = file.get(GROUP)
    if not isinstance(group, h5py.Group) or not isinstance(file.get(GROUP, getlink=True), h5py.HardLink):
        raise UserError(f"{file.filename}: `{GROUP}` is no group of its own; expected the columns of a path in it.")
    columns = _columns(untrusted.datasets(group), file.filename)
    return Trajectory(
        alpha=columns["alpha"],
        beta=columns.get("beta"),
        residual=columns["residual"],
        epoch=columns["epoch"].astype(np.int64),
        train_loss=columns["train_loss"],
        lr=columns["lr"],
        explained=_explained(group),
    )


def _columns(found: Mapping[str, h5py.Dataset], path: str) -> dict[str, Values]:
    columns = {name: untrusted.numbers(found[name]).astype(np.float64) for name in _COLUMNS if name in found}
    missing = set(_COLUMNS) - {"beta"} - set(columns)
    shapes = {values.shape for values in columns.values()}
    if missing or len(shapes) != 1 or len(shapes.pop()) != 1:
        raise UserError(f"{path}: `{GROUP}` does not hold columns of one length; expected {', '.join(_COLUMNS)}.")
    return columns


def _explained(group: h5py.Group) -> tuple[float, ...]:
    values = np.atleast_1d(group.attrs.get(EXPLAINED, ()))
    return tuple(map(float, values.ravel()[:2])) if values.dtype.kind == "f" else ()

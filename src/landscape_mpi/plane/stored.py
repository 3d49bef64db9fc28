"""Directions stored elsewhere, as arrays in order -> parameters by name; knows arrays, not files."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.errors import UserError
from landscape_mpi.plane.directions import Parameters

Stored = Sequence[tuple[str | None, NDArray[np.float32]]]
"""A direction as files hold it: (name if known, array), in `named_parameters()` or state dict order."""


def fit_direction(stored: Stored, theta: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> Parameters:
    """Return a stored direction by parameter name.

    Args:
        stored: the arrays in the order of the parameters, or of the state dict (tomgoldstein/loss-landscape's
            "states" files; old ones lack `num_batches_tracked`).
        theta: the parameters.
        state: the state dict, for the second order.
        where: file and group, for messages.

    Raises:
        UserError: the number, a name or a shape does not fit, or the direction moves running statistics.
    """
    names = _order(len(stored), theta, state, where)
    direction: Parameters = {}
    for (given, array), name in zip(stored, names, strict=True):
        expected = theta[name] if name in theta else state[name]
        if given not in (None, name) or array.size != expected.numel():
            raise UserError(
                f"plane.path: {where} holds `{given or name}` {list(array.shape)} where the network has `{name}` "
                f"{list(expected.shape)}; it belongs to another network."
            )
        if name in theta:
            direction[name] = torch.from_numpy(np.array(array, np.float32)).reshape(expected.shape)
        elif np.any(array):
            raise UserError(
                f"plane.path: {where} moves the running statistics `{name}`, and evaluate.batchnorm is keep; use a "
                "direction of weights alone."
            )
    return direction


def _order(count: int, theta: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> list[str]:
    untracked = [name for name in state if not name.endswith("num_batches_tracked")]
    for names in (list(theta), list(state), untracked):
        if len(names) == count:
            return names
    raise UserError(
        f"plane.path: {where} holds {count} tensors and the network has {len(theta)} parameters ({len(state)} with "
        "its statistics); it belongs to another network."
    )

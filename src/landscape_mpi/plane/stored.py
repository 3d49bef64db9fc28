"""Directions stored elsewhere, as arrays in order -> parameters by name; knows arrays, not files."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.errors import UserError
from landscape_mpi.plane.directions import Parameters
from landscape_mpi.plane.kinds import real

Stored = Sequence[tuple[str | None, NDArray[np.float32]]]
"""A direction as files hold it: (name if known, array), in `named_parameters()` or state dict order; a complex tensor
as pairs of real numbers, [..., 2]."""

UNUSED = "num_batches_tracked"
"""How the names of buffers end that no forward pass in eval mode looks at."""


def fit_direction(
    stored: Stored,
    theta: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    where: str,
    statistics: Collection[str] = (),
) -> Parameters:
    """Return a stored direction by parameter name, and by name what it holds of the statistics that may move.

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
    names = _order(len(stored), theta, state, where)
    direction: Parameters = {}
    for (given, array), name in zip(stored, names, strict=True):
        expected = theta[name] if name in theta else state[name]
        if given not in (None, name) or array.size != real(expected).numel():
            raise UserError(
                f"plane.path: {where} holds `{given or name}` {list(array.shape)} where the network has `{name}` "
                f"{list(expected.shape)}; it belongs to another network."
            )
        if name in theta or name in statistics:
            numbers = torch.from_numpy(np.array(array, np.float32)).reshape(real(expected).shape)
            direction[name] = torch.view_as_complex(numbers) if expected.is_complex() else numbers
        elif np.any(array) and not name.endswith(UNUSED):
            raise UserError(
                f"plane.path: {where} moves `{name}`, which evaluate.batchnorm leaves alone: running statistics move "
                "with batchnorm: move, and other buffers never; use a direction of weights alone."
            )
    return direction


def _order(count: int, theta: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> list[str]:
    untracked = [name for name in state if not name.endswith(UNUSED)]
    for names in (list(theta), list(state), untracked):
        if len(names) == count:
            return names
    raise UserError(
        f"plane.path: {where} holds {count} tensors and the network has {len(theta)} parameters ({len(state)} with "
        "its statistics); it belongs to another network."
    )

"""All that changes while a network learns, besides the network itself, as named tensors; knows no file."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.train.learner import Learner

MOMENTS = {"sgd": {"momentum_buffer"}, "adam": {"step", "exp_avg", "exp_avg_sq"}}
"""What each optimiser keeps of a parameter."""


def capture(learner: Learner) -> dict[str, Tensor]:
    """Return the optimiser's moments and the states of all random generators, copies that stay as they are."""
    state = learner.optimizer.state_dict()["state"]
    moments = {
        f"optimizer.{number}.{key}": tensor.detach().clone()
        for number, kept in state.items()
        for key, tensor in kept.items()
        if tensor is not None  # the momentum of an SGD without one
    }
    return moments | {f"random.{name}": found for name, found in _random(learner).items()}


def restore(learner: Learner, tensors: Mapping[str, Tensor]) -> None:
    """Put a learner, and torch's own generators, into the state that `capture` returned.

    Raises:
        UserError: the tensors are not of such a learner.
    """
    try:
        _restore_moments(learner, tensors)
        _restore_random(learner, tensors)
    except (LookupError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            "train.output",
            f"the state of the training does not fit this network and optimiser ({error})",
            remedy=("remove the folder's files, or start afresh with ", Flag("overwrite")),
        ) from None


def _restore_moments(learner: Learner, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name in tensors:
        kind, number, *key = name.split(".")
        if kind == "optimizer":
            state[int(number)][".".join(key)] = tensors[name]
    parameters = list(learner.network.parameters())
    fitting = {number: _fitting(learner, parameters[number], kept) for number, kept in state.items()}
    learner.optimizer.load_state_dict({**learner.optimizer.state_dict(), "state": fitting})


def _fitting(learner: Learner, parameter: Tensor, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the moments of a parameter, laid out in memory as the parameter is.

    Vector instructions round other elements in another way where tensors of one update are laid out differently.
    """
    if set(kept) != MOMENTS[learner.settings.optimizer]:
        raise ValueError(f"found {sorted(kept)} of {learner.settings.optimizer}")
    for key, tensor in kept.items():
        if tensor.shape != (() if key == "step" else parameter.shape):
            raise ValueError(f"found {key} of shape {list(tensor.shape)}")
    return {key: tensor if key == "step" else torch.empty_like(parameter).copy_(tensor) for key, tensor in kept.items()}


def _random(learner: Learner) -> dict[str, Tensor]:
    """Return the states of the learner's own generator, and of torch's, which dropout draws from."""
    states = {"learner": learner.generator.get_state(), "cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(learner.device)} if learner.device.type == "cuda" else {})


def _restore_random(learner: Learner, tensors: Mapping[str, Tensor]) -> None:
    learner.generator.set_state(tensors["random.learner"])
    torch.set_rng_state(tensors["random.cpu"])
    if learner.device.type == "cuda" and "random.cuda" in tensors:  # a run may have been begun on a CPU
        torch.cuda.set_rng_state(tensors["random.cuda"], learner.device)

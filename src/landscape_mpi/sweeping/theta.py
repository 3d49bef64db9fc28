"""Holds theta*, the trained network, and loads other checkpoints of it; evaluates the network as torch's users do."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Batch, Network, Task, examples_that_fit
from landscape_mpi.evaluate.live import Live
from landscape_mpi.job.schema import Evaluate
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.networks import load_checkpoint
from landscape_mpi.networks.checkpoint import open_checkpoint
from landscape_mpi.networks.state import cast, duplicate, own_dtype, statistics_of
from landscape_mpi.plane import Parameters
from landscape_mpi.plane.parameters import can_move
from landscape_mpi.plugin import own_code
from landscape_mpi.sweeping.precision import PRECISIONS

FIRST_EXAMPLES, FIRST_OF_LARGE = 32, 4
"""Examples of each split by whose losses networks are compared; the second is for a network too large to copy."""
Losses = Mapping[str, NDArray[np.float64]]
"""The losses of the first examples of each split, by its name."""


@dataclass(frozen=True)
class Theta:
    """The trained network on its device and in the job's dtype, and where it came from.

    Attributes:
        network: in eval mode, on the device, in the dtype. A module stays at theta*, and copies of it are moved; a live
            network, which must not be copied, is moved itself.
        origin: the network as it was made and its checkpoint loaded, in train mode and its own dtype, on the CPU.
            Nothing changes it; `parameters` are its own tensors, or, where its own have no memory, views of a file.
        parameters: real and complex ones; whole numbers cannot move.
        statistics: the running statistics of batch norm, as stored.
        buffers: what else its state dict holds, as stored.
        checkpoint_sha256: a fingerprint.
    """

    network: nn.Module | Live
    origin: nn.Module
    parameters: Parameters
    statistics: dict[str, Tensor]
    buffers: dict[str, Tensor]
    checkpoint_sha256: str
    note: Callable[[str], None] = lambda _: None

    @property
    def is_large(self) -> bool:
        """Whether the network is too large to copy, and moved itself."""
        return not isinstance(self.network, nn.Module)

    @property
    def module(self) -> nn.Module:
        """The network, of which copies may be taken.

        Raises:
            TypeError: it is a live one.
        """
        if not isinstance(self.network, nn.Module):
            raise TypeError("a live network is not copied")
        return self.network


def theta_of(network: nn.Module, fingerprint: str, evaluate: Evaluate, device: torch.device) -> Theta:
    """Return theta* of a network on the CPU, in the mode in which it was made; it is the origin from here on.

    What it computes from its weights in eval mode is made after they were loaded. Its parameters are those of train
    mode, in which a network keeps apart what can be trained.

    Raises:
        UserError: the network has no batch norm to treat as asked.
    """
    with own_code("model.build", "eval() of the network"):
        copied = duplicate(network).eval()
    with suppress(Exception):  # if `train()` raises, the parameters are those of eval mode
        network.train()
    parameters, statistics = _parameters(network), statistics_of(network)
    check_batchnorm(evaluate, statistics)
    copied = cast(copied, device, PRECISIONS[evaluate.dtype].dtype)
    return Theta(copied, network, parameters, statistics, buffers_of(network), fingerprint)


def check_batchnorm(evaluate: Evaluate, statistics: Parameters) -> None:
    """Refuse to treat running statistics of batch norm in some way where there are none.

    Raises:
        UserError: that is so.
    """
    if evaluate.batchnorm != "keep" and not statistics:
        raise UserError(
            "evaluate.batchnorm",
            f"found {evaluate.batchnorm}, and the network has no batch norm with running statistics",
            remedy="leave the key out",
        )


def load_end(theta: Theta, path: Path, key: str, entry: str | None = None) -> dict[str, Tensor]:
    """Return parameters and buffers of another checkpoint of the same network, on the CPU.

    `entry`: `model.entry`, which is used here if the file has it.

    Raises:
        UserError: the checkpoint does not fit the network; `key` is the job's key that names it.
    """
    if not isinstance(theta.network, nn.Module):
        found = open_checkpoint(theta.origin, path, key, entry, mapped=True)
        for text in found.notes:
            theta.note(text)
        # tensors that no state dict holds, and counters that the file lacks, are theta*'s, as in a copy that loads it
        return {**theta.parameters, **theta.buffers, **found.state}
    dtype = own_dtype(theta.network)

    def load(network: nn.Module) -> None:
        for text in load_checkpoint(network, path, key, entry, dtype):
            theta.note(text)

    return end_of(theta, load)


def end_of(theta: Theta, load: Callable[[nn.Module], None]) -> dict[str, Tensor]:
    """Return parameters and buffers that `load` puts into a copy of the network, on the CPU."""
    network = duplicate(theta.origin)
    load(network)
    return {**_parameters(network), **statistics_of(network), **buffers_of(network)}


def _parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in network.named_parameters() if can_move(tensor)}


def buffers_of(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of the tensors of a state dict that are neither running statistics nor parameters that can move."""
    others = {*_parameters(network), *statistics_of(network)}
    state = network.state_dict().items()
    return {name: value.clone() for name, value in state if isinstance(value, Tensor) and name not in others}


def plain_arrays(network: nn.Module) -> nn.Module:
    """Return the network.

    Raises:
        UserError: a tensor of it is no plain array.
    """
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
            raise UserError(
                "model",
                f"the network holds `{name}` as a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}",
                expected="plain arrays of numbers",
            )
    return network


def eval_copy(network: nn.Module, build: str) -> nn.Module:
    """Return a copy of a network in eval mode; `build`: the callable that made it.

    Raises:
        UserError: a tensor of it is no plain array, or the network's `eval()` raises.
    """
    plain = plain_arrays(network)
    with own_code("model.build", f"eval() of {build}"):
        return duplicate(plain).eval()


def in_own_dtype(network: nn.Module, task: Task) -> tuple[nn.Module, Task]:
    """Return a network on the task's device in its own dtype, at least float32, and the task in that dtype.

    It is a copy if something has to be changed, else the network itself.
    """
    low = any(p.is_floating_point() and torch.finfo(p.dtype).bits < 32 for p in network.parameters())
    dtype = torch.float32 if low else own_dtype(network)
    if low:
        network = cast(duplicate(network), task.device, dtype)
    elif task.device.type != "cpu":
        network = duplicate(network).to(task.device)
    return network, replace(task, dtype=dtype)


def first_losses(network: Network, task: Task, batch: int | Literal["auto"]) -> Losses:
    """Return the losses of the first examples of each split by a network in eval mode, at most `batch` at a time.

    There are 32, or 4 for a live network, which is large: an example of a language model may take seconds.
    """
    first = FIRST_EXAMPLES if isinstance(network, nn.Module) else FIRST_OF_LARGE
    held = Batch(examples_that_fit(task, first) if batch == "auto" else min(batch, first))
    losses = {}
    for split in task.splits:

        def evaluate(examples: int, split: str = split) -> PerExample:
            return task.evaluate(network, split, slice(0, first), examples)

        losses[split] = held.attempt(evaluate).losses
    return losses

"""Copies networks, also to another device or dtype; sets parameters; reads, sets and estimates running statistics."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape_mpi.errors import UserError

_MEAN, _VARIANCE = "running_mean", "running_var"


def duplicate(network: nn.Module, instead: Mapping[int, Tensor] | None = None) -> nn.Module:
    """Return a copy of a network, in the same mode, that shares no tensor with it.

    `instead`: what the copy has in place of some of its tensors, by their ids.

    Hooks such as those of torch.nn.utils.weight_norm and pruning keep tensors that they compute from the weights. These
    are copied as numbers alone: torch copies no tensor that has a history, and the hooks compute them again before
    every forward pass.

    Raises:
        UserError: it holds something that cannot be copied.
    """
    known: dict[int, Any] = dict(instead or {})
    memory = {_place(parameter): name for name, parameter in network.named_parameters()}
    for module in network.modules():
        for tensor in kept(vars(module)):
            if tensor.is_leaf:
                continue
            if tensor.numel() and tensor._is_view() and (seen := memory.get(_place(tensor))):
                # a copy of it would not follow the copy of the parameter
                raise UserError(
                    "model",
                    f"a {type(module).__name__} keeps a view of the parameter `{seen}`",
                    expected="views that are made in the forward pass",
                )
            known[id(tensor)] = tensor.detach().clone()
    try:
        return copy.deepcopy(network, known)
    except Exception as error:
        raise UserError(
            "model",
            f"a {type(network).__name__} cannot be copied ({type(error).__name__}: {error})",
            expected="a network of modules and parameters alone",
        ) from error


def cast(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Take a network to a device, its real tensors to a dtype and complex ones to its complex partner; return it.

    Whole numbers and truth values stay what they are, and parameters without memory stay on the meta device.
    `network.to(dtype)` would take the real part of complex tensors.
    """
    partner = dtype.to_complex()

    def convert(tensor: Tensor) -> Tensor:
        own = partner if tensor.is_complex() else dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(tensor.device if tensor.is_meta else device, own)

    network._apply(convert)  # type: ignore[no-untyped-call]  # `to` calls it too; some layers add steps of their own
    return network


def own_dtype(network: nn.Module) -> torch.dtype:
    """Return the dtype of a network's first real or complex parameter; for a complex dtype its real partner."""
    dtypes = (p.dtype for p in network.parameters() if p.is_floating_point() or p.is_complex())
    return next(dtypes, torch.float32).to_real()


def load(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Load parameters into a network by their names, as a state dict, which runs its load hooks too."""
    state = network.state_dict()
    state.update({name: value for name, value in values.items() if name in state})
    network.load_state_dict(state, strict=False)
    with torch.no_grad():
        for name, parameter in network.named_parameters():  # a state dict may have other names for them
            if name in values:
                parameter.copy_(values[name])


def _place(tensor: Tensor) -> int:
    """Return where in memory the numbers of a tensor, or of what it is a view of, begin."""
    return tensor.untyped_storage().data_ptr()


def kept(value: object, depth: int = 3) -> Iterator[Tensor]:
    """Yield the tensors among attributes, and in lists and mappings of them."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, Mapping):
        for part in list(value.values()):
            yield from kept(part, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for part in value:
            yield from kept(part, depth - 1)


def statistics_of(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of `running_mean` and `running_var` of every batch norm that has them, by name, on the CPU."""
    found = {}
    for name, norm in _norms(network).items():
        for buffer in (_MEAN, _VARIANCE):
            found[f"{name}.{buffer}".lstrip(".")] = getattr(norm, buffer).detach().cpu().clone()
    return found


def set_statistics(network: nn.Module, values: Mapping[str, Tensor]) -> int:
    """Set running statistics, and return how many variances were below 0 and are set to 0."""
    held = 0
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name in values:
                buffer.copy_(values[name])
                if name.endswith(_VARIANCE):
                    held += int((buffer < 0).sum())
                    buffer.clamp_(min=0)
    return held


@contextmanager
def estimating(network: nn.Module) -> Iterator[None]:
    """Let the batches that pass through a network estimate its running statistics: their mean over the batches.

    This is done as in `torch.optim.swa_utils.update_bn`, except that layers other than batch norm, such as dropout,
    stay as they are.
    """
    norms = list(_norms(network).values())
    before = [(norm.training, norm.momentum) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, (training, momentum) in zip(norms, before, strict=True):
            norm.train(training)
            norm.momentum = momentum


def _norms(network: nn.Module) -> dict[str, _BatchNorm]:
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }

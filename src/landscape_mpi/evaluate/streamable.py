"""Finds parts of a network that need its weights to be there all the time, or that keep some of them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from landscape_mpi.errors import Key, Text, UserError
from landscape_mpi.networks.state import kept

Extent: TypeAlias = range
"""The addresses of a tensor's numbers in memory, from the first to beyond the last."""
REMEDY: Text = ("write ", Key("evaluate.weights"), ": resident")
_COMPUTED_BEFORE = (WeightNorm, SpectralNorm, BasePruningMethod)
"""Hooks that compute a module's weights before each forward pass and leave them in it."""


def check(network: nn.Module) -> None:
    """Refuse a network whose weights cannot be built as its modules run.

    Raises:
        UserError: torch runs a module otherwise than by its forward pass in Python, hooks compute its weights and
            leave them there, it keeps tensors that are views of parameters or have no values, its parameters are of
            a class of their own, or it computes something from its parameters as it enters eval mode.
    """
    for name, module in network.named_modules():
        reason = _reason(module)
        if reason:
            raise _refused(name, module, reason)
    parameters = dict(network.named_parameters())
    places = [extent(parameter) for parameter in parameters.values()]
    known = {id(parameter) for parameter in parameters.values()}
    for name, module in network.named_modules():
        for tensor in _tensors(module):
            if id(tensor) in known:
                continue
            if tensor.is_meta:
                raise _refused(name, module, "keeps a tensor without values, on the device meta")
            if _overlaps(extent(tensor), places):
                raise _refused(name, module, "keeps a view of a parameter")
    _check_modes(network)


def has_own_modes(network: nn.Module) -> bool:
    """Whether any module of a network does more than torch's own as it enters train or eval mode."""
    return any(type(m).train is not nn.Module.train or type(m).eval is not nn.Module.eval for m in network.modules())


def merging(network: nn.Module) -> str | None:
    """Return the name of a module whose parameters a network computes with as it enters train or eval mode, if any.

    Merged low-rank updates are an example. The network enters both modes once more to find out, and is in eval mode
    afterwards. The first use of a parameter is caught before anything is computed.
    """
    if not has_own_modes(network):
        return None
    try:
        with _Watch({id(parameter): name for name, parameter in network.named_parameters()}):
            network.train()
            network.eval()
    except _Touched as touched:
        return str(touched).rpartition(".")[0]
    finally:
        network.eval()
    return None


def keeper(network: nn.Module, place: Extent) -> str | None:
    """Return the module that keeps a tensor with numbers in some part of memory, in words; None where none does."""
    for name, module in network.named_modules():
        if any(_overlaps(extent(tensor), [place]) for tensor in _tensors(module)):
            return f"the {_called(name, module)}"
    return None


def extent(tensor: Tensor) -> Extent:
    """Return where the numbers of a tensor lie; empty where it has none or no memory.

    >>> x = torch.zeros(4, 6)
    >>> len(extent(x)), len(extent(x[1:3, :2])), len(extent(x[:0]))
    (96, 32, 0)
    """
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.numel():
        return range(0)
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return range(tensor.data_ptr(), tensor.data_ptr() + (steps + 1) * tensor.element_size())


def _overlaps(one: Extent, others: Collection[Extent]) -> bool:
    return bool(one) and any(one.start < other.stop and other.start < one.stop for other in others)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that a module keeps beside its parameters: its buffers, and those among its attributes."""
    return kept({name: value for name, value in vars(module).items() if name != "_parameters"})


def _reason(module: nn.Module) -> str:
    """Return why a module needs its weights to be there; empty where it does not."""
    own = list(module.parameters(recurse=False))
    if isinstance(module, torch.jit.ScriptModule) and own:
        return "is compiled by torch.jit"
    if _is_compiled(module):
        return "is compiled by torch.compile"
    hooks = [type(hook) for hook in module._forward_pre_hooks.values() if isinstance(hook, _COMPUTED_BEFORE)]
    if hooks:
        return f"has its weights computed by a hook, {hooks[0].__name__}, that leaves them there"
    other = next((type(parameter) for parameter in own if type(parameter) is not nn.Parameter), None)
    return f"has parameters of the class {other.__name__}" if other else ""


def _is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile was called on a module, or on a method of its class."""
    if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
        return True
    classes = [cls for cls in type(module).__mro__ if not cls.__module__.startswith("torch.nn.")]
    methods = [method for cls in classes for method in vars(cls).values()] + list(vars(module).values())
    return any(
        callable(method)
        and not isinstance(method, nn.Module)
        and hasattr(method, "_torchdynamo_orig_callable")
        and not getattr(method, "_torchdynamo_disable", False)
        for method in methods
    )


class _Touched(Exception):  # noqa: N818 - it says what was found, and is caught here
    """A parameter was used."""


class _Watch(TorchFunctionMode):
    """Raises where torch is called on one of some parameters."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for tensor in kept([args, dict(kwargs or {})]):
            if id(tensor) in self._names:
                raise _Touched(self._names[id(tensor)])
        return func(*args, **(kwargs or {}))


def _check_modes(network: nn.Module) -> None:
    """Refuse a network that computes something from its parameters as it enters train or eval mode."""
    owner = merging(network)
    if owner is not None:
        what = "computes something from its parameters between train and eval mode"
        raise _refused(owner, network.get_submodule(owner), what)


def _refused(name: str, module: nn.Module, reason: str) -> UserError:
    return UserError("model", f"the {_called(name, module)} {reason}", "weights that are there when it runs", REMEDY)


def _called(name: str, module: nn.Module) -> str:
    return f"{type(module).__name__} `{name}`" if name else f"network, a {type(module).__name__},"

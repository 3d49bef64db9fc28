"""Builds a network without memory for its parameters, which lie on torch's meta device, and gives them memory."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from landscape_mpi.errors import UserError
from landscape_mpi.networks.state import cast, duplicate, kept

META = torch.device("meta")
READS = frozenset({"tolist", "numpy", "__array__"})
"""Methods that take numbers out of a tensor without an operation of torch's."""


def build_empty(build: Callable[[], Any]) -> Any:
    """Return the network that a callable builds, its parameters on the meta device and its buffers real.

    Parameters go there one by one as modules register them, and initialising them costs nothing from then on. In some
    cases this cannot give the network as it is usually built: the callable reads the weights, a buffer is computed from
    them, or a mask outside of the state dict is drawn after them. Then the callable is called once more, as usual and
    with the same random state, and the parameters are emptied afterwards. Parameters that no state dict holds, and
    those that are no plain arrays, stay real: no checkpoint could fill them. Tied parameters stay one object.

    >>> network = build_empty(lambda: nn.Sequential(nn.Linear(1000, 1000), nn.BatchNorm1d(1000)))
    >>> network[0].weight.device, network[1].running_var.device
    (device(type='meta'), device(type='cpu'))
    """
    state = _random_state()
    emptied = _Emptied()
    draws = _Draws()
    try:
        with emptied.as_registered(), draws, _Reads(draws):
            network = build()
        if not isinstance(network, nn.Module) or (_is_whole(network) and not draws.matter(network)):
            return network
    except Exception:  # some networks need the numbers of their parameters; the usual build below raises its errors
        pass
    network = None
    _set_random_state(state)
    network = build()
    if isinstance(network, nn.Module):
        _empty_afterwards(network)
    return network


def empty_copy(network: nn.Module) -> nn.Module:
    """Return a copy of a network on the CPU whose parameters lie on the meta device.

    Raises:
        UserError: it holds something that cannot be copied.
    """
    emptied, held = _Emptied(), _in_state(network)
    parameters = [p for p in network.parameters() if id(p) in held and can_be_empty(p)]
    made = duplicate(network, {id(p): _as_parameter(p, emptied.of(p)) for p in parameters})
    made._apply(lambda tensor: tensor if tensor.is_meta else tensor.cpu())  # type: ignore[no-untyped-call]
    return made


def materialise(network: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> nn.Module:
    """Give memory, without numbers in it, to a network's parameters on the meta device, and return the network.

    Floating-point parameters get the dtype, complex ones get its complex partner, and whole numbers keep theirs.
    Tensors that have memory already go to device and dtype as by `cast`. Without a dtype each keeps its own. Tied
    parameters stay tied.

    Raises:
        UserError: the network keeps a parameter where it cannot be replaced.
    """
    storages: dict[int, Tensor] = {}

    def filled(parameter: nn.Parameter) -> Tensor:
        own = parameter.dtype
        if dtype is not None:
            own = dtype.to_complex() if own.is_complex else dtype if own.is_floating_point else own
        return _like(parameter, storages, parameter.untyped_storage()._cdata, device, own)

    _replace(network, lambda parameter: filled(parameter) if parameter.is_meta else None)
    for module in network.modules():
        if any(tensor.is_meta for tensor in kept(vars(module))) and not isinstance(module, nn.RNNBase):
            raise UserError(
                "model",
                f"a {type(module).__name__} keeps a parameter in a place where it cannot be replaced",
                expected="parameters of modules",
            )
    return network.to(device) if dtype is None else cast(network, device, dtype)


class _Emptied:
    """Empties parameters to the meta device; those that share memory share it there too."""

    def __init__(self) -> None:
        self._storages: dict[StorageWeakRef, Tensor] = {}

    @contextmanager
    def as_registered(self) -> Iterator[None]:
        """Empty every parameter at the time that a module registers it, in this thread."""
        thread = threading.get_ident()

        def empty(_: nn.Module, __: str, parameter: nn.Parameter) -> None:
            if threading.get_ident() == thread and can_be_empty(parameter):
                _swap(parameter, self.of(parameter))

        handle = register_module_parameter_registration_hook(empty)
        try:
            yield
        finally:
            handle.remove()

    def of(self, parameter: nn.Parameter) -> Tensor:
        """Return a tensor on the meta device in the place of a parameter."""
        return _like(parameter, self._storages, _memory(parameter), META, parameter.dtype)


def _memory(tensor: Tensor) -> StorageWeakRef:
    """Return an identity of the memory of a tensor; the address is not used again as long as this is kept."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def can_be_empty(tensor: Tensor) -> bool:
    """Return whether a tensor is a plain array in memory."""
    if tensor.is_meta or is_lazy(tensor) or tensor.is_nested or tensor.is_quantized:
        return False
    return tensor.layout == torch.strided and not is_traceable_wrapper_subclass(tensor)


def _like(
    tensor: Tensor, storages: dict[Any, Tensor], shared: object, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return an empty tensor laid out like another one, in the memory that stands for the other's in `storages`."""
    if shared not in storages:
        count = tensor.untyped_storage().nbytes() // tensor.dtype.itemsize
        storages[shared] = torch.empty(count, device=device, dtype=dtype)
    return storages[shared].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def _as_parameter(parameter: nn.Parameter, tensor: Tensor) -> nn.Parameter:
    """Return a tensor as a parameter like another one, of its class and with its attributes."""
    if type(parameter) is nn.Parameter:
        other = nn.Parameter(tensor.detach(), parameter.requires_grad)
    else:
        other = torch.Tensor._make_subclass(type(parameter), tensor.detach(), parameter.requires_grad)
    other.__dict__.update(parameter.__dict__)
    return other


def _swap(parameter: nn.Parameter, tensor: Tensor) -> None:
    """Replace the tensor of a parameter; the parameter stays the same object, wherever else it is kept.

    Raises:
        RuntimeError: something refers to the parameter's tensor.
    """
    torch.utils.swap_tensors(parameter, _as_parameter(parameter, tensor))  # type: ignore[no-untyped-call]


def _replace(network: nn.Module, made: Callable[[nn.Parameter], Tensor | None]) -> None:
    """Replace the tensors of a network's parameters, each once; where `made` returns None, one stays as it is."""
    others: dict[nn.Parameter, nn.Parameter] = {}
    places = [(m, name, p) for m in network.modules() for name, p in m._parameters.items() if p is not None]
    for module, name, parameter in places:
        tensor = None if parameter in others else made(parameter)
        if tensor is not None:
            try:
                _swap(parameter, tensor)
            except RuntimeError:  # recurrent layers have weak references to their parameters
                others[parameter] = nn.Parameter(tensor.detach(), parameter.requires_grad)
        module._parameters[name] = others.get(parameter, parameter)
    for module in network.modules():
        if isinstance(module, nn.RNNBase):
            module._apply(lambda tensor: tensor, recurse=False)  # type: ignore[no-untyped-call]  # lists its parameters anew


def _empty_afterwards(network: nn.Module) -> None:
    """Empty the parameters of a network that was built as usual."""
    emptied, held = _Emptied(), _in_state(network)
    _replace(network, lambda p: emptied.of(p) if id(p) in held and can_be_empty(p) else None)


def _in_state(network: nn.Module) -> set[int]:
    """Return the ids of the tensors of a network's state dict."""
    return {id(value) for value in network.state_dict(keep_vars=True).values() if isinstance(value, Tensor)}


def _is_whole(network: nn.Module) -> bool:
    """Return whether only parameters are on the meta device, and only those that a state dict holds."""
    parameters, held = {id(p): p for p in network.parameters()}, _in_state(network)
    if any(p.is_meta and id(p) not in held for p in parameters.values()):
        return False
    tensors = (tensor for module in network.modules() for tensor in kept(vars(module)))
    return not any(tensor.is_meta and id(tensor) not in parameters for tensor in tensors)


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which real tensors depend on random numbers: they differ where those of the weights are not drawn."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read = False
        self._skipped = False
        self._drawn: set[StorageWeakRef] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: hiding the mode from the compiler would import all of it, a second of time."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operation, and note what depends on random numbers by it."""
        kwargs = kwargs or {}
        given, draws = _tensors((args, kwargs)), torch.Tag.nondeterministic_seeded in func.tags
        # torch's own normal_ of a tensor on meta does nothing, but imports the compiler for it
        nothing = draws and func._schema.is_mutable and given[0].is_meta
        made = given[0] if nothing else func(*args, **kwargs)
        results = _tensors(made)
        self._skipped |= draws and any(tensor.is_meta for tensor in results)
        if (draws and self._skipped) or any(map(self.depends, given)):
            changed = (*results, *given) if func._schema.is_mutable else results
            self._drawn.update(_memory(t) for t in changed if can_be_empty(t))
            self.read |= func is torch.ops.aten._local_scalar_dense.default
        return made

    def depends(self, tensor: Tensor) -> bool:
        """Return whether a tensor depends on random numbers drawn after those of weights had been left out."""
        return can_be_empty(tensor) and _memory(tensor) in self._drawn

    def matter(self, network: nn.Module) -> bool:
        """Return whether the network keeps such numbers where no checkpoint replaces them."""
        held = _in_state(network)
        tensors = (tensor for module in network.modules() for tensor in kept(vars(module)))
        return self.read or any(id(tensor) not in held and self.depends(tensor) for tensor in tensors)


class _Reads(TorchFunctionMode):
    """Notes whether random numbers are read from a tensor without an operation."""

    def __init__(self, draws: _Draws) -> None:
        super().__init__()
        self._draws = draws

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function, and note whether it reads random numbers."""
        if getattr(func, "__name__", "") in READS and any(map(self._draws.depends, _tensors(args))):
            self._draws.read = True
        return func(*args, **(kwargs or {}))


def _tensors(values: object) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _random_state() -> tuple[Any, ...]:
    """Return the state of the generators that a network may be built with."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda  # noqa: NPY002 - the process's own


def _set_random_state(state: tuple[Any, ...]) -> None:
    python, numpy, cpu, cuda = state
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002 - as above
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)

"""Finds which axes of a network's tensors share a permutation of units, by watching one forward pass.

Every operation of torch that the forward pass calls is seen, whatever modules it comes from. It relates the axes of
its results to those of its arguments (`rules.py`). Parameters and running statistics begin with a separate group along
each axis; inputs, outputs and everything else stay as they are.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from landscape_mpi.align.axes import Equations, Fixed, Group, blocks, fixed, groups
from landscape_mpi.align.rules import BEGINNINGS, Axes, rule_of

HARMLESS = (type(None), bool, int, float, complex, str, torch.dtype, torch.device)
"""What a network may return beside tensors."""


class UnknownStructureError(Exception):
    """It is not known how a permutation affects something in the forward pass; the text says what."""


@dataclass(frozen=True)
class Structure:
    """Which axes of which tensors are permuted alike.

    Attributes:
        axes: the axes of every tensor, by name, one for each dimension.
    """

    axes: Mapping[str, Axes]

    @property
    def groups(self) -> list[Group]:
        """The groups of units that may be permuted, in the order of the tensors."""
        every = (group for axes in self.axes.values() for axis in axes for group in groups(axis))
        return list(dict.fromkeys(every))

    def pieces(self, name: str) -> "Iterator[Piece]":
        """Yield the parts of a tensor that are products along every dimension."""
        for chosen in product(*map(blocks, self.axes[name])):
            atoms = tuple(atom for _, part in chosen for atom in part)
            index = torch.meshgrid(*(torch.from_numpy(places.reshape(-1)) for places, _ in chosen), indexing="ij")
            yield Piece(name, tuple(index), atoms)


@dataclass(frozen=True)
class Piece:
    """A part of a tensor: its place there, and the groups and fixed places along which its numbers lie, row-major."""

    name: str
    index: tuple[Tensor, ...]
    atoms: tuple[Group | Fixed, ...]

    def of(self, tensor: Tensor) -> Tensor:
        """Return the numbers of the part, one dimension for each atom."""
        return tensor[self.index].reshape([atom.size for atom in self.atoms])


def structure_of(
    network: nn.Module, forward: Callable[[nn.Module, Any], Any], inputs: Any, names: frozenset[str]
) -> Structure:
    """Return the structure of a network.

    Args:
        network: On the CPU, in eval mode.
        forward: Calls it on inputs and returns its outputs.
        inputs: A batch of examples.
        names: The names of the parameters and buffers that may be permuted.

    Raises:
        UnknownStructureError: the forward pass does something that is not understood.
    """
    tensors = {name: tensor for name, tensor in _tensors(network) if name in names}
    watch = _Watch(tensors)
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # so that it calls operations, not one kernel for a whole layer
    try:
        with watch.named(network), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), watch:
            outputs = forward(network, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    for leaf in tree_leaves(outputs):
        if isinstance(leaf, Tensor):
            for axis in watch.of(leaf):
                watch.equations.freeze(axis)
        elif not isinstance(leaf, HARMLESS):
            raise UnknownStructureError(f"it returns a {type(leaf).__name__}")
    for name, tensor in tensors.items():
        if name not in watch.seen:
            for axis in watch.of(tensor):
                watch.equations.freeze(axis)
    return Structure({name: tuple(map(watch.equations.resolve, watch.of(t))) for name, t in tensors.items()})


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


@dataclass
class _Module:
    """A module whose forward pass is under way."""

    name: str = ""
    kind: str = "network"


@dataclass(eq=False)
class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Sees every operation of a forward pass, and relates the axes of its tensors."""

    tensors: Mapping[str, Tensor]
    equations: Equations = field(default_factory=Equations)
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._axes = WeakIdKeyDictionary()
        self._names = WeakIdKeyDictionary()
        self._under_way = [_Module()]
        for name, tensor in self.tensors.items():
            self._axes[tensor] = tuple(map(self.equations.fresh, tensor.shape))
            self._names[tensor] = name

    def of(self, tensor: Tensor) -> Axes:
        """Return the axes of a tensor; all places of a tensor that has not been seen stay."""
        found = self._axes.get(tensor)  # type: ignore[no-untyped-call]
        if found is None:
            return tuple(map(fixed, tensor.shape))
        return tuple(map(self.equations.resolve, found))

    def _held(self) -> set[Group]:
        """Return the groups of the network's tensors."""
        return {group for tensor in self.tensors.values() for axis in self.of(tensor) for group in groups(axis)}

    @contextmanager
    def named(self, network: nn.Module) -> Iterator[None]:
        """Keep track of the module that is under way."""

        def begin(module: _Module) -> Callable[..., None]:
            return lambda *_: self._under_way.append(module)

        def end(*_: object) -> None:
            self._under_way.pop()

        with ExitStack() as held:
            for name, module in network.named_modules():
                hooks = (
                    module.register_forward_pre_hook(begin(_Module(name, type(module).__name__))),
                    module.register_forward_hook(end, always_call=True),
                )
                for hook in hooks:
                    held.callback(hook.remove)
            yield

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and relate the axes of what it returns."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        taken = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.seen.update(self._names[one] for one in taken if one in self._names)
        axes_taken = [axis for one in taken for axis in self.of(one)]
        moving = {group for axis in axes_taken for group in groups(axis)}
        name = func.overloadpacket.__name__
        if not moving and name not in BEGINNINGS:
            return out
        rule = rule_of(func)
        if rule is None and moving.isdisjoint(self._held()):  # such as a mask that was repeated for every head
            for axis in axes_taken:
                self.equations.freeze(axis)
            return out
        if rule is None:
            module = self._under_way[-1]
            where = f"`{module.name}` ({module.kind})" if module.name else f"the {module.kind} itself"
            raise UnknownStructureError(f"{where} calls {name}")
        results = [leaf for leaf in (out if isinstance(out, tuple | list) else (out,)) if isinstance(leaf, Tensor)]
        for result, axes in zip(results, rule(self, args, kwargs, out), strict=False):
            self._axes[result] = axes
        return out

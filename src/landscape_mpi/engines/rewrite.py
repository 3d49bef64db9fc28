"""A network and a plane -> the same network with fused layers, all its weights in one flat buffer."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from landscape_mpi.engines.chains import Chain, find_chains, padding_of
from landscape_mpi.engines.direct import ContiguousLayer
from landscape_mpi.engines.flat import FlatPlane
from landscape_mpi.engines.fold import Lookup, fold
from landscape_mpi.engines.layer import Layer, Shape
from landscape_mpi.engines.polynomial import Polynomial
from landscape_mpi.engines.sound import differs, is_sound
from landscape_mpi.engines.trace import FORM, CannotFuseError, Form, Trace, trace
from landscape_mpi.networks.copies import duplicate
from landscape_mpi.plane import Plane

READERS = frozenset({"as_strided", "as_strided_", "stride", "is_contiguous", "storage_offset"})
"""What tells a forward pass how a tensor lies in memory."""


@dataclass(frozen=True)
class FusedNetwork:
    """A network that follows its flat plane.

    Attributes:
        forward: The network's forward pass; its weights are views into `plane`.
        plane: Everything that moves with the point.
        layers: How many fused layers of each kind there are.
    """

    forward: Callable[[Tensor], object]
    plane: FlatPlane
    layers: Counter[str]


@dataclass(frozen=True)
class _Planned:
    """A fused layer that waits for the flat buffer to hold its weights, which are transformed and in its dtype.

    `layout`: how its output has to lie in memory; None where that does not matter.
    """

    name: str
    chain: Chain
    kind: type[Layer]
    shape: Shape
    weight: Polynomial
    bias: Polynomial
    layout: torch.memory_format | None = None

    def entries(self) -> dict[str, Polynomial]:
        return {f"{self.name}.weight": self.weight, f"{self.name}.bias": self.bias}

    def build(self, flat: FlatPlane) -> nn.Module:
        layer = self.kind.build(self.shape, flat[f"{self.name}.weight"], flat[f"{self.name}.bias"])
        return layer if self.layout is None else _LaidOut(layer, self.layout)


class _LaidOut(nn.Module):
    """A fused layer whose output lies in memory as a plain convolution's."""

    def __init__(self, layer: nn.Module, layout: torch.memory_format) -> None:
        super().__init__()
        self._layer, self._layout = layer, layout

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Map [n, in, h, w] to [n, out, h', w']."""
        y: Tensor = self._layer(x, residual)
        return y.contiguous(memory_format=self._layout)


def _layout_of(chain: Chain) -> torch.memory_format:
    """Return how a chain's output lies in memory in the plain network."""
    form = chain.last.meta[FORM]
    _, _, rows, columns = form.shape
    plain = form.strides[-2:] == (columns, 1) and form.strides[1] == rows * columns
    return torch.contiguous_format if plain else torch.channels_last


def fuse(network: nn.Module, plane: Plane, kinds: Sequence[type[Layer]], samples: Sequence[Tensor]) -> FusedNetwork:
    """Return the network with its chains replaced, each by a layer of the first kind that fits it and computes it.

    A network that reads how its tensors lie in memory, writes through views, or fails where its tensors lie as fused
    layers make them, gets layers whose outputs lie as a plain convolution's.

    Args:
        network: In eval mode, at theta, on its device and in its dtype; left as it is.
        plane: The parameters by their names in the network.
        kinds: Ways to compute a convolution, the preferred ones first; a contiguous one comes after them.
        samples: Some inputs as the network gets them: what it is traced with, and others to compare with the network.

    Raises:
        CannotFuseError: the network cannot be traced, has no convolution to fuse, or computes something else fused.
    """
    reason = ""
    for as_plain in (False, True):
        copied = duplicate(network)
        traced = trace(copied, samples[0])
        if not as_plain and (traced.through_views or _reads_strides(traced.module)):
            continue
        fused = _fuse(copied, traced, plane, kinds, as_plain)
        reason = differs(fused.forward, network, samples)
        if not reason:
            return fused
    raise CannotFuseError(reason)


def _reads_strides(traced: GraphModule) -> bool:
    return any(getattr(node.target, "__name__", node.target) in READERS for node in traced.graph.nodes)


def _fuse(
    network: nn.Module, traced: Trace, plane: Plane, kinds: Sequence[type[Layer]], as_plain: bool
) -> FusedNetwork:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    module = traced.module

    def lookup(tensor: Tensor) -> Polynomial:
        name = names.get(id(tensor))
        moving = Polynomial.constant(tensor) if name not in plane.theta else Polynomial.parameter(plane, name)
        return moving.to(tensor.device)

    planned = list(_plan(traced, kinds, lookup))
    if not planned:
        raise CannotFuseError("it has no convolution to fuse")
    if as_plain:
        planned = [replace(layer, layout=_layout_of(layer.chain)) for layer in planned]
    else:
        _view_as_reshape(traced)
    for layer in planned:
        _replace(module, layer.chain, layer.name)
    module.delete_all_unused_submodules()
    rest = {name: p for p in module.parameters() if (name := names[id(p)]) in plane.theta}
    like = planned[0].shape
    if any(parameter.dtype != like.dtype for parameter in rest.values()):
        raise CannotFuseError("its parameters are of several dtypes")
    flat = _flatten(planned, rest, lookup, like)
    _attach(module, planned, rest, flat)
    return FusedNetwork(_forward_of(traced), flat, Counter(layer.kind.label for layer in planned))


def _forward_of(traced: Trace) -> Callable[[Tensor], object]:
    """Return the forward pass of a graph, which leaves its inputs as they are: another network may want them then."""
    forward = traced.module.forward  # not the module, which writes of every exception that goes through it to stderr
    inputs = next(node for node in traced.module.graph.nodes if node.op == "placeholder")
    if any(inputs in into for into in traced.written.values()):
        return lambda inputs: forward(inputs.clone())
    return forward


def _plan(traced: Trace, kinds: Sequence[type[Layer]], lookup: Lookup) -> Iterator[_Planned]:
    modules = dict(traced.module.named_modules())
    every: tuple[type[Layer], ...] = (*kinds, ContiguousLayer)
    sound: dict[tuple[type[Layer], Shape, tuple[int, ...]], bool] = {}
    for number, chain in enumerate(find_chains(traced)):
        convolution = modules[str(chain.convolution.target)]
        norm = modules[str(chain.norm.target)] if chain.norm else None
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d | None):
            raise TypeError(f"a chain of {type(convolution).__name__} and {type(norm).__name__}")
        shape = Shape.of(convolution, chain.relu is not None, padding_of(convolution))
        size = _size(chain)
        for kind in every:
            key = kind, shape, size
            if kind.fits(shape) and sound.setdefault(key, key in sound or is_sound(kind, shape, size)):
                weight, bias = fold(convolution, norm, lookup)
                # out of float64 layer by layer: Winograd's transform alone makes four numbers of one
                weight, bias = kind.transform(weight).to(shape.dtype), bias.to(shape.dtype)
                yield _Planned(f"fused_{number}", chain, kind, shape, weight, bias)
                break


def _size(chain: Chain) -> tuple[int, ...]:
    """Return the shape of a convolution's input in the sample."""
    given = chain.convolution.args[0]
    form = given.meta.get(FORM) if isinstance(given, Node) else None
    return form.shape if isinstance(form, Form) else ()


def _view_as_reshape(traced: Trace) -> None:
    """Let views copy where fused layers make their tensors lie another way; nothing is written through one."""
    for node in traced.module.graph.nodes:
        if node.op == "call_method" and node.target == "view" and not isinstance(node.args[1], torch.dtype):
            node.target = "reshape"


def _replace(traced: GraphModule, chain: Chain, name: str) -> None:
    """Put a call of the new layer in the place of a chain's last node."""
    traced.add_submodule(name, nn.Identity())
    with traced.graph.inserting_before(chain.last):
        new = traced.graph.call_module(name, (chain.convolution.args[0], chain.residual))
    chain.last.replace_all_uses_with(new)
    for node in reversed(chain.nodes):
        traced.graph.erase_node(node)


def _flatten(planned: Iterable[_Planned], rest: Mapping[str, nn.Parameter], lookup: Lookup, like: Shape) -> FlatPlane:
    entries: dict[str, Polynomial] = {}
    for layer in planned:
        entries |= layer.entries()
    entries |= {name: lookup(parameter) for name, parameter in rest.items()}
    return FlatPlane(entries, like.device, like.dtype)


def _attach(traced: GraphModule, planned: Iterable[_Planned], rest: dict[str, nn.Parameter], flat: FlatPlane) -> None:
    """Give the fused layers and the parameters that are left their places in the flat buffer."""
    for name, parameter in rest.items():
        parameter.requires_grad_(False)
        parameter.data = flat[name]
    for layer in planned:
        traced.add_submodule(layer.name, layer.build(flat))
    traced.recompile()

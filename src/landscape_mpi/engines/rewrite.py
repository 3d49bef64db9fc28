"""A network and a plane -> the same network with fused layers, all its weights in one flat buffer."""

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node, symbolic_trace

from landscape_mpi.engines.chains import FORM, Chain, Form, find_chains
from landscape_mpi.engines.flat import FlatPlane
from landscape_mpi.engines.fold import Lookup, fold
from landscape_mpi.engines.layer import Layer, Shape
from landscape_mpi.engines.polynomial import Polynomial
from landscape_mpi.plane import Plane


class CannotFuseError(Exception):
    """The network has no graph to transform, or nothing in it to fuse; the text says why."""


@dataclass(frozen=True)
class FusedNetwork:
    """A network that follows its flat plane.

    Attributes:
        forward: The network; its weights are views into `plane`.
        plane: Everything that moves with the point.
        layers: How many fused layers of each kind there are.
    """

    forward: nn.Module
    plane: FlatPlane
    layers: Counter[str]


@dataclass(frozen=True)
class _Planned:
    """A fused layer that waits for the flat buffer to hold its weights, which are transformed and in its dtype."""

    name: str
    kind: type[Layer]
    shape: Shape
    weight: Polynomial
    bias: Polynomial

    def entries(self) -> dict[str, Polynomial]:
        return {f"{self.name}.weight": self.weight, f"{self.name}.bias": self.bias}

    def build(self, flat: FlatPlane) -> nn.Module:
        return self.kind.build(self.shape, flat[f"{self.name}.weight"], flat[f"{self.name}.bias"])


def fuse(network: nn.Module, plane: Plane, kinds: Sequence[type[Layer]], sample: Tensor) -> FusedNetwork:
    """Return the network with every chain replaced by a layer of the first kind that fits it.

    Args:
        network: In eval mode, at theta, on its device and in its dtype; left as it is.
        plane: The parameters by their names in the network.
        kinds: Ways to compute a convolution, the preferred ones first; the last takes every one.
        sample: Two inputs as the network gets them, to learn the shapes from.

    Raises:
        CannotFuseError: the network cannot be traced, or has no convolution to fuse.
    """
    network = copy.deepcopy(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}

    def lookup(parameter: Tensor) -> Polynomial:
        return Polynomial.parameter(plane, names[id(parameter)]).to(sample.device)

    traced = _trace(network, sample)
    chains = list(find_chains(traced))
    if not chains:
        raise CannotFuseError("it has no convolution to fuse")
    planned = _plan(traced, chains, kinds, lookup)
    for chain, layer in zip(chains, planned, strict=True):
        _replace(traced, chain, layer.name)
    traced.delete_all_unused_submodules()
    rest = {names[id(parameter)]: parameter for parameter in traced.parameters()}
    flat = _flatten(planned, rest, lookup, sample)
    _attach(traced, planned, rest, flat)
    return FusedNetwork(traced, flat, Counter(layer.kind.label for layer in planned))


class _Shapes(Interpreter):
    """Runs the graph once and notes every tensor's shape and dtype; torch's own `ShapeProp` loads sympy for it."""

    def run_node(self, n: Node) -> object:
        """Run a node and note what came out."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta[FORM] = Form(tuple(result.shape), result.dtype)
        return result


def _trace(network: nn.Module, sample: Tensor) -> GraphModule:
    """Return the graph of the network's forward pass; its nodes carry the shapes of the sample."""
    try:
        traced = symbolic_trace(network)
        with torch.no_grad():
            _Shapes(traced).run(sample.clone())
    except Exception as error:  # whatever the user's forward pass does with a proxy
        raise CannotFuseError(f"its forward pass cannot be traced ({type(error).__name__}: {error})") from error
    return traced


def _plan(traced: GraphModule, chains: Iterable[Chain], kinds: Sequence[type[Layer]], lookup: Lookup) -> list[_Planned]:
    modules = dict(traced.named_modules())
    planned = []
    for number, chain in enumerate(chains):
        convolution = modules[str(chain.convolution.target)]
        norm = modules[str(chain.norm.target)] if chain.norm else None
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d | None):
            raise TypeError(f"a chain of {type(convolution).__name__} and {type(norm).__name__}")
        shape = Shape.of(convolution, chain.relu is not None)
        kind = next(kind for kind in kinds if kind.fits(shape))
        weight, bias = fold(convolution, norm, lookup)
        # out of float64 layer by layer: Winograd's transform alone makes four numbers of one
        weight, bias = kind.transform(weight).to(shape.dtype), bias.to(shape.dtype)
        planned.append(_Planned(f"fused_{number}", kind, shape, weight, bias))
    return planned


def _replace(traced: GraphModule, chain: Chain, name: str) -> None:
    """Put a call of the new layer in the place of a chain's last node."""
    traced.add_submodule(name, nn.Identity())
    with traced.graph.inserting_before(chain.last):
        new = traced.graph.call_module(name, (chain.convolution.args[0], chain.residual))
    chain.last.replace_all_uses_with(new)
    for node in (chain.relu, chain.addition, chain.norm, chain.convolution):
        if node is not None:
            traced.graph.erase_node(node)


def _flatten(planned: Iterable[_Planned], rest: dict[str, nn.Parameter], lookup: Lookup, sample: Tensor) -> FlatPlane:
    entries: dict[str, Polynomial] = {}
    for layer in planned:
        entries |= layer.entries()
    entries |= {name: lookup(parameter) for name, parameter in rest.items()}
    return FlatPlane(entries, sample.device, sample.dtype)


def _attach(traced: GraphModule, planned: Iterable[_Planned], rest: dict[str, nn.Parameter], flat: FlatPlane) -> None:
    """Give the fused layers and the parameters that are left their places in the flat buffer."""
    for name, parameter in rest.items():
        parameter.requires_grad_(False)
        parameter.data = flat[name]
    for layer in planned:
        traced.add_submodule(layer.name, layer.build(flat))
    traced.recompile()

"""Replaces a network's chains of convolution, batch norm, addition and ReLU by fused layers with flat weights."""

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional

from landscape_mpi.engines.flat import CONSTANT, FlatPlane, Polynomial
from landscape_mpi.engines.layers import ContiguousLayer, Layer, Shape
from landscape_mpi.engines.trace import FORM, CannotFuseError, Form, OtherBranchError, Trace, trace
from landscape_mpi.networks.state import duplicate
from landscape_mpi.plane import Plane

RELU = frozenset({functional.relu, functional.relu_, torch.relu, torch.relu_})
ADD = frozenset({operator.add, operator.iadd, torch.add})
READERS = frozenset({"as_strided", "as_strided_", "stride", "is_contiguous", "storage_offset"})
"""Functions and methods that tell a forward pass how a tensor lies in memory."""
LARGEST_ERROR = 1e-2
"""Relative to the largest value: outputs that differ by more are not explained by rounding."""
EXAMPLES = 16
"""Examples that a layer is tried on: some libraries gave wrong results from three or from five examples on."""

Lookup = Callable[[Tensor], Polynomial]
"""A parameter or buffer of the network -> its value over the plane, as a polynomial."""


@dataclass(frozen=True)
class FusedNetwork:
    """A network whose weights are views of a flat plane, so that they are always those of its present point.

    Attributes:
        forward: The network's forward pass; its weights are views into `plane`.
        plane: Everything that moves with the point.
        layers: How many fused layers of each kind there are.
    """

    forward: Callable[[Tensor], object]
    plane: FlatPlane
    layers: Counter[str]


def fuse(network: nn.Module, plane: Plane, kinds: Sequence[type[Layer]], samples: Sequence[Tensor]) -> FusedNetwork:
    """Return the network with its chains replaced, each by a layer of the first kind that fits it and computes it.

    Some networks read how their tensors lie in memory, write through views, or fail where their tensors lie as fused
    layers make them. Such a network gets layers whose outputs lie as a plain convolution's.

    Args:
        network: In eval mode, at theta, on its device and in its dtype; left as it is.
        plane: The parameters by their names in the network.
        kinds: Ways to compute a convolution, the preferred ones first; a contiguous one comes after them.
        samples: Some inputs as the network gets them: what it is traced with, and others to compare with the network.

    Raises:
        CannotFuseError: the network cannot be traced, has no convolution to fuse, or computes something else if fused.
    """
    reason = ""
    for as_plain in (False, True):
        copied = duplicate(network)
        traced = trace(copied, samples[0])
        names = {getattr(node.target, "__name__", node.target) for node in traced.module.graph.nodes}
        if not as_plain and (traced.through_views or names & READERS):
            continue
        fused = _fuse(copied, traced, plane, kinds, as_plain)
        reason = _differs(fused.forward, network, samples)
        if not reason:
            return fused
    raise CannotFuseError(reason)


def _fuse(
    network: nn.Module, traced: Trace, plane: Plane, kinds: Sequence[type[Layer]], as_plain: bool
) -> FusedNetwork:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    module = traced.module

    def lookup(tensor: Tensor) -> Polynomial:
        name = names.get(id(tensor), "")
        moving = Polynomial.parameter(plane, name) if name in plane.theta else Polynomial.constant(tensor)
        return moving.to(tensor.device)

    planned = list(_plan(traced, kinds, lookup))
    if not planned:
        raise CannotFuseError("it has no convolution to fuse")
    if as_plain:
        planned = [replace(layer, layout=layer.chain.layout) for layer in planned]
    else:
        _view_as_reshape(traced)
    for layer in planned:
        _replace(module, layer.chain, layer.name)
    module.delete_all_unused_submodules()
    rest = {name: p for p in module.parameters() if (name := names[id(p)]) in plane.theta}
    like = planned[0].shape
    if any(parameter.dtype != like.dtype for parameter in rest.values()):
        raise CannotFuseError("its parameters are of several dtypes")
    entries = {name: entry for layer in planned for name, entry in layer.entries.items()}
    flat = FlatPlane(entries | {name: lookup(parameter) for name, parameter in rest.items()}, like.device, like.dtype)
    for name, parameter in rest.items():
        parameter.requires_grad_(False)
        parameter.data = flat[name]
    for layer in planned:
        module.add_submodule(layer.name, layer.build(flat))
    module.recompile()
    return FusedNetwork(_forward_of(traced), flat, Counter(layer.kind.label for layer in planned))


def _view_as_reshape(traced: Trace) -> None:
    """Let views copy where fused layers lay out their tensors in another way; nothing is written through a view."""
    for node in traced.module.graph.nodes:
        if node.op == "call_method" and node.target == "view" and not isinstance(node.args[1], torch.dtype):
            node.target = "reshape"


def _forward_of(traced: Trace) -> Callable[[Tensor], object]:
    """Return the forward pass of a graph; it leaves its inputs as they are, as another network may take them next."""
    forward = traced.module.forward  # not the module, which reports every exception that passes through it on stderr
    inputs = next(node for node in traced.module.graph.nodes if node.op == "placeholder")
    if any(inputs in into for into in traced.written.values()):
        return lambda inputs: forward(inputs.clone())
    return forward


def _replace(traced: GraphModule, chain: "Chain", name: str) -> None:
    """Put a call of the new layer in the place of a chain's last node."""
    traced.add_submodule(name, nn.Identity())
    with traced.graph.inserting_before(chain.last):
        new = traced.graph.call_module(name, (chain.convolution.args[0], chain.residual))
    chain.last.replace_all_uses_with(new)
    for node in reversed(chain.nodes):
        traced.graph.erase_node(node)


# Layers: how each chain is computed


@dataclass(frozen=True)
class _Planned:
    """A fused layer that waits for the flat buffer to hold its weights, which are transformed and in its dtype.

    `layout`: how its output has to lie in memory; None where that does not matter.
    """

    name: str
    chain: "Chain"
    kind: type[Layer]
    shape: Shape
    weight: Polynomial
    bias: Polynomial
    layout: torch.memory_format | None = None

    @property
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
        given = chain.convolution.args[0]
        form = given.meta.get(FORM) if isinstance(given, Node) else None
        size = form.shape if isinstance(form, Form) else ()  # of the convolution's input in the sample
        for kind in every:
            key = kind, shape, size
            if kind.fits(shape) and sound.setdefault(key, key in sound or is_sound(kind, shape, size)):
                weight, bias = fold(convolution, norm, lookup)
                # converted from float64 layer by layer: Winograd's transform alone makes four numbers of one
                weight, bias = kind.transform(weight).to(shape.dtype), bias.to(shape.dtype)
                yield _Planned(f"fused_{number}", chain, kind, shape, weight, bias)
                break


def fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, lookup: Lookup) -> tuple[Polynomial, Polynomial]:
    """Return weight [out, in / groups, h, w] and bias [out] of the convolution with the norm that follows it.

    w' = w g / sqrt(v + e) and b' = (b - m) g / sqrt(v + e) + h, for the norm's mean m, variance v, weight g and
    bias h. They are linear in alpha and beta where the norm does not move (`ignore: biasbn`), quadratic where g moves
    too.
    """
    weight = lookup(convolution.weight)
    bias = Polynomial.constant(convolution.weight.new_zeros(convolution.out_channels))
    if convolution.bias is not None:
        bias = lookup(convolution.bias)
    if norm is None:
        return weight, bias
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("expected running statistics, found None")
    inverse = (norm.running_var.double() + norm.eps).rsqrt()
    scale = Polynomial.constant(inverse) if norm.weight is None else lookup(norm.weight).map(lambda g: g * inverse)
    folded = (bias + Polynomial.constant(-norm.running_mean.double())) * scale
    if norm.bias is not None:
        folded += lookup(norm.bias)
    return weight * scale.map(lambda s: s[:, None, None, None]), folded


# Checks that fused layers and networks compute what plain layers and networks do, up to rounding


def _differs(fused: Callable[[Tensor], object], network: nn.Module, samples: Sequence[Tensor]) -> str:
    """Say how the fused network fails or differs from the plain one beyond rounding; empty where it does not."""
    for sample in samples:
        with torch.no_grad():
            plain = network(sample.clone())
            try:
                ours = fused(sample.clone())
            except OtherBranchError as error:
                return f"its forward pass depends on the number of examples or on their values: {error}"
            except Exception as error:  # an operation may refuse tensors that lie channels last
                return f"fused it fails ({type(error).__name__}: {error})"
        if isinstance(plain, Tensor) and not _close(ours, plain):
            return "fused it computes something else"
    return ""


def _close(ours: object, plain: Tensor) -> bool:
    """Whether two outputs are close where both are finite; the plain network evaluates other examples anyway."""
    if not isinstance(ours, Tensor) or ours.shape != plain.shape:
        return False
    tame = plain.isfinite() & ours.isfinite()
    ours, plain = ours[tame], plain[tame]
    return bool(((ours - plain).abs() <= LARGEST_ERROR * plain.abs().amax() + 1e-6).all()) if len(plain) else True


def is_sound(kind: type[Layer], shape: Shape, size: tuple[int, ...]) -> bool:
    """Whether a layer of a kind computes such a convolution correctly: libraries are wrong for some shapes."""
    generator = torch.Generator().manual_seed(0)
    sizes = (EXAMPLES, *size[1:]), (shape.channels, shape.channels_in // shape.groups, *shape.kernel), (shape.channels,)
    x, weight, bias = (torch.randn(one, generator=generator, dtype=shape.dtype).to(shape.device) for one in sizes)
    transformed = kind.transform(Polynomial.constant(weight)).coefficients[CONSTANT].to(shape.dtype).contiguous()
    layer = kind.build(shape, transformed, bias)
    last = torch.empty_like(x.permute(0, 2, 3, 1), memory_format=torch.contiguous_format).permute(0, 3, 1, 2).copy_(x)
    with torch.no_grad():
        plain = functional.conv2d(x, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups)
        plain = plain.relu() if shape.relu else plain
        return all(_close(layer(one, None), plain) for one in (x, last))


# Chains in the graph


@dataclass(frozen=True)
class Chain:
    """Nodes that one fused layer replaces: a convolution, and what follows it as its only user."""

    convolution: Node
    norm: Node | None
    addition: Node | None
    relu: Node | None

    @property
    def last(self) -> Node:
        """The node whose value the fused layer has."""
        return self.relu or self.addition or self.norm or self.convolution

    @property
    def nodes(self) -> list[Node]:
        """Its nodes in their order."""
        return [node for node in (self.convolution, self.norm, self.addition, self.relu) if node is not None]

    @property
    def shorter(self) -> "Chain":
        """The chain without its last node."""
        norm, addition, relu = (None if node is self.last else node for node in (self.norm, self.addition, self.relu))
        return Chain(self.convolution, norm, addition, relu)

    @property
    def residual(self) -> Node | None:
        """What is added to the convolution: the other operand."""
        if self.addition is None:
            return None
        ours = self.norm or self.convolution
        found = [operand for operand in self.addition.args if operand is not ours]
        return found[0] if isinstance(found[0], Node) else None

    @property
    def layout(self) -> torch.memory_format:
        """How its output lies in memory in the plain network."""
        form = self.last.meta[FORM]
        _, _, rows, columns = form.shape
        plain = form.strides[-2:] == (columns, 1) and form.strides[1] == rows * columns
        return torch.contiguous_format if plain else torch.channels_last


def find_chains(traced: Trace) -> Iterator[Chain]:
    """Yield the chains of a network, which do not overlap; a chain ends before a write that fusing would reorder."""
    modules = dict(traced.module.named_modules())
    order = {node: number for number, node in enumerate(traced.module.graph.nodes)}
    taken: set[Node] = set()
    for node in order:
        if not _is_convolution(modules, node, traced.touched):
            continue
        norm = _next(node, lambda user: _is_norm(modules, user, traced.touched))
        before = norm or node
        addition = _next(before, lambda user, ours=before: user not in taken and _is_residual_addition(user, ours))  # type: ignore[misc]
        chain = Chain(node, norm, addition, _next(addition or before, lambda user: _is_relu(modules, user)))
        while not _is_undisturbed(chain, traced.written, order):
            chain = chain.shorter
        taken.update(chain.nodes)
        yield chain


def _is_undisturbed(chain: Chain, written: Mapping[Node, frozenset[Node]], order: Mapping[Node, int]) -> bool:
    """Whether the last node has the same value where the whole chain is computed in its place.

    No node of the chain writes into the memory of other nodes. No other node between its ends writes into what the
    fused layer reads: the convolution's input and, after the addition, the tensor that was added.
    """
    inside = set(chain.nodes)
    for node, into in written.items():
        if node in inside:
            if not into <= inside:
                return False
        elif order[chain.convolution] < order[node] < order[chain.last]:
            if chain.convolution.args[0] in into:
                return False
            if chain.addition is not None and order[node] > order[chain.addition] and chain.residual in into:
                return False
    return True


def _next(node: Node, wanted: Callable[[Node], bool]) -> Node | None:
    """Return the only user of a node, if it is of the wanted kind: nothing else sees the value between them."""
    users = list(node.users)
    return users[0] if len(users) == 1 and wanted(users[0]) else None


def _module(modules: dict[str, nn.Module], node: Node) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _plain(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Whether a module computes just what its kind does: a forward pass of its own, or hooks, would be lost."""
    if not isinstance(module, kind) or module._forward_hooks or module._forward_pre_hooks:
        return False
    names = ("__call__", "forward", "_conv_forward")
    same = all(getattr(type(module), name, None) is getattr(kind, name, None) for name in names)
    return same and not set(names) & set(vars(module))


def _is_convolution(modules: dict[str, nn.Module], node: Node, touched: frozenset[int]) -> bool:
    module = _module(modules, node)
    return (
        _plain(module, nn.Conv2d)
        and isinstance(module, nn.Conv2d)
        and padding_of(module) is not None
        and FORM in node.meta
        and len(node.meta[FORM].shape) == 4
        and len(node.args) == 1
        and all(_is_held(module, name, touched) for name in ("weight", "bias"))
    )


def _is_held(module: nn.Module, name: str, touched: frozenset[int]) -> bool:
    """Whether a tensor of a module is a parameter or a buffer that nothing changes, and not computed for each call."""
    held = {**module._parameters, **module._buffers}
    return name in held and (held[name] is None or id(held[name]) not in touched)


def padding_of(convolution: nn.Conv2d) -> tuple[int, int] | None:
    """Return the rows and columns of zeros on each side; None where the padding is not of zeros or the sides differ."""
    if convolution.padding_mode != "zeros":
        return None
    if not isinstance(convolution.padding, str):
        return convolution.padding[0], convolution.padding[1]
    left, right, top, bottom = convolution._reversed_padding_repeated_twice
    return (top, left) if (top, left) == (bottom, right) else None


def _is_norm(modules: dict[str, nn.Module], node: Node, touched: frozenset[int]) -> bool:
    module = _module(modules, node)
    return (
        _plain(module, nn.BatchNorm2d)
        and isinstance(module, nn.BatchNorm2d)
        and not module.training
        and module.running_mean is not None
        and len(node.args) == 1
        and all(_is_held(module, name, touched) for name in ("weight", "bias", "running_mean", "running_var"))
    )


def _is_residual_addition(node: Node, ours: Node) -> bool:
    """Whether a node adds a tensor of the same shape and dtype to ours; a broadcast one is left alone."""
    adds = (node.op == "call_function" and node.target in ADD) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
    others = [operand for operand in node.args if operand is not ours]
    if not adds or node.kwargs or len(others) != 1 or not isinstance(others[0], Node):
        return False
    forms = [one.meta[FORM] for one in (others[0], ours) if FORM in one.meta]
    return len(forms) == 2 and (forms[0].shape, forms[0].dtype) == (forms[1].shape, forms[1].dtype)


def _is_relu(modules: dict[str, nn.Module], node: Node) -> bool:
    return (
        (node.op == "call_function" and node.target in RELU)
        or (node.op == "call_method" and node.target in ("relu", "relu_"))
        or _plain(_module(modules, node), nn.ReLU)
    )

"""A traced network -> its chains of convolution, batch norm, addition and ReLU; changes nothing."""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx import Node
from torch.nn import functional

from landscape_mpi.engines.trace import FORM, Trace

RELU = frozenset({functional.relu, functional.relu_, torch.relu, torch.relu_})
ADD = frozenset({operator.add, operator.iadd, torch.add})


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


def find_chains(traced: Trace) -> Iterator[Chain]:
    """Yield the chains of a network, none overlapping, each as long as nothing writes into what it reads or hides."""
    modules = dict(traced.module.named_modules())
    order = {node: number for number, node in enumerate(traced.module.graph.nodes)}
    taken: set[Node] = set()
    for node in order:
        if _is_convolution(modules, node, traced.touched):
            chain = _chain_from(traced, modules, node, taken)
            while not _is_undisturbed(chain, traced.written, order):
                chain = chain.shorter
            taken.update(chain.nodes)
            yield chain


def _is_undisturbed(chain: Chain, written: Mapping[Node, frozenset[Node]], order: Mapping[Node, int]) -> bool:
    """Whether the last node's value stays when all of the chain is computed where that stands.

    No node of the chain writes into others' memory, and none between its ends writes into what the fused layer reads:
    the convolution's input, and after the addition what was added.
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


def _chain_from(traced: Trace, modules: dict[str, nn.Module], convolution: Node, taken: set[Node]) -> Chain:
    norm = _next(convolution, lambda node: _is_norm(modules, node, traced.touched))
    before = norm or convolution
    addition = _next(before, lambda node: node not in taken and _is_residual_addition(node, before))
    relu = _next(addition or before, lambda node: _is_relu(modules, node))
    return Chain(convolution, norm, addition, relu)


def _next(node: Node, wanted: Callable[[Node], bool]) -> Node | None:
    """Return the only user of a node, if it is of the wanted kind: nothing else sees the value between them."""
    users = list(node.users)
    return users[0] if len(users) == 1 and wanted(users[0]) else None


def _module(modules: dict[str, nn.Module], node: Node) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _plain(module: nn.Module | None, kind: type[nn.Module]) -> bool:
    """Whether a module computes just what its kind does: no forward pass of its own, no hooks, which would be lost."""
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
    """Return the rows and columns of zeros on each side; None where they are others, or not the same on both sides."""
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
    """Whether a node adds a tensor of the same shape to ours; a broadcast one is left alone."""
    adds = (node.op == "call_function" and node.target in ADD) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
    others = [operand for operand in node.args if operand is not ours]
    return adds and not node.kwargs and len(others) == 1 and isinstance(others[0], Node) and _alike(others[0], ours)


def _alike(one: Node, other: Node) -> bool:
    """Whether two nodes are tensors of the same shape and dtype."""
    forms = [node.meta[FORM] for node in (one, other) if FORM in node.meta]
    return len(forms) == 2 and len({(form.shape, form.dtype) for form in forms}) == 1


def _is_relu(modules: dict[str, nn.Module], node: Node) -> bool:
    return (
        (node.op == "call_function" and node.target in RELU)
        or (node.op == "call_method" and node.target in ("relu", "relu_"))
        or _plain(_module(modules, node), nn.ReLU)
    )

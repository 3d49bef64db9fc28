"""A traced network -> its chains of convolution, batch norm, addition and ReLU; changes nothing."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.nn import functional

RELU = frozenset({functional.relu, functional.relu_, torch.relu, torch.relu_})
ADD = frozenset({operator.add, operator.iadd, torch.add})

FORM = "form"
"""The key of a node's `meta` under which its `Form` is."""


@dataclass(frozen=True)
class Form:
    """Shape and dtype of a node's tensor, for the sample that the network was traced with."""

    shape: tuple[int, ...]
    dtype: torch.dtype


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
    def residual(self) -> Node | None:
        """What is added to the convolution: the other operand."""
        if self.addition is None:
            return None
        ours = self.norm or self.convolution
        found = [operand for operand in self.addition.args if operand is not ours]
        return found[0] if isinstance(found[0], Node) else None


def find_chains(traced: GraphModule) -> Iterator[Chain]:
    """Yield the chains of a network whose nodes carry their forms, none overlapping."""
    modules = dict(traced.named_modules())
    taken: set[Node] = set()
    for node in traced.graph.nodes:
        if _is_convolution(modules, node):
            chain = _chain_from(modules, node, taken)
            taken.update(part for part in (chain.norm, chain.addition, chain.relu) if part is not None)
            yield chain


def _chain_from(modules: dict[str, nn.Module], convolution: Node, taken: set[Node]) -> Chain:
    norm = _next(convolution, lambda node: _is_norm(modules, node))
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
    """Whether a module is exactly of a kind: no subclass, and without hooks, which a fused layer would not call."""
    return type(module) is kind and not (module._forward_hooks or module._forward_pre_hooks)


def _is_convolution(modules: dict[str, nn.Module], node: Node) -> bool:
    module = _module(modules, node)
    return (
        _plain(module, nn.Conv2d)
        and isinstance(module, nn.Conv2d)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and FORM in node.meta
        and len(node.meta[FORM].shape) == 4
        and len(node.args) == 1
    )


def _is_norm(modules: dict[str, nn.Module], node: Node) -> bool:
    module = _module(modules, node)
    return (
        _plain(module, nn.BatchNorm2d)
        and isinstance(module, nn.BatchNorm2d)
        and not module.training
        and module.running_mean is not None
    )


def _is_residual_addition(node: Node, ours: Node) -> bool:
    """Whether a node adds a tensor of the same shape to ours; a broadcast one is left alone."""
    adds = (node.op == "call_function" and node.target in ADD) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )
    others = [operand for operand in node.args if operand is not ours]
    return (
        adds
        and not node.kwargs
        and len(others) == 1
        and isinstance(others[0], Node)
        and others[0].meta.get(FORM) == ours.meta.get(FORM)
    )


def _is_relu(modules: dict[str, nn.Module], node: Node) -> bool:
    return (
        (node.op == "call_function" and node.target in RELU)
        or (node.op == "call_method" and node.target in ("relu", "relu_"))
        or _plain(_module(modules, node), nn.ReLU)
    )

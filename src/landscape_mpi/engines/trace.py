"""Traces a network on a sample into a graph, with the shape of each node's value and what it writes into."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node, Proxy, Tracer
from torch.fx.node import map_arg
from torch.fx.proxy import Attribute

FORM = "form"
"""The key of a node's `meta` under which its `Form` is."""
UNSEEN = frozenset({"data", "numpy", "storage", "untyped_storage", "data_ptr", "set_", "__array__"})
"""Attributes and methods of a tensor through which memory can be written without a change of its version."""


class CannotFuseError(Exception):
    """The network has no graph to transform, or nothing in it to fuse; the text says why."""


class OtherBranchError(RuntimeError):
    """These inputs, or this point, take another branch of the forward pass than the sample did."""


@dataclass(frozen=True)
class Form:
    """Shape, strides and dtype of a node's tensor, for the sample that the network was traced with."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Trace:
    """A forward pass as a graph.

    Attributes:
        module: The graph, with its modules and parameters under the names of a root whose only child is the network.
        written: For every node that writes into memory of nodes before it: those nodes.
        touched: Buffers that the forward pass writes into, by id.
        through_views: Whether something is written through a view, which may be a copy where tensors lie another way.
    """

    module: GraphModule
    written: dict[Node, frozenset[Node]]
    touched: frozenset[int]
    through_views: bool


def trace(network: nn.Module, sample: Tensor) -> Trace:
    """Return the graph of a network's forward pass on one tensor, its other arguments at their defaults.

    The forward pass may ask for the length, the truth or the number of something computed. The answer is then that of
    the sample, and the graph raises `OtherBranchError` where it differs. The network may be changed: hand over a copy.

    Raises:
        CannotFuseError: the forward pass cannot be traced, or does what a graph would not repeat.
    """
    versions = {id(tensor): tensor._version for tensor in _tensors(network)}
    floating = [p for p in network.parameters() if p.is_floating_point() or p.is_complex()]
    tracer = _Tracer(sample)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            for parameter in floating:  # so that what is computed from parameters outside of the graph has a gradient
                parameter.requires_grad_(True)
            module = GraphModule(root := _Root(network), tracer.trace(root))
    except Exception as error:  # the user's forward pass may do anything with a proxy
        raise CannotFuseError(f"its forward pass cannot be traced ({type(error).__name__}: {error})") from error
    for parameter in floating:
        parameter.requires_grad_(False)
    for node in module.graph.nodes:
        # refuse what a graph would not repeat at another point, and writes that cannot be seen
        value = tracer.values.get(node)
        if node.op == "get_attr" and isinstance(value, Tensor) and value.grad_fn is not None:
            raise CannotFuseError("its forward pass computes with parameters where tracing does not see it")
        name = node.args[1] if node.op == "call_function" and node.target is getattr else node.target
        if node.op in ("call_function", "call_method") and name in UNSEEN:
            raise CannotFuseError(f"its forward pass takes hold of memory by {name}")
    touched = {id(tensor) for tensor in _tensors(network) if tensor._version != versions.get(id(tensor))}
    if touched & {id(parameter) for parameter in network.parameters()}:
        raise CannotFuseError("its forward pass changes its own parameters")
    forms = ({node.meta[FORM] for node in nodes} for nodes in tracer.written.values())  # of what each write reaches
    return Trace(module, tracer.written, frozenset(touched), any(len(of_one) > 1 for of_one in forms))


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()


class _Root(nn.Module):
    """The network with one argument; nothing that is put beside the network can take one of its names."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Any:
        """Return the network's outputs."""
        return self.network(inputs)


class _Tracer(Tracer):
    """Runs every node as soon as it is made, and answers the forward pass's questions with the sample's values."""

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        self.values: dict[Node, Any] = {}
        self.written: dict[Node, frozenset[Node]] = {}
        self._versions: dict[Node, int] = {}
        self._sample = sample
        self._running = False

    def create_node(self, *args: Any, **kwargs: Any) -> Node:
        """Return a new node, which has been run."""
        node = super().create_node(*args, **kwargs)
        if node.op != "output":
            self._run(node)
        return node

    def proxy(self, node: Node) -> "_Value":
        """Return a proxy that can answer."""
        return _Value(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is called as one node: torch's own modules, and subclasses that compute as these do."""
        inherited = type(m).forward.__module__.startswith("torch.nn.modules") and not isinstance(m, nn.Sequential)
        as_torch = inherited and type(m).__call__ is nn.Module.__call__ and "forward" not in vars(m)
        return as_torch or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Trace a module, or run it where a node is being run."""
        return forward(*args, **kwargs) if self._running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a proxy of a module's attribute, or the attribute itself where a node is being run."""
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: Proxy) -> bool:
        """Return the truth of a value in the sample; the graph checks it."""
        return bool(self.ask(bool, obj))

    def iter(self, obj: Proxy) -> Iterator[Any]:
        """Return the parts of a value, as many as in the sample; the graph checks their number."""
        return iter([obj[number] for number in range(self.ask(len, obj))])  # type: ignore[index]

    def ask(self, question: Callable[[Any], Any], obj: Proxy) -> Any:
        """Return the sample's answer to a question about a value; the graph refuses every other answer."""
        answer = question(self.values[obj.node])
        self.create_proxy("call_function", ANSWERS[question], (obj, answer), {})
        return answer

    def _run(self, node: Node) -> None:
        self._running = True
        try:
            with torch.no_grad():
                self.values[node] = value = self._value(node)
        finally:
            self._running = False
        written = frozenset(one for one, version in self._versions.items() if self.values[one]._version != version)
        if written:
            self.written[node] = written
            self._versions.update({one: self.values[one]._version for one in written})
        if isinstance(value, Tensor):
            self._versions[node] = value._version
            strides = tuple(value.stride()) if value.layout == torch.strided else ()
            node.meta[FORM] = Form(tuple(value.shape), strides, value.dtype)

    def _value(self, node: Node) -> Any:
        args: tuple[Any, ...] = map_arg(node.args, self.values.__getitem__)
        kwargs: dict[str, Any] = map_arg(node.kwargs, self.values.__getitem__)
        if node.op == "placeholder":
            return self._sample.clone()
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.root)
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]


class _Value(Proxy):
    """A proxy that answers with the sample's values where Python wants a number or a length."""

    tracer: _Tracer

    def __getattr__(self, k: str) -> "_Attribute":
        return _Attribute(self, k)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def __len__(self) -> int:
        return int(self.tracer.ask(len, self))

    def __index__(self) -> int:
        return int(self.tracer.ask(operator.index, self))

    def __int__(self) -> int:
        return int(self.tracer.ask(int, self))

    def __float__(self) -> float:
        return float(self.tracer.ask(float, self))


class _Attribute(_Value, Attribute):
    """An attribute of such a value."""


def _same(found: object, answer: object) -> None:
    if found != answer:
        raise OtherBranchError(f"the forward pass found {found} where the sample had {answer}")


def same_truth(value: Any, answer: bool) -> None:
    """Raise `OtherBranchError` where the truth of a value is not the sample's."""
    _same(bool(value), answer)


def same_length(value: Any, answer: int) -> None:
    """Raise `OtherBranchError` where the length of a value is not the sample's."""
    _same(len(value), answer)


def same_number(value: Any, answer: float) -> None:
    """Raise `OtherBranchError` where a number is not the sample's."""
    _same(type(answer)(value), answer)


ANSWERS: dict[Callable[[Any], Any], Callable[[Any, Any], None]] = {
    bool: same_truth,
    len: same_length,
    int: same_number,
    float: same_number,
    operator.index: same_number,
}
"""Questions that Python asks of a value -> the checks of their answers in the graph."""

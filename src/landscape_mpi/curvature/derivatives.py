"""Computes products of the Hessian of a summed loss with vectors, and checks torch's derivatives by differences.

A detached tensor, a reentrant checkpoint or a user's own backward pass may leave part of a derivative out, and torch
silently returns the rest. `silent` and `differs` compare derivatives with finite differences; they are meant for
float64, where differences are accurate.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

SummedLoss = Callable[[slice], Tensor]
"""Consecutive examples -> the sum of their losses, a scalar that depends on the parameters."""


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Take gradients within the block, by operations whose second derivatives torch computes correctly.

    The other implementations of attention have no second derivative. The second derivative of torch's weight norm is
    wrong: for a layer of 4 x 8, by a third of a product with the Hessian (torch 2.13).
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _Formulas():
        yield


class _Formulas(TorchFunctionMode):
    """Computes weight norm by its formula."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function, or its formula."""

        def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
            return v * (g / torch.norm_except_dim(v, 2, dim))

        return (weight_norm if func is torch._weight_norm else func)(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Hessian:
    """The Hessian of the sum of some losses over some parameters, known by its products.

    Attributes:
        parameters: leaves that require a gradient, in the order in which a vector [n] lists their entries.
        loss: the sum of the losses of a batch.
    """

    parameters: Sequence[Tensor]
    loss: SummedLoss

    @property
    def size(self) -> int:
        """The number n of parameters."""
        return sum(parameter.numel() for parameter in self.parameters)

    def times(self, vector: Tensor, batches: Iterable[slice]) -> Tensor:
        """Return H v, float64 [n], of the SUM over all examples of some batches, added in their order in float64.

        Each batch takes two backward passes (Pearlmutter, Neural Computation 6, 1994), in the parameters' own dtype.

        Args:
            vector: v, float64 [n], on the parameters' device.
            batches: which examples go through the network at once.
        """
        cuts = torch.split(vector, [parameter.numel() for parameter in self.parameters])
        parts = [cut.view(p.shape).to(p.dtype) for cut, p in zip(cuts, self.parameters, strict=True)]
        total = torch.zeros_like(vector)
        for batch in batches:
            with differentiable_twice():
                gradient = _gradient([self.loss(batch)], self.parameters, None, keep=True)
                product = _gradient(gradient, self.parameters, parts, keep=False)
            total += torch.cat([part.detach().flatten().double() for part in product])
        return total

    def check(self, batch: slice) -> None:
        """Check on a batch that the gradient has a derivative.

        Torch silently leaves an operation that is marked as differentiable once out of second derivatives.

        Raises:
            RuntimeError: an operation of the network or the loss is marked like that.
        """
        with differentiable_twice():
            gradient = _gradient([self.loss(batch)], self.parameters, None, keep=True)
        if any(node.name().endswith("Error") for node in _nodes(gradient)):
            raise RuntimeError("one of its operations is marked as differentiable once")


def _gradient(
    outputs: Sequence[Tensor], parameters: Sequence[Tensor], weights: Sequence[Tensor] | None, keep: bool
) -> Sequence[Tensor]:
    """Return the gradient of outputs, times weights; 0 for what they do not depend on."""
    pairs = zip(outputs, weights if weights is not None else [None] * len(outputs), strict=True)
    chosen = [(output, weight) for output, weight in pairs if output.requires_grad]
    if not chosen:
        return [torch.zeros_like(parameter) for parameter in parameters]
    tensors, factors = zip(*chosen, strict=True)
    return torch.autograd.grad(
        tensors, list(parameters), factors, create_graph=keep, allow_unused=True, materialize_grads=True
    )


def _nodes(tensors: Iterable[Tensor]) -> Iterator[Node]:
    """Yield the nodes of the graph that computed some tensors, each once."""
    waiting = [tensor.grad_fn for tensor in tensors]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
            yield node


Loss = Callable[[], Tensor]
"""The loss at the parameters as they are, a scalar that depends on them."""
FINE, COARSE = 1e-14, 1e-6
"""Relative rounding error of a loss in float64 throughout, and of a loss that is partly computed in float32."""
STEPS = {FINE: (1e-8, 1e-9, 1e-10, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3), COARSE: (1e-2, 1e-3, 1e-4)}
"""Steps of the differences, relative to the parameters; one good step is enough: kinks of ReLU spoil large steps.

Networks of 56 layers cross kinks in steps of 1e-7 already; in steps of 1e-8 the differences agree to 1e-8 (measured).
"""
TOLERANCE = 5e-3
"""Largest relative error of a difference against the derivative."""


def silent(parameters: Mapping[str, Tensor], loss: Loss) -> list[str]:
    """Return the names of parameters that the loss depends on although it gives them no gradient."""
    with differentiable_twice():
        value = loss()
        named = list(parameters)
        given = (
            torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            if value.requires_grad
            else [None] * len(named)
        )
    without = [name for name, gradient in zip(named, given, strict=True) if gradient is None]
    before, found = float(value.detach()), []
    for name in without:
        leaf = parameters[name]
        with _stepped([leaf], [_direction(leaf, 0)], 1e-2):
            if abs(float(_value(loss)) - before) > 1e-9 * abs(before):
                found.append(name)
    return found


def differs(parameters: Mapping[str, Tensor], loss: Loss) -> str:
    """Return which derivative is wrong, the gradient or its own derivative, in words; empty where neither is."""
    leaves = list(parameters.values())
    if any(leaf.is_complex() for leaf in leaves):
        return ""
    directions = [_direction(leaf, number) for number, leaf in enumerate(leaves)]
    with differentiable_twice():
        value = loss()
        gradient = _gradients(value, leaves, create_graph=True)
        product = [part.detach() for part in _gradients(_dot(gradient, directions), leaves)]
        gradient = [part.detach() for part in gradient]
    size = abs(float(value.detach()))
    if not all(bool(torch.isfinite(part).all()) for part in (value.detach(), *gradient, *product)):
        return ""
    with _stepped(leaves, directions, 1e-10):  # a loss that does not change computes in float32 somewhere
        noise = COARSE if float(_value(loss)) == float(value.detach()) else FINE
    slope, typical = _dot(gradient, directions), _typical(gradient, directions)

    def rise() -> Tensor:
        return _value(loss).reshape(1)

    def flat_gradient() -> Tensor:
        with differentiable_twice():
            return _flat(_gradients(loss(), leaves))

    if not _agrees(leaves, directions, rise, slope.reshape(1), typical, (noise, size)):
        return "its gradient"
    if noise == COARSE:  # differences of gradients would need steps that cross kinks
        return ""
    flat, whole = _flat(product), float(_flat(gradient).norm())
    if not _agrees(leaves, directions, flat_gradient, flat, float(flat.norm()), (noise, whole + size)):
        return "the derivative of its gradient"
    return ""


def _agrees(
    leaves: list[Tensor],
    directions: list[Tensor],
    at: Callable[[], Tensor],
    derivative: Tensor,
    typical: float,
    rounding: tuple[float, float],
) -> bool:
    """Return whether a derivative along the directions is the central difference of `at`, for some step."""
    noise, size = rounding
    for step in STEPS[noise]:
        ends = []
        for sign in (1.0, -1.0):
            with _stepped(leaves, directions, sign * step):
                ends.append(at())
        difference = (ends[0] - ends[1]) / (2 * step)
        allowed = TOLERANCE * max(typical, float(derivative.norm())) + noise * size / step
        if float((difference - derivative).norm()) <= allowed:
            return True
    return False


def _value(loss: Loss) -> Tensor:
    """Return the loss alone, with gradients enabled, because a network may take gradients itself."""
    with differentiable_twice():
        return loss().detach()


@contextmanager
def _stepped(leaves: list[Tensor], directions: list[Tensor], step: float) -> Iterator[None]:
    before = [leaf.detach().clone() for leaf in leaves]
    with torch.no_grad():
        for leaf, direction in zip(leaves, directions, strict=True):
            leaf.add_(direction, alpha=step)
    try:
        yield
    finally:
        with torch.no_grad():
            for leaf, old in zip(leaves, before, strict=True):
                leaf.copy_(old)


def _direction(leaf: Tensor, number: int) -> Tensor:
    """Return random numbers of the parameter's own size, always the same."""
    drawn = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    size = max(float(leaf.detach().square().mean().sqrt()), 1e-3) if leaf.numel() else 0.0
    return (size * drawn).to(leaf.device, leaf.dtype)


def _gradients(value: Tensor, leaves: list[Tensor], create_graph: bool = False) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(
        torch.autograd.grad(value, leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    )


def _dot(parts: list[Tensor], directions: list[Tensor]) -> Tensor:
    return torch.stack([(part * direction).sum() for part, direction in zip(parts, directions, strict=True)]).sum()


def _typical(gradient: list[Tensor], directions: list[Tensor]) -> float:
    """Return the typical size of the slope along random directions; the slope itself may be far smaller by chance."""
    pairs = zip(gradient, directions, strict=True)
    return float(torch.stack([(part * direction).square().sum() for part, direction in pairs]).sum().sqrt())


def _flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.detach().flatten() for part in parts])

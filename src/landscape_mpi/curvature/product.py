"""Computes products of the Hessian of a summed loss with vectors, batch by batch."""

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
    """Take gradients within the block, by operations whose second derivatives torch computes right.

    The other implementations of attention have no second derivative, and that of torch's weight norm is wrong, by a
    third of a product with the Hessian of a layer of 4 x 8 (torch 2.13).
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

        Each batch by two passes backwards (Pearlmutter, Neural Computation 6, 1994), in the parameters' own dtype.

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

        Torch silently leaves out of second derivatives what an operation marks as differentiable once.

        Raises:
            RuntimeError: an operation of the network or the loss is so marked.
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

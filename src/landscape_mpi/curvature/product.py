"""Hessian-vector products of a mean loss, batch by batch; knows no data set, no grid, no rank and no file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node

from landscape_mpi.curvature.twice import differentiable_twice

SummedLoss = Callable[[slice], Tensor]
"""Consecutive images -> the sum of their losses, a scalar that depends on the parameters."""


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
        """Return H v, float64 [n], of the SUM over all images of some batches, added in their order in float64.

        Each batch by two passes backwards (Pearlmutter, Neural Computation 6, 1994), in the parameters' own dtype.

        Args:
            vector: v, float64 [n], on the parameters' device.
            batches: which images go through the network at once.
        """
        parts = self._like_parameters(vector)
        total = torch.zeros_like(vector)
        for batch in batches:
            total += _flat(self._of_batch(parts, batch))
        return total

    def check(self, batch: slice) -> None:
        """See whether a gradient has a derivative, by that of a batch.

        What an operation marks as differentiable once, torch leaves out of second derivatives without a word.

        Raises:
            RuntimeError: an operation of the network or the loss is so marked.
        """
        with differentiable_twice():
            gradient = _gradient([self.loss(batch)], self.parameters, None, keep=True)
        if any(node.name().endswith("Error") for node in _nodes(gradient)):
            raise RuntimeError("one of its operations is marked as differentiable once")

    def _of_batch(self, parts: Sequence[Tensor], batch: slice) -> Sequence[Tensor]:
        with differentiable_twice():
            gradient = _gradient([self.loss(batch)], self.parameters, None, keep=True)
            return _gradient(gradient, self.parameters, parts, keep=False)

    def _like_parameters(self, vector: Tensor) -> list[Tensor]:
        cuts = torch.split(vector, [parameter.numel() for parameter in self.parameters])
        return [cut.view(p.shape).to(p.dtype) for cut, p in zip(cuts, self.parameters, strict=True)]


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
    """Yield what the tensors were computed by, each node of the graph once."""
    waiting = [tensor.grad_fn for tensor in tensors]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
            yield node


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().flatten().double() for part in parts])

"""Compares the derivatives that torch computes of a loss with finite differences.

A detached tensor, a reentrant checkpoint or a user's own backward pass may leave part of a derivative out, and torch
silently returns the rest. Everything here is meant for float64, where differences are accurate.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from landscape_mpi.curvature.product import differentiable_twice

Loss = Callable[[], Tensor]
"""The loss at the parameters as they are, a scalar that depends on them."""
FINE, COARSE = 1e-14, 1e-6
"""Relative rounding error of a loss in float64 throughout, and where something computes in float32."""
STEPS = {FINE: (1e-8, 1e-9, 1e-10, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3), COARSE: (1e-2, 1e-3, 1e-4)}
"""Steps of the differences, relative to the parameters; one that agrees is enough: kinks of ReLU spoil large steps.

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
    """Whether a derivative along the directions is the central difference of `at`, for some step."""
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
    """Return the loss alone; with gradients enabled, as a network may take some itself."""
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
    """Return the size of the slope along random directions, which the slope itself may miss by chance."""
    pairs = zip(gradient, directions, strict=True)
    return float(torch.stack([(part * direction).square().sum() for part, direction in pairs]).sum().sqrt())


def _flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.detach().flatten() for part in parts])

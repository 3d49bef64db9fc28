"""How gradients are taken that have derivatives themselves; knows no loss."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Take gradients, by operations whose gradients are differentiated rightly.

    The other ways to compute attention have no second derivative, and that of torch's weight norm is wrong: by a third
    of a product with the Hessian of a layer of 4 x 8 (torch 2.13).
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _Formulas():
        yield


class _Formulas(TorchFunctionMode):
    """Computes weight norm by its formula."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function, or its formula."""
        return (_weight_norm if func is torch._weight_norm else func)(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))

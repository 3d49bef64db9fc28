"""Multiplies matrices of float32 as sums of bfloat16 words: with nearly all digits of float32, by units for bfloat16.

A weight w is hi + lo with hi = bfloat16(w) and lo = bfloat16(w - hi), up to 2^-17 of w. An activation is the sum of
three words, because its rounding, unlike that of weights, differs from point to point. With two words this rounding
would change rises of 1e-4. Of the six products of words, the five large ones are taken. Each is exact in float32, and
they are added up in float32. (Henry, Tang, Heinecke: Leveraging the bfloat16 artificial intelligence datatype for
higher-precision computations, ARITH 2019.)

Weights stay float32 between products, which takes the memory of their two words.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten


def words_of(x: Tensor, count: int = 2) -> list[Tensor]:
    """Return bfloat16 words of falling size whose sum is float32 numbers, up to what the last of them leaves out.

    >>> hi, lo = words_of(torch.tensor([1.00390625 + 2**-12]))
    >>> (hi.float() + lo.float()).item() - 1
    0.004150390625
    """
    words = [x.bfloat16()]
    for _ in range(count - 1):
        x = x - words[-1]
        words.append(x.bfloat16())
    return words


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes products of float32 matrices as sums of products of words while it is entered, and changes nothing else.

    This includes all that torch splits into products of matrices: linear layers, attention without a kernel of its own,
    einsum. Convolutions, recurrent layers and fused attention stay float32, because torch has no product of bfloat16
    for them that keeps the digits of the sum. Gradients are those of the products in float32.
    """

    def __init__(self, words: Callable[[Tensor, int], Sequence[Tensor]] = words_of) -> None:
        """Take a function that splits numbers [...] into so many words [...] of falling size, or fewer of more digits.

        The first factor of a product is split into three words. The second, such as a linear layer's weights, is split
        into two.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._words = words

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operation of torch's."""
        named = dict(kwargs or {})
        if func in (_ATEN.mm.default, _ATEN.bmm.default) and _are_float32(*args):
            return self._product(func, *args)
        if func in _ADDING and _are_float32(*args[1:]):
            beta, alpha = named.get("beta", 1), named.get("alpha", 1)
            total = self._product(_ADDING[func], *args[1:]).mul_(alpha)
            return total.add_(args[0], alpha=beta) if beta else total
        # in inference mode, operations that consist of others arrive as a whole
        if isinstance(func, torch._ops.OpOverload) and func._can_decompose():
            with self:
                return func.decompose(*args, **named)
        return func(*args, **named)

    def _product(self, func: Any, a: Tensor, b: Tensor) -> Tensor:
        """Return the product of two matrices, or of two stacks of them, float32."""
        left, right = self._words(a, 3), self._words(b, 2)
        wide = _WIDE.get(func) if a.is_cuda else None
        if wide is None:  # a CPU has no product of bfloat16 with sums in float32 that torch could ask for
            left, right = [x.float() for x in left], [x.float() for x in right]
        pairs = [(x, y) for i, x in enumerate(left) for j, y in enumerate(right) if i + j < len(left)]
        first, *others = reversed(pairs)  # the small ones first
        total: Tensor = wide(*first, torch.float32) if wide else func(*first)
        for pair in others:
            total += wide(*pair, torch.float32) if wide else func(*pair)
        return total


_ADDING = {_ATEN.addmm.default: _ATEN.mm.default, _ATEN.baddbmm.default: _ATEN.bmm.default}
"""Products to which something is added, and the products themselves."""
_WIDE = {
    product: getattr(_ATEN, name).dtype
    for name, product in (("mm", _ATEN.mm.default), ("bmm", _ATEN.bmm.default))
    if hasattr(getattr(_ATEN, name), "dtype")  # from torch 2.8 on
}
"""Products of bfloat16 that give float32, on CUDA alone."""


def _are_float32(*factors: Tensor) -> bool:
    return all(type(x) in (Tensor, torch.nn.Parameter) and x.dtype == torch.float32 for x in factors)


@contextmanager
def two_words() -> Iterator[None]:
    """Multiply matrices as sums of bfloat16 words while the block runs."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fast path makes one operation of a transformer layer
    try:
        with Products():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)

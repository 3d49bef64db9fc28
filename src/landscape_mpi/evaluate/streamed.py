"""Runs a network whose weights are built as its modules run: each is there from when it is read until its reader ends.

A parameter is read in one of two ways. Mostly a module reads it as an attribute, its own (`self.weight`) or another's
(`self.out_proj.weight`): the module's dictionary of parameters builds it then. Code that holds the parameter itself, in
a list or through `parameters()`, holds an `Absent` parameter, for which torch calls `__torch_function__`. In both ways
the built tensor belongs to the module whose forward pass is running. It is dropped when that pass ends, also if it ends
by an exception. The network's code sees ordinary parameters, takes the paths that it always takes, and computes the
same bits.

No hooks are used: torch's transformer layers take a slower path, with other rounding, where a module has some.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional

from landscape_mpi.errors import UserError
from landscape_mpi.evaluate.streamable import REMEDY, Extent, check, keeper

Build = Callable[[str], Tensor]
"""Name of a parameter -> its tensor at the present point, in memory that nobody else writes to.

Fresh memory of torch's is aligned. The rounding of matrix products depends on that: a tensor that starts elsewhere may
give other last bits.
"""
BuildRows = Callable[[str, Tensor], Tensor]
"""Name of a parameter [n, width], and places of some rows, int64 [k] -> these rows, [k, width], as of `Build`."""
_DESCRIBES = {
    *(Tensor.shape.__get__, Tensor.dtype.__get__, Tensor.ndim.__get__, Tensor.requires_grad.__get__),  # type: ignore[attr-defined]
    *(Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_floating_point, Tensor.is_complex),
}
"""What can be asked of a parameter without its values."""


class Absent(nn.Parameter):
    """A parameter without memory: in a forward pass torch computes with the tensor that is built for it instead.

    Attributes:
        key: its name, as in `named_parameters()`.
        twin: a meta tensor of its shape, dtype and `requires_grad`, for what is asked outside of forward passes.
        weights: builds it.
    """

    key: str
    twin: Tensor
    weights: "_Weights"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch's with built parameters, or twins, in the place of absent ones."""
        describes = func in _DESCRIBES

        def there(value: Any) -> Any:
            if isinstance(value, Absent):
                return value.twin if describes or not value.weights.running else value.weights.read(value)
            if isinstance(value, list | tuple):
                parts = [there(part) for part in value]
                return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
            return {key: there(part) for key, part in value.items()} if isinstance(value, dict) else value

        return func(*there(args), **there(dict(kwargs or {})))


class _Built(NamedTuple):
    """A parameter that is there, and torch's count of the writes to it when it had just been built."""

    parameter: nn.Parameter
    version: int


class _Weights:
    """The parameters that are there, and which running forward pass each belongs to."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._there: dict[str, _Built] = {}
        self._running: list[list[str]] = []  # for each forward pass, the outermost first, what was built for it
        self._dropped: list[tuple[str, StorageWeakRef, Extent]] = []
        self._written: str | None = None
        self._passed: set[str] = set()  # names of parameters whose memory something else holds
        self.nbytes = self.peak = 0

    @property
    def running(self) -> bool:
        """Whether any forward pass is running."""
        return bool(self._running)

    def read(self, absent: Absent) -> nn.Parameter:
        """Return a parameter; where it is not there, build it for the innermost forward pass."""
        found = self._there.get(absent.key)
        if found is not None:
            return found.parameter
        # normal tensors, as the parameters of a resident network are, whatever mode the pass is in
        with torch._C._InferenceMode(False):  # torch.inference_mode takes three times as long
            parameter = nn.Parameter(self._build(absent.key), absent.twin.requires_grad)
        if (parameter.shape, parameter.dtype) != (absent.twin.shape, absent.twin.dtype):
            raise RuntimeError(f"{absent.key} was built as {parameter.dtype} {list(parameter.shape)}")
        self._there[absent.key] = _Built(parameter, parameter._version)
        self._running[-1].append(absent.key)
        self.nbytes += parameter.nbytes
        self.peak = max(self.peak, self.nbytes)
        return parameter

    def embed(
        self, forward: Callable[..., Tensor], absent: Absent, rows: BuildRows, *args: Any, **named: Any
    ) -> Tensor:
        """Return what an embedding looks up; where it reads only some of its rows, only these are built."""
        places = args[0] if args else named["input"]
        if absent.key in self._there or torch._C._functorch.is_functorch_wrapped_tensor(places):
            return forward(*args, **named)
        wanted, among = torch.unique(places, return_inverse=True)
        count = len(absent.twin)
        if not 0 < len(wanted) < count or wanted[0] < 0 or wanted[-1] >= count:
            return forward(*args, **named)
        with torch._C._InferenceMode(False):
            parameter = nn.Parameter(rows(absent.key, wanted), absent.twin.requires_grad)
        self.peak = max(self.peak, self.nbytes + parameter.nbytes)
        return functional.embedding(among, parameter)

    def stored(self, absent: Absent, value: Any) -> Any:
        """Return what is to be kept for a value: the absent parameter if the value was built for that parameter."""
        built = self._there.get(absent.key)
        return absent if built is not None and built.parameter is value else value

    def run(self, forward: Callable[..., Any], network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Run a module's forward pass, then drop all that was built for it."""
        if not self._running:
            self._dropped, self._written = [], None
        self._running.append([])
        try:
            outputs = forward(*args, **kwargs)
        finally:
            for name in self._running.pop():
                self._drop(name)
        if not self._running:
            self._check(network)
        return outputs

    def _drop(self, name: str) -> None:
        parameter, version = self._there.pop(name)
        self.nbytes -= parameter.nbytes
        if parameter._version != version:
            self._written = name
        if name not in self._passed:
            memory = StorageWeakRef(parameter.untyped_storage())  # type: ignore[no-untyped-call]
            place = range(parameter.data_ptr(), parameter.data_ptr() + parameter.nbytes)
            self._dropped.append((name, memory, place))

    def _check(self, network: nn.Module) -> None:
        """Refuse a network that changed its weights, or kept a part of them: they would be those of another point.

        Other things may hold memory of a parameter, such as outputs or `build` itself. They are allowed, and looked for
        once.
        """
        if self._written is not None:
            raise UserError(
                "model",
                f"the forward pass of the network writes to its parameter `{self._written}`",
                expected="a network that leaves its weights as they are",
                remedy=REMEDY,
            )
        for name, memory, place in self._dropped:
            if memory.expired():  # type: ignore[no-untyped-call]
                continue
            module = keeper(network, place)
            if module is not None:
                raise UserError(
                    "model",
                    f"{module} keeps a view of the parameter `{name}` beyond its forward pass",
                    expected="views that are made in every forward pass",
                    remedy=REMEDY,
                )
            self._passed.add(name)


class _Parameters(dict[str, nn.Parameter | None]):
    """A module's own parameters, which are built when they are read within a forward pass."""

    def __init__(self, own: Mapping[str, nn.Parameter | None], weights: _Weights) -> None:
        super().__init__(own)
        self._absent = {key: value for key, value in own.items() if isinstance(value, Absent)}
        self._weights = weights

    def __getitem__(self, key: str) -> nn.Parameter | None:
        value = super().__getitem__(key)
        return self._weights.read(value) if isinstance(value, Absent) and self._weights.running else value

    def __setitem__(self, key: str, value: nn.Parameter | None) -> None:
        # torch.func.functional_call puts back what it has read
        absent = self._absent.get(key)
        super().__setitem__(key, value if absent is None else self._weights.stored(absent, value))

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a network whose weights are streamed cannot be copied")


class Streamed:
    """A network that is called as it always was, while its weights are built as its modules run.

    At any time, the weights that are there are those that the running modules, from the network down to one layer, have
    read. Outputs have the same bits as those of the same network with the same weights in it.

    >>> network, values = nn.Linear(2, 1, bias=False), {"weight": torch.tensor([[1.0, 2.0]])}
    >>> streamed = Streamed(network, lambda name: values[name].clone())
    >>> streamed(torch.tensor([[3.0, 4.0]])).item()
    11.0
    >>> streamed.largest, streamed.peak
    (8, 8)
    """

    def __init__(self, network: nn.Module, build: Build, rows: BuildRows | None = None) -> None:
        """Take a network for good: its parameters lose their memory; other tensors that share this memory keep it.

        Args:
            network: in eval mode, its parameters on any device, meta among them; its buffers where they are to be.
            build: returns the parameter of a name at the present point; called within forward passes, as often as a
                module needs it, outside of inference mode. Tied parameters have one name, the first.
            rows: returns some rows of a parameter, for embeddings, which read only the rows of a batch's tokens. None
                builds all rows.

        Raises:
            UserError: a part of the network needs its weights to be there; the network is as it was.
        """
        check(network)
        self.network = network
        self._weights, self._rows = _Weights(build), rows
        # by identity, once: modules that share a parameter share its absent one
        for name, parameter in list(network.named_parameters()):
            _empty(name, parameter, self._weights)
        for module in network.modules():
            self._take(module)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the network's outputs.

        Raises:
            UserError: it changes its weights, or keeps a view of them.
        """
        return self.network(*inputs, **named)

    @functools.cached_property
    def largest(self) -> int:
        """Memory of the module whose own parameters are the largest, in bytes."""
        owned = (
            sum(p.nbytes for p in module.parameters(recurse=False) if p is not None)
            for module in self.network.modules()
        )
        return max(owned, default=0)

    @property
    def peak(self) -> int:
        """Memory of the parameters that were there at one time, in bytes: the most in all passes so far."""
        return self._weights.peak

    @property
    def description(self) -> str:
        """Say how the network is run, in a few words that follow those of its evaluation."""
        return "weights built as each layer runs"

    def _take(self, module: nn.Module) -> None:
        """Let a module read what is built, and drop it after its forward pass."""
        if module._parameters:
            vars(module)["_parameters"] = _Parameters(module._parameters, self._weights)
        if next(module.parameters(), None) is None:
            return
        forward = _restored(module) if isinstance(module, nn.RNNBase) else module.forward
        weights, network = self._weights, self.network
        if self._rows is not None and _looks_up(module):
            absent = cast(Absent, dict.__getitem__(module._parameters, "weight"))
            forward = functools.partial(weights.embed, forward, absent, self._rows)

        @functools.wraps(module.forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            return weights.run(forward, network, *args, **kwargs)

        vars(module)["forward"] = run


def _looks_up(module: nn.Module) -> bool:
    """Whether a module does nothing but look up rows of its weights, and these are real numbers."""
    if not isinstance(module, nn.Embedding) or getattr(module.forward, "__func__", None) is not nn.Embedding.forward:
        return False
    weight = dict.get(module._parameters, "weight")
    return module.max_norm is None and isinstance(weight, Absent) and not weight.twin.is_complex()


def _restored(module: nn.RNNBase) -> Callable[..., Any]:
    """Return the forward pass of a recurrent module after which its own lists hold the absent parameters again."""
    forward = module.forward
    # on CUDA it would move what was built to memory of its own, which counts as a write; cuDNN does not need it
    vars(module)["flatten_parameters"] = lambda: None
    lists = {key: vars(module)[key] for key in ("_flat_weights", "_flat_weight_refs")}

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return forward(*args, **kwargs)
        finally:
            vars(module).update(lists)

    return run


def _empty(key: str, parameter: nn.Parameter, weights: _Weights) -> None:
    """Make a parameter an absent one, wherever it is held, and let its memory go."""
    # torch.empty_like of a meta tensor would import sympy, which takes a second, and 40 MB on every rank
    twin = torch.empty_strided(parameter.size(), parameter.stride(), dtype=parameter.dtype, device="meta")
    twin.requires_grad_(parameter.requires_grad)
    if not parameter.is_meta:
        with torch.no_grad():
            parameter.set_(torch.empty(0, dtype=parameter.dtype, device=parameter.device))  # type: ignore[call-overload]
    parameter.__class__ = Absent
    absent = cast(Absent, parameter)
    absent.key, absent.twin, absent.weights = key, twin, weights

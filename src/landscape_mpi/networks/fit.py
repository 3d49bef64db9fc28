"""Finds which tensor of a network is which tensor of a checkpoint, by their names and shapes; reads no file."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from landscape_mpi.errors import Key, UserError
from landscape_mpi.networks.meta import materialise
from landscape_mpi.networks.state import duplicate

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
WRAPPERS: tuple[frozenset[str], ...] = (frozenset(), _WRAPPERS, _WRAPPERS | {"module"})
"""Parts of names that torch.compile, FSDP, activation checkpointing and DDP put in, in the middle of a name too."""
TRAINING = frozenset(
    {"criterion", "loss", "loss_fn", "loss_func", "teacher", "optimizer", "scheduler", "n_averaged", "ema", "model_ema"}
)
"""First parts of names that only training has."""
COUNTS = frozenset({"num_batches_tracked", "n_averaged", "total_ops", "total_params"})
"""Last parts of the names of counters, which no evaluation reads."""
PREFIXES = 20
"""Number of prefixes that are tried, the commonest first."""


class Place(NamedTuple):
    """Where weights came from, for messages: the key of the job, and the name of the file or of its stand-in."""

    key: str
    name: str

    def __str__(self) -> str:
        return f"{self.key}: {self.name}"


@dataclass(frozen=True)
class Wanted:
    """What a network takes.

    Attributes:
        network: the network itself.
        tensors: its state dict.
    """

    network: nn.Module
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, network: nn.Module) -> "Wanted":
        """Return what a network takes, by the names of its state dict."""
        state = network.state_dict(keep_vars=True)
        return cls(network, {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)})

    @cached_property
    def ties(self) -> list[list[str]]:
        """The names of each tensor that has several."""
        groups: dict[object, list[str]] = {}
        for name, tensor in self.tensors.items():
            memory: object = id(tensor)
            if tensor.is_meta and not is_lazy(tensor):
                place = (tensor.untyped_storage()._cdata, tensor.storage_offset())
                memory = (place, tensor.dtype, tuple(tensor.shape), tensor.stride())
            elif not is_lazy(tensor) and tensor.data_ptr():
                memory = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
            groups.setdefault(memory, []).append(name)
        return [group for group in groups.values() if len(group) > 1]

    @cached_property
    def fewest(self) -> int:
        """The least number of tensors that a file has to hold: one of each tied group, and no counters."""
        tied = sum(len(group) - 1 for group in self.ties)
        return sum(last(name) not in COUNTS for name in self.tensors) - tied

    @cached_property
    def computed(self) -> frozenset[str]:
        """The buffers that are no part of the state dict: the network computes them itself."""
        return frozenset(name for name, _ in self.network.named_buffers() if name not in self.tensors)

    @cached_property
    def prefixes(self) -> list[str]:
        """The prefixes of whole parts that all names share, the empty one first; one name of tied tensors is enough."""
        tied = {name for group in self.ties for name in group}
        groups = [*self.ties, *([name] for name in self.tensors if name not in tied)]
        shared = [
            prefix
            for prefix, _ in (_cuts(groups[-1][0]) if groups else ())
            if all(any(name.startswith(prefix) for name in group) for group in groups)
        ]
        return shared or [""]


@dataclass(frozen=True)
class Fit:
    """How the names of a set of weights match those of a network.

    Attributes:
        own: the prefix that only the network's names have.
        prefix: the prefix that only the file's names have.
        dropped: parts that are left out of the file's names, wherever they stand.
        names: for each tensor of the network that the file holds, its name in the file.
        missing: names of the network that the file does not hold.
        reshaped: names of the network whose tensors have other shapes.
        unexpected: names of the file that the network does not have.
        left: names of the file that are left out, because they belong to something else, such as a loss.
    """

    own: str
    prefix: str
    dropped: frozenset[str]
    names: Mapping[str, str]
    missing: Sequence[str]
    reshaped: Sequence[str]
    unexpected: Sequence[str]
    left: Sequence[str]

    @property
    def complete(self) -> bool:
        """Whether the file has a tensor for every tensor of the network, and has no others."""
        return not (self.missing or self.reshaped or self.unexpected)


def fits(wanted: Wanted, state: Mapping[str, Tensor]) -> Iterator[Fit]:
    """Yield the ways to read the names of a state dict: all complete ones, else the nearest, the best first."""
    for dropped in WRAPPERS:
        found = _fits_without(wanted, state, dropped)
        complete = [fit for fit in found if fit.complete]
        if complete:
            yield from complete
            return
        if not dropped:
            nearest = found
    yield from sorted(nearest, key=lambda fit: len(fit.reshaped) - len(fit.names))[:PREFIXES]


def _fits_without(wanted: Wanted, state: Mapping[str, Tensor], dropped: frozenset[str]) -> list[Fit]:
    """Return the ways to read the names without some parts, one for each choice of prefixes."""
    keys = {_without(key, dropped): key for key in state}
    if len(keys) < len(state):
        keys = {key: key for key in state}
    found: dict[tuple[str, ...], Fit] = {}
    for own in wanted.prefixes:
        short = {_without(name.removeprefix(own), dropped): name for name in wanted.tensors}
        counts = Counter(prefix for key in keys for prefix, rest in _cuts(key) if rest in short)
        for prefix, _ in counts.most_common(PREFIXES) or [("", 0)]:
            fit = _fit(wanted, state, keys, short, (own, prefix, dropped))
            found.setdefault(tuple(fit.names.values()), fit)
    return list(found.values())


def _fit(
    wanted: Wanted,
    state: Mapping[str, Tensor],
    keys: Mapping[str, str],
    short: Mapping[str, str],
    how: tuple[str, str, frozenset[str]],
) -> Fit:
    own, prefix, dropped = how
    names = {short[k.removeprefix(prefix)]: key for k, key in keys.items() if _under(k, prefix) in short}
    for group in wanted.ties:
        there = [name for name in group if name in names]
        names |= {name: names[there[0]] for name in group if there and name not in names}
    used = set(names.values())
    left: list[str] = []
    unexpected: list[str] = []
    for k, key in keys.items():
        inner = _under(k, prefix)
        if key in used or last(key) in COUNTS:
            continue
        elsewhere = inner is None or inner.partition(".")[0] in TRAINING or f"{own}{inner}" in wanted.computed
        (left if elsewhere else unexpected).append(key)
    missing = [name for name in wanted.tensors if name not in names and last(name) not in COUNTS]
    reshaped = [
        name
        for name, key in names.items()
        if not is_lazy(wanted.tensors[name]) and state[key].shape != wanted.tensors[name].shape
    ]
    return Fit(own, prefix, dropped, names, missing, reshaped, unexpected, left)


def last(name: str) -> str:
    """Return the last part of a name."""
    return name.rpartition(".")[2]


def _under(key: str, prefix: str) -> str | None:
    return key.removeprefix(prefix) if key.startswith(prefix) else None


def _without(key: str, dropped: frozenset[str]) -> str:
    return ".".join(part for part in key.split(".") if part not in dropped) if dropped else key


def _cuts(key: str) -> Iterator[tuple[str, str]]:
    """Yield every prefix of whole parts with the rest, the empty prefix first."""
    yield "", key
    for place, letter in enumerate(key):
        if letter == ".":
            yield key[: place + 1], key[place + 1 :]


def through_hooks(wanted: Wanted, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the state dict that the network's own hooks load from other names, such as those of an older version.

    Return None where the hooks do not take every tensor.
    """
    try:
        twin = materialise(duplicate(wanted.network), torch.device("cpu"))
        result = twin.load_state_dict(dict(state), strict=False)
    except Exception:  # the network's own code may raise anything; then it does not fit
        return None
    if any(last(name) not in COUNTS for name in (*result.missing_keys, *result.unexpected_keys)):
        return None
    return {name: tensor for name, tensor in twin.state_dict().items() if isinstance(tensor, Tensor)}


def refusal(wanted: Wanted, fit: Fit, state: Mapping[str, Tensor], file: Place) -> UserError:
    """Return the error about a set of weights that does not fit: the first tensor, and how many more."""
    wrong = {*fit.missing, *fit.reshaped}
    name = next((name for name in wanted.tensors if name in wrong), None)
    if name is None:
        name = fit.unexpected[0]
        near = _nearest(name, list(wanted.tensors))
        what = f"it holds `{name}` {list(state[name].shape)}, which the network does not have{near}"
    elif name in fit.missing:
        near = _nearest(name, [*fit.unexpected, *fit.left])
        what = f"the tensor `{name}` {list(wanted.tensors[name].shape)} is missing from it{near}"
    else:
        shape, ours = list(state[fit.names[name]].shape), list(wanted.tensors[name].shape)
        what = f"the tensor `{name}` is {shape} in it and {ours} in the network"
    counts = ""
    if len(fit.missing) + len(fit.reshaped) + len(fit.unexpected) > 1:
        counts = (
            f"; of {len(wanted.tensors):,} tensors of the network {len(fit.missing):,} are missing and "
            f"{len(fit.reshaped):,} have another shape, and {len(fit.unexpected):,} in the file are not the network's"
        )
    return UserError(file.key, (f"{file.name} is of another network than ", Key("model.build"), f": {what}{counts}"))


def _nearest(name: str, others: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, others[:2000], 1, 0.5)
    return f" (nearest: `{near[0]}`)" if near else ""

"""Loads a checkpoint into a network: finds the weights in the file and matches their names to the network's."""

import difflib
import re
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape_mpi.errors import UserError
from landscape_mpi.networks.files import files_of, places, read_weights
from landscape_mpi.networks.fit import Fit, Place, Wanted, fits, refusal, through_hooks
from landscape_mpi.networks.huggingface import converted
from landscape_mpi.networks.state import cast
from landscape_mpi.plugin import own_code

LEVELS = 6
"""Depth of nested containers in which sets of weights are looked for."""
LARGEST = 5
"""Number of sets, the largest ones, that are compared with the network where none fits."""
BLOCK = 1 << 18
"""Numbers that are compared at a time."""
AVERAGED = frozenset(
    {"ema", "swa", "avg", "average", "averaged", "polyak", "shadow", "slow", "teacher", "target", "momentum"}
)
"""Words in the names of averaged weights and the like, which checkpoints hold beside the trained ones."""
MOMENTS = re.compile(r"(?i)optim|(^|\.)opt(\.|_|$)|exp_avg|grad|scheduler")
"""Pattern in the names of optimiser states and gradients, which have the shapes of the weights."""


@dataclass(frozen=True)
class Entry:
    """A set of tensors within a checkpoint; `name`: the keys that lead to it, with dots, empty for the top."""

    name: str
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class Choice:
    """A set of weights, and one way to match its names to the network's."""

    entry: Entry
    fit: Fit

    @property
    def label(self) -> str:
        """The name of the entry and the prefix of its tensors' names; a dot for the whole file."""
        return ".".join(part for part in (self.entry.name, self.fit.prefix.removesuffix(".")) if part) or "."

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the network's names."""
        return {name: self.entry.state[key] for name, key in self.fit.names.items()}

    @property
    def beside(self) -> bool:
        """Whether its name says that these are not the trained weights, but averaged ones and the like."""
        words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.label).lower())
        return not AVERAGED.isdisjoint(words)


@dataclass(frozen=True)
class Found:
    """Tensors by the network's names, and notes for the user on how they were found.

    `copied`: where the file was asked for as mapped, the names of tensors that are copies in memory nevertheless.
    """

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()


def entries(content: Any) -> Iterator[Entry]:
    """Yield the sets of tensors in nested containers, the outer first; a container that holds itself is seen once."""
    waiting, seen = deque([("", content, LEVELS)]), set()
    while waiting:
        name, held, levels = waiting.popleft()
        if id(held) in seen or not isinstance(held, Mapping | list):
            continue
        seen.add(id(held))
        named = held.items() if isinstance(held, Mapping) else enumerate(held)
        parts = {str(key): value for key, value in named if isinstance(key, str | int)}
        tensors = {key: value for key, value in parts.items() if isinstance(value, Tensor)}
        if tensors and isinstance(held, Mapping):
            yield Entry(name, tensors)
        if levels:
            waiting.extend((f"{name}.{key}".removeprefix("."), value, levels - 1) for key, value in parts.items())


def find_state(wanted: Wanted, content: Any, file: Place, entry: str | None = None, *, asked: bool = True) -> Found:
    """Return the tensors of the one set of weights that fits the network.

    Args:
        wanted: What the network takes.
        content: What the file holds.
        file: Where it came from.
        entry: `model.entry`.
        asked: Whether a file without that entry is refused.

    Raises:
        UserError: nothing fits, or several sets do and their names do not say which is meant.
    """
    found = list(entries(content))
    if not found:
        raise UserError(
            file.key,
            f"{file.name} holds a {type(content).__name__} without tensors",
            expected='a state dict, or one under "state_dict" or "model"',
        )
    if entry is not None:
        named = [one for one in found if (one.name or ".") == entry]
        if not named:  # a name with one of several prefixes in a set: the tensors under it
            choices = [choice for choice in _complete(wanted, found) if choice.label == entry]
            named = [Entry(choice.entry.name, choice.tensors) for choice in choices]
        if named:
            return _choose(wanted, named, file, asked_for=True)
        if asked:
            names = [one.name or "." for one in found if not MOMENTS.search(one.name)]
            near = difflib.get_close_matches(entry, names, 1)
            hint = f" (did you mean `{near[0]}`?)" if near else ""
            raise UserError(
                "model.entry",
                f"found {entry!r}, which {file} does not hold",
                remedy=f"it has {_listed(names[:8])}{hint}",
            )
        taken = _choose(wanted, found, file)
        return Found(taken.state, (f"{file} holds no {entry!r} of model.entry.", *taken.notes))
    return _choose(wanted, [one for one in found if not MOMENTS.search(one.name)] or found, file)


def _choose(wanted: Wanted, found: Sequence[Entry], file: Place, *, asked_for: bool = False) -> Found:
    choices = _complete(wanted, found)
    if not choices:
        return _nearest(wanted, found, file)
    plain = [choice for choice in choices if not choice.beside] or choices
    if any(not _same(choice, plain[0]) for choice in plain[1:]):
        raise UserError(
            file.key,
            f"{file.name} holds several sets of weights that fit the network: {_listed([c.label for c in plain])}",
            remedy="say by model.entry which is meant",
        )
    notes = () if asked_for else _told_choice(plain[0], [choice for choice in choices if choice not in plain], file)
    return _taken(wanted, plain[0], choices, file, notes)


def _complete(wanted: Wanted, found: Sequence[Entry]) -> list[Choice]:
    enough = (entry for entry in found if len(entry.state) >= wanted.fewest)
    every = (Choice(entry, fit) for entry in enough for fit in fits(wanted, entry.state))
    return [choice for choice in every if choice.fit.complete]


def _nearest(wanted: Wanted, found: Sequence[Entry], file: Place) -> Found:
    """Return the set that is nearest to the network, if the network's own hooks can load it, else refuse it."""
    largest = sorted(found, key=lambda entry: len(entry.state), reverse=True)[:LARGEST]
    every = [Choice(entry, fit) for entry in largest for fit in fits(wanted, entry.state)]
    best = max(every, key=lambda choice: len(choice.fit.names) - len(choice.fit.reshaped))
    fit = best.fit
    renamed = {f"{fit.own}{key.removeprefix(fit.prefix)}": value for key, value in best.entry.state.items()}
    state = through_hooks(wanted, renamed)
    if state is not None:
        return Found(state, (f"{file}: its names are of another version of the network; its hooks converted them.",))
    state = converted(wanted.network, renamed)
    if state is not None:
        return Found(state, (f"{file}: its names or layouts are not the network's; transformers converted them.",))
    raise refusal(wanted, fit, best.entry.state, file)


def _taken(wanted: Wanted, choice: Choice, choices: Sequence[Choice], file: Place, notes: tuple[str, ...]) -> Found:
    for first, *others in wanted.ties:
        for name in others:
            a, b = choice.tensors[first], choice.tensors[name]
            if a is not b and not _equal(a, b):
                raise UserError(
                    file.key,
                    f"{file.name}: `{first}` and `{name}` are one tensor in the network and two that differ in it",
                    expected="equal ones, or a network that does not tie them",
                )
    weights = {key for other in choices if other.entry is choice.entry for key in other.fit.names.values()}
    names = _told_names(choice.fit, [key for key in choice.fit.left if key not in weights])
    return Found(choice.tensors, (*notes, f"{file}: {names}.") if names else notes)


def _told_choice(choice: Choice, others: Sequence[Choice], file: Place) -> tuple[str, ...]:
    """Return a note on which of several sets was taken, or that the only set is one of averaged weights."""
    if others:
        rest = _listed([other.label for other in others])
        text = (
            f"holds several sets of weights that fit: `{choice.label}` is taken, not {rest}; model.entry names another."
        )
        return (f"{file} {text}",)
    return (f"{file}: `{choice.label}` is taken, the only set of weights in it that fits.",) if choice.beside else ()


def _told_names(fit: Fit, left: Sequence[str]) -> str:
    """Return in words how names were changed and which tensors were left out; empty where all is as in the network."""
    parts = []
    if fit.prefix:
        parts.append(f"its names begin with `{fit.prefix}` and those of the network do not")
    if fit.own:
        parts.append(f"names of the network begin with `{fit.own}` and those in it do not")
    if fit.dropped:
        parts.append(f"{_listed(sorted(fit.dropped))} within names was left out")
    if left:
        more = f" and {len(left) - 3:,} more" if len(left) > 3 else ""
        parts.append(f"left out, as the network does not have it: {_listed(left[:3])}{more}")
    return "; ".join(parts)


def _same(one: Choice, other: Choice) -> bool:
    """Return whether two sets hold the same numbers."""
    return all(_equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items() if name in other.tensors)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, block by block for mapped files; NaN equals NaN."""
    if a.shape != b.shape:
        return False
    if a.is_contiguous() and b.is_contiguous():
        a, b = a.view(-1), b.view(-1)
    blocks = zip(torch.split(a, BLOCK), torch.split(b, BLOCK), strict=True) if a.dim() else [(a, b)]
    return all(bool(((x == y) | ((x != x) & (y != y))).all()) for x, y in blocks)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


CHECKPOINT = "model.checkpoint"


def load_checkpoint(
    network: nn.Module,
    path: Path,
    key: str = CHECKPOINT,
    entry: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[str, ...]:
    """Load every tensor of the network from a file; return notes for the user on how they were found.

    docs/job.md, "Checkpoints", says what may lie at `path`, where in it the weights may be, and which names fit.

    Args:
        network: Its parameters and buffers are replaced.
        path: A file, a folder or an index of shards.
        key: The job's key that names it, for messages.
        entry: `model.entry`: the set of weights that is meant; files of other keys may lack it.
        dtype: What the network will be evaluated in; the network gets it where the file has digits that the network's
            own dtype would drop.

    Raises:
        UserError: no such file, not a file of weights, or tensors missing, unexpected or of another shape.
    """
    found = open_checkpoint(network, path, key, entry)
    widen(network, found.state, dtype)
    load_fitted(network, found.state)
    return found.notes


def load_state(network: nn.Module, state: Mapping[str, Tensor], key: str) -> tuple[str, ...]:
    """Load a state dict that is in memory, as `load_checkpoint` loads one of a file; `key` is named in messages."""
    found = fit_state(network, state, key)
    load_fitted(network, found.state)
    return found.notes


def fit_state(network: nn.Module, state: Mapping[str, Tensor], key: str) -> Found:
    """Return the tensors of a state dict by the network's names, as `open_checkpoint` returns those of a file."""
    return _fitted(network, state, Place(key, "the state dict"), None, asked=True)


def load_fitted(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load tensors whose names are the network's own; the network's hooks get its own version for them.

    Raises:
        UserError: the network's own code raised.
    """
    known: OrderedDict[str, Tensor] = OrderedDict(state)
    own = getattr(network.state_dict(), "_metadata", None)
    if own is not None:
        known._metadata = own  # type: ignore[attr-defined]  # where torch keeps the version of each module
    with own_code("model.build", "load_state_dict() of the network"):
        network.load_state_dict(known, strict=False)


def open_checkpoint(
    network: nn.Module, path: Path, key: str, entry: str | None = None, *, mapped: bool = False
) -> Found:
    """Return the tensors of a file by the network's names, once all fit; arguments and Raises as for `load_checkpoint`.

    The network's parameters may lie on the meta device: names and shapes are all that counts.
    `mapped`: as for `read_weights`; then `copied` names the tensors that could not be mapped.
    """
    content = read_weights(path, key, mapped=mapped)
    found = _fitted(network, content.loaded, Place(key, str(path)), entry, asked=key == CHECKPOINT)
    there = places(found.state, files_of(path, key)) if mapped else found.state
    copied = tuple(name for name, tensor in found.state.items() if tensor.nbytes and name not in there)
    notes = found.notes
    if content.names:
        more = f" and {len(content.names) - 4} more" if len(content.names) > 4 else ""
        shown = ", ".join(content.names[:4]) + more
        notes = (f"{key}: {path} holds {shown} beside the weights: not executed, left out.", *notes)
    return Found(found.state, notes, copied)


def _fitted(network: nn.Module, content: object, file: Place, entry: str | None, *, asked: bool) -> Found:
    wanted = Wanted.of(network)
    found = find_state(wanted, content, file, entry, asked=asked)
    for name, tensor in found.state.items():
        _check_numbers(tensor, wanted.tensors[name], file.key, f"{file.name} holds `{name}`")
    return found


def _check_numbers(tensor: Tensor, ours: Tensor, key: str, where: str) -> None:
    """Refuse a tensor that is no plain array, or whose numbers the network's tensor cannot hold."""
    strange = tensor.is_nested or tensor.is_quantized or tensor.is_meta
    if tensor.layout != torch.strided or strange:
        raise UserError(
            key, f"{where} as a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}", expected="plain arrays"
        )
    if tensor.is_complex() and not ours.is_complex():
        raise UserError(
            key,
            (
                f"{where} as complex numbers ({tensor.dtype}), and the network has real ones ({ours.dtype}), which "
                "would lose the imaginary parts"
            ),
            expected="plain arrays of real numbers, or a network of complex ones",
        )
    whole = not (ours.is_floating_point() or ours.is_complex())
    if whole and tensor.is_floating_point() and not torch.equal(tensor.to(ours.dtype).to(tensor.dtype), tensor):
        raise UserError(key, f"{where} as {tensor.dtype}, and the network has whole numbers there ({ours.dtype})")


def widen(network: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Give a network the dtype of its evaluation, where the file has digits that its own dtype would drop."""
    ours = network.state_dict()
    for name, tensor in state.items():
        held, found = ours[name].dtype.to_real(), tensor.dtype.to_real()
        both = held.is_floating_point and found.is_floating_point
        if both and torch.finfo(held).eps > max(torch.finfo(found).eps, torch.finfo(dtype).eps):
            cast(network, torch.device("cpu"), dtype)
            return

"""What a checkpoint holds -> the one set of weights that is meant, and what to tell of the choice; opens no file."""

import difflib
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from landscape_mpi.errors import UserError
from landscape_mpi.networks.fit import Fit, Wanted, fits, refusal, through_hooks

LEVELS = 6
"""How deep sets of weights are looked for."""
LARGEST = 5
"""How many sets are looked at to say what the nearest one lacks."""
AVERAGED = frozenset(
    {"ema", "swa", "avg", "average", "averaged", "polyak", "shadow", "slow", "teacher", "target", "momentum"}
)
"""Words in the name of weights that stand beside those that were trained."""
MOMENTS = re.compile(r"(?i)optim|(^|\.)opt(\.|_|$)|exp_avg|grad|scheduler")
"""In the name of what has the shapes of the weights and is none of them."""


@dataclass(frozen=True)
class Entry:
    """A set of tensors within a checkpoint; `name`: the keys that lead to it, with dots, empty for the top."""

    name: str
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class Choice:
    """An entry read in one way."""

    entry: Entry
    fit: Fit

    @property
    def label(self) -> str:
        """Its name and what its tensors' names begin with; a dot for the whole."""
        return ".".join(part for part in (self.entry.name, self.fit.prefix.removesuffix(".")) if part) or "."

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the network's names."""
        return {name: self.entry.state[key] for name, key in self.fit.names.items()}

    @property
    def beside(self) -> bool:
        """Whether its name says that it stands beside the weights that were trained."""
        words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.label).lower())
        return not AVERAGED.isdisjoint(words)


@dataclass(frozen=True)
class Found:
    """Tensors by the network's names, and what a user should know of how they were found."""

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


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


def find_state(wanted: Wanted, content: Any, file: str, entry: str | None = None, *, asked: bool = True) -> Found:
    """Return the tensors of the one set of weights that fits the network.

    Args:
        wanted: What the network takes.
        content: What the file holds.
        file: The job's key and the file, for messages.
        entry: `model.entry`.
        asked: Whether a file without that entry is refused.

    Raises:
        UserError: nothing fits, or several sets do and their names do not say which is meant.
    """
    found = list(entries(content))
    if not found:
        raise UserError(
            "",
            f"{file} holds a {type(content).__name__} without tensors",
            expected='a state dict, or one under "state_dict" or "model"',
        )
    if entry is not None:
        if named := _named(wanted, found, entry):
            return _choose(wanted, named, file, asked_for=True)
        if asked:
            raise UserError(
                "model.entry", f"found {entry!r}, which {file} does not hold", remedy=f"it has {_names(found, entry)}"
            )
        taken = _choose(wanted, found, file)
        return Found(taken.state, (f"{file} holds no {entry!r} of model.entry.", *taken.notes))
    return _choose(wanted, [one for one in found if not MOMENTS.search(one.name)] or found, file)


def _named(wanted: Wanted, found: Sequence[Entry], entry: str) -> list[Entry]:
    """Return the entry of a name; where that is one of several prefixes in a set, the tensors under it."""
    exact = [one for one in found if (one.name or ".") == entry]
    if exact:
        return exact
    choices = [choice for choice in _complete(wanted, found) if choice.label == entry]
    return [Entry(choice.entry.name, choice.tensors) for choice in choices]


def _choose(wanted: Wanted, found: Sequence[Entry], file: str, *, asked_for: bool = False) -> Found:
    choices = _complete(wanted, found)
    if not choices:
        return _nearest(wanted, found, file)
    plain = [choice for choice in choices if not choice.beside] or choices
    if any(not _same(choice, plain[0]) for choice in plain[1:]):
        raise UserError(
            "",
            f"{file} holds several sets of weights that fit the network: {_listed([c.label for c in plain])}",
            remedy="say by model.entry which is meant",
        )
    notes = () if asked_for else _told_choice(plain[0], [choice for choice in choices if choice not in plain], file)
    return _taken(wanted, plain[0], choices, file, notes)


def _complete(wanted: Wanted, found: Sequence[Entry]) -> list[Choice]:
    enough = (entry for entry in found if len(entry.state) >= wanted.fewest)
    every = (Choice(entry, fit) for entry in enough for fit in fits(wanted, entry.state))
    return [choice for choice in every if choice.fit.complete]


def _nearest(wanted: Wanted, found: Sequence[Entry], file: str) -> Found:
    """Return what the network's own hooks make of the set that is nearest to it, else refuse it."""
    largest = sorted(found, key=lambda entry: len(entry.state), reverse=True)[:LARGEST]
    every = [Choice(entry, fit) for entry in largest for fit in fits(wanted, entry.state)]
    best = max(every, key=lambda choice: len(choice.fit.names) - len(choice.fit.reshaped))
    state = through_hooks(wanted, best.fit, best.entry.state)
    if state is None:
        raise refusal(wanted, best.fit, best.entry.state, file)
    return Found(state, (f"{file}: its names are of another version of the network, whose own hooks took them.",))


def _taken(wanted: Wanted, choice: Choice, choices: Sequence[Choice], file: str, notes: tuple[str, ...]) -> Found:
    for group in wanted.ties:
        for name in group[1:]:
            _check_tied(choice, group[0], name, file)
    weights = {key for other in choices if other.entry is choice.entry for key in other.fit.names.values()}
    names = _told_names(choice.fit, [key for key in choice.fit.left if key not in weights])
    return Found(choice.tensors, (*notes, f"{file}: {names}.") if names else notes)


def _told_choice(choice: Choice, others: Sequence[Choice], file: str) -> tuple[str, ...]:
    """Say which of several sets was taken, or that there was none but one that stands beside others elsewhere."""
    if others:
        rest = _listed([other.label for other in others])
        text = (
            f"holds several sets of weights that fit: `{choice.label}` is taken, not {rest}; model.entry names another."
        )
        return (f"{file} {text}",)
    return (f"{file}: `{choice.label}` is taken, the only set of weights in it that fits.",) if choice.beside else ()


def _told_names(fit: Fit, left: Sequence[str]) -> str:
    """Say what was done to names, and which tensors were left out; nothing where all is as in the network."""
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
    """Whether two sets hold the same numbers."""
    return all(_equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items() if name in other.tensors)


def _check_tied(choice: Choice, first: str, second: str, file: str) -> None:
    a, b = choice.tensors[first], choice.tensors[second]
    if a is not b and not _equal(a, b):
        raise UserError(
            file,
            f"`{first}` and `{second}` are one tensor in the network and two that differ in it",
            expected="equal ones, or a network that does not tie them",
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers; NaN equals NaN."""
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _names(found: Sequence[Entry], wish: str) -> str:
    names = [one.name or "." for one in found if not MOMENTS.search(one.name)]
    near = difflib.get_close_matches(wish, names, 1)
    return _listed(names[:8]) + (f" (did you mean `{near[0]}`?)" if near else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

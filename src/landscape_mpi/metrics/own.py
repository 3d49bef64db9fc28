"""The user's own metrics: a callable that a job names gives one number per example, or several by name."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from landscape_mpi.errors import UserError
from landscape_mpi.metrics.base import Metric, Result
from landscape_mpi.plugin import is_plugin, load_plugin

RECORD = "own_metrics"
"""The attribute of a surface that says what its own metrics call their results, as JSON."""
MORE = ("network", "inputs")
"""What a callable gets beside outputs and targets where it has parameters of these names."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_TAKEN = re.compile(r"(.*_)?(loss|acc|err|images|examples|size|stderr|bar|relbar)|.*_")
"""Names that would be read as those of other results."""


def is_name(text: str) -> bool:
    """Return whether a metric of the user's own may give a result this name."""
    return _NAME.fullmatch(text) is not None and _TAKEN.fullmatch(text) is None


def result(name: str) -> Result:
    """Return what is known of a result: its mean is in the user's own unit, which is not known."""
    return Result(name, name.replace("_", " "))


def metric(key: str, names: Iterable[str] = (), compute: Callable[..., dict[str, Any]] | None = None) -> Metric:
    """Return the metric of a callable, as far as its results are known."""
    cost = "a call of the user's own code for every batch"
    needs: Literal["network", "nothing"] = "network" if isinstance(compute, _Numbers) and compute.more else "nothing"
    return Metric(key, tuple(map(result, names)), "examples", needs, cost, compute)


def load(
    keys: Iterable[str], folder: Path, given: Mapping[str, Callable[..., Any]] = MappingProxyType({})
) -> tuple[Metric, ...]:
    """Return the metrics of the callables among a job's keys, looked for in the job file's folder too; no results yet.

    `given`: callables that are there already, by key; they are not looked for.

    Raises:
        UserError: a callable cannot be imported.
    """
    ours = [key for key in keys if is_plugin(key)]
    functions = {key: given[key] if key in given else load_plugin("metrics", key, folder) for key in ours}
    return tuple(metric(key, compute=_Numbers(key, function)) for key, function in functions.items())


class _Numbers:
    """Calls the user's callable and takes float64 [n] under each name from it; the same names at every batch."""

    def __init__(self, key: str, function: Callable[..., Any]) -> None:
        self._key, self._function = key, function
        self.names: list[str] = []
        with suppress(TypeError, ValueError):  # the parameters of a callable written in C are not known
            self.more = tuple(name for name in MORE if name in inspect.signature(function).parameters)

    more: tuple[str, ...] = ()
    """Which of `MORE` the callable takes."""

    def __call__(self, outputs: Any, targets: Any, **more: Any) -> dict[str, Any]:
        """Return the numbers of some examples by the names of the results; `more`: the network, and their inputs.

        Raises:
            UserError: the callable returned something else.
        """
        found = self._function(outputs, targets, **{name: more[name] for name in self.more})
        named = found if isinstance(found, Mapping) else {self._key.rpartition(":")[2]: found}
        examples = len(next(iter(targets.values())) if isinstance(targets, Mapping) else targets)
        for name, values in named.items():
            if not isinstance(name, str) or not is_name(name):
                raise UserError(
                    "metrics",
                    f"{self._key} calls a result {name!r}",
                    "letters, digits and _, a letter first, and not what other results are called, such as loss",
                    "return a mapping of another name to the numbers",
                )
            shape = getattr(values, "shape", None)
            if shape != (examples,) or not hasattr(values, "detach") or values.is_complex():
                what = f"a {type(values).__name__}" if shape is None else f"the shape {list(shape)}, {values.dtype},"
                raise UserError(
                    "metrics",
                    f"{self._key} returned {what} for {examples} examples",
                    f"a tensor of one real number per example, [{examples}], or a mapping of names to such",
                )
        names = sorted(named)
        if not names or (self.names and names != self.names):
            found_names = f"the results {', '.join(names)}" if names else "an empty mapping"
            expected = f"{', '.join(self.names)} as for the first batch" if self.names else "one number per example"
            raise UserError("metrics", f"{self._key} returned {found_names}", expected)
        return {name: named[name].detach().double() for name in names}


def named(loaded: Sequence[Metric], names: Mapping[str, Sequence[str]]) -> tuple[Metric, ...]:
    """Return metrics with the names that a first batch has given their results.

    Raises:
        UserError: two of them have the same name.
    """
    every = [name for one in loaded for name in names[one.key]]
    if twice := [name for name in every if every.count(name) > 1]:
        raise UserError("metrics", f"two callables have a result {twice[0]}", "names of their own, so return mappings")
    for one in loaded:
        if isinstance(one.compute, _Numbers):
            one.compute.names = list(names[one.key])
    return tuple(metric(one.key, names[one.key], one.compute) for one in loaded)


def record(metrics: Iterable[Metric]) -> dict[str, str]:
    """Return what a surface records of the user's own metrics; nothing where there is none."""
    names = {one.key: [result.name for result in one.results] for one in metrics if is_plugin(one.key)}
    return {RECORD: msgspec.json.encode(names).decode()} if names else {}


def recorded(attributes: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the names of the results of a surface's own metrics, by their keys; empty where it has no such record."""
    try:
        names = msgspec.json.decode(str(attributes.get(RECORD, "{}")), type=dict[str, list[str]])
    except msgspec.DecodeError:
        return {}
    return {key: [name for name in ours if is_name(name)] for key, ours in names.items()}

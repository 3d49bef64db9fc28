"""Lists the metrics that a job may name, in the order of a surface, and makes and reads the names of their results.

Names are such as `train_loss`, `train_loss_stderr`, `train_examples`, `max_eig`.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from landscape_mpi.metrics import own
from landscape_mpi.metrics.base import ACCURACY, LOSS, Metric, Result
from landscape_mpi.metrics.hessian import HESSIAN
from landscape_mpi.metrics.spectrum import SPECTRUM
from landscape_mpi.plugin import is_plugin

METRICS = (LOSS, ACCURACY, HESSIAN, SPECTRUM)
USUAL = (LOSS.key, ACCURACY.key)
"""The metrics of a job that names none."""

STDERR, BAR, EXAMPLES, SIZE = "_stderr", "_bar", "_examples", "_size"
"""Ends of names: of standard errors, 95 % error bars, numbers of examples used, and a split's size, an attribute."""
_COUNTS = ("_images", EXAMPLES)
"""How the names of numbers of examples end in files of schema 1, and of schema 2."""
RELATIVE = "_relbar"
"""How the names of error bars in percent of the mean end; they are in no file."""
_SPREADS = {
    STDERR: "standard error of the ",
    BAR: "95 % error bar of the ",
    RELATIVE: "relative 95 % error bar of the ",
}
SPLITS = ("train", "test")
"""Splits for which the names of results of the user's own metrics are recognised."""
USED = Result("examples", "examples used")
ERROR = Result("err", "error", "%")
"""What files of other programs hold instead of accuracies."""
_OF_SPLITS = {result.name: result for one in METRICS if one.of == "examples" for result in one.results}
_OF_POINTS = {result.name: result for one in METRICS if one.of == "point" for result in one.results}
WITHIN = tuple(dict.fromkeys(axis for result in _OF_POINTS.values() for axis in result.axes))
"""Axes of results that are several numbers per point: the names of their dimension scales too."""
_LIKE_OURS = re.compile(rf".+_({'|'.join(_OF_SPLITS)}|images|examples)({STDERR}|{BAR})?|{'|'.join(_OF_POINTS)}")


def mistake(key: str) -> str:
    """Return what was expected instead of a name that no metric has; empty for the name of a metric."""
    known = [one.key for one in METRICS]
    if key in known or is_plugin(key):
        return ""
    near = difflib.get_close_matches(key, known, n=1)
    return f"one of {', '.join(known)}, or `package.module:callable`{f' (did you mean `{near[0]}`?)' if near else ''}"


def asked(keys: Iterable[str], own_names: Mapping[str, Sequence[str]] = MappingProxyType({})) -> tuple[Metric, ...]:
    """Return the metrics of a job, in the order of the file; the loss is always among them.

    `own_names`: what the user's own metrics call their results, by key; metrics without names are left out.
    """
    keys = tuple(keys)
    ours = tuple(one for one in METRICS if one.key in {LOSS.key, *keys})
    return (*ours, *(own.metric(key, own_names[key]) for key in keys if key in own_names))


@dataclass(frozen=True)
class Name:
    """The name of a dataset, taken apart.

    Attributes:
        result: Which number it is.
        split: The split that it belongs to; None where it is of the whole network.
        spread: `_stderr`, `_bar` or `_relbar` where it says how exact the result is; else nothing.
    """

    result: Result
    split: str | None = None
    spread: str = ""

    @property
    def spread_words(self) -> str:
        """What comes before the result's words, such as "standard error of the "."""
        return _SPREADS.get(self.spread, "")


def parse(name: str) -> Name | None:
    """Return the parts of a dataset's name; None where it is no result of ours."""
    if name in _OF_POINTS:
        return Name(_OF_POINTS[name])
    spread = next((one for one in _SPREADS if name.endswith(one)), "")
    split, _, what = name.removesuffix(spread).rpartition("_")
    result = {**_OF_SPLITS, USED.name: USED, "images": USED, ERROR.name: ERROR}.get(what)
    if split and result:
        return Name(result, split, spread)
    split, _, what = name.removesuffix(spread).partition("_")
    return Name(own.result(what), split, spread) if split in SPLITS and own.is_name(what) else None


def is_mean(name: str, metric: Metric) -> bool:
    """Return whether a dataset is the mean of a metric over some split, such as `test_loss`."""
    found = parse(name)
    return found is not None and not found.spread and found.result in metric.results


def is_result(name: str) -> bool:
    """Return whether a dataset has the name of a result of ours, so that it must have the shape of one."""
    return _LIKE_OURS.fullmatch(name) is not None


def result_names(splits: Iterable[str], metrics: Sequence[Metric], sampled: bool = False) -> tuple[str, ...]:
    """Return the result datasets of a job: for each split its means, each with its standard error.

    Where examples are sampled, each mean has its error bar too, and each split has the number of examples used. Results
    of the whole network come last.
    """
    spreads = ("", STDERR, BAR) if sampled else ("", STDERR)
    names = []
    for split in splits:
        names += [f"{mean}{spread}" for mean in means(split, metrics) for spread in spreads]
        names += [f"{split}{EXAMPLES}"] if sampled else []
    return (*names, *(result.name for one in metrics if one.of == "point" for result in one.results))


def means(split: str, metrics: Iterable[Metric]) -> list[str]:
    """Return the names of a split's means: `train_loss`, `train_acc`."""
    return [f"{split}_{result.name}" for one in metrics if one.of == "examples" for result in one.results]


def axes_of(name: str) -> tuple[str, ...]:
    """Return the axes that a result has beside those of the grid; none where it is one number per point."""
    return _OF_POINTS[name].axes if name in _OF_POINTS else ()


def is_count(name: str) -> bool:
    """Return whether a dataset holds the number of examples used at each point, whatever the schema of its file."""
    return name.endswith(_COUNTS)


def in_schema(name: str, schema: int) -> str:
    """Return what a file of a schema calls a result: `train_examples` is `train_images` in schema 1."""
    for ending in _COUNTS:
        if name.endswith(ending):
            return name.removesuffix(ending) + _COUNTS[min(schema, 2) - 1]
    return name


def dtype_of(name: str) -> str:
    """Return the dtype of a result's dataset."""
    return "i8" if is_count(name) else "f8"

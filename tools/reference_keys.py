"""The keys of a job as tables in Markdown: name, type, default and meaning, all from the structs that read a job."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import msgspec.inspect as types
import yaml
from msgspec import NODEFAULT, Struct

from landscape_mpi.job import ChannelNormalisation, Model, SweepJob, TrainJob
from landscape_mpi.job.schema import TrainedModel
from landscape_mpi.metrics.registry import METRICS

_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n      .+)*)", re.MULTILINE)
OFTEN_REQUIRED = {"grid": "**required**, but of `pca`"}
"""What stands for the defaults of a sweep's sections that only some planes can do without."""
NEEDS = {
    "nothing": "outputs and targets",
    "classes": "targets that are classes, or the loss `next_token`: tokens predicted right",
    "gradients": "a network and a loss that can be differentiated twice",
}
"""What a metric needs, in words."""


def tables() -> dict[str, str]:
    """Return a table for each section of a job, by name; of `plane` one for each kind, `plane random`."""
    sweep, train = _section(SweepJob), _section(TrainJob)
    found = {"sections": _sections(sweep, train)}
    for name, field in sweep.items():
        for struct in _structs(field.type):
            found[f"{name} {struct.tag}" if struct.tag else name] = _table(struct.cls)
    looser = {name: _default(field) for name, field in _section(Model).items()}
    found["model"] = _table(TrainedModel, looser)
    found["data.normalize"] = _table(ChannelNormalisation)
    found["metrics"] = _metrics()
    return found


def _metrics() -> str:
    """Return what each metric writes, needs and costs, from the registry."""
    rows = []
    for metric in METRICS:
        splits = ("train_", "test_") if metric.of == "examples" else ("",)
        results = ", ".join(f"`/{split}{result.name}`" for result in metric.results for split in splits)
        rows.append(f"| `{metric.key}` | {results} | {NEEDS[metric.needs]} | {metric.cost} |")
    return "\n".join(["| metric | results | needs | costs beside the loss |", "|---|---|---|---|", *rows])


def _sections(sweep: dict[str, types.Field], train: dict[str, types.Field]) -> str:
    said = meanings(TrainJob)
    rows = [
        f"| [`{name}`](#{name}) | {OFTEN_REQUIRED.get(name, _default(sweep[name]))} | {_default(train[name])} "
        f"| {said[name]} |"
        for name in sweep
    ]
    return "\n".join(["| key | for `sweep` | for `train` | |", "|---|---|---|---|", *rows])


def _table(cls: type[Struct], of_train: dict[str, str] | None = None) -> str:
    said = meanings(cls)
    rows = []
    for name, field in _section(cls).items():
        default = _default(field)
        if of_train and of_train[name] != default:
            default += f"; for `train` {of_train[name]}"
        rows.append(f"| `{name}` | {_type(field.type)} | {default} | {said[name]} |")
    return "\n".join(["| key | type | default | |", "|---|---|---|---|", *rows])


def meanings(cls: type[Struct]) -> dict[str, str]:
    """Return what the docstrings of a struct and of its bases say of each key.

    Raises:
        KeyError: of a key nothing is said, or something of a key that is not there.
    """
    texts = [inspect.cleandoc(base.__doc__ or "") for base in reversed(cls.__mro__)]
    said = {name: " ".join(text.split()) for part in texts for name, text in _ATTRIBUTE.findall(part)}
    if set(said) != set(cls.__struct_fields__):
        raise KeyError(cls.__name__, set(said) ^ set(cls.__struct_fields__))
    return {name: text.replace("theta*", r"theta\*") for name, text in said.items()}


def _section(cls: type[Struct]) -> dict[str, types.Field]:
    return {field.name: field for field in types.type_info(cls).fields}  # type: ignore[attr-defined]


def _structs(kind: types.Type) -> Iterator[types.StructType]:
    parts = kind.types if isinstance(kind, types.UnionType) else (kind,)
    return (part for part in parts if isinstance(part, types.StructType))


def _default(field: types.Field) -> str:
    if field.default is not NODEFAULT:
        return _value(field.default)
    if field.default_factory is NODEFAULT:
        return "**required**"
    made = field.default_factory()
    return "its own defaults" if isinstance(made, Struct) else _value(made)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    return f"`{text}`"


_PLAIN = {
    types.StrType: "text",
    types.IntType: "whole number",
    types.FloatType: "number",
    types.BoolType: "`true`, `false`",
    types.NoneType: "null",
    types.AnyType: "anything",
    types.DictType: "mapping",
}
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def _type(kind: types.Type) -> str:
    """Return a type of a job's value in words."""
    if isinstance(kind, types.UnionType):
        return " or ".join(_type(part) for part in kind.types if not isinstance(part, types.NoneType))
    if isinstance(kind, types.LiteralType):
        return ", ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, types.VarTupleType):
        items = _type(kind.item_type).replace("number", "numbers")
        return f"list of {items}{', at least one' if kind.min_length else ''}"
    if isinstance(kind, types.StructType):
        names = ", ".join(field.name.replace("points", "number of points") for field in kind.fields)
        return f"`[{names}]`" if kind.array_like else f"`{{{names}}}`"
    return _PLAIN[type(kind)] + _bounds(kind)


def _bounds(kind: types.Type) -> str:
    bounds = [(sign, getattr(kind, name, None)) for name, sign in _BOUNDS.items()]
    texts = [f"{sign} {_limit(value)}" for sign, value in bounds if value is not None]
    return f" {', '.join(texts)}" if texts else ""


def _limit(value: float) -> str:
    power = int(value).bit_length() - 1
    return f"2^{power}" if value > 1000 and value == 2**power else f"{value:g}"

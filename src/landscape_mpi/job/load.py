"""Reads a job file, with the settings of a command line, into checked, frozen values, or says its first mistake.

Holds the job that `init` writes as well.
"""

import difflib
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, structs

from landscape_mpi.errors import UserError
from landscape_mpi.job.checks import mistakes
from landscape_mpi.job.plane import AXES
from landscape_mpi.job.schema import AnyJob, JobFile
from landscape_mpi.job.settings import place_of, with_settings
from landscape_mpi.job.text import parse, read_text

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list",
    dict: "a mapping of keys",
    type(None): "nothing (null)",
}
_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": (">=", operator.ge),
    "gt": (">", operator.gt),
    "le": ("<=", operator.le),
    "lt": ("<", operator.lt),
}


def load_job(path: Path, kind: type[AnyJob], settings: Sequence[str] = ()) -> JobFile[AnyJob]:
    """Return the job file at `path`, read as a `SweepJob` or a `TrainJob`.

    `settings`: each `KEY=VALUE`, in place of what the file says.

    Raises:
        UserError: the file cannot be read, or a key is unknown, missing or has a value that does not fit.
    """
    text = read_text(path)
    if not settings:
        return read_job(text, path, kind)
    text = with_settings(text, path, settings)
    try:
        return structs.replace(read_job(text, path, kind), settings=tuple(settings))
    except UserError as error:
        error.place = place_of(error, path, settings)
        raise


def read_job(text: str, path: Path, kind: type[AnyJob]) -> JobFile[AnyJob]:
    """Return the job that `text` holds; `path` is named in messages and is where relative paths start.

    Raises:
        UserError: as `load_job`.
    """
    values = read_values(parse(text, path), str(path), kind)
    try:
        return JobFile(path.absolute(), text, values)  # a job that is a link has its paths start where the link lies
    except OSError:
        raise UserError(path, "the working directory is gone", remedy="change to one that is there") from None


def read_values(document: object, place: str, kind: type[AnyJob]) -> AnyJob:
    """Return the values that mappings, lists and plain values say; `place` is what messages begin with.

    Raises:
        UserError: a key is unknown, missing or has a value that does not fit.
    """
    mistake: UserError | None
    try:
        values = msgspec.convert(document, kind)
    except msgspec.ValidationError:
        mistake = explain(document, kind)
    else:
        mistake = next(mistakes(values), None)
        if mistake is None:
            return values
    mistake.place = place
    raise mistake


def explain(found: object, kind: Any, key: str = "") -> UserError:
    """Return the first mistake in a value that msgspec does not read as `kind`.

    msgspec describes it in English alone; here the parts of the value are tried one by one, in the same order.

    Args:
        found: mappings, lists and plain values.
        kind: a struct, or the annotation of a field of one.
        key: where it stands, such as `grid.alpha[2]`; empty for the whole job.
    """
    kinds = dict(_members(kind))
    sections = [part for part in kinds if _base(part) is dict and _is_struct(part)]
    if isinstance(found, dict) and sections:
        return _explain_section(found, sections, key)
    if isinstance(found, dict) and dict in map(_base, kinds):
        return _no_text(found, key)
    if isinstance(found, list):
        for part in kinds:
            if mistake := _explain_items(found, part, key):
                return mistake
    return _explain_value(found, kinds, key)


def _explain_section(found: dict[Any, Any], sections: list[Any], key: str) -> UserError:
    """Return the first mistake in a mapping of keys; a key of it, the tag, may say which of several sections it is."""
    tag = sections[0].__struct_config__.tag_field
    if tag and tag not in found:
        return _missing(_join(key, tag))
    if tag:
        named = [section for section in sections if section.__struct_config__.tag == found[tag]]
        if not named:
            tags = tuple(section.__struct_config__.tag for section in sections)
            return _explain_value(found[tag], {Literal[tags]: ()}, _join(key, tag))
        sections = named
    fields = {field.encode_name: field for field in structs.fields(sections[0])}
    known = [tag, *fields] if tag else [*fields]
    for name, value in found.items():
        if not isinstance(name, str):
            return _no_text(found, key)
        if name not in known:
            hint = _hint(name, known)
            return UserError(_join(key, _cut(name)), f"unknown key{hint}", expected=f"one of {', '.join(known)}")
        if name in fields and not _fits(value, fields[name].type):
            return explain(value, fields[name].type, _join(key, name))
    return _missing(next(_join(key, name) for name, field in fields.items() if field.required and name not in found))


def _explain_items(found: list[Any], part: Any, key: str) -> UserError | None:
    """Return the first mistake in a list, if one of its items or their number is wrong."""
    items: Sequence[Any] | repeat[Any] = ()
    if get_origin(part) is tuple:
        items = repeat(get_args(part)[0])
    elif _is_struct(part) and _base(part) is tuple:
        items = [field.type for field in structs.fields(part)]
        if len(found) < len(items):
            return _wrong(found, f"a list of at least length {len(items)}", key)
    for index, (value, kind) in enumerate(zip(found, items, strict=False)):
        if not _fits(value, kind):
            return explain(value, kind, f"{key}[{index}]")
    return _wrong(found, f"a list of at most length {len(items)}", key) if isinstance(items, list) else None


def _explain_value(found: object, kinds: dict[Any, tuple[Meta, ...]], key: str) -> UserError:
    """Return what is wrong with a value as a whole."""
    metas = {_base(part): limits for part, limits in kinds.items()}
    choices = [value for part in kinds if get_origin(part) is Literal for value in get_args(part)]
    if choices and isinstance(found, str):
        others = [word for base, word in _WORDS.items() if base in metas and base not in (str, type(None))]
        known = f"one of {', '.join(choices)}" if len(choices) > 1 else " or ".join([*choices, *others])
        return _wrong(found, f"{known}{_hint(found, choices)}", key)
    if isinstance(found, str) and _EXPONENT.fullmatch(found) and (int in metas or float in metas):
        # YAML 1.1 reads exponents only with a sign, and behind a point
        mantissa, exponent = re.split("[eE]", found)
        point, sign = "" if "." in mantissa else ".0", "" if exponent[0] in "+-" else "+"
        seen = f"found {_show(found)}, which YAML reads as text"
        remedy = f"write {mantissa}{point}e{sign}{exponent}"
        return UserError(key or "the job", seen, expected="a number", remedy=remedy)
    words = [word for base, word in _WORDS.items() if base in metas]
    return _wrong(found, _limit(found, metas) or " or ".join(words), key)


def _limit(found: object, metas: dict[type, tuple[Meta, ...]]) -> str | None:
    """Return in words the limit that a value of the right type exceeds; None where there is none."""
    bases = {bool: (), int: (int, float), float: (float,), str: (str,), list: (tuple,)}.get(type(found), ())
    for base in bases:
        for meta in metas.get(base, ()):
            if meta.min_length is not None:
                return f"{_WORDS[base]} of length >= {meta.min_length}"
            for name, (sign, holds) in _LIMITS.items():
                limit = getattr(meta, name)
                if limit is not None and not holds(found, limit):
                    return f"{_WORDS[base]} {sign} {base(limit)}"
    return None


def _wrong(found: object, expected: str, key: str) -> UserError:
    axis = (
        "; an axis is [first, last, number of points] or auto"
        if key.startswith(tuple(f"grid.{axis}" for axis in AXES))
        else ""
    )
    return UserError(key or "the job", f"found {_show(found)}", expected=f"{expected}{axis}")


def _missing(key: str) -> UserError:
    return UserError(key, "the key is missing", remedy="it is required")


def _no_text(found: dict[Any, Any], key: str) -> UserError:
    name = next(name for name in found if not isinstance(name, str))
    return UserError(key or "the job", f"found the key {_show(name)}, which is no text", expected="keys of text")


def _fits(found: object, kind: Any) -> bool:
    try:
        msgspec.convert(found, kind)
    except msgspec.ValidationError:
        return False
    return True


def _members(kind: Any) -> Iterator[tuple[Any, tuple[Meta, ...]]]:
    """Yield the members of a union without their Annotated wrapping, and the limits from there."""
    if get_origin(kind) in (Union, UnionType):
        for part in get_args(kind):
            yield from _members(part)
    elif get_origin(kind) is Annotated:
        part, *limits = get_args(kind)
        yield part, tuple(limits)
    else:
        yield kind, ()


def _base(part: Any) -> type:
    """Return the plain type that a value of a type is read from: dict for a section, tuple for an axis."""
    if _is_struct(part):
        return tuple if part.__struct_config__.array_like else dict
    return str if get_origin(part) is Literal else get_origin(part) or part


def _is_struct(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, Struct)


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean `{near[0]}`?)" if near else ""


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _show(value: object) -> str:
    return _cut(repr(value) if isinstance(value, str) else str(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


TEMPLATE = """\
# A loss landscape: f(alpha, beta) = L(theta* + alpha delta + beta eta).
# Check it:   python -m landscape_mpi check job.yaml
# Compute it: mpirun -n 4 python -m landscape_mpi sweep job.yaml     (again to go on where it stopped)
# Draw it:    landscape-plot surface.h5
# docs/job.md of the sources explains every key. Relative paths start at this file's folder.

model:
  build: resnet20                   # resnet20/32/44/56/110, huggingface, or "package.module:callable" (runs your code)
  options: {shortcut: projection}   # keyword arguments; the ResNets' shortcut: projection, pad or none
  checkpoint: nets/resnet20.pt      # theta*: .safetensors, a Hugging Face folder, or what torch.save wrote

data:
  build: cifar10                    # cifar10, shapes10 (needs no download), text, or "package.module:callable"
  root: data                        # the folder of cifar-10-batches-py; `fetch cifar10 --root data` fills it
  # normalize: {mean: [0.4914, 0.4824, 0.4467], std: [0.2471, 0.2435, 0.2616]}   # as in training
  splits: [train, test]             # each is evaluated at every point
  limit: 1000                       # the first n examples of each split; leave it out for all

loss: cross_entropy                 # or mse, next_token, or "package.module:callable"

plane:
  kind: random                      # or interpolate (with `to:`, `via:`), pca (`trajectory:`), hessian, file (`path:`)
  seed: 0
  normalize: filter                 # filter, layer, weight or none
  ignore: biasbn                    # leave biases and batch norm alone; or none, or name patterns

grid:
  alpha: [-1, 1, 25]                # first, last, number of points; or auto: as far as the loss rises by 1 nat
  beta: [-1, 1, 25]                 # leave it out for a line

metrics: [loss, accuracy]           # and hessian: extreme eigenvalues at every point; spectrum (docs/curvature.md)
evaluate: {batch: auto, dtype: float32, batchnorm: keep, engine: auto}
# sampling: {error: 0.02}           # some examples per point, for 95 % error bars of 2 % (docs/sampling.md)
output: {file: surface.h5}
"""

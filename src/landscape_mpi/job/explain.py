"""A msgspec complaint -> one sentence with the key's path, what was found and what was expected."""

import difflib
import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

_PATH = re.compile(r" - at (?P<key>`key` in )?`\$?(?P<path>[^`]*)`$")
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_WORDS = {
    "object": "a mapping of keys",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing (null)",
}


def explain(error: msgspec.ValidationError, document: Mapping[str, Any], kind: type) -> str:
    """Return the sentence for a validation error of `document` read as `kind`."""
    text = str(error)
    match = _PATH.search(text)
    path = match["path"].lstrip(".") if match else ""
    complaint = text[: match.start()] if match else text
    if match and match["key"]:
        return _no_text(path, lookup(document, path))
    if unknown := re.match(r"Object contains unknown field `(.*)`", complaint):
        return _unknown(path, unknown[1], _keys(kind, path, document))
    if missing := re.match(r"Object missing required field `(.*)`", complaint):
        return f"{_join(path, missing[1])}: the key is missing; it is required."
    return _wrong_value(path, complaint, document, kind)


def _no_text(path: str, section: object) -> str:
    keys = section if isinstance(section, dict) else {}
    found = next((key for key in keys if not isinstance(key, str)), None)
    return f"{path or 'the job'}: found the key {_show(found)}, which is no text; expected keys of text."


def _unknown(path: str, name: str, known: Sequence[str]) -> str:
    key = _join(path, _cut(name))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f" (did you mean `{near[0]}`?)" if near else ""
    return f"{key}: unknown key{hint}; expected one of {', '.join(known)}."


def _wrong_value(path: str, complaint: str, document: Mapping[str, Any], kind: type) -> str:
    found = lookup(document, path)
    shown = f"{path or 'the job'}: found {_show(found)}"
    if isinstance(found, str) and _NUMBER.fullmatch(found) and re.search(r"`(int|float)", complaint):
        return f"{shown}, which YAML reads as text; expected a number: write {_as_number(found)}."
    choices = _choices(kind, path, document)
    if choices and complaint.startswith("Invalid"):
        near = difflib.get_close_matches(str(found), choices, n=1)
        hint = f" (did you mean `{near[0]}`?)" if near else ""
        return f"{shown}; expected one of {', '.join(choices)}{hint}."
    axis = "; an axis is [first, last, number of points]" if re.fullmatch(r"grid\.(alpha|beta)(\[.*)?", path) else ""
    return f"{shown}; expected {_expected(complaint)}{axis}."


def _as_number(text: str) -> str:
    """Spell a number with an exponent as YAML 1.1 reads it: with a point and a signed exponent."""
    mantissa, exponent = re.split("[eE]", text)
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent}" if exponent[0] in "+-" else f"{mantissa}e+{exponent}"


def _expected(complaint: str) -> str:
    wanted = re.match(r"Expected (.*?)(, got .*)?$", complaint)
    if not wanted:
        return complaint[:1].lower() + complaint[1:]
    return re.sub(r"`([^`]*)`", lambda part: " or ".join(_word(name) for name in part[1].split(" | ")), wanted[1])


def _word(name: str) -> str:
    return _WORDS.get(name, name)


def lookup(document: object, path: str) -> object:
    """Return the value under a path such as `grid.alpha[2]`; None where the path leads nowhere."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            document = document[int(index)] if index else document[name]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _keys(kind: type, path: str, document: Mapping[str, Any]) -> list[str]:
    structs = [part for part in _types(kind, path, document) if _is_struct(part)]
    tags = [part.__struct_config__.tag_field for part in structs if part.__struct_config__.tag_field]
    return [*dict.fromkeys(tags), *dict.fromkeys(name for part in structs for name in part.__struct_fields__)]


def _choices(kind: type, path: str, document: Mapping[str, Any]) -> list[str]:
    parent, _, last = path.rpartition(".")
    tags = [
        part.__struct_config__.tag
        for part in _types(kind, parent, document, every=True)
        if _is_struct(part) and part.__struct_config__.tag_field == last
    ]
    parts = tags or [value for part in _types(kind, path, document) for value in get_args(part)]
    return [str(value) for value in parts if isinstance(value, str)]


def _types(kind: Any, path: str, document: Mapping[str, Any], every: bool = False) -> list[Any]:
    """Return the types that the value at `path` may have; of a tagged union only the one that is named."""
    found = _spread(kind)
    walked: list[str] = []
    for name in re.findall(r"[^.\[\]]+|\[(?:\d+|\.\.\.)\]", path):
        if name.startswith("["):
            found = [inner for part in found for inner in get_args(part) if inner is not Ellipsis]
        else:
            found = [hint for part in found if _is_struct(part) for hint in _hints(part, name)]
        found = [inner for part in found for inner in _spread(part)]
        walked.append(name)
        tagged = [part for part in found if _is_struct(part) and part.__struct_config__.tag_field]
        if tagged and not every:
            section = lookup(document, ".".join(walked))
            named = [
                part
                for part in tagged
                if isinstance(section, dict)
                and section.get(part.__struct_config__.tag_field) == part.__struct_config__.tag
            ]
            found = named or found
    return found


def _hints(struct: Any, name: str) -> list[Any]:
    return [item.type for item in msgspec.structs.fields(struct) if item.encode_name == name]


def _spread(kind: Any) -> list[Any]:
    """Return the members of a union, without their Annotated wrapping."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _spread(get_args(kind)[0])
    if origin in (Union, UnionType):
        return [inner for part in get_args(kind) for inner in _spread(part)]
    return [kind]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _show(value: object) -> str:
    return _cut(repr(value) if isinstance(value, str) else str(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."

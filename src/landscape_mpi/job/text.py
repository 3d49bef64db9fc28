"""Reads the text of a job file, which is untrusted YAML, as mappings, lists and plain values."""

import re
from pathlib import Path
from typing import Any

import yaml

from landscape_mpi.errors import UserError
from landscape_mpi.files.paths import check_input

LARGEST = 1_000_000
MOST = 20_000
"""Values and keys in one file: PyYAML, which is written in Python, takes half a second for so many."""
DIGITS = 100
"""Characters of a number: to read one of a million, such as 1:1:1:... to the base 60, takes minutes."""
SHOWN = 200
"""Characters of what PyYAML says that a message repeats."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_HALF = re.compile("[\ud800-\udfff]")
_MERGE = "tag:yaml.org,2002:merge"


def read_text(path: Path) -> str:
    """Return the text of a job file.

    Raises:
        UserError: the file is missing, unreadable, larger than 1 MB or not UTF-8.
    """
    check_input(path, "", "a job file, such as `python -m landscape_mpi init job.yaml` writes")
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise UserError(
                path, f"the job file is larger than {LARGEST:,} bytes", remedy="a job file is a page of YAML"
            )
        return raw.decode("utf-8")
    except OSError as error:
        raise UserError(path, f"the job file cannot be read ({error.strerror})", expected="a YAML file") from None
    except UnicodeDecodeError:
        raise UserError(path, "the job file is not UTF-8 text", expected="a YAML file") from None


def parse(text: str, path: Path) -> dict[str, Any]:
    """Return the mapping that the YAML text holds.

    Raises:
        UserError: the text is not plain YAML (tags, aliases, repeated keys) or not a mapping.
    """
    document = plain_yaml(text, str(path))
    if not isinstance(document, dict):
        raise UserError(
            path,
            f"found {'nothing' if document is None else f'a {type(document).__name__}'} at the top",
            expected=(
                "keys such as `model:`, `data:`, `plane:`; `python -m landscape_mpi init job.yaml` writes an example"
            ),
        )
    return document


def plain_yaml(text: str, place: str) -> Any:
    """Return what the YAML text holds; `place` says in messages where it stands.

    Raises:
        UserError: the text is not plain YAML (tags, aliases, repeated keys).
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{place}{line}", f"not readable as plain YAML: {_short(str(error.problem))}") from None
    except RecursionError:
        raise UserError(place, "not readable as plain YAML: it is nested too deeply") from None
    except Exception as error:  # PyYAML lets through what Python says of characters, dates and numbers beyond its own
        raise UserError(place, f"not readable as plain YAML: {_short(' '.join(str(error).split()))}") from None


class _Loader(yaml.SafeLoader):
    """SafeLoader of mappings, lists and plain values alone.

    Refused are tags, aliases (a few lines of them expand to gigabytes), merge keys, keys that are no plain values,
    repeated keys, numbers of more than 100 characters, and more than 20,000 values.
    """

    _nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _problem("an alias (*name) is not read here: write the value out", event)
        if event.tag is not None:
            raise _problem(f"a tag ({_short(event.tag)}) is not read here: write the value without it", event)
        self._nodes += 1
        if self._nodes > MOST:
            raise _problem(f"there are more than {MOST:,} values; a job file is a page of YAML", event)
        node = super().compose_node(parent, index)
        if node is not None and node.tag in _NUMBERS and len(node.value) > DIGITS:
            raise _problem(f"a number of {len(node.value):,} characters; expected at most {DIGITS}", event)
        if isinstance(node, yaml.ScalarNode) and _HALF.search(node.value):
            raise _problem("half a character (an escape from \\ud800 to \\udfff) is not read here", event)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem("a list or a mapping for a key is not read here", key)
            if key.tag == _MERGE:
                raise _problem("the merge key << is not read here: write the keys out", key)
            if key.tag == "tag:yaml.org,2002:value":  # a bare =, which is text like any other
                key.tag = "tag:yaml.org,2002:str"
            names = {str(key.value), self.construct_object(key)}
            if seen & names:
                raise _problem(f"the key `{_short(key.value)}` appears twice: keep one", key)
            seen |= names
        return super().construct_mapping(node, deep)


def _problem(text: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=place.start_mark)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."

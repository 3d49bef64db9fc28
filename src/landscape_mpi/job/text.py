"""YAML text -> plain mapping, read as untrusted data; knows nothing of what a job's keys mean."""

from pathlib import Path
from typing import Any

import yaml

from landscape_mpi.errors import UserError

LARGEST = 1_000_000


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses aliases (a few lines of them expand to gigabytes) and repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="an alias (*name) is not read here: write the value out", problem_mark=mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key `{name}` stands twice: keep one", problem_mark=key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_text(path: Path) -> str:
    """Return the text of a job file.

    Raises:
        UserError: the file is missing, unreadable, larger than 1 MB or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise UserError(f"{path}: the job file is larger than {LARGEST:,} bytes; a job file is a page of YAML.")
        return raw.decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: the job file cannot be read ({error.strerror}); expected a YAML file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the job file is not UTF-8 text; expected a YAML file.") from None


def parse(text: str, path: Path) -> dict[str, Any]:
    """Return the mapping that the YAML text holds.

    Raises:
        UserError: the text is not plain YAML (tags, aliases, repeated keys) or not a mapping.
    """
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{path}{_place(error)}: not readable as plain YAML: {error.problem}.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not readable as plain YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise UserError(f"{path}: not readable as plain YAML: it is nested too deeply.") from None
    if not isinstance(document, dict):
        raise UserError(
            f"{path}: found {_kind(document)} at the top; expected keys such as `model:`, `data:`, `plane:`; "
            "`python -m landscape_mpi init job.yaml` writes an example."
        )
    return document


def _place(error: yaml.MarkedYAMLError) -> str:
    return f", line {error.problem_mark.line + 1}" if error.problem_mark else ""


def _kind(document: object) -> str:
    return "nothing" if document is None else f"a {type(document).__name__}"

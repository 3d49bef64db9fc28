"""Changes the text of a job by settings of the command line, `KEY=VALUE`, before the job is checked."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from landscape_mpi.errors import Flag, UserError, printable, render
from landscape_mpi.job.text import SHOWN, parse, plain_yaml

SET = Flag("set")


def with_settings(text: str, path: Path, settings: Sequence[str]) -> str:
    """Return the text of a job in which dotted keys have the values of settings; the last of one key counts.

    A value is read as it would be in the file: `grid.alpha=[-1, 1, 5]`, `plane.seed=3`, `sampling=null`. The comments
    of the file are lost; the first line says what was set.

    Args:
        text: of the job file, YAML.
        path: of the job file, for messages.
        settings: each `KEY=VALUE`.

    Raises:
        UserError: the file is not plain YAML, a setting is not of this form, its value is not plain YAML, or its key
            leads through something that has no keys.
    """
    job = parse(text, path)
    for setting in settings:
        key, equals, value = setting.partition("=")
        *sections, last = key.split(".")
        if not equals or not all((*sections, last)):
            found = setting if len(setting) <= SHOWN else f"{setting[:SHOWN]}..."
            raise UserError(SET, f"found {found!r}", expected="KEY=VALUE with a key of the job, such as plane.seed=3")
        place = job
        for depth, section in enumerate(sections, 1):
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
            if not isinstance(place, dict):
                above = ".".join(sections[:depth])
                whole = f"set all of it, as in --set '{above}={{{'.'.join([*sections[depth:], last])}: ...}}'"
                raise UserError(SET, f"{key}: {above} has no keys in {path}, where it is {place!r}", remedy=whole)
        place[last] = plain_yaml(value, f"{SET} {key}")
    said = printable(" ".join(f"{path.name} with {_flags(settings)}".split()))
    try:
        changed = yaml.safe_dump(job, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
    except RecursionError:
        raise UserError(SET, "the job is nested too deeply with these settings") from None
    return f"# {said}\n{changed}"


def place_of(mistake: UserError, path: Path, settings: Sequence[str]) -> str:
    """Return where a mistake in a job with settings stands: in `--set`, or in the file with these settings."""
    key = render(mistake.key)
    for one in (setting.partition("=")[0] for setting in settings):
        if key == one or key.startswith((f"{one}.", f"{one}[")) or one.startswith(f"{key}."):
            return str(SET)
    flags = _flags(settings)
    return f"{path} with {flags if len(flags) <= SHOWN else f'{flags[:SHOWN]}...'}"


def _flags(settings: Sequence[str]) -> str:
    return " ".join(f"{SET} {setting}" for setting in settings)

"""The commands and their arguments as tables in Markdown, from the parsers that read them."""

import argparse
import re
from collections.abc import Iterator

from landscape_mpi.arguments import build_parser
from landscape_mpi.plot.__main__ import build_parser as build_plot_parser


def sections() -> dict[str, str]:
    """Return the arguments of both programs, as Markdown with a heading for each command."""
    parser = build_parser()
    subcommands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in subcommands._choices_actions}
    parts = [_table(parser)]
    for name, command in subcommands.choices.items():
        parts.append(f"### {name}\n\n`{_usage(command)}`\n\n{_sentence(helps[name])}\n\n{_table(command)}")
    return {"landscape_mpi": "\n\n".join(parts), "landscape-plot": _plot(build_plot_parser())}


def _plot(parser: argparse.ArgumentParser) -> str:
    return "\n\n".join([f"`{_usage(parser)}`", str(parser.description), _table(parser), _quoted(str(parser.epilog))])


def _usage(parser: argparse.ArgumentParser) -> str:
    return " ".join([parser.prog, *(_name(action) for action in _positionals(parser))])


def _positionals(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if not action.option_strings and action.nargs != argparse.PARSER)


def _name(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest).upper()
    return {"+": f"{name} [{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name)


def _table(parser: argparse.ArgumentParser) -> str:
    listed = (action for action in parser._actions if action.nargs != argparse.PARSER)
    shown = [action for action in listed if "--help" not in action.option_strings]
    return "\n".join(
        ["| argument | |", "|---|---|", *(f"| {_flags(action)} | {_meaning(action)} |" for action in shown)]
    )


def _flags(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_name(action)}`"
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return ", ".join(f"`{flag}{value}`" for flag in action.option_strings)


def _value(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def _meaning(action: argparse.Action) -> str:
    said = [_quoted(action.help or "")]
    if action.choices:
        said.append("one of " + ", ".join(f"`{choice}`" for choice in action.choices))
    if isinstance(action.default, str) and action.default != argparse.SUPPRESS and "default" not in said[0]:
        said.append(f"default: `{action.default}`")
    if action.required and action.option_strings:
        said.append("required")
    return "; ".join(part for part in said if part).replace("|", r"\|")


def _quoted(text: str) -> str:
    """Return a text of argparse as Markdown: flags as code, stars as stars."""
    return re.sub(r"(?<![`\w-])--\w\S*[^\s.,;]", r"`\g<0>`", text.replace("*", r"\*"))


def _sentence(text: str | None) -> str:
    said = _quoted(text or "")
    return f"{said[:1].upper()}{said[1:]}."

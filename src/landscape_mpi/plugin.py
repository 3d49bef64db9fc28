"""Finds the user's own callables, `package.module:callable`, and turns what they raise into one sentence."""

import importlib
import inspect
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from landscape_mpi.errors import Text, UserError

LONGEST = 300
"""Characters of an exception's text that are shown."""
_NOT_THEIRS = (str(Path(__file__).parent), sysconfig.get_paths()["stdlib"], "<frozen")


def is_plugin(name: str) -> bool:
    """Whether a job's `build:` or `loss:` names the user's own callable rather than one of ours."""
    return ":" in name


def load_plugin(key: str, name: str, folder: Path) -> Callable[..., Any]:
    """Import `package.module:callable`, looking in `folder` (the job file's) as well as on Python's path.

    Raises:
        UserError: the module or the callable in it cannot be found, or the module fails to import.
    """
    module_name, _, attribute = name.partition(":")
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.append(place)
    expected = f"a module in {folder} or on PYTHONPATH"
    importing = f"importing the module of {name!r}"
    with own_code(key, importing, expected=expected):
        try:
            module = importlib.import_module(module_name)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            installed = f"torchvision is for another build of torch than {version('torch')}, which is installed"
            remedy = "install both from the same index, with CUDA or without"
            raise UserError(key, (f"{importing} failed with {reason(error)}: ", installed), remedy=remedy) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise UserError(key, f"found no callable `{attribute}` in {module.__file__}, which {name!r} names")
    return found  # type: ignore[no-any-return]


@contextmanager
def own_code(
    key: str, called: str, given: Callable[[], Text] = str, expected: str = "", but: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn whatever the user's own code raises into one sentence; the cause keeps the traceback.

    An exit, by sys.exit or argparse, is turned into one too: other ranks wait for this process.

    Args:
        key: of the job.
        called: what is called for it.
        given: returns what it was called with, in words that follow those of the exception.
        expected: what was expected, if anything.
        but: exceptions that are passed on as they are.

    Raises:
        UserError: the code raised.
    """
    try:
        yield
    except UserError:
        raise
    except but:
        raise
    except BaseException as error:
        # our own reasons to stop pass through the user's code, and so does a Ctrl-C that no handler of ours takes
        unhandled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if isinstance(error, KeyboardInterrupt) and unhandled:
            raise
        if not isinstance(error, Exception) and type(error).__module__.startswith("landscape_mpi."):
            raise
        details = "".join(traceback.format_exception(error))
        raise UserError(key, (f"{called} failed with {reason(error)}", given()), expected, details=details) from error


def check_options(
    key: str, name: str, function: Callable[..., Any], options: Mapping[str, Any], *given: object
) -> None:
    """Refuse keyword arguments that a callable does not take, or a missing one, before it is called.

    Raises:
        UserError: the callable cannot be called with `given` and the options.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # callables written in C need not have one
        return
    try:
        signature.bind(*given, **options)
    except TypeError as error:
        raise UserError(key, f"{name} does not take {dict(options)}: {error}") from error


def with_options(options: Mapping[str, Any]) -> str:
    """Return the words for the keyword arguments that a callable was given; an empty text for none."""
    return f" with the options {dict(options)}" if options else ""


def reason(error: BaseException) -> str:
    """Return the type and the first line of an exception, and the line of the user's own file that raised it."""
    text = next(filter(None, map(str.strip, str(error).splitlines())), "").removesuffix(".")
    shown = f"{text[:LONGEST]} ..." if len(text) > LONGEST else text
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_NOT_THEIRS)
        and "site-packages" not in frame.filename
        and "dist-packages" not in frame.filename
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if shown else ''}{shown}{place}"

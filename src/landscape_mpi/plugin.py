"""`package.module:callable` -> the user's own callable, whose code runs; knows nothing of what it is for."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landscape_mpi.errors import UserError


def is_plugin(name: str) -> bool:
    """Whether a job's `build:` or `loss:` names the user's own callable rather than one of ours."""
    return ":" in name


def load_plugin(key: str, name: str, folder: Path) -> Callable[..., Any]:
    """Import `package.module:callable`, looking in `folder` (the job file's) as well as on Python's path.

    Raises:
        UserError: the module or the callable in it cannot be found, or the module fails to import.
    """
    module_name, _, attribute = name.partition(":")
    _add_to_path(folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UserError(
            f"{key}: importing the module of {name!r} failed with {type(error).__name__}: {error}; expected a module "
            f"in {folder} or on PYTHONPATH."
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise UserError(f"{key}: found no callable `{attribute}` in {module.__file__}, which {name!r} names.")
    return found  # type: ignore[no-any-return]


def _add_to_path(folder: Path) -> None:
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.append(place)

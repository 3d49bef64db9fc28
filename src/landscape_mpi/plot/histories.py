"""Training histories and options -> one figure; knows nothing of command lines or of image files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape_mpi.errors import UserError
from landscape_mpi.files.paths import FILE
from landscape_mpi.files.paths import found as found_at
from landscape_mpi.plot import epochs, labels, panels, style, weights
from landscape_mpi.plot.history import History
from landscape_mpi.plot.options import HISTORY_KINDS, KINDS, Options
from landscape_mpi.surface.history import is_history


@dataclass(frozen=True)
class Picture:
    """A kind of picture: how many panels it has, and what draws on them and returns the facts of the caption."""

    panels: int
    draw: Callable[[Sequence[Axes], Sequence[History], Options], list[str]]


PICTURES: Mapping[str, Picture] = {
    "training": Picture(2, epochs.training),
    "norm": Picture(1, epochs.norm),
    "weights": Picture(1, weights.draw),
}
DEFAULT = "training"


def are_histories(paths: Sequence[Path], kind: str | None) -> bool:
    """Return whether the files are training histories; anything else is to be read as a surface.

    Raises:
        UserError: both are mixed, or the kind of picture is one of the other.
    """
    found = [is_history(path) for path in paths]
    if any(found) and not all(found):
        history, other = paths[found.index(True)], paths[found.index(False)]
        raise UserError(f"{other}: is no training history, {history} is one; expected one or the other in a figure.")
    if found[0] and kind in KINDS:
        raise UserError(_mismatch(paths[0], "a training history", kind, HISTORY_KINDS))
    if not found[0] and kind in HISTORY_KINDS and found_at(paths[0]) == FILE:
        raise UserError(_mismatch(paths[0], "no training history", kind, KINDS))
    return found[0]


def compose_histories(histories: Sequence[History], options: Options) -> Figure:
    """Draw training histories over each other.

    Raises:
        UserError: the options do not suit them.
    """
    _check(options)
    picture = PICTURES[options.kind or DEFAULT]
    with mpl.rc_context(style.RC):
        figure, axes = panels.panels(picture.panels, style.LINE_PANEL, 0, None)
        facts = picture.draw(axes, histories, options)
        title = labels.checked(options.title) if options.title else histories[0].label if len(histories) == 1 else None
        panels.write(figure, [], panels.Texts([], [], facts, title))
        panels.settle(figure, [])
    return figure


def _check(options: Options) -> None:
    for flag, found in (("--metric", options.metric), ("--levels", options.levels), ("--caption", options.captions)):
        if found:
            raise UserError(f"{flag}: figures of training histories have none; leave it out.")


def _mismatch(path: Path, found: str, kind: str, fitting: Sequence[str]) -> str:
    return f"{path}: found {found}, which --kind {kind} cannot draw; expected --kind {' | '.join(fitting)}."

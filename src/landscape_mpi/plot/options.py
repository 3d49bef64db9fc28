"""What the user asked to see, as a value; knows nothing of surfaces or of matplotlib."""

from dataclasses import dataclass

KINDS = ("contour", "filled", "heat", "surface", "line")
"""The kinds of picture of a surface."""

HISTORY_KINDS = ("training", "norm", "weights")
"""The kinds of picture of training histories."""


@dataclass(frozen=True)
class Options:
    """The options of a figure; None leaves the choice to the program.

    Attributes:
        kind: one of KINDS or HISTORY_KINDS.
        metric: the name of a dataset, such as train_loss.
        log: logarithmic (True) or linear (False) colours and heights.
        levels: the contour levels, ascending, in the metric's unit.
        low: the lower end of the colour scale.
        high: the upper end of the colour scale.
        title: replaces the title.
        captions: replace the titles of the panels, one each; none where there are none.
    """

    kind: str | None = None
    metric: str | None = None
    log: bool | None = None
    levels: tuple[float, ...] | None = None
    low: float | None = None
    high: float | None = None
    title: str | None = None
    captions: tuple[str, ...] = ()

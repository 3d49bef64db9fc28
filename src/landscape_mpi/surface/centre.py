"""Losses of the first examples at theta*, as text: whether two ranks, runs or shards have one network; no torch."""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

CENTRE = "centre_losses"
"""The attribute of the root that holds the text."""
EXAMPLES = 8
"""Of each split."""
RELATIVE = {"tf32": 4e-2, "bfloat16": 2e-1}
USUAL = 4e-5
"""Largest relative difference of one network's losses between processors, by `evaluate.dtype`."""
WHY = (
    "where a callable draws random numbers to make the network, each process has another one: seed them there, or save "
    "what is drawn in the checkpoint"
)


def centre_text(losses: Mapping[str, NDArray[np.float64]]) -> str:
    """Return the losses of the first examples of each split as text, to the last bit."""
    return json.dumps({split: values[:EXAMPLES].tolist() for split, values in losses.items()})


def other_network(theirs: object, ours: object, dtype: str, places: tuple[str, str] = ("there", "here")) -> str | None:
    """Say how two texts show that they are of different networks; None where they do not, or where one is missing."""
    if not (isinstance(theirs, str) and isinstance(ours, str)) or theirs == ours:
        return None
    try:
        there, here = ({name: np.array(v, np.float64) for name, v in json.loads(t).items()} for t in (theirs, ours))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return f"model.build: `{CENTRE}` holds no losses"
    if list(there) != list(here):
        return f"model.build: `{CENTRE}` is of other splits"
    for split, values in there.items():
        if not _near(values, here[split], RELATIVE.get(dtype, USUAL)):
            shown = [
                f"{np.array2string(found[:2], precision=6, separator=', ')} {place}"
                for found, place in zip((values, here[split]), places, strict=True)
            ]
            return f"model.build: at theta* the first {split} examples have the losses {' and '.join(shown)}"
    return None


def _near(a: NDArray[np.float64], b: NDArray[np.float64], relative: float) -> bool:
    if a.shape != b.shape or a.ndim != 1 or not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return False
    known = np.isfinite(a)
    a, b = a[known], b[known]
    return bool(np.abs(a - b).sum() <= relative * np.abs(a).sum() + 1e-7 * len(a))

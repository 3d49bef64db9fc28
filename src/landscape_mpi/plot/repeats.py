"""Which lines are one experiment along several random directions; knows nothing of figures."""

import json
import re
from collections.abc import Sequence

from landscape_mpi.plot.origin import document_of
from landscape_mpi.surface.read import Surface

_PLACES = (("output",), ("train",), ("model", "checkpoint"), ("data", "root"), ("plane", "seed"), ("plane", "repeats"))
"""Keys in which repeats may differ; checkpoint and data are compared by their fingerprints."""
_FINGERPRINTS = ("checkpoint_sha256", "data_sha256")


def grouped(surfaces: Sequence[Surface]) -> list[list[Surface]]:
    """Return the lines in groups that differ in the seed of their random directions alone, in their order.

    A line of anything but random directions is a group of its own, and so is one that another has the seed of.
    """
    groups: list[tuple[str | None, list[Surface]]] = []
    for surface in surfaces:
        key = _key(surface)
        fitting = [group for known, group in groups if key is not None and known == key and _is_new(surface, group)]
        if fitting:
            fitting[0].append(surface)
        else:
            groups.append((key, [surface]))
    return [group for _, group in groups]


def stem(group: Sequence[Surface]) -> str:
    """Return the name of a group: that of its first file, without the number of the repeat where there are several."""
    name = group[0].path.stem
    return re.sub(r"\.r\d+$", "", name) if len(group) > 1 else name


def _key(surface: Surface) -> str | None:
    """Return what repeats have in common; None where a line can have none."""
    job = document_of(surface)
    plane = job.get("plane")
    if not isinstance(plane, dict) or plane.get("kind") != "random" or "seed" not in surface.attributes:
        return None
    kept = {name: dict(part) if isinstance(part, dict) else part for name, part in job.items()}
    for *sections, last in _PLACES:
        place = kept.get(sections[0]) if sections else kept
        if isinstance(place, dict):
            place.pop(last, None)
    prints = [surface.attributes.get(name) for name in _FINGERPRINTS]
    return json.dumps([kept, prints, surface.alpha.tolist()], sort_keys=True, default=str)


def _is_new(surface: Surface, group: Sequence[Surface]) -> bool:
    return surface.attributes["seed"] not in [other.attributes["seed"] for other in group]

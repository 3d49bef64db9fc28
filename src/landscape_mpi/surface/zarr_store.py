"""Writes a surface as a folder of Zarr version 3 (https://zarr-specs.readthedocs.io), which needs no other package.

An array is `NAME/zarr.json`, which describes it, and one chunk of little-endian numbers or texts. The description of
the group repeats the descriptions of its arrays, so that readers open one file.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.metrics.registry import axes_of
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.schema import DONE, FAILED, LETTERS, NOT_YET

LONG_NAMES = {
    "xcoordinates": "alpha: how far along delta",
    "ycoordinates": "beta: how far along eta",
    "zcoordinates": "gamma: how far along the third direction",
}
STATUS_WORDS = {
    "flag_values": np.array([NOT_YET, DONE, FAILED], np.uint8),
    "flag_meanings": "not_yet done failed",
}
"""What the numbers of the status mean, as the CF conventions say it (section 3.5)."""
META = "zarr.json"
"""The file that makes a folder an array or a group."""


def write_zarr(surface: Surface, folder: Path) -> None:
    """Write coordinates, status and results with named axes, the job (a text) and the attributes of the root.

    Args:
        surface: complete or not.
        folder: an empty folder.

    Raises:
        UserError: a result has a name that a folder cannot have.
        OSError: the system refused.
    """
    letters = [f"{letter}coordinates" for letter, _ in zip(LETTERS, surface.axes, strict=False)]
    store, grid = _Store(folder), [*reversed(letters)]
    for name, places in zip(letters, surface.axes, strict=False):
        store.add(name, places, [name], {"long_name": LONG_NAMES[name]})
    for axis, size in surface.within.items():
        store.add(axis, np.arange(size), [axis])
    store.add("status", surface.status, grid, {name: _plain(value) for name, value in STATUS_WORDS.items()})
    for name, values in {**surface.metrics, **surface.arrays}.items():
        store.add(name, values, [*grid, *axes_of(name)])
    if surface.job is not None:
        store.add("job", surface.job, [])
    metadata = {"kind": "inline", "must_understand": False, "metadata": store.arrays}
    attributes = {name: _plain(value) for name, value in surface.attributes.items()}
    whole = {"zarr_format": 3, "node_type": "group", "attributes": attributes, "consolidated_metadata": metadata}
    (folder / META).write_text(json.dumps(whole, indent=1), encoding="utf-8")


class _Store:
    """A group that is being written; `arrays` has the description of each of its arrays."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.arrays = folder, dict[str, Any]()

    def add(
        self, name: str, values: NDArray[Any] | str, axes: Sequence[str], attributes: dict[str, Any] | None = None
    ) -> None:
        """Write an array, in one chunk, or one text."""
        if name in ("", ".", "..") or "/" in name or "\0" in name or name.startswith("__"):
            raise UserError(name, "is no name for an array of Zarr", remedy="export the surface as .nc or .npz")
        kind: str
        shape: tuple[int, ...]
        codec: dict[str, Any]
        fill: Any
        if isinstance(values, str):
            text = values.encode(errors="backslashreplace")
            # the codec vlen-utf8: the number of texts, then for each text its number of bytes and the text itself
            chunk = b"".join([(1).to_bytes(4, "little"), len(text).to_bytes(4, "little"), text])
            kind, shape, codec, fill = "string", (), {"name": "vlen-utf8"}, ""
        else:
            kind, shape = values.dtype.name, values.shape
            chunk = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
            codec = {"name": "bytes", "configuration": {"endian": "little"}}
            fill = {"f": "NaN", "c": ["NaN", "NaN"], "b": False}.get(values.dtype.kind, 0)
        self.arrays[name] = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(shape),
            "data_type": kind,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill,
            "codecs": [codec],
            "attributes": attributes or {},
            "dimension_names": list(axes),
        }
        place = self.folder.joinpath(name, "c", *["0"] * len(shape))
        place.parent.mkdir(parents=True)
        place.write_bytes(chunk)
        (self.folder / name / META).write_text(json.dumps(self.arrays[name], indent=1), encoding="utf-8")


def _plain(value: object) -> Any:
    """Return an attribute as a value that JSON has; numbers that JSON lacks become texts, as Zarr writes them."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, str | int | float | bool | None) else str(value)

"""Which machine and libraries computed each point: a list of makers in the file, and a number a point.

Numbers round differently on another processor, library or engine, so the points of a surface may differ in their last
digits by who computed them. A maker is a text such as `device=...; torch=2.6.0; engine=fused`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.files import untrusted
from landscape_mpi.files.atomic import in_words
from landscape_mpi.files.hdf5 import OwnFile

BY, WHO = "made/by", "made/who"
NOBODY, MOST, LENGTH = 255, 16, 600
"""The number of a point that nobody has computed; makers that a file has place for, and bytes of each."""
OTHERS = "others=more makers than the file has place for"
PLAIN = "none"
"""What a maker says of settings where there are none."""

Maker = Mapping[str, str]


class Made(NamedTuple):
    """Who computed points: of each maker its text, and of each point its number."""

    who: list[str]
    by: NDArray[np.uint8]

    def counts(self, done: NDArray[np.bool_]) -> dict[str, int]:
        """Return how many of the points that are done each maker has computed."""
        numbers = self.by[done]
        found = {text: int((numbers == number).sum()) for number, text in enumerate(self.who)}
        return {text: count for text, count in found.items() if count}


def text_of(maker: Maker) -> str:
    """Return a maker as a text, as much of it as a file holds."""
    text = "; ".join(f"{key}={value.replace(';', ',')}" for key, value in maker.items())
    return text.encode()[:LENGTH].decode(errors="ignore")


def parse(text: str) -> dict[str, str]:
    """Return a maker of its text."""
    return {key: value for key, _, value in (part.partition("=") for part in text.split("; "))}


def of_attributes(attributes: Mapping[str, object]) -> dict[str, str]:
    """Return what is known of the maker of a surface that has no list of them."""
    try:
        versions = json.loads(str(attributes.get("versions")))
    except (ValueError, RecursionError):
        versions = {}
    known = {name: attributes.get(name) for name in ("device", "engine", "batch")}
    known |= {name: versions.get(name) for name in ("torch", "mpi", "kernel")} if isinstance(versions, dict) else {}
    found = {name: str(value).replace(";", ",") for name, value in known.items() if value is not None}
    return {**found, "settings": PLAIN} if found else {}


def differences(makers: Iterable[Maker]) -> str:
    """Return in what makers differ, such as `torch 2.6.0 and 2.7.1`; nothing where they do not."""
    found = [maker for maker in makers if maker]
    keys = [key for key in (found[0] if found else {}) if all(key in maker for maker in found)]
    values = {key: list(dict.fromkeys(maker[key] for maker in found)) for key in keys}
    return ", ".join(f"{key} {' and '.join(several)}" for key, several in values.items() if len(several) > 1)


def begin(file: h5py.File, shape: tuple[int, ...]) -> None:
    """Make the place of all makers, and of every point's number."""
    file.create_dataset(WHO, data=np.zeros(MOST, f"S{LENGTH}"))
    file.create_dataset(BY, data=np.full(shape, NOBODY, np.uint8))


def enlist(path: Path, texts: Sequence[str]) -> list[int]:
    """Write makers into the list of a surface, those that it lacks; return the number of each, none of an old surface.

    Raises:
        UserError: the system refuses.
    """
    with in_words(path), OwnFile(path, "r+") as file:
        return number(file, texts) if BY in file else []


def number(file: h5py.File, texts: Sequence[str]) -> list[int]:
    """Return the number of each maker, having written those that the list of a file lacks."""
    who = [raw.decode(errors="replace") for raw in file[WHO][()]]
    for text in dict.fromkeys(texts):
        if text not in who:
            free = who.index("") if "" in who else len(who) - 1
            who[free] = text if free < len(who) - 1 else OTHERS
    file[WHO][...] = np.array([text.encode() for text in who], f"S{LENGTH}")
    return [who.index(text) if text in who else len(who) - 1 for text in texts]


def read_made(file: h5py.File, shape: tuple[int, ...]) -> Made | None:
    """Return who computed the points of a surface; None of one that does not say so, or is no surface of ours.

    Raises:
        UserError: the list is not data of the file itself.
    """
    if "made" not in file or not isinstance(file.get("made", getlink=True), h5py.HardLink):
        return None
    group = file["made"]
    members: dict[str, Any] = untrusted.datasets(group) if isinstance(group, h5py.Group) else {}
    who, by = members.get("who"), members.get("by")
    if who is None or by is None or who.dtype.kind != "S" or who.ndim != 1 or who.size > NOBODY:
        return None
    if by.dtype != np.uint8 or by.shape != shape:
        return None
    return Made([raw.decode(errors="replace") for raw in who[()]], by[()])

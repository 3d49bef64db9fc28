"""Records which platform computed each point: processor, libraries, engine and batch, which decide its last digits.

A file has a list of platforms, each a text such as `device=...; torch=2.6.0; engine=fused`, and for each point the
number of its platform in that list.
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
"""Datasets: the number of each point's platform, and the list."""
NOBODY, MOST, LENGTH = 255, 16, 600
"""The number of a point that nobody has computed; how many platforms a file has place for; bytes of each."""
OTHERS = "others=more makers than the file has place for"
PLAIN = "none"
"""The value for the settings of a platform that has none."""

Platform = Mapping[str, str]


class Platforms(NamedTuple):
    """What a file says: the text of each platform, and for each point the number of its platform, uint8."""

    texts: list[str]
    numbers: NDArray[np.uint8]

    def counts(self, done: NDArray[np.bool_]) -> dict[str, int]:
        """Return how many of the points that are done each platform has computed."""
        numbers = self.numbers[done]
        found = {text: int((numbers == number).sum()) for number, text in enumerate(self.texts)}
        return {text: count for text, count in found.items() if count}


def platform_text(platform: Platform) -> str:
    """Return a platform as a text, as much of it as a file holds."""
    text = "; ".join(f"{key}={value.replace(';', ',')}" for key, value in platform.items())
    return text.encode()[:LENGTH].decode(errors="ignore")


def parse_platform(text: str) -> dict[str, str]:
    """Return the platform of a text."""
    return {key: value for key, _, value in (part.partition("=") for part in text.split("; "))}


def recorded_versions(attributes: Mapping[str, object]) -> dict[str, Any]:
    """Return the versions of libraries that the attributes of a surface name; nothing where they are no JSON object."""
    try:
        versions = json.loads(str(attributes.get("versions")))
    except (ValueError, RecursionError):
        return {}
    return versions if isinstance(versions, dict) else {}


def recorded_platform(attributes: Mapping[str, object]) -> dict[str, str]:
    """Return what the attributes say of the platform of a surface that has no list of them."""
    versions = recorded_versions(attributes)
    known = {name: attributes.get(name) for name in ("device", "engine", "batch")}
    known |= {name: versions[name] for name in ("torch", "mpi", "kernel") if name in versions}
    found = {name: str(value).replace(";", ",") for name, value in known.items() if value is not None}
    return {**found, "settings": PLAIN} if found else {}


def differences(platforms: Iterable[Platform]) -> str:
    """Return the differences between platforms, such as `torch 2.6.0 and 2.7.1`; nothing where there are none."""
    found = [platform for platform in platforms if platform]
    keys = [key for key in (found[0] if found else {}) if all(key in platform for platform in found)]
    values = {key: list(dict.fromkeys(platform[key] for platform in found)) for key in keys}
    return ", ".join(f"{key} {' and '.join(several)}" for key, several in values.items() if len(several) > 1)


def create_platforms(file: h5py.File, shape: tuple[int, ...]) -> None:
    """Create the list of platforms, and the number of every point, in their final size."""
    file.create_dataset(WHO, data=np.zeros(MOST, f"S{LENGTH}"))
    file.create_dataset(BY, data=np.full(shape, NOBODY, np.uint8))


def register(path: Path, texts: Sequence[str]) -> list[int]:
    """Add platforms to the list of a surface; return the number of each, or [] for an old surface without a list.

    Raises:
        UserError: the system refuses.
    """
    with in_words(path), OwnFile(path, "r+") as file:
        return numbers_of(file, texts) if BY in file else []


def numbers_of(file: h5py.File, texts: Sequence[str]) -> list[int]:
    """Return the number of each platform; add the platforms that the list of a file lacks."""
    listed = [raw.decode(errors="replace") for raw in file[WHO][()]]
    for text in dict.fromkeys(texts):
        if text not in listed:
            free = listed.index("") if "" in listed else len(listed) - 1
            listed[free] = text if free < len(listed) - 1 else OTHERS
    file[WHO][...] = np.array([text.encode() for text in listed], f"S{LENGTH}")
    return [listed.index(text) if text in listed else len(listed) - 1 for text in texts]


def read_platforms(file: h5py.File, shape: tuple[int, ...]) -> Platforms | None:
    """Return what a surface says of the platforms; None for a surface that says nothing, or that is not ours.

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
    return Platforms([raw.decode(errors="replace") for raw in who[()]], by[()])

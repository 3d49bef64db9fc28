"""Where a surface came from, as far as a caption tells it; knows nothing of matplotlib.

The job text may be absent or nonsense: it is only a caption, so whatever is not understood is left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import msgspec

from landscape_mpi.errors import UserError
from landscape_mpi.job import GIVEN, Hessian
from landscape_mpi.job.load import LARGEST, parse
from landscape_mpi.surface.read import Surface

_LONGEST = 60
_NETWORKS = {"resnet": "ResNet-", "wrn": "Wide ResNet-", "vgg": "VGG-", "densenet": "DenseNet-"}
_SHORTCUTS = {"none": ", no shortcuts", "pad": ", padded shortcuts"}
_DATA = {"cifar10": "CIFAR-10"}
_SAYS_NOTHING = frozenset(
    {"build", "create", "data", "dataset", "get_data", "get_model", "load", "main", "make", "model", "net", "network"}
)
"""Names of callables that are in many modules."""


@dataclass(frozen=True)
class Origin:
    """What the job says about network, data and plane; None where it does not.

    Attributes:
        network: in words, such as "ResNet-56, no shortcuts".
        loss: the key `loss`, "cross_entropy" where the job leaves it out, None without a job.
        data: in words, such as "CIFAR-10, first 500 images".
        kind: random, interpolate, pca, hessian or file; given, of tensors that a call gave.
        normalise: filter, layer, weight or none.
        seed: of random directions.
        start: the name of the checkpoint at alpha = 0 of an interpolation.
        to: the name of the checkpoint at alpha = 1.
        via: the name of the checkpoint at beta = 1.
        batchnorm: move or recompute, where running statistics are not those of theta*.
        epoch: of theta*, where its file has the name that `train` gives checkpoints.
        explained: shares of a trajectory's variance along principal components.
        hessian: which images the Hessian is of and how exact, such as "Hessian of 500 images, tolerance 0.001".
    """

    network: str | None = None
    loss: str | None = None
    data: str | None = None
    kind: str | None = None
    normalise: str | None = None
    seed: int | None = None
    start: str | None = None
    to: str | None = None
    via: str | None = None
    batchnorm: str | None = None
    epoch: int | None = None
    explained: tuple[float, ...] = ()
    hessian: str | None = None


def origin_of(surface: Surface) -> Origin:
    """Return what the surface's job and attributes say about where it came from."""
    job = _Job(document_of(surface))
    if not job.document:
        return Origin()
    kind = GIVEN if job.word("plane", "path") == GIVEN else job.word("plane", "kind")
    batchnorm = job.word("evaluate", "batchnorm")
    ends = (("model", "checkpoint"), ("plane", "to"), ("plane", "via"))
    start, to, via = _names([job.word(*key) for key in ends]) if kind == "interpolate" else (None, None, None)
    return Origin(
        network=_network(job),
        loss=job.word("loss") or "cross_entropy",
        data=_data(job),
        kind=kind,
        normalise=job.word("plane", "normalize") or ("filter" if kind == "random" else None),
        seed=_seed(surface, job) if kind == "random" else None,
        start=start,
        to=to,
        via=via,
        batchnorm=batchnorm if batchnorm in ("move", "recompute") else None,
        epoch=_epoch(job.word("model", "checkpoint")),
        explained=surface.trajectory.explained if surface.trajectory else (),
        hessian=_hessian(job),
    )


@dataclass(frozen=True)
class _Job:
    """Looks things up in a document of unknown shape."""

    document: Mapping[str, Any]

    def word(self, *keys: str) -> str | None:
        value = self._value(keys)
        return plain(value) if isinstance(value, str) and value.strip() else None

    def whole(self, *keys: str) -> int | None:
        value = self._value(keys)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def section(self, name: str) -> Mapping[str, Any]:
        value = self._value((name,))
        return value if isinstance(value, Mapping) else {}

    def _value(self, keys: tuple[str, ...]) -> object:
        value: object = self.document
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def plain(text: str) -> str:
    """Return text of unknown origin as one short line that matplotlib shows as it is."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    short = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return short.replace("$", r"\$")


def document_of(surface: Surface) -> Mapping[str, Any]:
    """Return the surface's job as it was written, unchecked; nothing where there is none that can be read."""
    if surface.job is None or len(surface.job) > LARGEST:
        return {}
    try:
        return parse(surface.job, surface.path)
    except UserError:
        return {}


def _network(job: _Job) -> str | None:
    build = job.word("model", "build")
    if build is None:
        return None
    return _named(build) + _SHORTCUTS.get(job.word("model", "options", "shortcut") or "", "")


def _named(build: str) -> str:
    """Return e.g. `Wide ResNet-56, k = 4` for `wrn56_4`, and `Tiny` for `my.nets:Tiny`."""
    zoo = re.fullmatch(r"([a-z]+)(\d+)(?:_(\d+))?", build)
    if zoo is None or zoo[1] not in _NETWORKS:
        return _own(build)
    return _NETWORKS[zoo[1]] + zoo[2] + (f", k = {zoo[3]}" if zoo[3] else "")


def _data(job: _Job) -> str | None:
    build = job.word("data", "build")
    if build is None:
        return None
    limit = job.whole("data", "limit")
    images = f", first {limit} images" if limit else ""
    return _DATA.get(build, _own(build)) + images


def _own(build: str) -> str:
    """Return the name of a callable, with its module where the name alone says nothing."""
    module, _, name = build.rpartition(":")
    within = module.rpartition(".")[2]
    return f"{within}.{name}" if within and name.lower() in _SAYS_NOTHING else name


def _hessian(job: _Job) -> str | None:
    metrics = job.document.get("metrics")
    if not isinstance(metrics, list) or "hessian" not in metrics:
        return None
    try:
        asked = msgspec.convert(dict(job.section("hessian")), Hessian)
    except msgspec.ValidationError:
        return None
    most = [count for count in (asked.images, job.whole("data", "limit")) if count]
    images = f"{min(most)} images" if most else "all images"
    return f"Hessian of {images}, tolerance {asked.tolerance:g}"


def _seed(surface: Surface, job: _Job) -> int | None:
    """Return the seed the file names (it differs between repeats), else the job's, else its default."""
    stored = surface.attributes.get("seed")
    if isinstance(stored, int):
        return stored
    return job.whole("plane", "seed") or 0


def _names(files: Sequence[str | None]) -> list[str | None]:
    """Return what to call files: without folder and ending, but with the folder where that alone tells them apart."""
    paths = [PurePath(file) for file in files if file]
    alike = len({path.stem for path in paths}) < len(paths)
    names = iter(f"{path.parent.name}/{path.stem}".lstrip("/") if alike else path.stem for path in paths)
    return [next(names) if file else None for file in files]


def _epoch(checkpoint: str | None) -> int | None:
    match = re.fullmatch(r"epoch-(\d{1,9})", PurePath(checkpoint or "").stem, re.ASCII)
    return int(match[1]) if match else None

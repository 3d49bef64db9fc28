"""Reads from a surface's job and attributes what captions say of it: network, data, plane, Hessian.

The job text may be absent or nonsense: it is only a caption, so whatever is not understood is left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import msgspec

from landscape_mpi.errors import UserError
from landscape_mpi.job import AXES, GIVEN, CurvePlane, Hessian, RandomPlane, SweepJob
from landscape_mpi.job.text import LARGEST, parse
from landscape_mpi.metrics.registry import METRICS, SIZE, WITHIN
from landscape_mpi.surface.read import Surface

_LONGEST = 60
_NETWORKS = {"resnet": "ResNet-", "wrn": "Wide ResNet-", "vgg": "VGG-", "densenet": "DenseNet-"}
_SHORTCUTS = {"none": ", no shortcuts", "pad": ", padded shortcuts"}
_DATA = {"cifar10": "CIFAR-10"}
_WEIGHTS = frozenset({".safetensors", ".json", ".bin", ".pt", ".pth", ".ckpt"})
_SAYS_NOTHING = frozenset(
    {"build", "create", "data", "dataset", "get_data", "get_model", "load", "main", "make", "model", "net", "network"}
)
"""Names of callables that many modules have: captions name their module too."""


@dataclass(frozen=True)
class Origin:
    """What the job says about network, data and plane; None where it does not.

    Attributes:
        network: in words, such as "ResNet-56, no shortcuts".
        loss: the key `loss`, "cross_entropy" where the job leaves it out, None without a job.
        data: in words, such as "CIFAR-10, first 500 examples".
        kind: random, worst, interpolate, curve, pca, hessian or file; given for tensors that a call gave.
        normalise: filter, layer, weight or none.
        seed: the seed of random directions.
        start: the name of the checkpoint at alpha = 0 of an interpolation or a curve.
        to: the name of the checkpoint at alpha = 1.
        via: the name of the checkpoint at beta = 1.
        curve: bezier or polygon, of a curve between two checkpoints.
        bent: whether alpha goes along that curve.
        batchnorm: move or recompute, where running statistics are not those of theta*.
        epoch: the epoch of theta*, where its file has the name that `train` gives checkpoints.
        explained: shares of a trajectory's variance along principal components.
        reach: the loss to which the grid goes, where its range was found by it, such as "range to f(0, 0) + 1 nat".
        hessian: for each metric, which examples the Hessian is of and how exact it is, such as "Hessian of 500
            examples, tolerance 0.001".
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
    curve: str | None = None
    bent: bool = False
    batchnorm: str | None = None
    epoch: int | None = None
    explained: tuple[float, ...] = ()
    reach: str | None = None
    hessian: Mapping[str, str] = field(default_factory=dict)


def origin_of(surface: Surface) -> Origin:
    """Return what the surface's job and attributes say about where it came from."""
    job = _Job(document_of(surface))
    if not job.document:
        return Origin()
    kind = GIVEN if job.word("plane", "path") == GIVEN else job.word("plane", "kind")
    build, shortcut = job.word("model", "build"), job.word("model", "options", "shortcut")
    data, limit = job.word("data", "build"), job.whole("data", "limit")
    batchnorm, checkpoint = job.word("evaluate", "batchnorm"), job.word("model", "checkpoint")
    ends = [checkpoint, job.word("plane", "to"), job.word("plane", "via")]
    start, to, via = _names(ends) if kind in ("interpolate", "curve") else (None, None, None)
    if job.word("plane", "align") == "auto":
        to, via = (name and f"{name}, aligned" for name in (to, via))
    epoch = re.fullmatch(r"epoch-(\d{1,9})", PurePath(checkpoint or "").stem, re.ASCII)
    seed, normalise = None, job.word("plane", "normalize")
    if kind == "random":
        stored = surface.attributes.get("seed")  # which differs between repeats
        seed = stored if isinstance(stored, int) else job.whole("plane", "seed") or _default(RandomPlane, "seed")
    if kind in ("random", "worst"):
        normalise = normalise or _default(RandomPlane, "normalize")
    return Origin(
        network=None if build is None else _named(build, checkpoint) + _SHORTCUTS.get(shortcut or "", ""),
        loss=job.word("loss") or _default(SweepJob, "loss"),
        data=None if data is None else _DATA.get(data, _own(data)) + (f", first {limit} examples" if limit else ""),
        kind=kind,
        normalise=normalise,
        seed=seed,
        start=start,
        to=to,
        via=via,
        curve=(job.word("plane", "curve") or _default(CurvePlane, "curve")) if kind == "curve" else None,
        bent=kind == "curve" and (surface.is_line or job.word("plane", "coordinates") == "curve"),
        batchnorm=batchnorm if batchnorm in ("move", "recompute") else None,
        epoch=int(epoch[1]) if epoch else None,
        explained=surface.trajectory.explained if surface.trajectory else (),
        reach=_reach(surface.attributes),
        hessian=_hessian(job, surface.attributes),
    )


def _default(section: type[msgspec.Struct], key: str) -> Any:
    """Return the default of a key of a job."""
    return next(field.default for field in msgspec.structs.fields(section) if field.name == key)


@dataclass(frozen=True)
class _Job:
    """Looks up values in the document of a job, which may have any shape."""

    document: Mapping[str, Any]

    def word(self, *keys: str) -> str | None:
        value = self._value(keys)
        return plain(value) if isinstance(value, str) and value.strip() else None

    def whole(self, *keys: str) -> int | None:
        value = self._value(keys)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

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
    """Return the surface's job as it was written, unchecked; it is empty where no job can be read."""
    if surface.job is None or len(surface.job) > LARGEST:
        return {}
    try:
        return parse(surface.job, surface.path)
    except UserError:
        return {}


def _named(build: str, checkpoint: str | None) -> str:
    """Return e.g. `Wide ResNet-56, k = 4` for `wrn56_4`, `Tiny` for `my.nets:Tiny`, or a Hugging Face folder's name."""
    if build == "huggingface" and checkpoint:
        place = PurePath(checkpoint)
        return (place.parent.name if place.suffix in _WEIGHTS else place.name) or build
    zoo = re.fullmatch(r"([a-z]+)(\d+)(?:_(\d+))?", build)
    if zoo is None or zoo[1] not in _NETWORKS:
        return _own(build)
    return _NETWORKS[zoo[1]] + zoo[2] + (f", k = {zoo[3]}" if zoo[3] else "")


def _own(build: str) -> str:
    """Return the name of a callable, with its module where the name alone says nothing."""
    module, _, name = build.rpartition(":")
    within = module.rpartition(".")[2]
    return f"{within}.{name}" if within and name.lower() in _SAYS_NOTHING else name


def _reach(attributes: Mapping[str, object]) -> str | None:
    """Return the loss to which all axes with a found range go; None where there are none, or one does not reach it."""
    rise, centre = attributes.get("range_rise"), attributes.get("range_centre")
    if not (isinstance(rise, float) and isinstance(centre, float)):
        return None
    pairs = [(attributes.get(f"range_{axis}_low"), attributes.get(f"range_{axis}_high")) for axis in AXES]
    ends = [(low, high) for low, high in pairs if isinstance(low, float) and isinstance(high, float)]
    if any(low - centre < rise and high - centre < rise for low, high in ends):
        return None
    return f"range to {'2 f(0, 0)' if rise == centre else f'f(0, 0) + {rise:g} nat'}"


def _hessian(job: _Job, attributes: Mapping[str, object]) -> dict[str, str]:
    try:
        section = job.document.get("hessian")
        asked = msgspec.convert(dict(section) if isinstance(section, Mapping) else {}, Hessian)
    except msgspec.ValidationError:
        return {}
    data = job.document.get("data")
    splits = data.get("splits") if isinstance(data, Mapping) else None
    size = attributes.get(f"{splits[0] if isinstance(splits, list) and splits else 'train'}{SIZE}")
    sizes = (asked.images, job.whole("data", "limit"), size if isinstance(size, int) else None)
    most = [count for count in sizes if count]
    examples = f"{min(most)} examples" if most else "all examples"
    over = "Hessian over the parameters that move," if asked.of == "plane" else "Hessian"
    found = {}
    named = job.document.get("metrics")
    for metric in METRICS:
        if metric.needs == "gradients" and isinstance(named, list) and metric.key in named:
            values = [(key, getattr(asked, key)) for key in metric.keys]
            exact = [
                f"{value} {key.rstrip('s') if value == 1 else key}" if key in WITHIN else f"{key} {value:g}"
                for key, value in values
            ]
            found[metric.key] = ", ".join([f"{over} of {examples}", *exact])
    return found


def _names(files: Sequence[str | None]) -> list[str | None]:
    """Return names of files without folder and ending, or with the folder where two names are alike without it."""
    paths = [PurePath(file) for file in files if file]
    alike = len({path.stem for path in paths}) < len(paths)
    names = iter(f"{path.parent.name}/{path.stem}".lstrip("/") if alike else path.stem for path in paths)
    return [next(names) if file else None for file in files]

"""Writes the jobs of the paper's figures: `paper/` at the paper's size, `laptop/` small enough for a few cores.

    python jobs/li2018/write_jobs.py

The files are kept beside this script; it is what says how they hang together.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
TOP = "../../.."
AUTHORS_PIXELS = {"mean": [0.49137255, 0.48235294, 0.44666667], "std": [0.24705882, 0.24352941, 0.26156863]}
"""Mean (125.3, 123.0, 113.9) / 255 and standard deviation (63.0, 62.1, 66.7) / 255, as the authors normalised."""
Job = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """What differs between the two folders.

    Attributes:
        folder: Where the jobs go, and the folder of their networks and surfaces.
        width: Channels of VGG-9's first stage.
        limit: Images to train on; None for all.
        looked_at: Images of each split at every point of a surface; None for all.
        path: The same for the plane of a trajectory.
        epochs: Of training; the learning rate drops after a half, three quarters and eleven twelfths.
        small: The small batch.
        large: The large batch of VGG-9.
        decay: Weight decay, where there is any: with a twentieth of the steps, it takes more to shrink weights alike.
        line: Points of a line between networks, on [-0.5, 1.5].
        side: Points of a side of a plane, on [-1, 1].
        figure1: The same for Figure 1, and the images of its points.
        figure7: The same for Figure 7, and the tolerance of its eigenvalues.
        repeats: Random directions of a band.
        family: What the names of the VGG-9 networks begin with.
        figures: Where they are shown.
        splits: Of their training.
        rule: What differs from the paper's training besides the above.
        plain: What differs further in the training of ResNets without shortcuts.
    """

    folder: str
    width: int
    limit: int | None
    looked_at: int | None
    path: int | None
    epochs: int
    small: int
    large: int
    decay: float
    line: int
    side: int
    figure1: tuple[int, int | None]
    figure7: tuple[int, int | None, float]
    repeats: int
    family: str = "vgg9_"
    figures: str = "Figures 2, 3, 8 and 9"
    splits: tuple[str, ...] = ("train", "test")
    rule: Mapping[str, Any] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)


PAPER = Size("paper", 64, None, None, None, 300, 128, 8192, 5.0e-4, 401, 51, (251, None), (51, None, 0.01), 10)
LAPTOP = replace(
    Size("laptop", 8, 10_000, 2000, 500, 60, 32, 1024, 2.0e-3, 41, 21, (25, 500), (7, 40, 0.05), 5),
    figures="Figures 3, 8 and 9",
)
LAPTOP_DEEP = replace(
    LAPTOP,
    limit=2000,
    looked_at=500,
    decay=5.0e-4,
    rule={"lr": 0.05, "augment": False},
    plain={"lr": 0.02},
)
"""The deep networks of Figures 4 to 6: few images many times over, so that plain ones of 44 layers learn as well."""

LAPTOP_LINE = replace(
    LAPTOP,
    limit=4000,
    looked_at=500,
    epochs=24,
    large=1024,
    decay=1.0e-2,
    family="vgg9_line_",
    figures="Figure 2",
    splits=("train",),
    rule={"lr": 0.03, "augment": False},
)
"""Figure 2, where the small batch's steps x learning rate x decay have to be many times the large batch's, which
has to learn in few steps: a third of the learning rate, more decay, no augmentation."""


def main() -> None:
    """Write every job of both sizes."""
    for size in (PAPER, LAPTOP):
        folder = HERE / size.folder
        folder.mkdir(exist_ok=True)
        for name, (title, job) in jobs(size).items():
            (folder / f"{name}.yaml").write_text(render(size, name, title, job))


def render(size: Size, name: str, title: str, job: Job) -> str:
    """Return a job file: what it is, how it is run, and the job."""
    command = "train" if "train" in job else "sweep"
    ranks = "" if command == "train" else "mpirun -n 2 "
    lines = (
        f"# {title}",
        "#",
        f"#   {ranks}python -m landscape_mpi {command} jobs/li2018/{size.folder}/{name}.yaml",
        "",
    )
    return "\n".join(lines) + "\n" + yaml.safe_dump(job, sort_keys=False, default_flow_style=None, width=110)


def jobs(size: Size) -> dict[str, tuple[str, Job]]:
    """Return title and job by name."""
    found = {**figure1(size), **vgg_training(size, vgg_nets(size)), **figure3(size), **figure7(size)}
    found |= cover(size) if size is LAPTOP else {}
    found |= {**figure8(size), **figure9(size), **optimizers(size), **rescaled(size)}
    if size is PAPER:
        depths = (20, 56, 110)
        wide: dict[str, Job] = {f"wrn56_{k}": {"build": f"wrn56_{k}"} for k in (2, 4, 8)}
        return found | figure2(PAPER) | figures_4_to_6(PAPER, 16, depths, depths, 56, wide)
    found |= {**vgg_training(LAPTOP_LINE, list(vgg_nets(LAPTOP_LINE))[:4]), **figure2(LAPTOP_LINE)}
    wide = {f"wide32_{k}": {"build": "resnet32", "options": {"width": 4 * k}} for k in (1, 4)}
    return found | figures_4_to_6(LAPTOP_DEEP, 8, (20, 56, 110), (20, 32, 44), 32, wide)


def figure1(size: Size) -> dict[str, tuple[str, Job]]:
    """The authors' own ResNet-56 without and with shortcuts."""
    points, limit = size.figure1
    return {
        f"figure1_{name}": (
            f"Figure 1: the training loss of the authors' {title}.",
            sweep(
                size, f"figure1_{name}", authors(name), images(limit, AUTHORS_PIXELS), random_plane(), square(points)
            ),
        )
        for name, title in AUTHORS.items()
    }


def cover(size: Size) -> dict[str, tuple[str, Job]]:
    """The planes of Figure 1 at 101 x 101 points with error bars of 5 %, for a lit landscape."""
    found = {}
    for name, title in AUTHORS.items():
        data, model = images(None, AUTHORS_PIXELS), authors(name)
        job = sweep(size, f"cover_{name}", model, data, random_plane(), square(101))
        job["sampling"] = {"error": 0.05, "seed": 0, "audit": 32}
        found[f"cover_{name}"] = (f"The cover, 101 x 101 points of Figure 1: {title.split(' (')[0]}.", job)
    return found


AUTHORS = {
    "resnet56": "ResNet-56 (300 epochs of SGD, test error 6.34 %): a smooth bowl",
    "resnet56_noshort": "ResNet-56 without shortcuts (test error 13.31 %): chaos",
}


def figure7(size: Size) -> dict[str, tuple[str, Job]]:
    """Maps of |lambda_min / lambda_max| over the planes of Figure 1."""
    points, limit, tolerance = size.figure7
    found = {}
    for name, title in AUTHORS.items():
        job = sweep(
            size, f"figure7_{name}", authors(name), images(limit, AUTHORS_PIXELS), random_plane(), square(points)
        )
        job |= {"metrics": ["loss", "hessian"], "hessian": {"images": limit, "tolerance": tolerance}}
        found[f"figure7_{name}"] = (f"Figure 7: curvature around {title.split(' (')[0]}.", job)
    return found


def vgg_nets(size: Size) -> Mapping[str, tuple[str, Job]]:
    """Return how each VGG-9 is trained, and in words."""
    small, large, decay = size.small, size.large, size.decay
    adam = {"optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "batch": small}
    return {
        "small_wd0": (f"batch {small}, no weight decay", {"batch": small, "weight_decay": 0.0}),
        "large_wd0": (f"batch {large}, no weight decay", {"batch": large, "weight_decay": 0.0}),
        "small_wd": (f"batch {small}, weight decay {decay}", {"batch": small, "weight_decay": decay}),
        "large_wd": (f"batch {large}, weight decay {decay}", {"batch": large, "weight_decay": decay}),
        "start1": (f"batch {small}, no weight decay, other start", {"batch": small, "weight_decay": 0.0, "seed": 1}),
        "adam": (f"Adam, batch {small}, no weight decay", adam),
    }


def vgg_training(size: Size, nets: Iterable[str]) -> dict[str, tuple[str, Job]]:
    """The named ones of `vgg_nets`."""
    return {
        f"train_{size.family}{name}": (
            f"VGG-9 of {size.figures}: {words}.",
            {
                "model": vgg(size),
                "data": images(size.limit, splits=size.splits),
                "train": training(size, f"{size.family}{name}", {**size.rule, **how}),
            },
        )
        for name, (words, how) in vgg_nets(size).items()
        if name in nets
    }


def figure2(size: Size) -> dict[str, tuple[str, Job]]:
    """The lines from the small batch's minimum to the large batch's."""
    return {
        f"figure2_{decay}": (
            f"Figure 2: from batch {size.small} (at 0) to batch {size.large} (at 1), {words} weight decay.",
            between(size, f"figure2_{decay}", f"small_{decay}", f"large_{decay}"),
        )
        for decay, words in {"wd0": "without", "wd": "with"}.items()
    }


def figure3(size: Size) -> dict[str, tuple[str, Job]]:
    """Lines and planes around the four minima, filter-normalised."""
    found = {}
    for name, (words, _) in list(vgg_nets(size).items())[:4]:
        data = images(size.looked_at, splits=("train", "test"))
        plane = sweep(size, f"figure3_{name}", trained(size, name), data, random_plane(), square(size.side))
        band = {**random_plane(), "repeats": size.repeats}
        line = sweep(size, f"figure3_line_{name}", trained(size, name), data, band, {"alpha": [-1, 1, size.side]})
        found[f"figure3_{name}"] = (f"Figure 3: the plane around VGG-9, {words}.", plane)
        found[f"figure3_line_{name}"] = (f"Figure 3: {size.repeats} random lines through VGG-9, {words}.", line)
    return found


def figure8(size: Size) -> dict[str, tuple[str, Job]]:
    """A trajectory along random directions, which shows nothing."""
    plane = {**random_plane(), "trajectory": trajectory(size, "small_wd")}
    job = sweep(size, "figure8", trained(size, "small_wd"), images(size.path), plane, square(size.side))
    return {"figure8": ("Figure 8: the trajectory along two random directions, where it hardly moves.", job)}


def figure9(size: Size) -> dict[str, tuple[str, Job]]:
    """The trajectories in the planes of their own principal components; the grid holds the path."""
    found = {}
    for name, (words, _) in vgg_nets(size).items():
        plane = {"kind": "pca", "trajectory": trajectory(size, name)}
        job = sweep(size, f"figure9_{name}", trained(size, name), images(size.path), plane, None)
        found[f"figure9_{name}"] = (f"Figure 9: the trajectory of VGG-9, {words}.", job)
    return found


def optimizers(size: Size) -> dict[str, tuple[str, Job]]:
    """Between minima of two optimizers and of two random starts."""
    via = between(size, "plane_optimizers", "small_wd0", "adam")
    via["plane"]["via"] = checkpoint(size, "start1")
    via["grid"] = {axis: [-0.5, 1.5, size.side] for axis in ("alpha", "beta")}
    # moved along, running variances become negative beyond each side of the triangle
    via["evaluate"]["batchnorm"] = "recompute"
    return {
        "line_optimizers": (
            "From the minimum of SGD (0) to that of Adam (1).",
            between(size, "line_optimizers", "small_wd0", "adam"),
        ),
        "line_starts": (
            "From the minimum of one random start (0) to another's (1).",
            between(size, "line_starts", "small_wd0", "start1"),
        ),
        "plane_optimizers": ("The plane through SGD (0, 0), Adam (1, 0) and SGD from another start (0, 1).", via),
    }


def rescaled(size: Size) -> dict[str, tuple[str, Job]]:
    """Two networks that compute the same function, along raw and along filter-normalised directions."""
    found = {}
    for net in ("small_wd", "rescaled"):
        for kind, normalise in (("raw", "none"), ("filter", "filter")):
            plane = {"kind": "random", "seed": 0, "normalize": normalise, "ignore": "biasbn"}
            # raw directions are as long as the square root of the number of weights, so their range is short
            reach = 0.05 if kind == "raw" else 1
            grid = {"alpha": [-reach, reach, size.side], "beta": [-reach, reach, size.side]}
            name = f"scale_{net}_{kind}"
            words = "rescaled by rescale.py" if net == "rescaled" else "as trained"
            found[name] = (
                f"Scale invariance: VGG-9 {words}, {kind} directions.",
                sweep(size, name, trained(size, net), images(size.looked_at), plane, grid),
            )
    return found


def figures_4_to_6(
    size: Size, channels: int, depths: Iterable[int], plain: Iterable[int], depth: int, wide: Mapping[str, Job]
) -> dict[str, tuple[str, Job]]:
    """Depth, shortcuts, width, DenseNet: training and planes.

    Args:
        size: Of training and planes.
        channels: Of the first stage of the ResNets of Figure 5; thin ones make DenseNet grow by half as many.
        depths: Layers of the ResNets of Figure 5.
        plain: The same without shortcuts.
        depth: Of the Wide ResNets of Figure 6.
        wide: Those, by name, which ends with k; each also without shortcuts.
    """
    thin = {} if channels == 16 else {"width": channels}
    dense = {} if channels == 16 else {"options": {"growth": channels // 2}}
    nets: dict[str, tuple[str, Job]] = {"densenet121": ("Figure 4: DenseNet-121", {"build": "densenet121", **dense})}
    for layers in depths:
        name = f"resnet{layers}"
        nets[name] = f"Figure 5: ResNet-{layers}", {"build": name} | ({"options": thin} if thin else {})
    for layers in plain:
        model = {"build": f"resnet{layers}", "options": {"shortcut": "none", **thin}}
        nets[f"resnet{layers}_noshort"] = f"Figure 5: ResNet-{layers}-NS", model
    for name, model in wide.items():
        k = name.rpartition("_")[2]
        without = {**model, "options": {"shortcut": "none", **model.get("options", {})}}
        nets[name] = f"Figure 6: Wide ResNet-{depth}, k = {k}", model
        nets[f"{name}_noshort"] = f"Figure 6: Wide ResNet-{depth}-NS, k = {k}", without
    return {name: job for net, (title, model) in nets.items() for name, job in pair(size, net, title, model)}


RATES: Mapping[str, Job] = {"resnet110_noshort": {"lr": 0.01}}
"""Learning rates other than 0.1, by network: the authors' file of ResNet-110-NS is named `lr=0.01`."""


def pair(size: Size, net: str, title: str, model: Job) -> Iterator[tuple[str, tuple[str, Job]]]:
    """Yield the training of a network and the plane around it."""
    data = images(size.limit, splits=("train", "test"))
    plain = size.plain if net.endswith("_noshort") else {}
    how = {"batch": size.small, "weight_decay": size.decay, **size.rule, **plain, **RATES.get(net, {})}
    yield f"train_{net}", (f"{title}: training.", {"model": model, "data": data, "train": training(size, net, how)})
    last = {**model, "checkpoint": checkpoint(size, net, "")}
    yield (
        f"plane_{net}",
        (
            f"{title}: the plane.",
            sweep(size, f"plane_{net}", last, images(size.looked_at), random_plane(), square(size.side)),
        ),
    )


def vgg(size: Size) -> Job:
    """VGG-9 of a size."""
    return {"build": "vgg9", "options": {"width": size.width}}


def trained(size: Size, net: str) -> Job:
    """A trained VGG-9."""
    return {**vgg(size), "checkpoint": checkpoint(size, net)}


def checkpoint(size: Size, net: str, family: str | None = None) -> str:
    """Where the last checkpoint of a training is; without `family` that of a VGG-9."""
    begins = size.family if family is None else family
    return f"{TOP}/nets/{size.folder}/{begins}{net}/epoch-{size.epochs:04d}.safetensors"


def trajectory(size: Size, net: str) -> str:
    """Where all checkpoints of a training are."""
    return f"{TOP}/nets/{size.folder}/vgg9_{net}/epoch-*.safetensors"


def authors(name: str) -> Job:
    """A network of the paper's authors."""
    shortcut = "none" if name.endswith("noshort") else "projection"
    path = f"{TOP}/nets/li2018-{name.replace('_', '-')}.t7"
    return {"build": "resnet56", "options": {"shortcut": shortcut}, "checkpoint": path}


def images(limit: int | None, normalize: Job | None = None, splits: tuple[str, ...] = ("train",)) -> Job:
    """CIFAR-10; the paper draws the training loss."""
    data: Job = {"build": "cifar10", "root": f"{TOP}/data", "splits": list(splits)}
    return data | ({"normalize": normalize} if normalize else {}) | ({"limit": limit} if limit else {})


def training(size: Size, name: str, how: Job) -> Job:
    """The paper's training, over a size's epochs."""
    drops = [size.epochs // 2, size.epochs * 3 // 4, size.epochs * 11 // 12]
    return {"output": f"{TOP}/nets/{size.folder}/{name}", "epochs": size.epochs, "drops": drops, **how}


def random_plane() -> Job:
    """Filter-normalised random directions."""
    return {"kind": "random", "seed": 0, "normalize": "filter", "ignore": "biasbn"}


def square(points: int) -> Job:
    """[-1, 1]^2."""
    return {"alpha": [-1, 1, points], "beta": [-1, 1, points]}


def between(size: Size, name: str, start: str, end: str) -> Job:
    """The line from one VGG-9 to another, batch norm statistics moving along."""
    plane = {"kind": "interpolate", "to": checkpoint(size, end)}
    data = images(size.looked_at, splits=("train", "test"))
    job = sweep(size, name, trained(size, start), data, plane, {"alpha": [-0.5, 1.5, size.line]})
    return job | {"evaluate": {"batchnorm": "move"}}


def sweep(size: Size, name: str, model: Job, data: Job, plane: Job, grid: Job | None) -> Job:
    """A sweep into `surfaces/`."""
    output = {"file": f"{TOP}/surfaces/{size.folder}/{name}.h5"}
    return {"model": model, "data": data, "plane": plane, **({"grid": grid} if grid else {}), "output": output}


if __name__ == "__main__":
    main()

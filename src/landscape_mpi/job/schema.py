"""Defines the keys of a job as frozen structs, with their types, defaults and meanings; those of a plane: plane.py."""

from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from msgspec import Meta, Struct, field, structs

from landscape_mpi.files.paths import absolute
from landscape_mpi.job.plane import Auto, Grid, HessianPlane, Plane, Positive, Seed, Values, planned
from landscape_mpi.metrics.registry import USUAL, asked


class Train(Values, frozen=True, kw_only=True):
    """How theta* is trained; the defaults are the paper's.

    Attributes:
        output: the folder for `epoch-0000.safetensors` (before training), `epoch-0001.safetensors`, ... and
            `history.h5`
        epochs: 0 saves the initial weights
        optimizer: `sgd` or `adam`
        lr: the learning rate at the start
        momentum: of SGD
        nesterov: of SGD; needs a momentum above 0
        weight_decay: on every parameter, as in the authors' code
        batch: examples at a time
        drops: after these epochs the learning rate is multiplied by `factor`
        factor: see `drops`
        augment: random crop with padding 4, horizontal flip
        seed: of initialisation, shuffling and augmentation
    """

    output: str
    epochs: Annotated[int, Meta(ge=0)] = 300
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Annotated[float, Meta(gt=0)] = 0.1
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Meta(ge=0)] = 5.0e-4
    batch: Positive = 128
    drops: tuple[int, ...] = (150, 225, 275)
    factor: Annotated[float, Meta(gt=0)] = 0.1
    augment: bool = True
    seed: Seed = 0


SplitName = Literal["train", "test"]
SPLIT = "{split}"
"""In the `data.root` of a text, what stands for the name of the split."""


class Model(Values, frozen=True, kw_only=True):
    """The network: a name of the zoo, `huggingface` or `package.module:callable`, and its keyword arguments.

    Attributes:
        build: a network of the paper (below); `huggingface`, the model of transformers that the checkpoint's
            `config.json` names (below); or `package.module:callable` that returns a `torch.nn.Module`; modules are
            looked for beside the job file too. **A callable runs your own code.**
        options: keyword arguments of that callable; for `huggingface` keys of `config.json`
        checkpoint: theta*, the trained weights: a `.safetensors` file, a Hugging Face folder, an index of shards, or
            what torch.save wrote (below)
        entry: the set of weights that is meant where a checkpoint holds several, by the keys that lead to it: `ema`,
            `callbacks.EMA.weights`; `.` for the top
    """

    build: str
    options: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    entry: Annotated[str, Meta(min_length=1)] | None = None


class TrainedModel(Model, frozen=True, kw_only=True):
    """A network with the checkpoint that holds theta*."""

    checkpoint: str


class ChannelNormalisation(Values, frozen=True, kw_only=True):
    """Mean and standard deviation of each channel, for inputs scaled to [0, 1].

    Attributes:
        mean: one number per channel
        std: one number per channel
    """

    mean: Annotated[tuple[float, ...], Meta(min_length=1)]
    std: Annotated[tuple[Annotated[float, Meta(gt=0)], ...], Meta(min_length=1)]


class Data(Values, frozen=True, kw_only=True):
    """The data set, the splits to evaluate and how many of their first examples.

    Attributes:
        build: `cifar10`, `shapes10` (made on the spot, needs no download), `text`, or `package.module:callable`, called
            as `f(root, split, **options)`
        root: of `cifar10` the folder that holds `cifar-10-batches-py` or `cifar-10-batches-bin`; of `text` a file or a
            pattern such as `"texts/*.txt"`, with `{split}` for the name of the split; required for both
        options: of `shapes10`, of `text` (`tokenizer`, `length`, `stride`, `special`), or keyword arguments of
            the callable
        normalize: as in training, for images scaled to [0, 1]; none stands for the data set's own; a callable's inputs
            are left as they are
        splits: each is evaluated at every point
        limit: the first n examples of each split; `train` learns from no more than these either
        order: a seed; the examples are taken in a random order of it before `limit`, for sets that are sorted by class;
            none leaves them as they are
    """

    build: str
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    normalize: ChannelNormalisation | None = None
    splits: Annotated[tuple[SplitName, ...], Meta(min_length=1)] = ("train", "test")
    limit: Positive | None = None
    order: Seed | None = None


FROM_PYTHON = "landscape_mpi.sweep"
"""The name of a job that stands in no file: its sections are the arguments of a call."""
GIVEN = "given"
"""What stands in a job where a call gives tensors: there is no file of that name."""


class Evaluate(Values, frozen=True, kw_only=True):
    """How a point is evaluated.

    Only `batchnorm` changes what is computed beyond rounding, of which `dtype` says how coarse it is: whether running
    statistics stay those of the checkpoint, move along with the parameters, or are estimated anew at every point.

    Attributes:
        batch: examples at a time; `auto` is 64 on a CPU, fewer (a power of two) where their outputs would take more
            than 64 MB, and on a CUDA device as many as fit, 64 to 4096. Fixed and recorded when the file is created
        dtype: what the network computes in; sums are always float64
        batchnorm: which running statistics batch norm uses at a point
        engine: how a point is evaluated; `auto` takes the fastest engine that agrees with the plain network
        weights: whether a rank holds all weights of the network at a point (`resident`), or builds those of each layer
            just before it runs and drops them after (`streamed`); `auto` streams where the ranks of a node would take
            more than half of its free memory. The numbers are the same
    """

    batch: Literal["auto"] | Positive = "auto"
    dtype: Literal["float32", "float64", "tf32", "bfloat16", "bfloat16x2"] = "float32"
    batchnorm: Literal["keep", "move", "recompute"] = "keep"
    engine: Literal["auto", "eager", "fused", "compiled"] = "auto"
    weights: Literal["auto", "resident", "streamed"] = "auto"


class Hessian(Values, frozen=True, kw_only=True):
    """Of which examples and parameters the Hessian is, and how exactly what is asked of it is found.

    Attributes:
        images: the first n examples of the first split; null for all
        of: the parameters of the Hessian: `all` that require a gradient, or only those of them that the `plane` moves
            (`plane.only`, `plane.ignore`). Eigenvectors of `plane.kind: hessian` are always those of the parameters
            that the plane moves
        tolerance: the largest residual norm of H v - lambda v for both eigenvalues, relative to the larger magnitude of
            lambda_min and lambda_max
        probes: for the metric `spectrum`: number of random sign vectors over which a spectrum is averaged
        steps: for the metric `spectrum`: products with the Hessian per probe, and nodes of its quadrature
        seed: of the probes
    """

    images: Positive | None = 2000
    of: Literal["all", "plane"] = "all"
    tolerance: Annotated[float, Meta(gt=0, lt=1)] = 1.0e-3
    probes: Positive = 5
    steps: Positive = 60
    seed: Seed = 0


FLOOR = 1.0e-3
"""`sampling.floor` where a job leaves it out."""


class Sampling(Values, frozen=True, kw_only=True):
    """Some examples per point instead of all: the relative 95 % error bar asked for, and how it is seen to hold.

    Attributes:
        error: the largest 95 % error bar of a mean loss, relative to what `of` names: 0.02 for 2 %. 0 asks for all
            examples
        of: `loss`, f itself, or `rise`, f - f(0, 0): how far a point lies above theta*
        floor: with `of: rise` the narrowest bar that is asked for, as a share of f(0, 0); default 0.001
        seed: decides which examples are taken first
        audit: points evaluated on all examples in the end, to see whether the bars hold; 0 for none
    """

    error: Annotated[float, Meta(ge=0, lt=1)]
    of: Literal["loss", "rise"] = "loss"
    floor: Annotated[float, Meta(ge=0, lt=1)] | None = None
    seed: Seed = 0
    audit: Annotated[int, Meta(ge=0)] = 32

    @property
    def measure(self) -> str:
        """What bars are relative to, to be put after them: nothing where it is the loss itself."""
        return " of the rise above f(0, 0)" if self.of == "rise" else ""

    @property
    def narrowest(self) -> float | None:
        """The narrowest bar of a rise that is asked for, as a share of f(0, 0); None where bars are of the loss."""
        return None if self.of == "loss" else FLOOR if self.floor is None else self.floor


class Output(Values, frozen=True, kw_only=True):
    """Where the surface goes.

    Attributes:
        file: the surface file. It is created whole; run the same command again and a sweep goes on where it stopped
        directions: whether the file holds the directions; `auto` leaves those of a random plane out where they would
            take more than 64 MB: they are drawn again from what the file records
    """

    file: Annotated[str, Meta(min_length=1)]
    directions: Literal["auto"] | bool = "auto"


class TrainJob(Values, frozen=True, kw_only=True):
    """What `train` needs; the sections of a sweep may be there and are checked as well.

    Attributes:
        model: the network
        data: the data set
        train: how theta* is trained, for the `train` command
        loss: `cross_entropy` (nats), `mse`, `next_token` (nats, of language models), or `package.module:callable`
        loss_options: keyword arguments of that callable; of `cross_entropy` and `next_token` only `ignore_index`, the
            target of places that do not count
        plane: where the directions come from
        grid: which points
        metrics: what is computed at a point; `loss` is always among it
        hessian: which Hessian, and how exactly, where anything asks for it
        evaluate: how a point is evaluated
        sampling: some examples per point instead of all
        output: where the surface goes
    """

    model: Model
    data: Data
    train: Train
    loss: str = "cross_entropy"
    loss_options: dict[str, Any] = field(default_factory=dict)
    plane: Plane | None = None
    grid: Grid | Auto | None = None
    metrics: tuple[str, ...] = USUAL
    hessian: Hessian = field(default_factory=Hessian)
    evaluate: Evaluate = field(default_factory=Evaluate)
    sampling: Sampling | None = None
    output: Output | None = None

    @property
    def planned_grid(self) -> Grid | None:
        """As that of `SweepJob`."""
        return planned(self.grid)


class SweepJob(Values, frozen=True, kw_only=True):
    """What `sweep` and `check` need; a `train` section may be there and is checked as well.

    `grid` may be None where `plane.kind` is `pca`: the trajectory chooses one, once its checkpoints have been read.
    Axes may be `auto`: how far they go is found by the loss.
    """

    model: TrainedModel
    data: Data
    plane: Plane
    output: Output
    grid: Grid | Auto | None = None
    loss: str = "cross_entropy"
    loss_options: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = USUAL
    hessian: Hessian = field(default_factory=Hessian)
    evaluate: Evaluate = field(default_factory=Evaluate)
    sampling: Sampling | None = None
    train: Train | None = None

    @property
    def planned_grid(self) -> Grid | None:
        """The grid as the job has it, of which axes may be `auto`; None where the trajectory is to choose one."""
        return planned(self.grid)

    @property
    def chosen_grid(self) -> Grid:
        """The grid of the job, or the one that has been chosen for it and put in its place by `JobFile.with_grid`."""
        grid = self.planned_grid
        if grid is None or grid.is_open:
            raise RuntimeError("the grid is looked at before it has been chosen")
        return grid

    @property
    def axes(self) -> int:
        """The number of directions: of a grid that the trajectory is to choose there are 2."""
        return 2 if self.planned_grid is None else len(self.planned_grid.ranges)

    @property
    def within(self) -> dict[str, int]:
        """How many numbers a point has along each axis of its own that a result has."""
        results = (result for metric in asked(self.metrics) for result in metric.results)
        return {axis: getattr(self.hessian, axis) for result in results for axis in result.axes}

    @property
    def curvature(self) -> tuple[str, ...]:
        """The metrics of the Hessian that are asked for at every point, by their keys."""
        return tuple(metric.key for metric in asked(self.metrics) if metric.needs == "gradients")

    @property
    def curved(self) -> bool:
        """Whether anything asks for the Hessian: a metric at every point, or the plane."""
        return bool(self.curvature) or isinstance(self.plane, HessianPlane)


AnyJob = TypeVar("AnyJob", SweepJob, TrainJob)


class JobFile(Struct, Generic[AnyJob], frozen=True):
    """A job file, with what the command line has set in place of its own.

    Attributes:
        path: absolute: the user's code may change the working directory
        text: the YAML that holds these values; that of the file, where nothing was set
        values: its checked values
        settings: `KEY=VALUE` of the command line, in their order
    """

    path: Path
    text: str
    values: AnyJob
    settings: tuple[str, ...] = ()

    def with_grid(self: "JobFile[SweepJob]", grid: Grid) -> "JobFile[SweepJob]":
        """Return the job with a grid that has been chosen for it; the text stays."""
        return structs.replace(self, values=structs.replace(self.values, grid=grid))

    def resolve(self, name: str) -> Path:
        """Return a path of the job, absolute; relative ones start at the job file's folder.

        Raises:
            UserError: no such path can be.
        """
        return absolute(name, self.path.parent)

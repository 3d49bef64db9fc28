"""Trains the networks of jobs, each whole on one rank, into folders of checkpoints; goes on where it was stopped."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape_mpi.assemble import build_model, keep_memory, normalisation, open_split, use_device
from landscape_mpi.data import Split
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import Names, build_loss, prepared
from landscape_mpi.files.paths import check_folder
from landscape_mpi.job import JobFile, TrainJob, load_job
from landscape_mpi.log import Line, log, note, report, say, show_progress
from landscape_mpi.mpi.launcher import choose_device
from landscape_mpi.mpi.shutdown import NEVER, Interrupted, Stop, job_end, stop_time
from landscape_mpi.mpi.world import World, failure_text, on_root
from landscape_mpi.networks import load_checkpoint
from landscape_mpi.plugin import is_plugin
from landscape_mpi.surface import lock_surface
from landscape_mpi.surface.training import EDGES, EpochRecord, read_history, write_history
from landscape_mpi.train.checkpoints import (
    AFRESH,
    HISTORY,
    RESUME,
    RunState,
    begin,
    capture,
    checkpoint_path,
    clear,
    find_run_state,
    prepare_folder,
    restore,
    save_checkpoint,
    write_run_state,
)
from landscape_mpi.train.learner import Learner, Means, learning_rate

WORST = (Exit.RUN_AGAIN, Exit.INTERNAL, Exit.USER, Exit.COMPLETE)
"""Exit codes, the worst first: all jobs together end with the first of them that any job ended with."""
GO_ON = "all complete epochs are kept: run the same command again to go on."
Keep = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], None]
"""Weights and the state of the learner -> the files of an epoch."""
TRAINING = ("is training into it", "wait for its end, or name another train.output")


@dataclass(frozen=True)
class Lesson:
    """A job to be trained: the learner with initial weights, the fingerprints of its splits, and notes on the data."""

    job: JobFile[TrainJob]
    learner: Learner
    data: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def run_state(self, folder: Path) -> RunState:
        """Return the state of the run in a folder, once it is seen to be of this job; nothing is written."""
        return find_run_state(folder, self.job, self.data)


def train_job(
    job: JobFile[TrainJob], device: str, report: Callable[[str], None], *, stop: Stop = NEVER, overwrite: bool = False
) -> Path:
    """Train the network of a job and return the path of the last checkpoint.

    Args:
        job: What to train.
        device: `cpu` or `cuda:K`.
        report: Gets a line per epoch.
        stop: Checked before every batch.
        overwrite: Whether an earlier run in the folder is removed first.

    Raises:
        UserError: a mistake in the job, its data or its output folder.
        Interrupted: there was a reason to stop.
    """
    folder = job.resolve(job.values.train.output)
    check_folder(folder, "train.output")
    lesson = prepare(job, device, stop)
    for text in lesson.notes:
        report(f"note: {text}")
    train_into(folder, lesson, report, overwrite=overwrite)
    return checkpoint_path(folder, job.values.train.epochs)


def prepare(job: JobFile[TrainJob], device: str, stop: Stop = NEVER) -> Lesson:
    """Build the network at its initial weights and load the data; writes nothing.

    Raises:
        UserError: a mistake in the job or its data.
    """
    values = job.values
    if "train" not in values.data.splits:
        raise UserError("data.splits", f"found {list(values.data.splits)}", remedy="training needs the train split")
    keep_memory()
    network = initialise(lambda: build_model(job), values.train.seed).to(use_device(device))
    loss = build_loss(values.loss, job.path.parent, values.loss_options)
    splits: dict[str, Split] = {name: prepared(open_split(job, name), loss) for name in values.data.splits}
    names = Names(values.model.build, values.loss)
    learner = Learner(network, splits, normalisation(values.data), loss, values.train, stop.check, names)
    learner.rehearse()
    notes = tuple(note for split in splits.values() for note in split.notes)
    return Lesson(job, learner, {name: split.fingerprint() for name, split in splits.items()}, notes)


def initialise(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return the network that `build` makes from the seed; the caller's random numbers are not disturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def train_into(
    folder: Path, lesson: Lesson, report: Callable[[str], None], *, overwrite: bool = False
) -> list[EpochRecord]:
    """Train in a folder, and go on where an earlier run of the same job was stopped; one process per folder.

    Returns:
        A record for each checkpoint; none where there was nothing to do.

    Raises:
        UserError: the folder holds another run, is used by another process or cannot be written.
        Interrupted: there was a reason to stop.
    """
    new = RunState(lesson.job.text, lesson.data)
    start = new if overwrite else lesson.run_state(folder)  # another run is refused before a lock is put beside it
    with ExitStack() as held:

        def lock() -> None:
            prepare_folder(folder)
            held.enter_context(lock_surface(folder / RESUME, busy=TRAINING))

        def begin_anew() -> None:
            lock()
            if not overwrite and lesson.run_state(folder).epoch >= 0:
                raise UserError(
                    "train.output", f"another process has trained into {folder} meanwhile", remedy="run again to go on"
                )
            if not overwrite and (folder / RESUME).exists():
                report(f"{folder}: a run that had not finished its first epoch is replaced.")
            begin(folder, new)

        if start.epoch >= 0:
            lock()
            start = lesson.run_state(folder)
            epochs = lesson.learner.settings.epochs
            if start.epoch >= epochs:
                report(f"{folder}: all {epochs} epochs are there; nothing to do.")
                return []
            report(f"{folder}: goes on after epoch {start.epoch}.")
        return train(lesson.learner, folder, start, report, begin_anew)


def train(
    learner: Learner, folder: Path, start: RunState, report: Callable[[str], None], begin: Callable[[], None]
) -> list[EpochRecord]:
    """Train a network in place; write checkpoints from `epoch-0000.safetensors` on, `history.h5` and the run's state.

    Nothing is written before the first step has been taken. Files written before the first epoch is complete are
    removed where that epoch fails.

    With the same number of threads on the same kind of device, the same seed gives the same bits, whether it is done at
    once or goes on from where it was stopped.

    Args:
        learner: The network, initialised, with what it learns from.
        folder: The folder to write to.
        start: Where the run in it stands.
        report: Gets one line per epoch.
        begin: Prepares the folder for a new run; not called where a run goes on.

    Returns:
        A record for each checkpoint.

    Raises:
        UserError: A file cannot be read or written, the loss is not one per example, or the training diverges.
        Interrupted: There is a reason to stop; what is complete is kept.
    """

    def keep(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        epoch = records[-1].epoch
        path = save_checkpoint(weights, folder, epoch)
        write_history(folder / HISTORY, records)
        write_run_state(folder, start.after(epoch, path, state))  # last: now the epoch counts
        report(_line(records[-1], learner.settings.epochs))

    with (
        torch.random.fork_rng(devices=[learner.device] if learner.device.type == "cuda" else []),
        torch.backends.cudnn.flags(benchmark=False, deterministic=True),  # the same algorithms each time
    ):
        torch.manual_seed(learner.settings.seed)  # of what a network draws while it learns, such as dropout
        records = _go_on(learner, folder, start) if start.epoch >= 0 else [_run_epoch(learner, 0)]
        begun = _Beginning(learner, folder, begin, keep) if start.epoch < 0 else None
        if begun and learner.settings.epochs == 0:
            begun()
        for epoch in range(len(records), learner.settings.epochs + 1):
            with begun if begun and epoch == 1 else nullcontext(lambda: None) as first_step:
                record = _run_epoch(learner, epoch, first_step)
            records.append(record)
            keep(learner.network.state_dict(), capture(learner))
    return records


class _Beginning:
    """Writes the first files of a new run, with the initial weights, once its first step has been taken.

    As a context manager it removes them where the first epoch fails, so that a corrected job finds an empty folder.
    """

    def __init__(self, learner: Learner, folder: Path, begin: Callable[[], None], keep: Keep) -> None:
        self._folder, self._begin, self._keep = folder, begin, keep
        self._weights = {name: tensor.detach().clone() for name, tensor in learner.network.state_dict().items()}
        self._state = capture(learner)
        self._done = False

    def __call__(self) -> None:
        self._begin()
        self._done = True
        self._keep(self._weights, self._state)

    def __enter__(self) -> Callable[[], None]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._done and kind is not None and issubclass(kind, Exception):
            clear(self._folder)


def _go_on(learner: Learner, folder: Path, start: RunState) -> list[EpochRecord]:
    """Restore the learner's state, and return the records of the epochs so far."""
    records = read_history(folder / HISTORY)[: start.epoch + 1]
    if [record.epoch for record in records] != list(range(start.epoch + 1)):
        raise UserError(folder / HISTORY, f"expected a row for each of the epochs 0 to {start.epoch}", remedy=AFRESH)
    load_checkpoint(learner.network, checkpoint_path(folder, start.epoch))
    restore(learner, start.tensors)
    return records


def _run_epoch(learner: Learner, epoch: int, begun: Callable[[], None] = lambda: None) -> EpochRecord:
    """Learn one epoch, none for epoch 0, and evaluate the network; `begun` is called after the first step."""
    start = time.perf_counter()
    seen = learner.learn(epoch, begun) if epoch else Means()
    seconds = time.perf_counter() - start
    lr = learning_rate(learner.settings, epoch) if epoch else math.nan
    # evaluating the training split takes a third of an epoch: only where a run starts and ends
    ends = learner.evaluate("train") if epoch in (0, learner.settings.epochs) else Means()
    norm, histogram = weight_norm(learner.network), weight_histogram(learner.network).numpy()
    return EpochRecord(epoch, *seen, *learner.evaluate("test"), lr, seconds, *ends, norm, histogram)


def _line(record: EpochRecord, epochs: int) -> str:
    parts = [f"epoch {record.epoch}/{epochs}"]
    for name, loss, accuracy in (
        ("train", record.train_loss, record.train_acc),
        ("test", record.test_loss, record.test_acc),
    ):
        if not math.isnan(loss):
            parts.append(f"{name} loss {loss:.4f}" + ("" if math.isnan(accuracy) else f", {accuracy:.2f} %"))
    return "; ".join(parts) + (f" ({record.seconds:.1f} s, lr {record.lr:g})" if record.epoch else "")


def weights(network: nn.Module) -> list[Tensor]:
    """Return the parameters of more than one dimension: neither biases nor batch norm, as `ignore: biasbn` has it."""
    return [parameter.detach() for parameter in network.parameters() if parameter.ndim > 1]


def weight_norm(network: nn.Module) -> float:
    """Return the L2 norm of all weights together (the paper's Figure 2), summed in float64; 0 where there are none."""
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in weights(network)))


def weight_histogram(network: nn.Module) -> Tensor:
    """Return how many weights lie between each two of `EDGES`, int64 [len(EDGES) - 1]: a <= weight < b."""
    counts = torch.zeros(len(EDGES) - 1, dtype=torch.int64)
    for tensor in weights(network):
        inner = torch.tensor(EDGES[1:-1], dtype=tensor.dtype, device=tensor.device)
        which = torch.bucketize(tensor.flatten(), inner, right=True)
        counts += torch.bincount(which, minlength=len(counts)).cpu()
    return counts


@dataclass(frozen=True)
class Options:
    """The flags of a training; they are not part of a job, but `settings`, `KEY=VALUE`, change it."""

    device: str = "auto"
    overwrite: bool = False
    time_limit: float | None = None
    verbose: bool = False
    settings: tuple[str, ...] = ()


def train_jobs(paths: Sequence[Path], options: Options, world: World) -> Exit:
    """Train the networks of all job files; of n ranks, rank r takes the jobs r, r + n, ...; collective.

    If a job fails, the others are trained all the same.
    """
    began, end = time.time(), on_root(world, job_end, os.environ)
    stop = Stop(stop_time(options.time_limit, end, began))
    with stop.listening():
        try:
            jobs = on_root(world, _load, paths, options.settings)
        except UserError as error:
            log(world, ("error: ", error), logging.ERROR)
            world.barrier()
            return Exit.USER
        if world.size > len(jobs):
            note(world, f"{len(jobs)} jobs for {world.size} ranks: a job is trained by one rank, the rest wait.")
        codes = [_train_one(job, options, world, stop, len(jobs) > 1) for job in jobs[world.rank :: world.size]]
        everyone = [code for found in world.allgather(codes) for code in found]
    return next(code for code in WORST if code in everyone)


def _load(paths: Sequence[Path], settings: tuple[str, ...]) -> list[JobFile[TrainJob]]:
    """Read all job files, and check that no two of them are in each other's way.

    Two jobs may not write into one folder or have modules of one name beside them: a process imports the first only.
    """
    jobs = [load_job(path, TrainJob, settings) for path in paths]
    folders: dict[Path, Path] = {}
    places: dict[str, Path] = {}
    for job in jobs:
        folder, beside = job.resolve(job.values.train.output), job.path.parent.resolve()
        if (other := folders.setdefault(folder, job.path)) is not job.path:
            raise UserError(
                "train.output", f"{other} and {job.path} both write into {folder}", expected="a folder each"
            )
        for name in filter(is_plugin, (job.values.model.build, job.values.data.build, job.values.loss)):
            module = name.partition(":")[0].partition(".")[0]
            there = any((beside / f"{module}{suffix}").exists() for suffix in ("", ".py"))
            if there and places.setdefault(module, beside) != beside:
                where = f"the module {module} beside it differs from that in {places[module]}"
                found = f"{where}, and a process imports one of a name"
                raise UserError(job.path, found, remedy="train these jobs one command each")
    return jobs


def _train_one(job: JobFile[TrainJob], options: Options, world: World, stop: Stop, named: bool) -> Exit:
    """Train a job on this rank, print how that ended, and return the exit code.

    `named`: whether what is printed says which job it is about.
    """

    def line(text: str) -> Line:
        return Line(f"{job.path}: {text}" if named else text)

    def show(text: str) -> None:
        show_progress(line(text), world.rank)

    try:
        stop.check()
        device = choose_device(options.device, world.local_rank, torch.cuda.device_count())
        place = train_job(job, device, show, stop=stop, overwrite=options.overwrite)
    except Interrupted as reason:
        say(line(f"stopped by {reason}; {GO_ON}"), logging.INFO, world.rank)
        return Exit.RUN_AGAIN
    except UserError as error:
        say(line(error.told(options.verbose)), logging.ERROR, world.rank)
        return Exit.USER
    except BaseException:
        say(line(f"error: {failure_text(world)}"), logging.ERROR, world.rank)
        return Exit.INTERNAL
    report(str(place))
    return Exit.COMPLETE

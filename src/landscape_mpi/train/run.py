"""One training job: from its job file to a folder of checkpoints, or on from where it was stopped."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from landscape_mpi.assemble import build_model, keep_memory, normalisation, open_split, use_device
from landscape_mpi.data import Split
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Names, build_loss, prepared
from landscape_mpi.files.paths import check_folder
from landscape_mpi.job import JobFile, TrainJob
from landscape_mpi.mpi.shutdown import NEVER, Stop
from landscape_mpi.surface import lock_surface
from landscape_mpi.surface.history import EpochRecord
from landscape_mpi.train.checkpoints import checkpoint_path, prepare_folder
from landscape_mpi.train.learner import Learner
from landscape_mpi.train.loop import initialise, train
from landscape_mpi.train.standing import RESUME, Standing, begin, find_standing

TRAINING = "is training into it; wait for its end, or name another train.output."


@dataclass(frozen=True)
class Lesson:
    """A job to be trained: the learner at its initial weights, what identifies the run, and what to say of the data."""

    job: JobFile[TrainJob]
    learner: Learner
    data: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def standing(self, folder: Path) -> Standing:
        """Return where the run in a folder stands, and see that it is this one; touches nothing."""
        return find_standing(folder, self.job, self.data)


def train_job(
    job: JobFile[TrainJob], device: str, report: Callable[[str], None], *, stop: Stop = NEVER, overwrite: bool = False
) -> Path:
    """Train the network of a job and return the last checkpoint.

    Args:
        job: What to train.
        device: `cpu` or `cuda:K`.
        report: Gets a line an epoch.
        stop: Asked before every batch.
        overwrite: Whether an earlier run in the folder is removed first.

    Raises:
        UserError: a mistake in the job, its data or its output folder.
        Interrupted: there was a reason to stop.
    """
    folder = job.resolve(job.values.train.output)
    check_folder(folder, "train.output")
    lesson = prepare(job, device, stop)
    for note in lesson.notes:
        report(f"note: {note}")
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


def train_into(
    folder: Path, lesson: Lesson, report: Callable[[str], None], *, overwrite: bool = False
) -> list[EpochRecord]:
    """Train in a folder, on from where an earlier run of the same job was stopped; one process a folder.

    Returns:
        A record for each checkpoint; none where there was nothing to do.

    Raises:
        UserError: the folder holds another run, is used by another process or cannot be written.
        Interrupted: there was a reason to stop.
    """
    new = Standing(lesson.job.text, lesson.data)
    start = new if overwrite else lesson.standing(folder)  # another run is refused before a lock lies beside it
    with ExitStack() as held:

        def lock() -> None:
            prepare_folder(folder)
            held.enter_context(lock_surface(folder / RESUME, busy=TRAINING))

        def begin_anew() -> None:
            lock()
            if not overwrite and lesson.standing(folder).epoch >= 0:
                raise UserError(
                    "train.output", f"another process has trained into {folder} meanwhile", remedy="run again to go on"
                )
            if not overwrite and (folder / RESUME).exists():
                report(f"{folder}: a run that had not finished its first epoch is replaced.")
            begin(folder, new)

        if start.epoch >= 0:
            lock()
            start = lesson.standing(folder)
            epochs = lesson.learner.settings.epochs
            if start.epoch >= epochs:
                report(f"{folder}: all {epochs} epochs are there; nothing to do.")
                return []
            report(f"{folder}: goes on after epoch {start.epoch}.")
        return train(lesson.learner, folder, start, report, begin_anew)

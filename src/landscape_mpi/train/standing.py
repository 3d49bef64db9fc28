"""Where a training run stands, in one file beside its checkpoints: all that the next process needs to go on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.job import JobFile, TrainJob, read_job, training_difference
from landscape_mpi.networks import sha256
from landscape_mpi.surface.history import read_history
from landscape_mpi.train.checkpoints import HISTORY, checkpoint_path, checkpoints, write_tensors

RESUME = "resume.safetensors"
AFRESH = ("name another folder, or start afresh with ", Flag("overwrite"), ". Nothing was touched")


@dataclass(frozen=True)
class Standing:
    """A training run between two epochs.

    Attributes:
        job: The text of the job file that it was begun with.
        data: The fingerprint of each split.
        epoch: The last one that is complete; -1 before the initial checkpoint.
        checkpoint: The SHA-256 of that epoch's checkpoint.
        tensors: What `state.capture` returned then.
    """

    job: str
    data: Mapping[str, str]
    epoch: int = -1
    checkpoint: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def after(self, epoch: int, checkpoint: Path, tensors: Mapping[str, Tensor]) -> "Standing":
        """Return where the run stands after another epoch."""
        return replace(self, epoch=epoch, checkpoint=sha256(checkpoint), tensors=tensors)


def write_standing(folder: Path, standing: Standing) -> None:
    """Replace the file; from here on the run goes on after `standing.epoch`.

    Raises:
        UserError: the file cannot be written.
    """
    data = {f"data.{name}": fingerprint for name, fingerprint in standing.data.items()}
    fixed = {"job": standing.job, "epoch": str(standing.epoch), "checkpoint": standing.checkpoint}
    write_tensors(folder / RESUME, standing.tensors, fixed | data)


def read_standing(folder: Path) -> Standing:
    """Return what the file says.

    Raises:
        UserError: it is damaged, or none of ours.
    """
    path = folder / RESUME
    try:
        with safe_open(path, "pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
        data = {name.removeprefix("data."): text for name, text in texts.items() if name.startswith("data.")}
        return Standing(texts["job"], data, int(texts["epoch"]), texts["checkpoint"], tensors)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise UserError(
            path,
            f"cannot be read as the state of a training ({type(error).__name__}: {error})",
            expected=("the file that `train` left; ", AFRESH),
        ) from None


def find_standing(folder: Path, job: JobFile[TrainJob], data: Mapping[str, str]) -> Standing:
    """Return where the run in a folder stands, that of a new one where there is none; touches nothing.

    Args:
        folder: Which need not exist.
        job: What is to be trained.
        data: The fingerprint of each split.

    Raises:
        UserError: the folder holds another run, or one that cannot be gone on with.
    """
    earlier = checkpoints(folder)
    if not (folder / RESUME).exists():
        if earlier:
            raise UserError(
                "train.output",
                f"{folder} already holds {len(earlier)} checkpoints, and no {RESUME} to go on from",
                remedy=("remove them, ", AFRESH),
            )
        return Standing(job.text, data)
    standing = read_standing(folder)
    if _can_be_replaced(folder, standing, job, data):
        return Standing(job.text, data)
    _check_same(folder, standing, job, data)
    return standing


def _can_be_replaced(folder: Path, standing: Standing, job: JobFile[TrainJob], data: Mapping[str, str]) -> bool:
    """Whether a folder holds another run that has learned nothing yet, such as one with a mistake in its job."""
    begun = read_job(standing.job, folder / RESUME, TrainJob).values
    other = training_difference(begun, job.values) or _other_data(standing.data, data)
    learned = standing.epoch > 0 or begun.train.epochs == 0
    return bool(other) and not learned and set(checkpoints(folder)) <= {checkpoint_path(folder, 0)}


def _check_same(folder: Path, standing: Standing, job: JobFile[TrainJob], data: Mapping[str, str]) -> None:
    begun = read_job(standing.job, folder / RESUME, TrainJob).values
    reason = training_difference(begun, job.values) or _other_data(standing.data, data)
    if reason:
        raise UserError("train.output", f"{folder} holds another run: {reason}", remedy=AFRESH)
    path = checkpoint_path(folder, standing.epoch)
    if standing.epoch >= 0 and not (path.is_file() and sha256(path) == standing.checkpoint):
        found = f"{path} is not there as the run left it, and it goes on from there"
        raise UserError("train.output", found, remedy=AFRESH)


def _other_data(old: Mapping[str, str], new: Mapping[str, str]) -> str | None:
    for name in new:
        if old.get(name) != new[name]:
            return f"data: the {name} split has other inputs or targets"
    return None


def begin(folder: Path, standing: Standing) -> None:
    """Make a folder that of a new run; what an earlier one left there is removed.

    Raises:
        UserError: the folder cannot be written, or a history in it is none of ours.
    """
    if (folder / HISTORY).exists():
        try:
            read_history(folder / HISTORY)
        except UserError as error:
            raise UserError(
                "train.output",
                f"{folder / HISTORY} would be replaced and is no history of ours ({error})",
                remedy="move it away, or name another folder. Nothing was touched",
            ) from None
    write_standing(folder, standing)  # first: killed from here on, the new run goes on
    for path in (*checkpoints(folder), folder / HISTORY):
        path.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove what a run wrote that has come to nothing."""
    for path in (*checkpoints(folder), folder / HISTORY, folder / RESUME):
        path.unlink(missing_ok=True)

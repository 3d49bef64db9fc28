"""Writes the checkpoints of a training run, and the state with which another process goes on."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.files.atomic import atomic_write, reason
from landscape_mpi.job import JobFile, TrainJob, read_job, training_difference
from landscape_mpi.networks import sha256
from landscape_mpi.surface.training import read_history
from landscape_mpi.train.learner import Learner

HISTORY = "history.h5"
OURS = re.compile(r"epoch-\d{4,}\.safetensors")
"""The names of the checkpoints of a run; `epoch-best.safetensors` is not one of them."""


def prepare_folder(folder: Path) -> None:
    """Make the folder where there is none.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            "train.output", f"{folder} cannot be made ({error.strerror})", expected="a folder to write in"
        ) from None


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of ours in a folder, the first epoch first."""
    return sorted(path for path in folder.glob("epoch-*.safetensors") if OURS.fullmatch(path.name))


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Return where the checkpoint of an epoch is."""
    return folder / f"epoch-{epoch:04d}.safetensors"


def save_checkpoint(state: Mapping[str, Tensor], folder: Path, epoch: int) -> Path:
    """Write parameters and running statistics of a network, and return the file's path.

    Raises:
        UserError: The file cannot be written.
    """
    path = checkpoint_path(folder, epoch)
    write_tensors(path, state)
    return path


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, key: str = "train.output"
) -> None:
    """Write tensors and texts as a safetensors file, which replaces an older one whole and survives a power cut.

    Raises:
        UserError: The file cannot be written; `key` is the job's key that says where.
    """
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    try:
        # save_file leaves a file that only its owner can read
        with atomic_write(path) as aside:
            aside.write_bytes(save(plain, None if metadata is None else dict(metadata)))
    except OSError as error:
        raise UserError(key, f"{path} cannot be written ({reason(error)})", expected="a folder with space") from error


RESUME = "resume.safetensors"
AFRESH = ("name another folder, or start afresh with ", Flag("overwrite"), ". Nothing was touched")


@dataclass(frozen=True)
class RunState:
    """A training run between two epochs.

    Attributes:
        job: The text of the job file that it was begun with.
        data: The fingerprint of each split.
        epoch: The last one that is complete; -1 before the initial checkpoint.
        checkpoint: The SHA-256 of that epoch's checkpoint.
        tensors: What `capture` returned then.
    """

    job: str
    data: Mapping[str, str]
    epoch: int = -1
    checkpoint: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def after(self, epoch: int, checkpoint: Path, tensors: Mapping[str, Tensor]) -> "RunState":
        """Return the state after another epoch."""
        return replace(self, epoch=epoch, checkpoint=sha256(checkpoint), tensors=tensors)


def write_run_state(folder: Path, run_state: RunState) -> None:
    """Replace the file; from here on the run goes on after `run_state.epoch`.

    Raises:
        UserError: the file cannot be written.
    """
    data = {f"data.{name}": fingerprint for name, fingerprint in run_state.data.items()}
    fixed = {"job": run_state.job, "epoch": str(run_state.epoch), "checkpoint": run_state.checkpoint}
    write_tensors(folder / RESUME, run_state.tensors, fixed | data)


def read_run_state(folder: Path) -> RunState:
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
        return RunState(texts["job"], data, int(texts["epoch"]), texts["checkpoint"], tensors)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise UserError(
            path,
            f"cannot be read as the state of a training ({type(error).__name__}: {error})",
            expected=("the file that `train` left; ", AFRESH),
        ) from None


def find_run_state(folder: Path, job: JobFile[TrainJob], data: Mapping[str, str]) -> RunState:
    """Return the state of the run in a folder, that of a new run where there is none; nothing is written.

    Args:
        folder: The folder, which need not exist.
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
        return RunState(job.text, data)
    run_state = read_run_state(folder)
    begun = read_job(run_state.job, folder / RESUME, TrainJob).values
    reason = training_difference(begun, job.values)
    other = next((name for name in data if run_state.data.get(name) != data[name]), None)
    if reason is None and other is not None:
        reason = f"data: the {other} split has other inputs or targets"
    learned = run_state.epoch > 0 or begun.train.epochs == 0
    if reason and not learned and set(earlier) <= {checkpoint_path(folder, 0)}:
        return RunState(job.text, data)  # nothing is lost, for example after a mistake in a job
    if reason:
        raise UserError("train.output", (f"{folder} holds another run: ", reason), remedy=AFRESH)
    path = checkpoint_path(folder, run_state.epoch)
    if run_state.epoch >= 0 and not (path.is_file() and sha256(path) == run_state.checkpoint):
        found = f"{path} is not there as the run left it, and it goes on from there"
        raise UserError("train.output", found, remedy=AFRESH)
    return run_state


def begin(folder: Path, run_state: RunState) -> None:
    """Write the state of a new run into a folder, and remove the files of an earlier one.

    Raises:
        UserError: the folder cannot be written, or a history in it is none of ours.
    """
    if (folder / HISTORY).exists():
        try:
            read_history(folder / HISTORY)
        except UserError as error:
            raise UserError(
                "train.output",
                f"{folder / HISTORY} would be replaced and is not a training history of landscape_mpi ({error})",
                remedy="move it away, or name another folder. Nothing was touched",
            ) from None
    write_run_state(folder, run_state)  # first: the new run can go on if it is killed after this
    for path in (*checkpoints(folder), folder / HISTORY):
        path.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove all files that a run wrote into its folder."""
    for path in (*checkpoints(folder), folder / HISTORY, folder / RESUME):
        path.unlink(missing_ok=True)


MOMENTS = {"sgd": {"momentum_buffer"}, "adam": {"step", "exp_avg", "exp_avg_sq"}}
"""What each optimiser keeps of a parameter."""


def capture(learner: Learner) -> dict[str, Tensor]:
    """Return the optimiser's moments and the states of all random generators, copies that stay as they are."""
    state = learner.optimizer.state_dict()["state"]
    moments = {
        f"optimizer.{number}.{key}": tensor.detach().clone()
        for number, kept in state.items()
        for key, tensor in kept.items()
        if tensor is not None  # an SGD without momentum has None there
    }
    # dropout draws from torch's own generators
    random = {"learner": learner.generator.get_state(), "cpu": torch.get_rng_state()}
    if learner.device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(learner.device)
    return moments | {f"random.{name}": found for name, found in random.items()}


def restore(learner: Learner, tensors: Mapping[str, Tensor]) -> None:
    """Put a learner, and torch's own generators, into the state that `capture` returned.

    Raises:
        UserError: the tensors are not of such a learner.
    """
    try:
        state: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for name in tensors:
            kind, number, *key = name.split(".")
            if kind == "optimizer":
                state[int(number)][".".join(key)] = tensors[name]
        parameters = list(learner.network.parameters())
        fitting = {number: _fitting(learner, parameters[number], kept) for number, kept in state.items()}
        learner.optimizer.load_state_dict({**learner.optimizer.state_dict(), "state": fitting})
        learner.generator.set_state(tensors["random.learner"])
        torch.set_rng_state(tensors["random.cpu"])
        if learner.device.type == "cuda" and "random.cuda" in tensors:  # a run may have been begun on a CPU
            torch.cuda.set_rng_state(tensors["random.cuda"], learner.device)
    except (LookupError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            "train.output",
            f"the state of the training does not fit this network and optimiser ({error})",
            remedy=("remove the folder's files, or start afresh with ", Flag("overwrite")),
        ) from None


def _fitting(learner: Learner, parameter: Tensor, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the moments of a parameter, laid out in memory as the parameter is.

    Vector instructions round some elements differently where the tensors of one update are not laid out alike.
    """
    if set(kept) != MOMENTS[learner.settings.optimizer]:
        raise ValueError(f"found {sorted(kept)} of {learner.settings.optimizer}")
    for key, tensor in kept.items():
        if tensor.shape != (() if key == "step" else parameter.shape):
            raise ValueError(f"found {key} of shape {list(tensor.shape)}")
    return {key: tensor if key == "step" else torch.empty_like(parameter).copy_(tensor) for key, tensor in kept.items()}

"""The `train` command: from a job file to a folder of checkpoints."""

from collections.abc import Callable
from pathlib import Path

import torch

from landscape_mpi.assemble import build_model, normalisation, open_split, use_device
from landscape_mpi.device import choose_device
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import build_loss
from landscape_mpi.job import TrainJob, load_job
from landscape_mpi.train.loop import initialise, train


def train_job(path: Path, device: str, *, overwrite: bool, report: Callable[[str], None]) -> Path:
    """Train the network of a job and return the last checkpoint; `report` gets a line an epoch.

    Raises:
        UserError: a mistake in the job, its data or its output folder.
    """
    job = load_job(path, TrainJob)
    values = job.values
    if "train" not in values.data.splits:
        raise UserError(f"data.splits: found {list(values.data.splits)}; training needs the train split.")
    chosen = use_device(choose_device(device, 0, torch.cuda.device_count()))
    network = initialise(lambda: build_model(job), values.train.seed)
    splits = {name: open_split(job, name) for name in values.data.splits}
    loss = build_loss(values.loss, path.parent)
    output = job.resolve(values.train.output)
    train(
        network,
        splits["train"],
        splits.get("test"),
        normalisation(values.data),
        loss,
        values.train,
        output,
        chosen,
        report,
        overwrite=overwrite,
    )
    return output / f"epoch-{values.train.epochs:04d}.safetensors"

"""A network, images and settings so small that training them takes a moment."""

from pathlib import Path

import msgspec
import torch
import yaml
from torch import nn
from torch.nn import functional

from landscape_mpi.data import Normalisation, Split
from landscape_mpi.job import Data, JobFile, Model, Train, TrainJob
from landscape_mpi.train import initialise
from landscape_mpi.train.learner import Learner
from landscape_mpi.train.run import Lesson, train_into

PLAIN = {"epochs": 2, "lr": 0.05, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "augment": False}


def settings(**changes):
    return msgspec.convert({"output": "unused", **PLAIN, "batch": 8, **changes}, Train)


def cross_entropy(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


def squares(outputs, targets):
    return (outputs - targets).square().sum(1)


def images(n=20, seed=0):
    """Random images whose class is the brightest of their three channels."""
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randint(256, (n, 3, 8, 8), generator=random, dtype=torch.uint8)
    return Split("train", inputs, inputs.float().mean((2, 3)).argmax(1))


def small_network():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(144, 3)
    )


def lesson(network=None, split=None, test=None, loss=cross_entropy, pause=lambda: None, **changes):
    """A network at its initial weights and all that it learns from, with a job that says what of it a file knows."""
    network = initialise(small_network, 0) if network is None else network
    split = images() if split is None else split
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3) if split.inputs.dtype == torch.uint8 else None
    splits = {one.name: one for one in (split, test) if one is not None}
    chosen = settings(**changes)
    learner = Learner(network, splits, normalisation, loss, chosen, pause)
    values = TrainJob(model=Model(build="here:network"), data=Data(build="here:data"), train=chosen)
    text = yaml.safe_dump(msgspec.to_builtins(values))
    job = JobFile(path=Path("job.yaml"), text=text, values=values)
    return Lesson(job, learner, {name: one.fingerprint() for name, one in splits.items()})


def run(folder, *args, overwrite=False, **changes):
    """Train, and return the network, the records and the lines."""
    taught, lines = lesson(*args, **changes), []
    records = train_into(folder, taught, lines.append, overwrite=overwrite)
    return taught.learner.network, records, lines


def bits(folder):
    """The checkpoints of a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("epoch-*.safetensors")}

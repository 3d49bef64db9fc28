"""A network, images and settings so small that training them takes a moment."""

import torch
from torch import nn
from torch.nn import functional

from landscape_mpi.data import Normalisation, Split
from landscape_mpi.job import Train
from landscape_mpi.train import initialise, train

CPU = torch.device("cpu")
PLAIN = {"epochs": 2, "lr": 0.05, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "augment": False}


def settings(**changes):
    return Train(output="unused", **(PLAIN | {"batch": 8} | changes))


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


def run(folder, network=None, split=None, test=None, loss=cross_entropy, overwrite=False, **changes):
    """Train, and return the network, the records and the lines."""
    network = initialise(small_network, 0) if network is None else network
    split = images() if split is None else split
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3) if split.inputs.dtype == torch.uint8 else None
    lines = []
    records = train(
        network, split, test, normalisation, loss, settings(**changes), folder, CPU, lines.append, overwrite=overwrite
    )
    return network, records, lines

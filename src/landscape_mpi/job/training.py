"""The section `train` of a job as a frozen struct with its defaults, the paper's; knows no file, no YAML, no torch."""

from typing import Annotated, Literal

from msgspec import Meta

from landscape_mpi.job.section import Positive, Seed, Values


class Train(Values, frozen=True, kw_only=True):
    """How theta* is trained; the defaults are the paper's.

    Attributes:
        output: the folder for `epoch-0000.safetensors` (before training), `epoch-0001.safetensors`, ... and
            `history.h5`
        epochs: 0 writes the network as it was made
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

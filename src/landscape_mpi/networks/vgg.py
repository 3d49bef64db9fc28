"""The paper's VGG-9 for CIFAR-10; knows no checkpoint and no data."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from landscape_mpi.networks.parts import check_counts, initialise

STAGES = ((1, 2), (2, 2), (4, 3))
"""Of each stage: its channels in units of the width, and its convolutions."""
SIDE = 4
"""Height and width of what the last pooling leaves of a 32 x 32 image."""


class VGG(nn.Module):
    """Three stages of 3x3 convolutions, each halved by maximum pooling, then two linear layers.

    Batch norm follows every convolution and the first linear layer, as in the authors' code, whose names of tensors
    these are.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        last = STAGES[-1][0] * width
        self.features = nn.Sequential(*_stages(width))
        self.fc = nn.Sequential(nn.Linear(last * SIDE * SIDE, last), nn.BatchNorm1d(last), nn.ReLU())
        self.classifier = nn.Linear(last, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images [n, 3, 32, 32] to logits [n, classes]."""
        logits: Tensor = self.classifier(self.fc(torch.flatten(self.features(x), 1)))
        return logits


def vgg9(width: int = 64, classes: int = 10) -> VGG:
    """Build VGG-9 (Li et al. 2018, section 4) with fresh weights.

    Args:
        width: channels of the first stage; the others have 2 and 4 times, the first linear layer 4 times as many.
        classes: number of logits.

    Raises:
        UserError: a number is not positive.
    """
    check_counts(width=width, classes=classes)
    return VGG(width, classes)


def _stages(width: int) -> Iterator[nn.Module]:
    channels_in = 3
    for multiple, convolutions in STAGES:
        for _ in range(convolutions):
            channels = multiple * width
            yield from (nn.Conv2d(channels_in, channels, 3, 1, 1), nn.BatchNorm2d(channels), nn.ReLU())
            channels_in = channels
        yield nn.MaxPool2d(2)

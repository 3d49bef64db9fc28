"""DenseNet-121 (Huang et al. 2017) as the paper has it for CIFAR-10; knows no checkpoint and no data."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.networks.parts import check_counts, initialise

BLOCKS = (6, 12, 24, 16)
"""Layers of each dense block: with two convolutions each, one in front, three transitions and a linear layer, 121."""
BOTTLENECK = 4
"""Channels between the two convolutions of a layer, in units of the growth."""


class DenseLayer(nn.Module):
    """A 1x1 and a 3x3 convolution, each after batch norm and ReLU; what comes out goes in front of what went in."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        between = BOTTLENECK * growth
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, between, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(between)
        self.conv2 = nn.Conv2d(between, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, channels, h, w] to [n, growth + channels, h, w]."""
        y = self.conv1(functional.relu(self.bn1(x)))
        y = self.conv2(functional.relu(self.bn2(y)))
        return torch.cat((y, x), 1)


class Transition(nn.Module):
    """Half the channels, half the height and half the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, channels, h, w] to [n, channels // 2, h // 2, w // 2]."""
        return functional.avg_pool2d(self.conv(functional.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """A convolution, four dense blocks with three transitions between them, and a linear layer.

    The names of the tensors are those of the authors' code.
    """

    def __init__(self, growth: int, classes: int) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1 = nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        for number, layers in enumerate(BLOCKS, 1):
            self.add_module(f"dense{number}", _block(channels, growth, layers))
            channels += layers * growth
            if number < len(BLOCKS):
                self.add_module(f"trans{number}", Transition(channels))
                channels //= 2
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images [n, 3, 32, 32] to logits [n, classes]."""
        x = self.conv1(x)
        for name, module in self.named_children():
            if name.startswith(("dense", "trans")):
                x = module(x)
        logits: Tensor = self.linear(torch.mean(functional.relu(self.bn(x)), dim=(2, 3)))
        return logits


def densenet121(growth: int = 32, classes: int = 10) -> DenseNet:
    """Build DenseNet-121 with fresh weights; `growth` is the channels that each layer adds.

    Raises:
        UserError: a number is not positive.
    """
    check_counts(growth=growth, classes=classes)
    return DenseNet(growth, classes)


def _block(channels: int, growth: int, layers: int) -> nn.Sequential:
    return nn.Sequential(*(DenseLayer(channels + number * growth, growth) for number in range(layers)))

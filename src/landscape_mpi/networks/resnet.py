"""The CIFAR-10 ResNets of He et al. (2016), also wide, with and without shortcuts; knows no checkpoint, no data."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.errors import UserError
from landscape_mpi.networks.parts import check_counts, initialise

Shortcut = Literal["projection", "pad", "none"]
SHORTCUTS: tuple[Shortcut, ...] = ("projection", "pad", "none")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and what goes around them.

    The shortcut is `projection` (1x1 convolution + batch norm where the shape changes, option B), `pad` (every
    second pixel, channels padded with zeros, option A) or `none` (the paper's -NS networks).
    """

    def __init__(self, channels_in: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.kind = shortcut
        self.stride = stride
        self.padding = channels - channels_in
        if shortcut == "projection" and (stride > 1 or channels != channels_in):
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, channels_in, h, w] to [n, channels, h / stride, w / stride]."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.kind != "none":
            y = y + self.around(x)
        return functional.relu(y)

    def around(self, x: Tensor) -> Tensor:
        """Return what the shortcut adds: x itself, its projection, or x thinned out and padded."""
        if self.stride == 1 and self.padding == 0:
            return x
        if self.kind == "projection":
            projected: Tensor = self.shortcut(x)
            return projected
        before = self.padding // 2
        thinned = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(thinned, (0, 0, 0, 0, before, self.padding - before))


class ResNet(nn.Module):
    """Three stages of basic blocks with `width`, 2 `width` and 4 `width` channels, then a linear layer."""

    def __init__(self, blocks: int, shortcut: Shortcut, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.linear = nn.Linear(4 * width, classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images [n, 3, 32, 32] to logits [n, classes]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(torch.mean(x, dim=(2, 3)))
        return logits


def resnet(depth: int, shortcut: Shortcut = "projection", width: int = 16, classes: int = 10) -> ResNet:
    """Build the ResNet of `depth` = 6 n + 2 layers (He et al. 2016, section 4.2) with fresh weights.

    Raises:
        UserError: the shortcut is none of `projection`, `pad`, `none`, or a number is not positive.
    """
    if shortcut not in SHORTCUTS:
        raise UserError("model.options.shortcut", f"found {shortcut!r}", expected=f"one of {', '.join(SHORTCUTS)}")
    check_counts(width=width, classes=classes)
    return ResNet((depth - 2) // 6, shortcut, width, classes)


def wide_resnet(depth: int, k: int, shortcut: Shortcut = "projection", width: int = 16, classes: int = 10) -> ResNet:
    """Build the paper's WRN-`depth`-`k`: the ResNet with `k` times the channels in every layer, the first one too.

    `width` is the channels of the first stage where k is 1. In the network of Zagoruyko and Komodakis (2016) batch norm
    comes before each convolution; here, as in the authors' code, after it.

    Raises:
        UserError: as `resnet`.
    """
    check_counts(width=width)
    return resnet(depth, shortcut, k * width, classes)


def _stage(channels_in: int, channels: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)))

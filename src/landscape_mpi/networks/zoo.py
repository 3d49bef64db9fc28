"""Builds the network that a job names: one of the paper's, or what a user's own callable returns."""

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.errors import UserError
from landscape_mpi.networks.meta import build_empty
from landscape_mpi.plugin import check_options, is_plugin, load_plugin, own_code, with_options


def initialise(module: nn.Module) -> None:
    """Apply He initialisation (He et al. 2015) to one layer, as the paper's networks had it; for `Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)


def check_counts(**options: int) -> None:
    """Refuse options that are no whole number above 0.

    Raises:
        UserError: the first of them, by name.
    """
    for name, value in options.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"model.options.{name}", f"found {value!r}", expected="a whole number >= 1")


STAGES = ((1, 2), (2, 2), (4, 3))
"""For each stage: its channels in units of the width, and the number of its convolutions."""
SIDE = 4
"""Height and width after the last pooling, for images of 32 x 32."""


class VGG(nn.Module):
    """Three stages of 3x3 convolutions, each halved by maximum pooling, then two linear layers.

    Batch norm follows every convolution and the first linear layer, as in the authors' code. The names of the tensors
    are those of that code.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in = 3
        for multiple, convolutions in STAGES:
            for _ in range(convolutions):
                channels = multiple * width
                layers += [nn.Conv2d(channels_in, channels, 3, 1, 1), nn.BatchNorm2d(channels), nn.ReLU()]
                channels_in = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        last = STAGES[-1][0] * width
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
        width: channels of the first stage; the others have 2 and 4 times as many. The first linear layer has 4 times
            as many.
        classes: number of logits.

    Raises:
        UserError: a number is not positive.
    """
    check_counts(width=width, classes=classes)
    return VGG(width, classes)


Shortcut = Literal["projection", "pad", "none"]
SHORTCUTS: tuple[Shortcut, ...] = ("projection", "pad", "none")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them.

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
    comes before each convolution; here it comes after it, as in the authors' code.

    Raises:
        UserError: as `resnet`.
    """
    check_counts(width=width)
    return resnet(depth, shortcut, k * width, classes)


def _stage(channels_in: int, channels: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)))


BLOCKS = (6, 12, 24, 16)
"""Layers of each dense block, two convolutions each; one before them, three transitions and a linear layer make 121."""
BOTTLENECK = 4
"""Channels between the two convolutions of a layer, in units of the growth."""


class DenseLayer(nn.Module):
    """A 1x1 and a 3x3 convolution, each after batch norm and ReLU; their output is put in front of the input."""

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
    """Halves the channels, the height and the width."""

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
            block = (DenseLayer(channels + layer * growth, growth) for layer in range(layers))
            self.add_module(f"dense{number}", nn.Sequential(*block))
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


ZOO: Mapping[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(resnet, depth) for depth in (20, 32, 44, 56, 110)},
    **{f"wrn56_{k}": partial(wide_resnet, 56, k) for k in (1, 2, 4, 8)},
    "vgg9": vgg9,
    "densenet121": densenet121,
}


def build_network(build: str, options: Mapping[str, Any], folder: Path, *, empty: bool = False) -> nn.Module:
    """Return the network that the job names, in the mode and with the weights that its callable gives it.

    Args:
        build: a name of the zoo, or `package.module:callable`.
        options: keyword arguments of that callable.
        folder: where the job file lies; modules are looked for there too.
        empty: whether its parameters are left on the meta device, without memory, for a checkpoint to come.

    Raises:
        UserError: the name is unknown, an option is refused, or the callable returns no `nn.Module`.
    """
    if is_plugin(build):
        builder = load_plugin("model.build", build, folder)
    elif build in ZOO:
        builder = ZOO[build]
    else:
        near = difflib.get_close_matches(build, ZOO, n=1)
        hint = f" (did you mean `{near[0]}`?)" if near else ""
        expected = f"{', '.join(ZOO)}, huggingface or `package.module:callable`"
        raise UserError("model.build", f"found {build!r}{hint}", expected)
    check_options("model.options", build, builder, options)
    with own_code("model.build", build, lambda: with_options(options)):
        network: object = build_empty(partial(builder, **options)) if empty else builder(**options)
    if not isinstance(network, nn.Module):
        raise UserError("model.build", f"{build!r} returned {type(network).__name__}", expected="a torch.nn.Module")
    return network

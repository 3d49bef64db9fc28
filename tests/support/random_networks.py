"""A seed -> a small network of pieces that people build of, its inputs, and how it was made; for trying engines on."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

CLASSES, IMAGES = 5, 20


@dataclass(frozen=True)
class Made:
    """A network in eval mode, inputs [n, ...], and the names of its pieces."""

    network: nn.Module
    inputs: Tensor
    pieces: tuple[str, ...]


class Step(nn.Module):
    """A forward pass given as a function of (self, x)."""

    def __init__(self, way: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.way = way
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


class Plain(nn.Module):
    """The pieces one after the other, then a classifier."""

    def __init__(self, steps: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.steps, self.head = nn.ModuleList(steps), head

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return self.head(x)


class Optional(Plain):
    """The same with arguments that nobody gives."""

    def forward(self, x: Tensor, labels: Tensor | None = None, *, scale: float = 1.0, **others: object) -> Tensor:
        x = super().forward(x) * scale
        return x if labels is None and not others else functional.cross_entropy(x, labels)


class Viewing(Plain):
    """The same, flattened by `view` before the classifier."""

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return self.head[1](x.view(x.size(0), -1))


class Norm(nn.BatchNorm2d):
    """A subclass that changes nothing."""


class Halved(nn.BatchNorm2d):
    """A subclass with a forward pass of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


class Circular(nn.Conv2d):
    """A subclass that pads by itself."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(functional.pad(x, (1, 1, 1, 1), "circular"), weight, bias)


def _conv(rng: random.Random, shape: tuple[int, ...], channels: int | None = None, same: bool = False) -> nn.Module:
    """A convolution of as many dimensions as the shape has, of any kind or one that keeps the size."""
    dims, cin = len(shape) - 1, shape[0]
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    cout = channels or rng.choice([1, 2, 4, 6, 8, 16])
    groups = rng.choice([g for g in (1, 1, 1, 2, cin) if cin % g == 0 and cout % g == 0])
    bias = rng.random() < 0.6
    if same or rng.random() < 0.4:
        mode = rng.choice(["zeros"] * 4 + ["reflect", "circular", "replicate"])
        size = rng.choice([1, 3, 3, 3])
        if min(shape[1:]) <= size // 2:
            mode = "zeros"
        padding = rng.choice(["same", size // 2]) if mode == "zeros" else size // 2
        return kind(cin, cout, size, padding=padding, groups=groups, bias=bias, padding_mode=mode)
    kernel = tuple(rng.choice([k for k in (1, 2, 3) if k <= extent]) for extent in shape[1:])
    dilation = tuple(
        rng.choice([d for d in (1, 1, 2) if d * (k - 1) < e]) for k, e in zip(kernel, shape[1:], strict=True)
    )
    stride = tuple(rng.choice([1, 1, 2]) for _ in kernel)
    padding = tuple(rng.choice([0, k // 2]) for k in kernel)
    return kind(cin, cout, kernel, stride, padding, dilation, groups, bias)


def convolution(rng, shape):
    return _conv(rng, shape)


def same_convolution(rng, shape):
    return _conv(rng, shape, rng.choice([4, 8, 16]), same=True)


def norm(rng, shape):
    kinds = {2: [nn.BatchNorm1d], 3: [nn.BatchNorm2d, nn.BatchNorm2d, Norm, Halved], 4: [nn.BatchNorm3d]}
    return rng.choice(kinds[len(shape)])(shape[0], affine=rng.random() < 0.8)


ACTIVATIONS = [
    lambda: nn.ReLU(),
    lambda: nn.ReLU(inplace=True),
    lambda: Step(lambda _, x: functional.relu(x)),
    lambda: Step(lambda _, x: functional.relu(x, inplace=True)),
    lambda: Step(lambda _, x: x.relu_()),
    lambda: Step(lambda _, x: torch.relu(x)),
    lambda: nn.LeakyReLU(0.1, inplace=True),
    lambda: nn.SiLU(),
    lambda: nn.GELU(),
    lambda: Step(lambda _, x: x.clamp_(min=0)),
    lambda: Step(lambda _, x: x.mul_(0.5)),
    lambda: nn.Hardswish(inplace=True),
]


def activation(rng, shape):
    return rng.choice(ACTIVATIONS)()


def block(rng, shape):
    c = rng.choice([4, 8, 16])
    parts = [_conv(rng, shape, c, same=True)]
    if rng.random() < 0.8:
        parts.append(norm(rng, (c, *shape[1:])))
    if rng.random() < 0.8:
        parts.append(activation(rng, shape))
    return nn.Sequential(*parts)


RESIDUALS = {
    "y + x": lambda s, x: s.a(x) + x,
    "x + y": lambda s, x: x + s.n(s.a(x)),
    "relu": lambda s, x: functional.relu(s.n(s.a(x)) + x),
    "y += x": lambda s, x: _iadd(s.n(s.a(x)), x).relu(),
    "x += y": lambda s, x: _iadd(x, s.a(x)) * 0.5,
    "add_": lambda s, x: x.add_(s.n(s.a(x))).relu_() + s.b(x),
    "torch.add": lambda s, x: torch.add(s.a(x), s.b(x)),
    "relu between": lambda s, x: _sum(s.b(x), s.a(x.relu_())),
    "relu twice": lambda s, x: s.r(s.n(s.a(s.r(x))) + s.b(x)),
    "shortcut changed": lambda s, x: _changed(s, x),
    "sum kept": lambda s, x: _kept(s, x),
    "view written": lambda s, x: _written(s, x),
    "part written": lambda s, x: _part(s, x),
    "twice the same": lambda s, x: s.a(s.a(x).relu()) + x,
    "scaled": lambda s, x: torch.add(s.a(x), x, alpha=0.5),
    "broadcast": lambda s, x: s.n(s.a(x)) + x.flatten(2).mean(2).view(x.shape[0], x.shape[1], *[1] * (x.dim() - 2)),
    "mean of a batch norm": lambda s, x: s.n(x) + s.a(x) + 1.0,
    "copied": lambda s, x: x.copy_(s.a(x)).sigmoid() + x,
}


def _iadd(a, b):
    a += b
    return a


def _sum(a, b):
    return a + b


def _changed(s, x):
    y = s.a(x) + x
    x.mul_(2)
    return functional.relu(y) + x


def _kept(s, x):
    y = s.a(x)
    z = functional.relu_(y.add_(x))
    return z + s.b(x)


def _written(s, x):
    y = s.n(s.a(x))
    x.flatten(1).mul_(0.5)
    return functional.relu(y + x)


def _part(s, x):
    y = s.a(x)
    x[:, :1] = 0.25
    return y + s.b(x)


def residual(rng, shape):
    name = rng.choice(list(RESIDUALS))
    c = shape[0]
    step = Step(
        RESIDUALS[name],
        a=_conv(rng, shape, c, same=True),
        b=_conv(rng, shape, c, same=True),
        n=norm(rng, shape),
        r=nn.ReLU(inplace=True),
    )
    step.label = name
    return step


def concatenation(rng, shape):
    return Step(lambda s, x: torch.cat([s.a(x), x, s.a(x).relu_()], 1), a=_conv(rng, shape, 2, same=True))


def halves(rng, shape):
    if shape[0] % 2:
        return activation(rng, shape)
    return Step(
        lambda s, x: s.a(x).chunk(2, 1)[0].relu_() + x.split(x.shape[1] // 2, 1)[1],
        a=_conv(rng, shape, shape[0], same=True),
    )


def pooling(rng, shape):
    dims = len(shape) - 1
    if min(shape[1:]) < 2:
        return activation(rng, shape)
    kinds = {
        1: [lambda: nn.MaxPool1d(2), lambda: nn.AvgPool1d(2), lambda: nn.AdaptiveMaxPool1d(2)],
        2: [lambda: nn.MaxPool2d(2), lambda: nn.AvgPool2d(2), lambda: nn.AdaptiveAvgPool2d(2)],
        3: [lambda: nn.MaxPool3d(2), lambda: nn.AvgPool3d(2), lambda: nn.AdaptiveAvgPool3d(2)],
    }
    return rng.choice(kinds[dims])()


def layer_norm(rng, shape):
    return Step(lambda s, x: s.n(x.movedim(1, -1)).movedim(-1, 1), n=nn.LayerNorm(shape[0]))


def attention(rng, shape):
    def way(s, x):
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = s.qkv(tokens).chunk(3, -1)
        mixed = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        return mixed.transpose(1, 2).reshape(x.shape) + x

    return Step(way, qkv=nn.Linear(shape[0], 3 * shape[0]))


def viewed_back(rng, shape):
    """Through the layout of a vector and back, as code does that takes tensors for contiguous."""
    ways = [
        lambda _, x: x.contiguous().view(x.size(0), -1).view(x.shape),
        lambda s, x: s.a(x).view(x.size(0), -1).view(x.size(0), *x.shape[1:]),
        lambda _, x: x.reshape(x.shape[0], -1).reshape(x.shape),
        lambda s, x: s.a(x).transpose(1, 2).transpose(1, 2),
        lambda s, x: s.a(x).view(-1, *x.shape[2:]).view(x.shape).relu_(),
        lambda s, x: s.a(x).flip(-1),
    ]
    return Step(rng.choice(ways), a=_conv(rng, shape, shape[0], same=True))


def shuffled(rng, shape):
    if shape[0] % 2:
        return activation(rng, shape)

    def way(s, x):
        n, c, *rest = x.shape
        return s.a(x.view(n, 2, c // 2, *rest).transpose(1, 2).contiguous().view(n, c, *rest))

    return Step(way, a=_conv(rng, shape, shape[0], same=True))


def strides_read(rng, shape):
    def windows(s, x):
        x = s.a(x)
        size = 1
        strides = []
        for extent in reversed(x.shape):
            strides.append(size)
            size = size * extent
        return x.as_strided(tuple(x.shape), tuple(reversed(strides))).relu()

    def asked(s, x):
        x = s.a(x)
        return x * 2 if x.stride()[-1] == 1 else x.contiguous()

    return Step(rng.choice([windows, asked]), a=_conv(rng, shape, shape[0], same=True))


def branch(rng, shape):
    def on_shape(s, x):
        if x.shape[1] > 4 or x.dim() == 3:
            x = s.a(x)
        for _ in range(x.size(1) % 3):
            x = s.b(x)
        return x.relu() if len(x.shape) == 4 and x.shape[-1] % 2 else x

    def on_values(s, x):
        return s.a(x) if x.sum() > 0 else s.b(x)

    def on_number(s, x):
        return s.a(x) if x.shape[0] > 10 else s.b(x)

    ways = [on_shape] * 4 + [on_values, on_number]
    modules = {name: _conv(rng, shape, shape[0], same=True) for name in "ab"}
    way = rng.choice(ways)
    step = Step(way, **modules)
    step.label = way.__name__
    return step


def squeezed(rng, shape):
    dims = tuple(range(2, len(shape) + 1))
    return Step(
        lambda s, x: x * s.a(x.mean(dims, keepdim=True)).sigmoid(),
        a=_conv(rng, (shape[0], *[1] * len(dims)), shape[0], True),
    )


def _hooked(conv):
    conv.register_forward_hook(lambda _, __, y: y * 2)
    return conv


def _buffered(conv):
    weight = conv.weight.detach().clone()
    del conv.weight
    conv.register_buffer("weight", weight)
    return conv


ODD = {
    "hook": _hooked,
    "buffer": _buffered,
    "parametrized": parametrizations.weight_norm,
    "used twice": lambda conv: Step(lambda s, x: s.a(x) + s.a.weight.mean() * s.a(x.relu()), a=conv),
    "double": lambda conv: Step(lambda s, x: s.a(x).double().cumsum(1).to(x.dtype), a=conv),
    "parameters listed": lambda conv: Step(lambda s, x: s.a(x) * next(iter(s.a._parameters.values())).mean(), a=conv),
    "transposed": lambda conv: Step(lambda s, x: s.a(x).transpose(2, -1).relu_(), a=conv),
}
ODD_IN_TWO = {
    "own": lambda conv: Circular(conv.in_channels, conv.out_channels, 3),
    "by function": lambda conv: Step(lambda s, x: functional.conv2d(s.a(x), s.a.weight, padding=1), a=conv),
}


def odd_convolution(rng, shape):
    """A convolution that is not quite torch's own, or whose weights are not quite its parameters."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 2](shape[0], shape[0], 3, padding=1)
    kinds = ODD | (ODD_IN_TWO if len(shape) == 3 else {})
    name = rng.choice(list(kinds))
    step = nn.Sequential(kinds[name](conv), nn.ReLU())
    step.label = name
    return step


def through_another_dimension(rng, shape):
    if len(shape) == 2:
        return Step(lambda s, x: s.a(x.unsqueeze(2)).squeeze(2), a=nn.Conv2d(shape[0], 8, (1, 3), padding=(0, 1)))
    if len(shape) == 4:
        return Step(lambda _, x: x.flatten(1, 2)) if rng.random() < 0.5 else Step(lambda _, x: x.mean(2))
    return Step(
        lambda s, x: s.a(x.flatten(0, 1).unsqueeze(1)).view(x.shape[0], -1, *x.shape[2:]),
        a=nn.Conv2d(1, 2, 3, padding=1),
    )


PIECES = {
    convolution: 5,
    same_convolution: 4,
    block: 5,
    norm: 3,
    activation: 5,
    residual: 7,
    concatenation: 1,
    halves: 1,
    pooling: 2,
    layer_norm: 1,
    attention: 1,
    viewed_back: 2,
    shuffled: 1,
    strides_read: 0.6,
    branch: 2,
    squeezed: 1,
    odd_convolution: 3,
    through_another_dimension: 1,
}
MOST = 20_000
"""Values of an image between two pieces."""


def random_network(seed: int) -> Made:
    """Return the network of a seed; the same on every machine."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    dims = rng.choice([1, 2, 2, 2, 2, 2, 2, 3])
    shape = (rng.choice([1, 1, 2, 3, 4]), *[rng.randint(3, 5 if dims == 3 else 9) for _ in range(dims)])
    inputs = torch.randn(IMAGES, *shape)
    steps: list[nn.Module] = []
    names: list[str] = []
    x = inputs
    for _ in range(rng.randint(2, 7)):
        piece = rng.choices(list(PIECES), list(PIECES.values()))[0]
        step = piece(rng, tuple(x.shape[1:]))
        y = _through(step, x)
        if y is not None and 0 < y[0].numel() <= MOST:
            x = y
            steps.append(step)
            names.append(f"{piece.__name__} {getattr(step, 'label', '')}".strip())
    kind = rng.choice([Plain, Plain, Optional, Viewing])
    head = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), CLASSES))
    network = kind(steps, head).eval()
    if _through(network, inputs) is None:  # where `view` refuses its last tensor
        network = Plain(steps, head).eval()
    wild = _wild(rng, network, inputs)
    return Made(network, inputs, (f"{dims}d", type(network).__name__, *names, *wild))


def _through(step: nn.Module, x: Tensor) -> Tensor | None:
    """Return what a step gives, with statistics of its own; None where it takes no such tensor."""
    for module in step.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = None
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.3)
    try:
        with torch.no_grad():
            step.train()(x.clone())
            return step.eval()(x.clone()).contiguous()
    except (RuntimeError, ValueError):
        return None


def _wild(rng: random.Random, network: nn.Module, inputs: Tensor) -> list[str]:
    """Put numbers that are not finite, or become so, where people find them; return what was put."""
    kind = rng.choice(["tame"] * 7 + ["inputs", "large inputs", "weights", "large weights"])
    if kind == "inputs":
        for image in range(0, IMAGES, 3):
            inputs[image].view(-1)[rng.randrange(inputs[image].numel())] = rng.choice(
                [float("nan"), float("inf"), -float("inf")]
            )
    elif kind == "large inputs":
        inputs *= torch.logspace(0, 38, IMAGES).view(-1, *[1] * (inputs.dim() - 1))
    elif kind == "weights":
        parameter = rng.choice(list(network.parameters()))
        with torch.no_grad():
            parameter.view(-1)[rng.randrange(parameter.numel())] = rng.choice([float("nan"), float("inf")])
    elif kind == "large weights":
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(10.0 ** rng.choice([0, 6, 12]))
    return [] if kind == "tame" else [kind]

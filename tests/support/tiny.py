"""A user's own network, data and losses, small enough for a trial to take a second; put beside job files by `jobs`."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

CALLS = 0
THETA = None


def network(width=8, batchnorm=False):
    """A two-layer ReLU network on four inputs and three classes."""
    middle = [nn.BatchNorm1d(width)] if batchnorm else []
    return nn.Sequential(nn.Linear(4, width), *middle, nn.ReLU(), nn.Linear(width, 3))


def data(root, split, images=40):
    """Gaussian inputs, classes by the largest of three sums."""
    generator = torch.Generator().manual_seed({"train": 1, "test": 2}[split])
    inputs = torch.randn(images, 4, generator=generator)
    return inputs, inputs[:, :3].cumsum(1).argmax(1)


def dated(root, split, since):
    """Data with an option that is no number, text or list."""
    return data(root, split, 1000)


def uneven(root, split):
    """More training than test images."""
    return data(root, split, {"train": 4000, "test": 300}[split])


def regression(root, split, images=40):
    """The same inputs with float targets."""
    inputs, classes = data(root, split, images)
    return inputs, torch.nn.functional.one_hot(classes, 3).float()


def linear():
    """A linear map of four inputs to three outputs: its squared error is a quadratic in the parameters."""
    return nn.Linear(4, 3, bias=False)


def rank():
    """The MPI rank as the launcher says it, without importing MPI."""
    return int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))


def cross_entropy(outputs, targets):
    """Cross entropy that sleeps TINY_SLEEP seconds, or TINY_OTHERS on other ranks than TINY_RANK.

    After enough calls it sleeps TINY_LATER seconds. Whoever stops or kills a sweep on its way need not be quick then.
    """
    if rank() != int(os.environ.get("TINY_RANK", rank())):
        time.sleep(float(os.environ.get("TINY_OTHERS", "0")))
    else:
        time.sleep(float(os.environ.get("TINY_LATER", "2") if enough() else os.environ.get("TINY_SLEEP", "0")))
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def enough():
    """Whether this is call TINY_CALLS (then TINY_TOLD is made) or later, or TINY_JOURNALS (BYTES:FOLDER) are full."""
    global CALLS
    CALLS += 1
    calls, (size, _, folder) = os.environ.get("TINY_CALLS"), os.environ.get("TINY_JOURNALS", "").partition(":")
    if calls and int(calls) == CALLS and "TINY_TOLD" in os.environ:
        Path(os.environ["TINY_TOLD"]).touch()
    written = sum(file.stat().st_size for file in Path(folder).glob("rank-*.journal")) if size else 0
    return bool(calls and int(calls) <= CALLS) or bool(size and written >= float(size))


def fails_later(outputs, targets):
    """Cross entropy that raises on rank TINY_RANK after a few points."""
    global CALLS
    CALLS += 1
    if CALLS > 30 and rank() == int(os.environ.get("TINY_RANK", "0")):
        raise ZeroDivisionError("the user's loss broke")
    time.sleep(0.02)
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def breaks(outputs, targets):
    """A loss that raises."""
    raise ZeroDivisionError("the user's loss broke")


class _Once(torch.autograd.Function):
    """The identity, with a first derivative alone."""

    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(_, gradient):
        return gradient


def once(outputs, targets):
    """Cross entropy that cannot be differentiated twice."""
    return nn.functional.cross_entropy(_Once.apply(outputs), targets, reduction="none")


def one_value(outputs, targets):
    """A loss that forgot reduction='none'."""
    return nn.functional.cross_entropy(outputs, targets)


def hungry(outputs, targets):
    """Cross entropy that finds no memory for more than TINY_ROOM examples."""
    if len(targets) > int(os.environ.get("TINY_ROOM", "20")):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


class Dropping(nn.Module):
    """A network that draws random numbers in eval mode too."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(nn.functional.dropout(x, 0.5, training=True))


def not_a_network():
    return 3


def narrow_bars(outputs, targets):
    """Cross entropy, and a wrong estimator: bars of a quarter of their width, as a bug would make them."""
    from landscape_mpi.metrics import base

    base.QUANTILE = 1.96 / 4
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def narrow_rises(outputs, targets):
    """The same wrong estimator for bars of the rise, in the rounds alone: the pilots' trial does not see it."""
    from landscape_mpi.sampling import rise, rounds

    rounds.rise_bars = lambda estimates, first: rise.rise_bars(estimates, first) / 4
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def square(outputs, targets):
    """A metric of the user's own: |outputs|^2 of each example."""
    return outputs.square().sum(1)


def several(outputs, targets):
    """Two metrics of the user's own: how sure the network is, and whether the class is among its best two."""
    best = outputs.topk(2).indices
    return {"sureness": outputs.softmax(1).amax(1), "top_two": (best == targets[:, None]).any(1)}


def fails_at_times(outputs, targets):
    """Cross entropy that raises at every point where outputs are large, and once on rank 0 before that."""
    global CALLS
    CALLS += 1
    if CALLS == 30 and rank() == 0 and os.environ.get("TINY_HICCUP"):
        raise ArithmeticError("a hiccup")
    if outputs.abs().max() > float(os.environ.get("TINY_LARGEST", "inf")):
        raise ZeroDivisionError("outputs are too large")
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


class Deadly(nn.Sequential):
    """The network, which kills its process where alpha is TINY_DEADLY on a line of filter-normalised directions."""

    def forward(self, x):
        global THETA
        weight = self[0].weight.detach()
        THETA = weight.clone() if THETA is None else THETA
        alpha = (weight - THETA).norm() / THETA.norm()
        if abs(alpha - float(os.environ.get("TINY_DEADLY", "-1"))) < 1e-3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def deadly():
    """A network that kills its process at one point."""
    return Deadly(*network())


def held(outputs, targets):
    """Cross entropy that waits, once journals of pilots hold TINY_HELD (BYTES:FOLDER), for a file `go` beside them.

    Whoever stops the sweep then has all the time that it takes.
    """
    size, _, folder = os.environ.get("TINY_HELD", "").partition(":")
    deadline = time.monotonic() + 100
    while size and not Path(folder).with_name("go").exists() and time.monotonic() < deadline:
        if sum(file.stat().st_size for file in Path(folder).glob("pilots.rank-*.journal")) < float(size):
            break
        time.sleep(0.02)
    return nn.functional.cross_entropy(outputs, targets, reduction="none")

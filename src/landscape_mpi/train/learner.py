"""Trains a network one epoch at a time, with the paper's augmentation, and evaluates it; opens no file."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.data import Normalisation, Split
from landscape_mpi.data.split import each, found, to
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate.evaluator import PASSED_ON, Names, Task, lay_out
from landscape_mpi.evaluate.first_batch import choose_layout, examples_that_fit, first_batch
from landscape_mpi.evaluate.losses import Loss
from landscape_mpi.job.schema import Train
from landscape_mpi.plugin import own_code


def augment(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Return each image shifted by up to `padding` pixels each way over black, and flipped left to right or not.

    This is a random crop of the padded image and a horizontal flip, as in the paper's training (appendix A).

    Args:
        images: [n, channels, height, width] of any dtype, before normalisation, where black is 0.
        generator: On the CPU, so that every device draws the same.
        padding: Width of the black border in pixels.

    Raises:
        UserError: The inputs are no images.
    """
    if images.ndim != 4:
        raise UserError(
            "train.augment",
            f"the inputs have shape {list(images.shape)}, expected images",
            remedy="write `augment: false`",
        )
    n, _, height, width = images.shape
    shift_y, shift_x = (torch.randint(2 * padding + 1, (n, 1), generator=generator) for _ in range(2))
    flip = torch.randint(2, (n, 1), generator=generator).bool()
    rows, columns = shift_y + torch.arange(height), shift_x + torch.arange(width)
    columns = torch.where(flip, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    which = torch.arange(n, device=images.device)
    padded = functional.pad(images, (padding,) * 4)
    return padded[which[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


EVALUATION_BATCH = 128
"""Examples at a time; fewer where their outputs would take more than 64 MB."""


class Means(NamedTuple):
    """Mean loss of the examples, and accuracy in percent; NaN where there is none."""

    loss: float = math.nan
    accuracy: float = math.nan


class Learner:
    """A network with its optimiser and the data, all on one device."""

    def __init__(
        self,
        network: nn.Module,
        splits: dict[str, Split],
        normalisation: Normalisation | None,
        loss: Loss,
        settings: Train,
        pause: Callable[[], None] = lambda: None,
        names: Names = Names(),  # noqa: B008 - frozen
    ) -> None:
        """Take a network that is on its device; `splits` has `train` and perhaps `test`.

        `pause` is called before every batch and may raise, to drop the epoch; `names` as in a `Task`.
        """
        like = next(network.parameters())
        self._layout, self._batch = torch.contiguous_format, EVALUATION_BATCH
        self.network = network
        self.settings = settings
        self.device = like.device
        # no inference mode: tensors that a network keeps of such a pass could not be used in training
        mode = "no_grad"
        self._task = Task(
            splits, normalisation, loss, like.dtype, like.device, pause=pause, names=names, gradients=mode
        )
        self._inputs, self._targets = (
            to(rows, like.device) for rows in (splits["train"].inputs, splits["train"].targets)
        )
        self._dtype = like.dtype
        self.optimizer = _optimizer(network, settings)
        self.generator = torch.Generator().manual_seed(settings.seed)

    def rehearse(self) -> None:
        """Evaluate a first batch, choose the gradient mode of the evaluation by it, and lay the weights out in memory.

        Raises:
            UserError: the network or the loss raises, or the targets do not fit.
        """
        self._task = first_batch(self._task, self.network.eval())
        self._batch = examples_that_fit(self._task, EVALUATION_BATCH)
        if _may_be_channels_last(self.network, self.device):
            self._layout = choose_layout(self.network, self._task)
        lay_out(self.network, self._layout)

    def learn(self, epoch: int, begun: Callable[[], None] = lambda: None) -> Means:
        """Pass over the training split once, and return the means over the examples as the network saw them.

        `begun` is called once the first step has been taken.

        Raises:
            UserError: The loss is not one per example, or not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, epoch)
        self.network.train()
        steps = []
        order = torch.randperm(len(self._task.splits["train"]), generator=self.generator)
        for which in torch.split(order, self.settings.batch):
            if len(which) == 1 and min(self.settings.batch, len(order)) > 1:
                continue  # batch norm cannot learn from a remainder of one
            steps.append(self._step(which.to(self._task.device)))
            if len(steps) == 1:
                begun()
        losses, hits = (torch.cat(parts).double() for parts in zip(*steps, strict=True))
        means = Means(losses.mean().item(), 100 * hits.mean().item())
        if not math.isfinite(means.loss):
            raise UserError(
                "train.lr",
                f"with {self.settings.lr} the loss became {means.loss} in epoch {epoch}",
                expected="finite losses, so take a smaller one",
            )
        return means

    def evaluate(self, split: str) -> Means:
        """Return the means over all examples of a split in eval mode; NaN if there is no such split."""
        if split not in self._task.splits:
            return Means()
        self.network.eval()
        everything = slice(0, len(self._task.splits[split]))
        found = self._task.evaluate(self.network, split, everything, self._batch)
        accuracy = found.others.get("acc")
        return Means(float(found.losses.mean()), math.nan if accuracy is None else 100 * float(accuracy.mean()))

    def _step(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step; return the loss [n] of each example before it, and 1 or 0 [n] for right or wrong."""
        self._task.pause()
        targets = each(self._targets, lambda tensor: tensor[which])
        inputs = each(self._inputs, lambda tensor: self._prepare(tensor[which]))
        outputs = self._task.outputs(self.network, inputs, "train")
        losses = self._task.losses(outputs, targets, "train")
        weights = self._task.weights["train"]
        losses = losses if weights is None else losses * weights[which].to(losses.dtype)
        self.optimizer.zero_grad()
        with own_code("train", "the backward pass", lambda: f", on inputs {found(inputs)}", but=PASSED_ON):
            torch.autograd.backward(losses.mean())
        self.optimizer.step()
        hits = self._task.others(outputs, targets).get("acc")
        if hits is not None and weights is not None and self._task.of_tokens:
            hits = hits * weights[which]
        return losses.detach(), torch.full_like(losses, math.nan) if hits is None else hits.float()

    def _prepare(self, inputs: Tensor) -> Tensor:
        if self.settings.augment:
            inputs = augment(inputs, self.generator).contiguous(memory_format=self._layout)
        if self._task.normalisation is not None:
            return self._task.normalisation.apply(inputs, self._dtype)
        return inputs.to(self._dtype) if inputs.is_floating_point() else inputs


def learning_rate(settings: Train, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 1: it drops after each epoch named in `drops`."""
    return settings.lr * settings.factor ** sum(drop < epoch for drop in settings.drops)


def _may_be_channels_last(network: nn.Module, device: torch.device) -> bool:
    """Whether a network may be trained with channels last in memory, which are faster to convolve.

    oneDNN (of PyTorch 2.13) then writes beyond its memory in the backward pass of 1x1 convolutions that have a stride
    and few input channels, 1 to 6 where it was seen; whole blocks of 8 are safe.
    """
    narrow = (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.weight.shape[1] % 8 > 0
        for layer in network.modules()
    )
    return device.type != "cpu" or not any(narrow)


def _optimizer(network: nn.Module, settings: Train) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), settings.lr, weight_decay=settings.weight_decay)
    if settings.nesterov and settings.momentum == 0:
        raise UserError(
            "train.nesterov", "found true with momentum 0", remedy="set momentum above 0 or nesterov to false"
        )
    return torch.optim.SGD(
        network.parameters(),
        settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )

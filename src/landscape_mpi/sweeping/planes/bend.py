"""Trains the bend of a curve between two networks, step by step, and keeps how far it has come beside the surface.

At each step t is drawn from [0, 1], and the bend takes a step against the gradient of the loss at phi(t): T. Garipov et
al. (NeurIPS 2018, arXiv:1802.10026), algorithm 1. One rank does it.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape_mpi.assemble import without_tf32
from landscape_mpi.errors import UserError
from landscape_mpi.job import CURVES, CurvePlane
from landscape_mpi.mpi.shutdown import Interrupted
from landscape_mpi.networks.state import cast, duplicate, own_dtype
from landscape_mpi.plane import Parameters
from landscape_mpi.plugin import reason
from landscape_mpi.sampling.order import uniforms
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.train.checkpoints import write_tensors

KEPT = ".bend.safetensors"
EVERY = 20.0
"""Seconds between two writes of the training to its file: a kill costs no more work than that."""
LOSSES = 100
"""The loss that is told is the mean over this many steps at the end."""
SHIFT, VELOCITY = "shift.", "velocity."


@dataclass
class Bend:
    """A bend that is being trained, on the way from the middle of the straight line.

    Attributes:
        shift: from the middle to the bend, by parameter.
        velocity: what momentum adds up.
        step: how many steps have been taken.
        losses: those of the last steps.
    """

    shift: dict[str, Tensor]
    velocity: dict[str, Tensor]
    step: int
    losses: list[float]

    @property
    def loss(self) -> float:
        """The mean over the last steps of the loss of a batch somewhere along the curve; NaN before the first."""
        return math.fsum(self.losses) / len(self.losses) if self.losses else math.nan


def keep_path(output: Path) -> Path:
    """Return where a training is kept beside the surface file.

    >>> keep_path(Path("curve.h5")).name
    'curve.h5.bend.safetensors'
    """
    return output.with_name(output.name + KEPT)


def learning_rate(section: CurvePlane, step: int) -> float:
    """Return the learning rate of a step: `lr` for half of the steps, then linearly down to a hundredth of it.

    The hundredth is reached after nine tenths of the steps, as in the code of Garipov et al.
    """
    share = step / section.steps
    return section.lr * min(1.0, max(0.01, 1 - 0.99 * (share - 0.5) / 0.4))


@dataclass(frozen=True)
class Keep:
    """Keeps a training in a file, so that another process goes on from it, or several take what one has done.

    Attributes:
        path: of the file.
        digest: of all that the numbers of the training depend on.
        note: gets what a user should know of a file that cannot be used.
    """

    path: Path
    digest: str
    note: Callable[[str], None]

    def latest(self, bend: Bend) -> Bend:
        """Return what the file holds of the same training, where that has come further than a bend; else the bend."""
        if not self.path.exists():
            return bend
        try:
            with safe_open(self.path, "pt") as file:
                texts = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if texts.get("digest") != self.digest:
                self.note(f"{self.path}: it is of another curve, and is replaced.")
                return bend
            step = int(texts["step"])
            if step <= bend.step:
                return bend
            shift, velocity = (
                {name: torch.empty_like(tensor).copy_(found[kind + name]) for name, tensor in bend.shift.items()}
                for kind in (SHIFT, VELOCITY)
            )
            return Bend(shift, velocity, step, found["losses"].tolist())
        except (OSError, LookupError, ValueError, RuntimeError, SafetensorError) as error:
            self.note(f"{self.path}: it cannot be read as the training of a bend ({reason(error)}), and is replaced.")
            return bend

    def write(self, bend: Bend) -> None:
        """Replace the file.

        Raises:
            UserError: it cannot be written.
        """
        tensors = {SHIFT + name: tensor for name, tensor in bend.shift.items()}
        tensors |= {VELOCITY + name: tensor for name, tensor in bend.velocity.items()}
        tensors["losses"] = torch.tensor(bend.losses, dtype=torch.float64)
        write_tensors(self.path, tensors, {"digest": self.digest, "step": str(bend.step)}, "output.file")


def train_bend(trainer: "Trainer", keep: Keep, say: Callable[[str], None]) -> Bend:
    """Return the bend after all steps; goes on with what is kept of the same training.

    Args:
        trainer: takes the steps.
        keep: where it is kept.
        say: gets a line at the beginning and at the end.

    Raises:
        UserError: the loss is not finite or cannot be differentiated, or the file cannot be written.
        Interrupted: there is a reason to stop; what has been done is kept.
    """
    section, bend = trainer.section, keep.latest(trainer.start())
    if bend.step >= section.steps:
        return bend
    after = f", after step {bend.step:,}" if bend.step else ""
    say(f"plane: {section.steps:,} steps for the bend of a {section.curve} curve, by rank 0{after} ...")
    saved = time.monotonic()
    try:
        while bend.step < section.steps:
            trainer.take(bend)
            if time.monotonic() - saved > EVERY:
                bend = keep.latest(bend)  # of another shard, which may be ahead
                keep.write(bend)
                saved = time.monotonic()
    except Interrupted:
        keep.write(bend)
        raise
    keep.write(bend)
    say(f"plane: the loss along the curve was {bend.loss:.6g} in the last {len(bend.losses)} steps.")
    return bend


class Trainer:
    """Takes the steps of a training, each a function of the bend before it and of its number alone."""

    def __init__(self, section: CurvePlane, experiment: Experiment, delta: Parameters) -> None:
        """Take the network of an experiment, of which a copy is moved. Raises as `train_bend`."""
        theta, task = experiment.theta, experiment.task
        self.section, self._tf32 = section, experiment.precision.tf32
        dtype = torch.float64 if task.dtype == torch.float64 else torch.float32
        self._task = replace(task.exact, dtype=dtype, calibration=None, gradients="enabled")
        self._network = cast(duplicate(theta.module), task.device, dtype).eval()
        self._estimates = experiment.job.values.evaluate.batchnorm == "recompute"
        leaves = dict(self._network.named_parameters())
        if missing := [name for name in delta if name not in leaves]:
            raise UserError(
                "plane.kind",
                f"found curve, and the network has no `{missing[0]}` in eval mode, in which it is trained",
                remedy="name kind interpolate for the straight line",
            )
        self._leaves = {name: leaves[name].requires_grad_(name in delta) for name in leaves}
        self._theta = {name: self._like(theta.parameters[name]) for name in delta}
        self._delta = {name: self._like(tensor) for name, tensor in delta.items()}
        self._split = experiment.job.values.data.splits[0]
        count = len(self._task.splits[self._split])
        self._batch = min(section.batch, count)
        self._epoch, self._order = -1, np.arange(count)
        self._places = uniforms(section.seed, section.steps)

    def start(self) -> Bend:
        """Return the middle of the straight line, with zero velocity."""
        shift, velocity = ({name: torch.zeros_like(tensor) for name, tensor in self._delta.items()} for _ in range(2))
        return Bend(shift, velocity, 0, [])

    def take(self, bend: Bend) -> None:
        """Take a step: v <- momentum v + w(t) grad L(phi(t)), bend <- bend - lr v.

        Raises:
            UserError: the loss is not finite, or cannot be differentiated.
        """
        section, t = self.section, float(self._places[bend.step])
        weight = CURVES[section.curve](t)
        with torch.no_grad():
            for name, delta in self._delta.items():
                self._leaves[name].copy_(self._theta[name] + t * delta + weight * bend.shift[name])
        loss = self._loss(self._examples(bend.step))
        if not math.isfinite(loss):
            raise UserError(
                "plane.lr",
                f"with {section.lr:g} the loss became {loss} at step {bend.step + 1}",
                expected="finite losses, so take a smaller one",
            )
        rate = learning_rate(section, bend.step)
        with torch.no_grad():
            for name, shift in bend.shift.items():
                velocity, gradient = bend.velocity[name], self._leaves[name].grad
                velocity.mul_(section.momentum)
                if gradient is not None:
                    velocity.add_(gradient, alpha=weight)
                shift.sub_(velocity, alpha=rate)
        bend.step += 1
        bend.losses = [*bend.losses, loss][-LOSSES:]

    def _like(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the device of the training, in its dtype."""
        dtype = own_dtype(self._network)
        return tensor.to(self._task.device, dtype.to_complex() if tensor.is_complex() else dtype, copy=True)

    def _examples(self, step: int) -> NDArray[np.int64]:
        """Return the examples of a step: every epoch has an order of its own, and a remainder is left out."""
        epoch, place = divmod(step, len(self._order) // self._batch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.argsort(uniforms(self.section.seed, len(self._order), 1 + epoch), kind="stable")
        return self._order[place * self._batch : (place + 1) * self._batch]

    def _loss(self, examples: NDArray[np.int64]) -> float:
        """Return the mean loss of some examples; the network's parameters hold its gradient then."""
        self._task.pause()
        for leaf in self._leaves.values():
            leaf.grad = None
        try:
            with (
                torch.enable_grad(),
                without_tf32(self._tf32),
                torch.backends.cudnn.flags(benchmark=False, deterministic=True),
                _of_batches(self._network, self._estimates),
            ):
                loss = self._task.losses_of(self._network, self._split, examples).mean()
                loss.backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UserError(
                "plane.kind",
                f"found curve, and the loss cannot be differentiated ({reason(error)})",
                remedy="name kind interpolate for the straight line",
            ) from error
        return float(loss.detach())


@contextmanager
def _of_batches(network: nn.Module, estimates: bool) -> Iterator[None]:
    """Let batch norm take the statistics of each batch where the sweep estimates them anew; all else stays."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)] if estimates else []
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for norm in norms:
            norm.eval()

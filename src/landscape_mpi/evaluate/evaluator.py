"""Evaluates some of the examples at a point, in batches: the loss of each, and what other metrics say of it."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn

from landscape_mpi.data import Normalisation, Rows, Split
from landscape_mpi.data.split import Examples, batches, count, each, found, parts, rows, tensors
from landscape_mpi.errors import Either, Text, UserError
from landscape_mpi.evaluate.losses import Loss, ignored, logits_of, ours, tokens_right, weights
from landscape_mpi.evaluate.words import two_words
from landscape_mpi.job import AXES
from landscape_mpi.metrics.base import ACCURACY, LOSS, Metric
from landscape_mpi.metrics.examples import PerExample, summarise
from landscape_mpi.networks.state import duplicate, estimating
from landscape_mpi.plugin import own_code

T = TypeVar("T")
ACC = ACCURACY.results[0].name
FEWEST = 2
"""A batch of one takes another path through the convolution library: see `batches`."""
Network = Callable[..., Any]
"""Inputs [n, ...] -> outputs [n, ...]: a module, or what stands for one; inputs by name are keyword arguments."""
Point = tuple[float, ...]
"""A point of the plane: its coordinates alpha, beta, ..., one for each direction."""


def place(point: Point) -> str:
    """Return where a point lies, in words.

    >>> place((0.5, -1.0))
    'alpha 0.5, beta -1'
    """
    return ", ".join(f"{name} {x:g}" for name, x in zip(AXES, point, strict=False))


class MemberError(Exception):
    """One of the ranks that evaluate a point together raised; `who` is that rank, and the text has the traceback."""

    def __init__(self, who: str, text: str) -> None:
        super().__init__(text)
        self.who = who


class Evaluator(Protocol):
    """What the sweep asks for; every engine offers just this."""

    def per_example(self, point: Point, split: str, examples: Examples) -> PerExample:
        """Return the losses, and what other metrics say, of some of a split's examples at a point of the plane."""

    def count(self, split: str) -> int:
        """Return the number of examples of a split."""

    @property
    def centre(self) -> Point:
        """The point of theta*."""

    @property
    def nbytes(self) -> int:
        """Memory of the weights, the directions and the point, in bytes."""

    @property
    def batch(self) -> int:
        """Examples at a time: fewer than were asked for once the memory has run out."""

    @property
    def description(self) -> str:
        """Say in a few words how points are evaluated."""

    @property
    def note(self) -> str:
        """Say what was not as it should be at the last point; empty where all was well."""


class Lanes(Protocol):
    """Places where batches run side by side, in turn."""

    def lane(self, batch: int, /) -> AbstractContextManager[None]:
        """Return the context in which the work of a batch, counted from 0, is handed to its lane."""

    def join(self) -> None:
        """Let what is handed over from here on come after the work of all lanes."""


class OneLane:
    """Batches one after the other, where their caller is."""

    def lane(self, _: int, /) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()

    def join(self) -> None:
        """Return: the work is in order."""


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enabled": torch.enable_grad,
}
"""Torch's modes by their cost; networks and losses that take gradients themselves need these enabled."""
CALIBRATION_EXAMPLES, CALIBRATION_BATCH = 1000, 100
"""Training examples from which statistics are estimated anew, and how many go through the network at once.

An average over batches depends on how they are cut, so neither a job nor a machine can choose these numbers.
"""
ONE_LANE = OneLane()
PASSED_ON = (torch.OutOfMemoryError,)
"""What the user's own code may raise for lack of memory, for which there is a remedy: fewer examples at a time."""
UINT8 = (
    "; nothing scales these uint8 inputs: ",
    Either(
        "name data.normalize (mean and std of each channel), or return floating-point inputs from data.build",
        python="scale them first",
    ),
)


class Names(NamedTuple):
    """What a job calls its network and its loss."""

    model: str = "the network"
    loss: str = "the loss"


@dataclass(frozen=True)
class Task:
    """What is evaluated at every point: the splits, how inputs are normalised, the loss, and in which dtype.

    `autocast` is the dtype to which the forward pass may go down, by torch's own rules; weights and losses do not.
    `words`: whether the forward pass multiplies matrices as sums of bfloat16 words.
    `pause` is called before every batch and may raise, to drop what is left. `calibration` are inputs [n, ...] as in
    a split, from which the running statistics of batch norm are estimated anew at every point; None leaves them alone.
    `names` is what a job calls the user's own code, for messages; `layout` is how weights lie in memory; `gradients`
    is one of `MODES`; `output_bytes` is the memory of the outputs for one example, 0 where that is not known;
    `metrics` are what is asked of the examples, the loss among them.
    """

    splits: Mapping[str, Split]
    normalisation: Normalisation | None
    loss: Loss
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    autocast: torch.dtype | None = None
    pause: Callable[[], None] = lambda: None
    calibration: Rows | None = None
    names: Names = field(default_factory=Names)
    layout: torch.memory_format = torch.channels_last
    gradients: str = "inference"
    output_bytes: float = 0.0
    metrics: tuple[Metric, ...] = (LOSS, ACCURACY)
    words: bool = False

    def evaluate(
        self, network: Network, split: str, examples: Examples, batch: int, lanes: Lanes = ONE_LANE
    ) -> PerExample:
        """Evaluate a network (eval mode, on the task's device and in its dtype) on some examples of a split.

        Raises:
            UserError: the loss does not return one value per example.
        """
        losses, others = [], []
        with self.mode():
            for number, part in enumerate(parts(examples, len(self.splits[split]), batch)):
                self.pause()
                with lanes.lane(number):
                    made = self._batch(network, split, part)
                losses.append(made[0])
                others.append(made[1])
            lanes.join()
            # fetched from the device once: each fetch waits until the device is done
            names = [name for name in others[0] if all(name in one for one in others)]
            fetched = {name: torch.cat([one[name] for one in others]).cpu().numpy() for name in names}
            return PerExample(torch.cat(losses).cpu().numpy(), fetched)

    @property
    def exact(self) -> "Task":
        """The task with a forward pass that stays in its dtype."""
        return replace(self, autocast=None, words=False)

    def losses_of(self, network: Network, split: str, examples: Examples) -> Tensor:
        """Return the loss of each of some examples of a split, float64 [n] on the device; gradients flow through it.

        Raises:
            UserError: the loss does not return one value per example.
        """
        outputs, targets = self.outputs_of(network, split, examples)
        return self._weighted(self.losses(outputs, targets, split), split, examples)

    def forward(self, network: Network, inputs: Rows) -> Any:
        """Return the outputs of a network; where autocast lowers their dtype, they are put back into the task's.

        For a loss of ours these are the logits alone, so that the rest of what a transformer returns is freed at once.
        """
        if self.autocast is None:
            with two_words() if self.words else nullcontext():
                return self._picked(call(network, inputs))
        # no cache of weights in the lower dtype: they move, and a recorded graph would keep the old ones
        with torch.autocast(self.device.type, self.autocast, cache_enabled=False):
            outputs = self._picked(call(network, inputs))
        return outputs.to(self.dtype) if isinstance(outputs, Tensor) else outputs

    def _picked(self, outputs: Any) -> Any:
        several = isinstance(outputs, tuple | list) and not hasattr(outputs, "logits")
        name = ours(self.loss)
        return outputs if name is None or (several and name != "next_token") else logits_of(outputs)

    def inputs(self, split: str, examples: Examples) -> Rows:
        """Return examples of a split as the network gets them: on the device, normalised, floats in the dtype."""
        return self._some(self.splits[split].inputs, examples)

    def calibrate(self, network: nn.Module, forward: Network | None = None) -> None:
        """Estimate the running statistics of a network's batch norm from the examples that there are for it, if any.

        `forward` is what to call where that is not the network itself.
        """
        if self.calibration is None:
            return
        with estimating(network), self.mode() if self.gradients == "enabled" else nullcontext():
            for part in batches(count(self.calibration), CALIBRATION_BATCH):
                self.pause()
                self.outputs(forward or network, self._some(self.calibration, part), "train")

    def calibrated(self, network: nn.Module) -> nn.Module:
        """Return the network, or a copy with the statistics that the task's examples give at its parameters."""
        if self.calibration is None:
            return network
        # laid out as at every point: differences in the rounding of estimates add up with depth
        network = fast_copy(network, self.layout)
        self.calibrate(network)
        return network

    def _some(self, inputs: Rows, examples: Examples) -> Rows:
        return each(inputs, lambda tensor: self._prepared(rows(tensor, examples)))

    def _prepared(self, inputs: Tensor) -> Tensor:
        inputs = inputs.to(self.device)
        if self.normalisation is not None:
            return self.normalisation.apply(inputs, self.dtype)
        if inputs.is_complex():
            return inputs.to(self.dtype.to_complex(), copy=True)
        # a copy, which a network may change, and which always starts at an aligned address: matrix products differ in
        # the last bit by where a slice starts
        return inputs.to(self.dtype if inputs.is_floating_point() else inputs.dtype, copy=True)

    def outputs(self, network: Network, inputs: Rows, split: str) -> Any:
        """Return the outputs of a network for prepared inputs of a split; in the task's dtype as `forward`.

        Raises:
            UserError: the network's own code raised.
        """

        def given() -> Text:
            unscaled = self.normalisation is None and any(x.dtype == torch.uint8 for x in tensors(inputs).values())
            return f", on inputs {found(inputs)} of the {split} split", UINT8 if unscaled else ""

        with own_code("model.build", f"the forward pass of {self.names.model}", given, but=PASSED_ON):
            return self.forward(network, inputs)

    def losses(self, outputs: Any, targets: Rows, split: str) -> Tensor:
        """Return the loss of each example, [n].

        Raises:
            UserError: the loss raised, or does not return one value per example.
        """

        def given() -> str:
            return f", on outputs {found(outputs)} and targets {found(targets)} of the {split} split"

        with own_code("loss", self.names.loss, given, but=PASSED_ON):
            losses: Any = self.loss(outputs, targets)
        examples = count(targets)
        if not isinstance(losses, Tensor) or losses.shape != (examples,):
            what = f"the shape {list(losses.shape)}" if isinstance(losses, Tensor) else found(losses)
            raise UserError(
                "loss",
                f"it returned {what} for {examples} examples",
                expected=f"one loss per example, [{examples}] (reduction='none')",
            )
        return losses

    @property
    def of_tokens(self) -> bool:
        """Whether the loss is that of each token of an example."""
        return ours(self.loss) == "next_token"

    def mode(self) -> AbstractContextManager[Any]:
        """Return the context in which the network and the loss are evaluated."""
        return MODES[self.gradients]()

    @cached_property
    def weights(self) -> Mapping[str, Tensor | None]:
        """How much each example of each split counts, float64 [n]; None where all count alike."""
        with torch.inference_mode(False):  # gradients may flow through it
            return {name: weights(split, self.loss) for name, split in self.splits.items()}

    def outputs_of(self, network: Network, split: str, examples: Examples) -> tuple[Any, Rows]:
        """Return a network's outputs for some examples of a split, and their targets, a copy for the loss to use."""
        targets = each(self.splits[split].targets, lambda tensor: rows(tensor, examples).to(self.device, copy=True))
        return self.outputs(network, self.inputs(split, examples), split), targets

    def _weighted(self, losses: Tensor, split: str, examples: Examples) -> Tensor:
        """Return losses float64 [n], each multiplied by how much its example counts."""
        weight = self.weights[split]
        return losses.double() if weight is None else losses.double() * rows(weight, examples)

    def _batch(self, network: Network, split: str, examples: Examples) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses float64 [n] and what other metrics say [n], on the device, which may still compute them."""
        outputs, targets = self.outputs_of(network, split, examples)
        if ours(self.loss) and isinstance(outputs, Tensor):
            outputs = outputs.detach()  # no loss of ours takes gradients
        losses = self._weighted(self.losses(outputs, targets, split), split, examples)
        others = self.others(outputs, targets, network, split, examples)
        if self.of_tokens:  # the mean over all tokens, as of the loss
            others |= {name: self._weighted(others[name], split, examples) for name in others if name == ACC}
        return losses.detach(), others  # detached, so that a graph is freed before the next batch

    def others(
        self,
        outputs: Any,
        targets: Rows,
        network: Network | None = None,
        split: str = "",
        examples: Examples = slice(0),
    ) -> dict[str, Tensor]:
        """Return what metrics other than the loss say of some examples, [n], by the names of their results.

        A metric that needs classes is left out where the targets are not classes, or where outputs are not
        [n, classes]. With the loss of tokens, accuracy is the share of an example's tokens that are right, float64.
        A metric that needs the network gets the module at the present point and a copy of the inputs.

        Raises:
            UserError: a metric raised.
        """

        def given() -> str:
            return f", on outputs {found(outputs)} and targets {found(targets)}"

        fit = is_classes(targets) and isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] >= 2
        numbers: dict[str, Tensor] = {}
        if self.of_tokens and ACCURACY in self.metrics:
            numbers[ACC] = tokens_right(outputs, cast(Tensor, targets), cast(int, ignored(self.loss)))
        for metric in self.metrics:
            if metric.compute and (fit or metric.needs != "classes"):
                more: dict[str, Any] = {}
                lower: AbstractContextManager[Any] = nullcontext()
                if metric.needs == "network":
                    if self.autocast is not None:
                        lower = torch.autocast(self.device.type, self.autocast, cache_enabled=False)
                    elif self.words:
                        lower = two_words()
                    module = network if isinstance(network, nn.Module) else getattr(network, "network", network)
                    more = {"network": module, "inputs": self.inputs(split, examples)}
                with own_code("metrics", metric.key, given, but=PASSED_ON), lower:
                    numbers |= metric.compute(outputs, targets, **more)
        return numbers


def measure(evaluator: Evaluator, point: Point, splits: Iterable[str], metrics: Iterable[Metric]) -> dict[str, float]:
    """Return the results of a point over all examples, keyed as in the surface file: `train_loss`, `test_acc`, ..."""
    everything = {split: slice(0, evaluator.count(split)) for split in splits}
    return summarise({split: evaluator.per_example(point, split, some) for split, some in everything.items()}, metrics)


class Batch:
    """A number of examples, halved for good each time that they do not fit."""

    def __init__(self, examples: int) -> None:
        self.examples = examples

    def attempt(self, evaluate: Callable[[int], T]) -> T:
        """Return evaluate(examples), with fewer examples where the memory of the device does not suffice.

        Raises:
            torch.OutOfMemoryError: not even two examples fit.
        """
        while True:
            try:
                return evaluate(self.examples)
            except torch.OutOfMemoryError:
                if self.examples < 2 * FEWEST:
                    raise
            # out here the exception is gone, and with it the tensors of the batch that did not fit
            self.examples //= 2
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
                torch.cuda.empty_cache()


def call(network: Network, inputs: Rows) -> Any:
    """Return the outputs of a network for inputs, which are its keyword arguments where they are several by name."""
    return network(inputs) if isinstance(inputs, Tensor) else network(**inputs)


def fast_copy(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Return a copy of a network with its weights laid out in memory: channels last are faster to convolve."""
    return lay_out(duplicate(network), layout)


def lay_out(network: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Lay out a network's tensors of four dimensions, and return the network; other tensors have no such layout."""
    return network._apply(lambda tensor: tensor.to(memory_format=layout) if tensor.dim() == 4 else tensor)  # type: ignore[no-any-return, no-untyped-call]


def is_classes(targets: Rows) -> TypeGuard[Tensor]:
    """Whether targets are class indices: whole numbers, one per example."""
    if not isinstance(targets, Tensor):
        return False
    return targets.dim() == 1 and not targets.is_floating_point() and not targets.is_complex()

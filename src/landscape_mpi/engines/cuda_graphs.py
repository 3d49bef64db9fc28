"""Records a forward pass as CUDA graphs, one on each of several streams, and replays them.

A small network leaves a large GPU idle between two kernels, because each launch costs the host microseconds. It also
leaves the GPU idle at the end of each kernel, while its last blocks run. A recorded graph is one launch. There are
several lanes (streams), each with a recording and memory of its own, so that the blocks of one batch can use what
another batch leaves free. All batches in flight belong to one point. They fill the device as batches of several points
would, but need one set of weights instead of one set per point. A point is done when its last batch is done, in
whichever order the batches end. No result depends on the lanes or the recordings.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from landscape_mpi.evaluate import Network

LANES = 2
"""Batches in flight: one runs while the host prepares the next."""
WARM_UPS = 2
"""Runs before a recording, in which libraries choose algorithms and allocate memory: neither can be recorded."""


class Lane(Protocol):
    """A queue of work beside its caller's, such as a CUDA stream: it runs in order, and the caller does not wait."""

    def follow(self) -> None:
        """Let the lane's next work come after all that the caller's queue holds."""

    def lead(self) -> None:
        """Let the next work of the caller's queue come after all that the lane holds."""

    def used(self) -> AbstractContextManager[object]:
        """Return the context in which work goes to the lane."""

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record what `run` does; return a function that repeats it in the lane's context, and the tensor it writes to.

        Raises:
            RuntimeError: it cannot be recorded; the lane is as before.
        """


class Replay:
    """A forward pass that is recorded for batches of one shape; batches of other shapes run as they are."""

    def __init__(self, forward: Network, lanes: Sequence[Lane], sample: Tensor) -> None:
        """Record the forward pass on each lane for batches like the sample [n, ...]; in inference mode.

        A lane whose recording fails is not used, and neither are the lanes after it. Without any recording the forward
        pass runs as it is on the first lane.
        """
        self._forward = forward
        self._recordings: list[_Recording] = []
        self._failure = ""
        try:
            for lane in lanes:
                self._recordings.append(_Recording(lane, forward, sample))
        except RuntimeError as error:  # torch raises it for a synchronisation, lack of memory or an unknown operation
            self._failure = str(error).partition("\n")[0]
        self._lanes = lanes[: max(1, len(self._recordings))]
        self._turn = 0

    @contextmanager
    def lane(self, batch: int, /) -> Iterator[None]:
        """Hand the work of a batch to its lane; the first batch on each lane comes after the caller's earlier work."""
        self._turn = batch % len(self._lanes)
        lane = self._lanes[self._turn]
        if batch < len(self._lanes):
            lane.follow()
        with lane.used():
            yield

    def join(self) -> None:
        """Let what comes next wait for all lanes."""
        for lane in self._lanes:
            lane.lead()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the outputs of a batch, within its lane's context."""
        if self._recordings and self._recordings[self._turn].fits(inputs):
            return self._recordings[self._turn](inputs)
        outputs: Tensor = self._forward(inputs)
        return outputs

    @property
    def description(self) -> str:
        """Say how many graphs are replayed, and why not more."""
        count = len(self._recordings)
        if not count:
            return f"not replayed as a CUDA graph ({self._failure})"
        graphs = f"replayed as {count} CUDA graph{'s' if count > 1 else ''}"
        return f"{graphs} (no more: {self._failure})" if self._failure else graphs


class _Recording:
    """A forward pass recorded on a lane, from inputs at a fixed place to outputs at a fixed place."""

    def __init__(self, lane: Lane, forward: Network, sample: Tensor) -> None:
        self._inputs = sample.clone()
        self._replay, self._outputs = lane.record(lambda: forward(self._inputs))
        if not isinstance(self._outputs, Tensor):
            raise RuntimeError("the network returns several tensors")

    def fits(self, inputs: Tensor) -> bool:
        return inputs.shape == self._inputs.shape and inputs.dtype == self._inputs.dtype

    def __call__(self, inputs: Tensor) -> Tensor:
        self._inputs.copy_(inputs)
        self._replay()
        return self._outputs.clone()  # the next replay overwrites them


def lanes_of(device: torch.device) -> "list[CudaLane]":
    """Return the lanes of a device; none on a CPU, where a rank keeps its core busy anyway."""
    return [CudaLane(device) for _ in range(LANES)] if device.type == "cuda" else []


class CudaLane:
    """A stream of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def follow(self) -> None:
        """Let the stream wait for the caller's."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def lead(self) -> None:
        """Let the caller's stream wait for this one."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def used(self) -> AbstractContextManager[object]:
        """Return the context in which the stream is the current one."""
        return torch.cuda.stream(self._stream)

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Capture `run` as a CUDA graph with memory of its own.

        Raises:
            RuntimeError: it waits for the device somewhere, or the memory does not suffice.
        """
        self.follow()
        with self.used():  # makes the caller's stream current again afterwards, even where a capture ends in an error
            for _ in range(WARM_UPS):
                run()
            with _waiting_forbidden():
                run()
            graph = torch.cuda.CUDAGraph()
            # other threads of this process may go on: rank 0 serves points in one of them
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                outputs = run()
        return graph.replay, outputs


@contextmanager
def _waiting_forbidden() -> Iterator[None]:
    """Make torch raise where the host waits for the device: an error before the capture does not break it."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)

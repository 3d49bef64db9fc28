"""Lanes on a CUDA device: a stream each, and recordings as CUDA graphs; nothing here can run without such a device."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

LANES = 2
"""Batches in flight: one runs while the host prepares the next. More is for `benchmarks/gpu.py` to recommend."""
WARM_UPS = 2
"""Runs before a recording: libraries choose their algorithms and allocate in them, which cannot be recorded."""


def lanes_of(device: torch.device) -> "list[CudaLane]":
    """Return the lanes of a device; none on a CPU, where every core is busy as it is."""
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
        with self.used():  # leaves the caller's stream the current one even where a capture ends in an error
            for _ in range(WARM_UPS):
                run()
            with _waiting_forbidden():
                run()
            graph = torch.cuda.CUDAGraph()
            # other threads of this process may go on: rank 0 serves points in one
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                outputs = run()
        return graph.replay, outputs


@contextmanager
def _waiting_forbidden() -> Iterator[None]:
    """Make torch raise where the host waits for the device: found here, it spoils no capture."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)

"""Names the engines, says which of them to try on a device, and builds them."""

import torch
from torch import Tensor, nn

from landscape_mpi.engines.compiled import CompiledLayer, library
from landscape_mpi.engines.cuda_graphs import lanes_of
from landscape_mpi.engines.evaluator import FusedEvaluator
from landscape_mpi.engines.layers import DirectLayer, Layer, PlainLayer
from landscape_mpi.engines.trace import CannotFuseError
from landscape_mpi.evaluate import EagerEvaluator, Evaluator, Task
from landscape_mpi.plane import Plane

EAGER = "eager"
LAYERS: dict[str, tuple[type[Layer], ...]] = {
    "compiled": (CompiledLayer, DirectLayer),
    "fused": (DirectLayer,),
}
"""Engines with fused layers, the fastest first, and the kinds of layers of each, the preferred one first."""
ENGINES = (*LAYERS, EAGER)
DELETED = ("cudnn", "winograd")
"""Engines of version 0.1.0 that surfaces may have been begun with."""


def candidates(requested: str, task: Task, plane: Plane) -> tuple[str, ...]:
    """Return the engines to try in turn; the last is always the network's own forward pass.

    `auto` is the fastest one for the device; float64 is for reference and stays with the network's own, and so does
    bfloat16 on a CPU, whose fused layers compute in float32. So do running statistics that change from point to point,
    because fused layers hold them in their weights, networks that take gradients, and inputs of several tensors.
    """
    if task.calibration is not None or plane.statistics is not None or task.gradients != "inference":
        return (EAGER,)
    if requested != "auto":
        return (requested, EAGER) if requested != EAGER else (EAGER,)
    if task.dtype != torch.float32 or not all(isinstance(split.inputs, Tensor) for split in task.splits.values()):
        return (EAGER,)
    if task.device.type != "cpu":
        return ("fused", EAGER)
    if task.autocast is not None:
        return (EAGER,)
    return ("compiled", "fused", EAGER) if library() else ("fused", EAGER)


def kernel_is_missing(engine: str) -> bool:
    """Whether an engine needs the compiled kernel, which this installation lacks."""
    return engine == "compiled" and library() is None


def build_engine(engine: str, network: nn.Module, plane: Plane, task: Task, batch: int) -> Evaluator:
    """Return the evaluator of an engine.

    Raises:
        CannotFuseError: the network cannot be transformed for this engine.
    """
    if engine == EAGER:
        return EagerEvaluator(network, plane, task, batch)
    kinds = LAYERS[engine]
    if task.autocast is not None:
        if engine != "fused":
            raise CannotFuseError("its layers compute in float32 alone")
        kinds = (PlainLayer,)
    return FusedEvaluator(network, plane, task, batch, kinds, lanes_of(task.device))

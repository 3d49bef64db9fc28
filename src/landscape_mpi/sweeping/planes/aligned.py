"""Permutes the units of the networks at the ends of an interpolation, and checks that they compute the same.

Rank 0 alone finds the permutations, so that all ranks have the same ones.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from landscape_mpi.align import Match, UnknownStructureError, match, structure_of
from landscape_mpi.data.split import each
from landscape_mpi.errors import Key, UserError
from landscape_mpi.evaluate import Task
from landscape_mpi.log import log
from landscape_mpi.mpi.world import on_ranks, on_root
from landscape_mpi.networks.state import cast, load
from landscape_mpi.plane import Parameters
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.planes import Request

EXAMPLES = 8
"""Examples of the first split, by which the structure is found and the permuted network is compared."""
CLOSE = 1e-5
"""How far losses and outputs of the permuted network may be from the network's, relative to the largest, in float64."""
KEY = "plane.align"
PLAIN = ("leave ", Key(KEY), " out for the straight line")
Ends = Mapping[str, Parameters]


def aligned(request: Request, named: Mapping[str, str], ends: Ends) -> tuple[Ends, dict[str, float]]:
    """Return the tensors at each end with permuted units, and how much nearer they are; collective.

    Args:
        request: What the plane is built from.
        named: Keys of the job, and what they name.
        ends: The tensors at each end, by key, on the ranks that make directions.

    Raises:
        UserError: the structure of the network is not understood, or a permuted network computes something else.
    """
    world = request.world
    matches = on_root(world, _matches, request.experiment, named)
    facts: dict[str, float] = {}
    for (key, name), found in zip(named.items(), matches, strict=True):
        units = sum(group.size for group in found.structure.groups)
        log(
            world,
            f"{key}: {found.moved:,} of {units:,} units of {name} are put at other places, in "
            f"{len(found.structure.groups):,} groups; from theta* it is {found.after:.4g} away instead of "
            f"{found.before:.4g}, and computes the same.",
        )
        which = "" if key == "plane.to" else "_via"
        facts |= {
            f"align_units{which}": float(units),
            f"align_moved{which}": float(found.moved),
            f"align_before{which}": found.before,
            f"align_after{which}": found.after,
        }

    def apply() -> dict[str, Parameters]:
        return {key: found.apply(ends[key]) for key, found in zip(named, matches, strict=True)}

    return on_ranks(world, request.here, apply) or {}, facts


def _matches(experiment: Experiment, named: Mapping[str, str]) -> list[Match]:
    """Return the permutations of each end. Raises as `aligned`."""
    theta = experiment.theta
    if theta.is_large:
        raise UserError(KEY, "found auto, and networks of 256 MB and more are held once and not copied", remedy=PLAIN)
    return [_match(experiment, key, name) for key, name in named.items()]


def _match(experiment: Experiment, key: str, name: str) -> Match:
    theta, task = experiment.theta, _exact(experiment.task)
    (split,) = task.splits
    network = cast(experiment.source.end(theta, key, name).eval(), task.device, task.dtype)
    names = frozenset({*theta.parameters, *theta.statistics})
    try:
        structure = structure_of(network, task.forward, task.inputs(split, slice(0, EXAMPLES)), names)
    except UnknownStructureError as error:
        raise UserError(
            KEY, f"found auto, and the network's structure is not understood: {error}", remedy=PLAIN
        ) from None
    weights = {name: tensor.detach() for name, tensor in network.named_parameters() if name in theta.parameters}
    with threadpool_limits(1, user_api="blas"):  # so that no sum depends on the number of cores
        found = match(structure, {name: theta.parameters[name] for name in weights}, weights)
    _check(task, split, network, found, name)
    return found


def _exact(task: Task) -> Task:
    """Return the task on the first examples of its first split, on the CPU in float64."""
    name, split = next(iter(task.splits.items()))

    def first(tensor: Tensor) -> Tensor:
        return tensor[:EXAMPLES].cpu()

    few = replace(split, inputs=each(split.inputs, first), targets=each(split.targets, first))
    return replace(task.exact, splits={name: few}, dtype=torch.float64, device=torch.device("cpu"), calibration=None)


def _check(task: Task, split: str, network: nn.Module, found: Match, name: str) -> None:
    """Permute the units of a network, and refuse where it computes something else then.

    Raises:
        UserError: that is so.
    """

    def results() -> list[Tensor]:
        with task.mode():
            outputs, targets = task.outputs_of(network, split, slice(0, EXAMPLES))
            losses = task.losses(outputs, targets, split).detach().clone()
        return [losses, *([outputs.detach().clone()] if isinstance(outputs, Tensor) else [])]

    before = results()
    state = {name: tensor.detach() for name, tensor in (*network.named_parameters(), *network.named_buffers())}
    load(network, found.apply(state))
    for one, other in zip(before, results(), strict=True):
        error = (one - other).abs().max() / one.abs().max().clamp(min=CLOSE)
        if not error <= CLOSE:
            raise UserError(
                KEY,
                f"found auto, and {name} with permuted units computes something else: results differ by {error:.2g}",
                expected=f"at most {CLOSE:g}",
                remedy=PLAIN,
            )

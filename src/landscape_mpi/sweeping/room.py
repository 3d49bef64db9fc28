"""Refuses weights of large networks for which a node has no room, before any memory is taken."""

from dataclasses import dataclass

from torch import nn

from landscape_mpi.errors import Flag, Key, Text, UserError
from landscape_mpi.job import SweepJob
from landscape_mpi.mpi.launcher import free_memory
from landscape_mpi.mpi.world import World
from landscape_mpi.sweeping.precision import PRECISIONS

SHARE = 0.5
"""Of the free memory: where the ranks of a node would take more for their weights, these are streamed."""


@dataclass(frozen=True)
class Weights:
    """What the weights of one rank take of memory.

    Attributes:
        resident: bytes of all of them, where they stay in memory.
        largest: bytes of the module with the largest ones of its own.
    """

    resident: int
    largest: int

    @staticmethod
    def of(network: nn.Module, itemsize: int) -> "Weights":
        """Return those of a network whose real numbers take `itemsize` bytes in the evaluation."""

        def taken(module: nn.Module, *, recurse: bool) -> int:
            return sum(p.numel() * itemsize * (1 + p.is_complex()) for p in module.parameters(recurse))

        largest = max((taken(module, recurse=False) for module in network.modules()), default=0)
        return Weights(taken(network, recurse=True), largest)

    @property
    def streamed(self) -> int:
        """Bytes where they are built as each layer runs: the next layer is built beside the one before."""
        return min(2 * self.largest, self.resident)

    def of_group(self, size: int) -> int:
        """Bytes of a rank of a group that holds them together: its share, and the layer that is put together."""
        return self.resident if size == 1 else self.resident // size + self.largest

    def are_streamed(self, ranks: int, free: int | None) -> bool:
        """Whether `evaluate.weights: auto` streams those of so many ranks of a node."""
        return free is not None and ranks * self.resident > SHARE * free


def check_room(
    weights: Weights,
    ranks: int,
    free: int | None,
    *,
    streamed: bool = False,
    group: int = 1,
    where: str = "this node",
) -> None:
    """Refuse weights of so many ranks for which a node has no room; other memory comes on top.

    Raises:
        UserError: it says what they take, and what to do.
    """
    each = weights.streamed if streamed else weights.of_group(group)
    if free is None or ranks * each <= free:
        return
    how = "streamed, a layer beside the next one," if streamed else "resident"
    remedies: list[Text] = [] if streamed or group > 1 else [(Key("evaluate.weights"), ": streamed")]
    sizes = [size for size in range(group + 1, ranks + 1) if ranks % size == 0 and not streamed]
    if size := next((size for size in sizes if ranks * weights.of_group(size) <= free), 0):
        remedies.append(Flag("group", (str(size),)))
    if fit := free // each:
        remedies.append(f"at most {fit} ranks a node" if fit > 1 else "one rank a node")
    words = [part for remedy in remedies for part in (" or ", remedy)][1:]
    raise UserError(
        "evaluate.weights",
        f"weights that are {how} take {each / 1e9:.3g} GB a rank, {ranks * each / 1e9:.3g} GB for "
        f"{ranks} rank{'s' if ranks > 1 else ''}, and {where} has {free / 1e9:.3g} GB free",
        expected="room for them",
        remedy=tuple(words) or "use a node with more memory",
    )


def check_resident(network: nn.Module, job: SweepJob, world: World, group: int = 1) -> None:
    """Refuse `evaluate.weights: resident` where a node has no room for it, in groups of some size; collective.

    Raises:
        UserError: on every rank, as `check_room`.
    """
    if job.evaluate.weights != "resident":
        return
    hosts, refusal = world.allgather(world.host), None
    try:
        weights = Weights.of(network, PRECISIONS[job.evaluate.dtype].dtype.itemsize)
        check_room(weights, hosts.count(world.host), free_memory(), group=group, where=world.host)
    except UserError as error:
        refusal = error
    for one in world.allgather(refusal):
        if one is not None:
            raise one

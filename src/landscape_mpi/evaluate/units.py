"""Cuts a network into parts, such as its blocks; the ranks of a group put together all weights of a part at once."""

from collections.abc import Sequence

from torch import nn

SMALLEST = 1 << 20
"""Least bytes of a unit: all ranks of the group meet for each unit in every pass."""


def units_of(network: nn.Module, smallest: int | None = None) -> list[nn.Module]:
    """Return the modules whose own parameters are put together at a time, the network itself first.

    They are the members of lists of modules, without those of lists within them, and single linear and embedding layers
    beside these, from `smallest` bytes on (default: SMALLEST). A unit shares no parameter with a module outside of it.

    >>> blocks = nn.ModuleList(nn.TransformerEncoderLayer(8, 2) for _ in range(2))
    >>> network = nn.ModuleDict({"embed": nn.Embedding(9, 8), "blocks": blocks})
    >>> [type(unit).__name__ for unit in units_of(network, 1)]
    ['ModuleDict', 'Embedding', 'TransformerEncoderLayer', 'TransformerEncoderLayer']
    """
    smallest = SMALLEST if smallest is None else smallest
    holders: dict[int, set[int]] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), set()).add(id(module))

    def alone(unit: nn.Module) -> bool:
        inside = {id(module) for module in unit.modules()}
        return all(holders[id(parameter)] <= inside for parameter in unit.parameters())

    lists = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
    found: dict[nn.Module, None] = {network: None}

    def look(module: nn.Module, within: bool) -> None:
        for child in module.children():
            named = isinstance(module, lists) and not isinstance(child, lists)
            single = type(child) in (nn.Linear, nn.Embedding)
            large = sum(parameter.nbytes for parameter in child.parameters()) >= smallest
            unit = (named or (single and not within)) and large and alone(child)
            if unit:
                found[child] = None
            look(child, within or unit)

    look(network, False)
    return list(found)


def own_parameters(units: Sequence[nn.Module]) -> list[list[nn.Parameter]]:
    """Return the parameters of each unit, without those of units within it; each parameter once."""
    within = [{id(module) for module in unit.modules()} for unit in units]
    found = []
    for unit, inside in zip(units, within, strict=True):
        others = set[int]().union(*(ids for ids in within if ids < inside))
        modules = (module for module in unit.modules() if id(module) not in others)
        found.append(list({one: None for module in modules for one in module.parameters(recurse=False)}))
    return found


def most_together(network: nn.Module, itemsize: int) -> tuple[int, int]:
    """Return how many bytes are put together on a rank at one time, at the most, and those of the largest unit.

    A unit is there while it runs, and the units around it with it; real numbers take `itemsize` bytes.

    >>> network = nn.Sequential(nn.Linear(1000, 500, bias=False), nn.Linear(500, 2000, bias=False), nn.LayerNorm(2000))
    >>> most_together(network, 4)  # the norm belongs to the network itself
    (4016000, 4000000)
    """
    units = units_of(network)
    own = [sum(p.numel() * itemsize * (1 + p.is_complex()) for p in found) for found in own_parameters(units)]
    inside = [{id(module) for module in unit.modules()} for unit in units]
    chains = (sum(size for size, ids in zip(own, inside, strict=True) if id(unit) in ids) for unit in units)
    return max(chains), max(own)

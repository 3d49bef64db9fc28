"""Networks with nothing at its usual start, their structure, and their units in another order."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from landscape_mpi.align import Match, structure_of
from landscape_mpi.networks.state import statistics_of

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def wild(network):
    """The network in float64 and eval mode, with nothing at its usual start."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network.double().eval()


def found(network, inputs):
    """The structure of a network."""
    names = frozenset({name for name, _ in network.named_parameters()} | set(statistics_of(network)))
    return structure_of(network, lambda module, given: module(given), inputs, names)


def sizes(structure):
    return sorted(group.size for group in structure.groups)


def shuffled(network, structure, seed=1):
    """A random permutation of every group, and the network's tensors permuted by it."""
    generator = torch.Generator().manual_seed(seed)
    orders = {group: torch.randperm(group.size, generator=generator) for group in structure.groups}
    one = Match(structure, orders, 0.0, 0.0)
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return one, state, one.apply(state)

"""What a history says of the weights of a network: their norm and how they are spread; knows no training."""

import math

import torch
from torch import Tensor, nn

from landscape_mpi.surface.history import EDGES


def weights(network: nn.Module) -> list[Tensor]:
    """Return the parameters of more than one dimension: neither biases nor batch norm, as `ignore: biasbn` has it."""
    return [parameter.detach() for parameter in network.parameters() if parameter.ndim > 1]


def weight_norm(network: nn.Module) -> float:
    """Return the L2 norm of all weights together (the paper's Figure 2), summed in float64; 0 where there are none."""
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in weights(network)))


def weight_histogram(network: nn.Module) -> Tensor:
    """Return how many weights lie between each two of `EDGES`, int64 [len(EDGES) - 1]: a <= weight < b."""
    counts = torch.zeros(len(EDGES) - 1, dtype=torch.int64)
    for tensor in weights(network):
        inner = torch.tensor(EDGES[1:-1], dtype=tensor.dtype, device=tensor.device)
        which = torch.bucketize(tensor.flatten(), inner, right=True)
        counts += torch.bincount(which, minlength=len(counts)).cpu()
    return counts

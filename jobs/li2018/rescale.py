"""Writes a checkpoint of larger weights that computes the same function, to see what scale invariance does to pictures.

    python jobs/li2018/rescale.py JOB CHECKPOINT OUT --factor 3

Batch norm undoes any factor on the weights before it (Li et al., section 4), if its running statistics are scaled too.
"""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from landscape_mpi.assemble import build_model
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.networks import load_checkpoint


def main() -> None:
    """Read a network of a job, rescale it and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path, help="a job that says which network the checkpoint is of")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="a .safetensors file to write")
    parser.add_argument("--factor", type=float, default=3.0)
    options = parser.parse_args()
    network = build_model(load_job(options.job, SweepJob))
    load_checkpoint(network, options.checkpoint)
    rescale(network, options.factor)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, options.out)


@torch.no_grad()
def rescale(network: nn.Module, factor: float) -> None:
    """Multiply all weights that batch norm follows at once, and its running statistics to match, in place."""
    for layer, norm in before_batch_norm(network):
        for parameter in layer.parameters():
            parameter.mul_(factor)
        norm.running_mean.mul_(factor)
        # what batch norm adds to the variance against a division by 0 is not scaled with it, so it is made up for
        norm.running_var.add_(norm.eps).mul_(factor**2).sub_(norm.eps)


def before_batch_norm(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield each convolution or linear layer with the batch norm right behind it in a sequence."""
    for layer, norm in pairwise(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear) and isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            yield layer, norm


if __name__ == "__main__":
    main()

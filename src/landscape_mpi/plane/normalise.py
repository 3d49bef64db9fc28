"""Normalises a direction with respect to theta: by filter, by layer or by weight.

Norms of complex tensors are over absolute values.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from landscape_mpi.plane.norms import row_norms
from landscape_mpi.plane.parameters import double, real

Normaliser = Callable[[Tensor, Tensor], Tensor]


def filter_normalise(d: Tensor, theta: Tensor) -> Tensor:
    """Give every filter of d the norm of theta's: d_ij <- d_ij / ||d_ij|| * ||theta_ij|| (Li et al., section 4).

    A filter is a slice along dimension 0; a fully connected layer is a 1x1 convolution, so its filters are the rows
    of its weight. A tensor of at most one dimension has no filters and takes d = theta, as in the authors' code.

    Args:
        d: direction, any float dtype.
        theta: parameter of the same shape.

    Returns:
        The rescaled direction; a filter whose norm is 0 on either side becomes 0.
    """
    if theta.dim() <= 1:
        return theta.clone()
    shape = (-1, *[1] * (theta.dim() - 1))
    d_norms, theta_norms = (row_norms(real(tensor).flatten(1)).view(shape) for tensor in (d, theta))
    return _rescale(d, theta, d_norms, theta_norms)


def layer_normalise(d: Tensor, theta: Tensor) -> Tensor:
    """Give d the norm of theta over the whole tensor: d <- d / ||d|| * ||theta||; one dimension takes d = theta."""
    if theta.dim() <= 1:
        return theta.clone()
    d_norm, theta_norm = (row_norms(real(tensor).reshape(1, -1))[0] for tensor in (d, theta))
    return _rescale(d, theta, d_norm, theta_norm)


def weight_normalise(d: Tensor, theta: Tensor) -> Tensor:
    """Scale d elementwise by theta: d <- d * theta."""
    return d * theta


def leave(d: Tensor, theta: Tensor) -> Tensor:  # noqa: ARG001 - one of the interchangeable normalisers
    """Return d as it was drawn."""
    return d


NORMALISERS: Mapping[str, Normaliser] = {
    "filter": filter_normalise,
    "layer": layer_normalise,
    "weight": weight_normalise,
    "none": leave,
}


def _rescale(d: Tensor, theta: Tensor, d_norm: Tensor, theta_norm: Tensor) -> Tensor:
    scale = torch.where(d_norm > 0, theta_norm / d_norm, torch.zeros_like(d_norm))
    return (double(d) * scale).to(theta.dtype)

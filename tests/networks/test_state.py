"""Copies and casts of networks: nothing shared, no imaginary part and no whole number lost."""

import threading

import pytest
import torch
from torch import nn

from landscape_mpi.errors import UserError
from landscape_mpi.networks.state import cast, duplicate, load, own_dtype

CPU = torch.device("cpu")


class Mixed(nn.Module):
    """A network with tensors of every kind."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(3))
        self.c = nn.Parameter(torch.randn(3, dtype=torch.complex64))
        self.places = nn.Parameter(torch.tensor([1 << 40, 3]), requires_grad=False)
        self.register_buffer("turn", torch.polar(torch.ones(4), torch.arange(4.0)))
        self.register_buffer("mask", torch.tensor([True, False]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_real_goes_to_the_dtype_complex_to_its_partner_and_whole_stays(dtype):
    network = Mixed()
    turn, c = network.turn.clone(), network.c.detach().clone()
    cast(network, CPU, dtype)
    assert (network.w.dtype, network.c.dtype, network.turn.dtype) == (dtype, dtype.to_complex(), dtype.to_complex())
    assert (network.places.dtype, network.mask.dtype) == (torch.int64, torch.bool)
    assert network.places[0] == 1 << 40
    assert torch.equal(network.turn.to(torch.complex64), turn)
    assert torch.equal(network.c.detach().to(torch.complex64), c)
    assert own_dtype(network) == dtype


def test_a_copy_shares_nothing_and_keeps_mode_ties_and_what_needs_a_gradient():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).eval()
    network[1].weight = network[0].weight
    network[0].bias.requires_grad_(False)
    made = duplicate(network)
    assert made[0].weight is made[1].weight
    assert not made.training
    assert not made[0].bias.requires_grad
    with torch.no_grad():
        made[0].weight.zero_()
    assert network[0].weight.any()


def test_tensors_with_a_history_are_copied_as_numbers():
    network = nn.Linear(3, 3)
    network.kept = [network.weight * 2, {"there": network.weight.sum()}]
    made = duplicate(network)
    assert torch.equal(made.kept[0], network.kept[0])
    assert made.kept[1]["there"].grad_fn is None
    assert network.kept[0].grad_fn is not None


def test_a_view_that_would_not_follow_its_parameter_is_refused():
    network = nn.Linear(3, 3)
    network.top = network.weight[:2]
    with pytest.raises(UserError, match=r"model: a Linear keeps a view of the parameter `weight`"):
        duplicate(network)


def test_what_cannot_be_copied_is_named():
    network = nn.Linear(3, 3)
    network.lock = threading.Lock()
    with pytest.raises(UserError, match=r"model: a Linear cannot be copied \(TypeError: .*lock"):
        duplicate(network)


def test_loading_does_what_hangs_on_a_state_dict():
    network, seen = nn.Linear(3, 3), []
    network.register_load_state_dict_post_hook(lambda module, _: seen.append(module.weight.sum().item()))
    load(network, {"weight": torch.ones(3, 3)})
    assert seen == [9]

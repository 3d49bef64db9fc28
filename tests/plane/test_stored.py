"""Direction files: ours and tomgoldstein/loss-landscape's, by name or by position."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from landscape_mpi.errors import UserError
from landscape_mpi.plane import fit_direction
from landscape_mpi.surface import read_directions


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def parameters(network):
    return {name: tensor.detach() for name, tensor in network.named_parameters()}


def write(path, arrays, names=None, group="xdirection"):
    with h5py.File(path, "a") as file:
        for i, array in enumerate(arrays):
            item = file.create_dataset(f"{group}/{i}", data=array)
            if names:
                item.attrs["name"] = names[i]
    return path


def fit(path, network):
    delta, _ = read_directions(path, line=True)
    return fit_direction(delta, parameters(network), network.state_dict(), str(path))


def test_our_own_file_comes_back_by_name(tmp_path, network):
    theta = parameters(network)
    path = write(tmp_path / "d.h5", [t.numpy() for t in theta.values()], list(theta))
    assert all(torch.equal(tensor, theta[name]) for name, tensor in fit(path, network).items())


def test_a_file_of_weights_without_names_goes_by_position(tmp_path, network):
    theta = parameters(network)
    path = write(tmp_path / "d.h5", [t.double().numpy() for t in theta.values()])
    assert all(torch.equal(tensor, theta[name]) for name, tensor in fit(path, network).items())


@pytest.mark.parametrize("tracked", [True, False])
def test_a_states_file_with_and_without_num_batches_tracked(tmp_path, network, tracked):
    theta, state = parameters(network), network.state_dict()
    arrays = [
        theta[name].numpy() if name in theta else np.zeros(tensor.shape)
        for name, tensor in state.items()
        if tracked or not name.endswith("num_batches_tracked")
    ]
    direction = fit(write(tmp_path / "d.h5", arrays), network)
    assert list(direction) == list(theta)
    assert all(torch.equal(tensor, theta[name]) for name, tensor in direction.items())


def test_moving_statistics_are_refused(tmp_path, network):
    arrays = [tensor.float().numpy() + 1 for tensor in network.state_dict().values()]
    with pytest.raises(UserError, match=r"moves `1\.running_mean`, which evaluate\.batchnorm leaves alone"):
        fit(write(tmp_path / "d.h5", arrays), network)


def test_directions_of_another_network_are_refused(tmp_path, network):
    arrays = [tensor.numpy() for tensor in parameters(network).values()]
    with pytest.raises(UserError, match="holds 5 tensors and the network has 6"):
        fit(write(tmp_path / "few.h5", arrays[:5]), network)
    arrays[0] = np.zeros((2, 1, 5, 5))
    with pytest.raises(UserError, match=r"holds `0.weight` \[2, 1, 5, 5\]"):
        fit(write(tmp_path / "shape.h5", arrays), network)


def test_a_missing_axis_and_a_gap_are_named(tmp_path, network):
    path = write(tmp_path / "d.h5", [np.zeros(3)])
    with pytest.raises(UserError, match="no group `ydirection`"):
        read_directions(path, line=False)
    with h5py.File(path, "a") as file:
        file["xdirection/7"] = np.zeros(3)
    with pytest.raises(UserError, match="expected `0`, `1`"):
        fit(path, network)

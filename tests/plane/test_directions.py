"""Directions: random ones, normalised as in the paper, and those of files, by name or position."""

import math

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from landscape_mpi.errors import UserError
from landscape_mpi.plane import Plane, RandomDirections, fit_direction
from landscape_mpi.plane.parameters import standing
from landscape_mpi.surface import read_directions

SHAPES = {"conv.weight": (6, 3, 3, 3), "conv.bias": (6,), "bn.weight": (6,), "linear.weight": (4, 6), "scale": ()}


@pytest.fixture
def theta():
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def test_biasbn_leaves_tensors_of_one_dimension_alone(theta):
    d = RandomDirections(0, "filter", "biasbn").draw(theta, 0)
    assert list(d) == list(theta)
    assert [name for name, tensor in d.items() if tensor.any()] == ["conv.weight", "linear.weight"]


def test_ignore_none_takes_theta_itself_for_one_dimension(theta):
    d = RandomDirections(0, "filter", "none").draw(theta, 0)
    for name in ("conv.bias", "bn.weight", "scale"):
        assert torch.equal(d[name], theta[name])


def test_weight_and_no_normalisation(theta):
    plain = RandomDirections(5, "none", "none").draw(theta, 0)
    by_weight = RandomDirections(5, "weight", "none").draw(theta, 0)
    for name, tensor in theta.items():
        assert torch.equal(by_weight[name], plain[name] * tensor)
    assert plain["conv.weight"].std().item() == pytest.approx(1, abs=0.2)


def test_patterns_choose_parameters(theta):
    ignored = RandomDirections(0, "filter", ["conv.*", "scale"]).draw(theta, 0)
    assert [name for name, tensor in ignored.items() if tensor.any()] == ["bn.weight", "linear.weight"]
    only = RandomDirections(0, "filter", "biasbn", ["linear.*"]).draw(theta, 0)
    assert [name for name, tensor in only.items() if tensor.any()] == ["linear.weight"]
    everything = RandomDirections(0, "filter", "biasbn").draw(theta, 0)
    assert torch.equal(only["linear.weight"], everything["linear.weight"])


@pytest.mark.parametrize(("ignore", "only"), [(["conv2.*"], None), ("biasbn", ["layr.*"]), ("biasbn", ["*.bias"])])
def test_patterns_that_match_nothing_are_mistakes(theta, ignore, only):
    with pytest.raises(UserError, match="plane"):
        RandomDirections(0, "filter", ignore, only).draw(theta, 0)


def test_the_same_seed_gives_the_same_plane_and_axes_differ(theta):
    def plane(seed):
        directions = RandomDirections(seed, "filter", "biasbn")
        return Plane(theta, (directions.draw(theta, 0), directions.draw(theta, 1)))

    assert plane(3).fingerprint() == plane(3).fingerprint()
    assert len({plane(seed).fingerprint() for seed in range(5)}) == 5
    assert abs(plane(3).cosine(0, 1)) < 0.5
    state = torch.get_rng_state()
    plane(3)
    assert torch.equal(state, torch.get_rng_state())


def test_points_of_the_plane(theta):
    delta = {name: torch.ones_like(tensor) for name, tensor in theta.items()}
    eta = {name: 2 * torch.ones_like(tensor) for name, tensor in theta.items()}
    plane = Plane(theta, (delta, eta))
    assert all(torch.equal(tensor, theta[name]) for name, tensor in plane.at(0.0, 0.0).items())
    torch.testing.assert_close(plane.at(0.5, -1.0)["bn.weight"], theta["bn.weight"] - 1.5)
    assert plane.cosine(0, 1) == pytest.approx(1)
    numbers = sum(tensor.numel() for tensor in theta.values())
    assert plane.norms == pytest.approx((math.sqrt(numbers), 2 * math.sqrt(numbers)))


@pytest.mark.parametrize("normalise", ["filter", "layer", "weight", "none"])
def test_norms_and_angles_of_what_is_drawn_are_added_a_piece_at_a_time(theta, normalise, monkeypatch):
    theta = theta | {"empty": torch.zeros(0, 3), "narrow": torch.zeros(3, 0)}
    recipe = RandomDirections(1, normalise, "none")
    directions = [recipe.draw(theta, axis) for axis in range(3)]
    flat = [torch.cat([tensor.flatten() for tensor in direction.values()]).double() for direction in directions]
    monkeypatch.setattr("landscape_mpi.plane.parameters.PIECE", 5)
    for plane in (Plane(theta, tuple(directions)), Plane(theta, tuple(map(dict, directions)))):
        assert plane.norms == pytest.approx([vector.norm().item() for vector in flat])
        for one, other in ((0, 1), (1, 2), (2, 0)):
            cosine = torch.cosine_similarity(flat[one], flat[other], 0).item()
            assert plane.cosine(one, other) == pytest.approx(cosine, abs=1e-12)


def test_a_line_has_no_eta(theta):
    line = Plane(theta, (theta,))
    assert math.isnan(line.cosine(0, 1))
    assert len(line.norms) == 1
    torch.testing.assert_close(line.at(1.0)["scale"], 2 * theta["scale"])


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
    delta = read_directions(path, axes=1).axes[0]
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
        read_directions(path, axes=2)
    with h5py.File(path, "a") as file:
        file["xdirection/7"] = np.zeros(3)
    with pytest.raises(UserError, match="expected `0`, `1`"):
        fit(path, network)


def test_what_has_no_room_on_a_device_stays_where_it_is():
    theta = {"weight": torch.ones(6, 5), "bias": torch.ones(6)}
    stored = {"weight": torch.ones(6, 5), "bias": standing(theta["bias"])}
    plane = Plane(theta, (RandomDirections(0, "filter", "none").draw(theta, 0), stored))
    there = torch.device("meta")
    for room, where in ((None, there), (plane.nbytes, there), (plane.nbytes - 1, torch.device("cpu"))):
        found = plane.to(there, room)
        held = [*found.theta.values(), *found.directions[1].values()]
        assert {tensor.device for tensor in held} == {where}
        assert found.directions[0].scales["weight"].device == there
        assert found.directions[1]["bias"].untyped_storage().nbytes() == 4


def test_zeros_in_the_memory_of_one_number_have_the_fingerprint_of_zeros(monkeypatch):
    monkeypatch.setattr("landscape_mpi.plane.parameters.PIECE", 5)
    theta = {"weight": torch.randn(3, 4), "scale": torch.randn(())}
    held, kept = ({name: made(tensor) for name, tensor in theta.items()} for made in (torch.zeros_like, standing))
    assert Plane(theta, (held,)).fingerprint() == Plane(theta, (kept,)).fingerprint()

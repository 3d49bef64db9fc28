"""Between two networks: buffers that are no running statistics of batch norm move along, or are refused by name."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import landscape_mpi
from landscape_mpi.errors import UserError
from support import tiny


class Masked(nn.Linear):
    """Leaves out some of its inputs."""

    def __init__(self, dtype=torch.float32, persistent=True):
        super().__init__(4, 3)
        self.register_buffer("mask", (torch.rand(4) > 0.5).to(dtype), persistent)

    def forward(self, x):
        return super().forward(x * self.mask)


class Scaled(nn.Linear):
    """Divides by the square root of a variance that it keeps."""

    def __init__(self):
        super().__init__(4, 3)
        self.register_buffer("scale", torch.rand(3) + 0.5)

    def forward(self, x):
        return super().forward(x) / self.scale


def instance_norm():
    norm = nn.InstanceNorm1d(2, affine=True, track_running_stats=True)
    norm.running_mean, norm.running_var = torch.randn(2), torch.rand(2) + 0.5
    return nn.Sequential(nn.Unflatten(1, (2, 2)), norm, nn.Flatten(), nn.Linear(4, 3))


def spectral_norm():
    made = nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 3))
    made(torch.randn(9, 4))  # singular vectors of its own
    return made


MAKES = {
    "a mask": Masked,
    "a scale": Scaled,
    "instance norm": instance_norm,
    "spectral norm": spectral_norm,
    "spectral norm by hooks": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 3)), nn.Tanh()),
}


def two(make, *args):
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(make(*args))
    return made


def loss(network, data):
    with torch.no_grad():
        return functional.cross_entropy(network.eval()(data[0]).double(), data[1]).item()


def line(first, second, **options):
    grid = {"alpha": [0, 1, 3]}
    data = tiny.data(None, "train")
    return landscape_mpi.sweep(
        first, "cross_entropy", data, {"kind": "interpolate", "to": second}, grid, quiet=True, **options
    )


@pytest.mark.parametrize("name", MAKES)
def test_a_line_ends_at_the_other_network_whatever_its_buffers_are(name):
    first, second = two(MAKES[name])
    data = tiny.data(None, "train")
    assert line(first, second).loss()[[0, 2]] == pytest.approx([loss(first, data), loss(second, data)], rel=1e-5)


def test_half_way_the_buffers_are_half_way(tmp_path):
    first, second = two(Scaled)
    found = line(first, second, output=tmp_path / "s.h5")
    middle = Scaled()
    there = second.state_dict()
    middle.load_state_dict({name: (value + there[name]) / 2 for name, value in first.state_dict().items()})
    assert found.loss()[1] == pytest.approx(loss(middle, tiny.data(None, "train")), rel=1e-5)
    with h5py.File(tmp_path / "s.h5") as file:
        assert [item.attrs["name"] for item in file["xbuffers"].values()] == ["scale"]
        np.testing.assert_allclose(file["xbuffers/0"][()], second.scale - first.scale, rtol=1e-6)
    path = {"kind": "file", "path": str(tmp_path / "s.h5")}
    again = landscape_mpi.sweep(
        first, "cross_entropy", tiny.data(None, "train"), path, {"alpha": [0, 1, 3]}, quiet=True
    )
    assert again.loss().tolist() == found.loss().tolist()


def test_what_moves_along_is_told(capsys):
    first, second = two(Scaled)
    landscape_mpi.sweep(
        first, "cross_entropy", tiny.data(None, "train"), {"kind": "interpolate", "to": second}, {"alpha": [0, 1, 2]}
    )
    assert "note: the buffers scale move along with the parameters." in capsys.readouterr().err


def test_a_buffer_of_truth_values_or_on_part_of_the_way_is_refused_by_name():
    with pytest.raises(UserError, match=r"plane\.to: the tensor `mask` \(torch\.bool \[4\]\) differs from"):
        line(*two(Masked, torch.bool))
    first, second = two(Scaled)
    plane = {"kind": "interpolate", "to": second, "ignore": "biasbn"}
    with pytest.raises(UserError, match=r"plane\.to: the tensor `scale` .* expected normalize: none, ignore: none"):
        landscape_mpi.sweep(first, "cross_entropy", tiny.data(None, "train"), plane, {"alpha": [0, 1, 2]}, quiet=True)


class Places(nn.Linear):
    """Takes its inputs in an order that is a parameter of whole numbers."""

    def __init__(self):
        super().__init__(4, 3)
        self.places = nn.Parameter(torch.randperm(4), requires_grad=False)

    def forward(self, x):
        return super().forward(x[:, self.places])


def test_a_parameter_of_whole_numbers_stays_and_is_refused_where_it_differs():
    first, second = two(Places)
    with pytest.raises(UserError, match=r"plane\.to: the tensor `places` \(torch\.int64 \[4\]\) differs from"):
        line(first, second)
    second.load_state_dict({**second.state_dict(), "places": first.places})
    data = tiny.data(None, "train")
    assert line(first, second).loss()[[0, 2]] == pytest.approx([loss(first, data), loss(second, data)], rel=1e-5)


def test_an_end_that_its_state_dict_does_not_make_is_refused():
    first, second = two(Masked, torch.float32, False)
    assert not torch.equal(first.mask, second.mask)
    with pytest.raises(UserError, match=r"plane\.to: at alpha 1 .* by the network itself"):
        line(first, second)


@pytest.mark.parametrize("policy", ["keep", "move", "recompute"])
def test_running_statistics_of_batch_norm_obey_their_key(policy):
    first, second = two(tiny.network, 8, True)
    for made in (first, second):
        made.train()(torch.randn(50, 4) * 3 + 1)
    data = tiny.data(None, "train")
    found = line(first, second, batchnorm=policy).loss()[2]
    if policy == "keep":
        second[1].running_mean, second[1].running_var = first[1].running_mean, first[1].running_var
    if policy == "recompute":
        assert found != pytest.approx(loss(second, data), rel=1e-3)
    else:
        assert found == pytest.approx(loss(second, data), rel=1e-5)

"""What is swept is the callable's own network: what it computes from its weights follows them."""

import copy
import inspect
import math
from dataclasses import dataclass

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

import landscape_mpi
from landscape_mpi.data.split import batches, parts
from landscape_mpi.errors import CentreMismatchError, Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping.check_network import distance, share
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.run import sweep
from support import tiny
from support.jobs import tiny_job

GRID = {"alpha": [-1, 1, 5]}
POINTS = np.linspace(-1, 1, 5)


class Merging(nn.Linear):
    """Adds a product of two small factors to its weight in eval mode, and takes it off in train mode."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.a, self.b = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))
        self.merged = False

    def train(self, mode=True):
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.b.data @ self.a.data
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        apart = 0 if self.merged else x @ self.a.T @ self.b.T
        return functional.linear(x, self.weight, self.bias) + apart


class Caching(nn.Linear):
    """Keeps rows of unit length, made where it enters eval mode."""

    def train(self, mode=True):
        self.rows = None if mode else functional.normalize(self.weight.detach(), dim=1)
        return super().train(mode)

    def forward(self, x):
        return functional.linear(x, functional.normalize(self.weight, dim=1) if self.training else self.rows, self.bias)


class Lazy(nn.Linear):
    """Keeps what its first forward pass made of its weight."""

    rows = None

    def forward(self, x):
        if self.rows is None:
            self.rows = functional.normalize(self.weight.detach(), dim=1)
        return functional.linear(x, self.rows, self.bias)


class Deployed(nn.Module):
    """Two branches, which eval mode puts together in a buffer and deletes."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.left, self.right = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def train(self, mode=True):
        if not mode and hasattr(self, "left"):
            self.register_buffer("whole", (self.left.weight + self.right.weight).detach())
            self.register_buffer("bias", (self.left.bias + self.right.bias).detach())
            del self.left, self.right
        return super().train(mode)

    def forward(self, x):
        return functional.linear(x, self.whole, self.bias)


class Loading(nn.Linear):
    """Keeps what it made of its weight where a state dict was loaded."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.rows = None
        self.register_load_state_dict_post_hook(Loading.keep)

    @staticmethod
    def keep(module, _):
        module.rows = functional.normalize(module.weight.detach(), dim=1)

    def forward(self, x):
        return functional.linear(x, self.rows if self.rows is not None else functional.normalize(self.weight, dim=1))


class Sharing(nn.Linear):
    """Its own network: nothing is kept."""


KINDS = [Merging, Caching, Lazy, Deployed, Loading, Sharing]


def network(kind):
    return nn.Sequential(kind(4, 8), nn.Tanh(), nn.Linear(8, 3))


def at(made, delta, alpha):
    """The loss at a point as users find it: weights loaded into a new network in train mode, then eval mode."""
    there = copy.deepcopy(made).train()
    state = there.state_dict()
    there.load_state_dict(state | {name: state[name] + alpha * d for name, d in delta.items()})
    inputs, targets = tiny.data(None, "train")
    with torch.no_grad():
        return functional.cross_entropy(there.eval()(inputs).double(), targets).item()


def direction(made):
    generator = torch.Generator().manual_seed(5)
    return {name: 0.3 * torch.randn(p.shape, generator=generator) for name, p in made.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_computed_from_the_weights_follows_them(kind):
    torch.manual_seed(0)
    made = network(kind)
    delta = direction(made)
    surface = landscape_mpi.sweep(made, "cross_entropy", tiny.data(None, "train"), (delta,), GRID, quiet=True)
    assert surface.loss() == pytest.approx([at(made, delta, alpha) for alpha in POINTS], rel=1e-5)


@pytest.mark.parametrize("kind", [Merging, Caching, Lazy])
def test_a_network_that_is_in_eval_mode_is_swept_as_it_is_trained(kind):
    torch.manual_seed(0)
    made = network(kind)
    delta = direction(made)
    expected = [at(made, delta, alpha) for alpha in POINTS]
    surface = landscape_mpi.sweep(made.eval(), "cross_entropy", tiny.data(None, "train"), (delta,), GRID, quiet=True)
    assert surface.loss() == pytest.approx(expected, rel=1e-5)
    assert not made.training


class Frozen(nn.Sequential):
    """Refuses to be trained."""

    def train(self, mode=True):
        if mode:
            raise RuntimeError("frozen for ever")
        return super().train(mode)


def test_a_network_that_refuses_train_mode_is_swept():
    torch.manual_seed(0)
    made, data = Frozen(nn.Linear(4, 3)).eval(), tiny.data(None, "train")
    surface = landscape_mpi.sweep(made, "cross_entropy", data, grid=3, quiet=True)
    assert surface.loss()[1, 1] == pytest.approx(functional.cross_entropy(made(data[0]).double(), data[1]).item())


def test_points_are_evaluated_afresh_only_where_that_is_needed(capsys):
    torch.manual_seed(0)
    said = {}
    for kind in (Sharing, Caching):
        landscape_mpi.sweep(network(kind), "cross_entropy", tiny.data(None, "train"), grid=3)
        said[kind] = capsys.readouterr().err
    assert "fresh copy" not in said[Sharing]
    assert "note: each point gets a fresh copy of the network" in said[Caching]
    assert "by the network itself" in said[Caching]


def test_a_surface_that_is_flat_to_the_last_bit_is_told(capsys):
    """A cache that was filled before the network was given cannot be told from a part of the network."""
    torch.manual_seed(0)
    made, data = Lazy(4, 3), tiny.data(None, "train")
    made(data[0])
    landscape_mpi.sweep(made, "cross_entropy", data, grid=3)
    assert "note: the first examples give the same losses all over the plane" in capsys.readouterr().err
    landscape_mpi.sweep(Sharing(4, 3), "cross_entropy", data, grid=3)
    assert "to the last bit" not in capsys.readouterr().err


def test_a_surface_of_another_engine_does_not_go_on_afresh(tmp_path):
    torch.manual_seed(0)
    made, data, path = network(Caching), tiny.data(None, "train"), tmp_path / "s.h5"
    landscape_mpi.sweep(made, "cross_entropy", data, grid=3, output=path, quiet=True)
    with h5py.File(path, "r+") as file:
        assert file.attrs["engine"] == "eager"
        file.attrs["engine"], file["status"][0, 0] = "fused", 0
    with pytest.raises(
        UserError, match=r"begun with the engine fused, which cannot go on here: each point gets a fresh"
    ):
        landscape_mpi.sweep(made, "cross_entropy", data, grid=3, output=path, quiet=True)


CHECKPOINTED = f"""
import torch
from torch import nn
from torch.nn import functional

{inspect.getsource(Merging)}

def build():
    return Merging(4, 3)
"""


def test_a_checkpoint_is_loaded_before_eval_mode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "merging.py").write_text(CHECKPOINTED)
    torch.manual_seed(0)
    tuned = Merging(4, 3)
    torch.save(tuned.state_dict(), "tuned.pt")
    job = tiny_job(
        tmp_path, model={"build": "merging:build", "checkpoint": "tuned.pt"}, grid=GRID, loss="cross_entropy"
    )
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    with h5py.File("surface.h5") as file:
        assert file["train_loss"][2] == pytest.approx(at(tuned, {}, 0), rel=1e-6)


def hooked(name):
    first, second = nn.Linear(4, 8), nn.Linear(8, 3)
    match name:
        case "weight_norm by hooks":
            with pytest.warns(FutureWarning):
                first = nn.utils.weight_norm(first)
        case "spectral_norm by hooks":
            first = nn.utils.spectral_norm(first)
        case "pruned":
            prune.l1_unstructured(first, "weight", 0.5)
            prune.random_unstructured(second, "bias", 1)
        case "weight_norm":
            first = parametrizations.weight_norm(first)
        case "spectral_norm":
            first = parametrizations.spectral_norm(first)
    return nn.Sequential(first, nn.Tanh(), second)


NAMES = ["weight_norm by hooks", "spectral_norm by hooks", "pruned", "weight_norm", "spectral_norm"]


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_hooks_or_parametrizations_make_follow_theirs(name):
    torch.manual_seed(0)
    made = hooked(name)
    delta, inputs, targets = direction(made), *tiny.data(None, "train")
    made(inputs)  # hooks keep what they made, with its history
    expected = []
    for alpha in POINTS:
        torch.manual_seed(0)
        there = hooked(name)
        state = made.state_dict()
        there.load_state_dict(state | {key: state[key] + alpha * d for key, d in delta.items()})
        expected.append(functional.cross_entropy(there.eval()(inputs).double(), targets).item())
    surface = landscape_mpi.sweep(made, "cross_entropy", (inputs, targets), (delta,), GRID, quiet=True)
    assert surface.loss() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_eigenvectors_of_a_network_with_weight_norm_by_hooks_are_those_of_its_parametrization():
    torch.manual_seed(0)
    old, new = hooked("weight_norm by hooks"), hooked("weight_norm")
    new.load_state_dict(dict(zip(new.state_dict(), map(old.state_dict().get, ORDER), strict=True)))
    data = tiny.data(None, "train")
    found = [
        landscape_mpi.sweep(made, "cross_entropy", data, {"kind": "hessian"}, 3, dtype="float64", quiet=True)
        for made in (old, new)
    ]
    for name in ("hessian_max_eig", "hessian_min_eig"):
        old_one, new_one = (surface.attributes[name] for surface in found)
        assert old_one == pytest.approx(new_one, rel=1e-3)


ORDER = ["0.bias", "0.weight_g", "0.weight_v", "2.weight", "2.bias"]


def test_curvature_is_refused_where_the_losses_do_not_follow_the_parameters():
    with pytest.raises(UserError, match=r"hessian: .* computes something from its weights"):
        landscape_mpi.sweep(
            network(Caching), "cross_entropy", tiny.data(None, "train"), grid=3, metrics=["loss", "hessian"], quiet=True
        )
    with pytest.raises(UserError, match=r"hessian: .* computes something from its weights"):
        landscape_mpi.sweep(
            network(Caching), "cross_entropy", tiny.data(None, "train"), {"kind": "hessian"}, 3, quiet=True
        )


class Precise(nn.Linear):
    """Gives other numbers in another precision."""

    def forward(self, x):
        return super().forward(x) * (2 if x.dtype == torch.float64 else 1)


def test_a_network_that_is_another_in_another_dtype_is_refused():
    torch.manual_seed(0)
    with pytest.raises(CentreMismatchError, match=r"by the network itself and \S+ on the plane"):
        landscape_mpi.sweep(
            network(Precise), "cross_entropy", tiny.data(None, "train"), grid=3, dtype="float64", quiet=True
        )


class Chaotic(nn.Linear):
    """Makes much of rounding: a logistic map after its linear one."""

    def __init__(self, steps):
        super().__init__(4, 3)
        self.steps = steps

    def forward(self, x):
        y = torch.sigmoid(super().forward(x))
        for _ in range(self.steps):
            y = 3.9 * y * (1 - y)
        return y


@pytest.mark.parametrize("steps", [0, 12, 20])
def test_rounding_that_a_network_makes_much_of_is_no_reason_to_refuse_it(steps):
    torch.manual_seed(0)
    made, data = Chaotic(steps), tiny.data(None, "train")
    landscape_mpi.sweep(made, "cross_entropy", data, grid=3, dtype="float64", quiet=True)


@pytest.mark.parametrize(
    ("ours", "apart"),
    [
        ([1.0, 2.0, math.inf], 0.0),
        ([1.5, 2.0, math.nan], 0.25),
        ([1.0, 2.0, 3.0], math.inf),
        ([1.0, math.nan, math.nan], math.inf),
    ],
)
def test_losses_that_are_not_finite_hide_no_others(ours, apart):
    assert distance(np.array([1.0, 2.0, math.nan]), np.array(ours)) == apart
    assert distance(np.array([math.inf]), np.array([math.nan])) == 0


@dataclass
class Rank:
    """As much of a world as a share depends on."""

    rank: int
    size: int


@given(st.integers(1, 2000), st.integers(2, 70), st.integers(1, 9))
def test_shares_are_consecutive_and_make_the_batches_of_one_rank(images, batch, ranks):
    shares = [share(images, batch, Rank(rank, ranks)) for rank in range(ranks)]
    made = [(part.start, part.stop) for mine in shares for part in parts(mine, images, batch)]
    assert made == [(cut.start, cut.stop) for cut in batches(images, batch)]

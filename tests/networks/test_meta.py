"""Networks without memory: parameters on the meta device, everything else as it is usually built."""

import copy
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from landscape_mpi.errors import UserError
from landscape_mpi.networks import ZOO, build_network
from landscape_mpi.networks.meta import build_empty, materialise
from support.memory import anonymous

CPU = torch.device("cpu")


class Tied(nn.Module):
    """A head that is the embedding, by the object or by its memory, set in one of many ways."""

    def __init__(self, how):
        super().__init__()
        weight = nn.Parameter(torch.randn(5, 3))
        if how == "registered twice":
            self.a, self.b = weight, weight
        elif how == "taken from the other":
            self.a = weight
            self.b = self.a
        elif how == "memory":
            self.a = weight
            self.b = nn.Parameter(self.a.data)
        elif how == "memory of one tensor":
            numbers = torch.randn(5, 3)
            self.a, self.b = nn.Parameter(numbers), nn.Parameter(numbers)
        self.inside = nn.Linear(3, 3)


class Kept(nn.Module):
    """Keeps its parameter in a list too."""

    def __init__(self):
        super().__init__()
        weight = nn.Parameter(torch.randn(2))
        self.others = [weight]
        self.w = weight


class Masked(nn.Module):
    """A mask that is no part of the state dict."""

    def __init__(self, draw=lambda: torch.rand(4) < 0.5, *, seed=None, persistent=False):
        super().__init__()
        if seed is not None:
            torch.manual_seed(seed)
        self.layer = nn.Linear(4, 4)
        self.token = nn.Parameter(torch.randn(4) * 0.02)
        drawn = draw()
        if isinstance(drawn, torch.Tensor):
            self.register_buffer("mask", drawn, persistent=persistent)
        else:
            self.mask = drawn


class Reads(nn.Module):
    """Looks at its weights while it is built."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.start = float(self.layer.weight.detach().sum())


class Copies(nn.Module):
    """A buffer of what the weights were at the start."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("start", self.layer.weight.detach().clone())


class Unsaved(nn.Module):
    """A frozen part that its checkpoints do not hold."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2)
        self._register_state_dict_hook(self.without)

    @staticmethod
    def without(module, state, prefix, metadata):  # noqa: ARG004 - as torch calls it
        for name in ("frozen.weight", "frozen.bias"):
            del state[prefix + name]


def all_on_meta(network):
    return all(parameter.is_meta for parameter in network.parameters())


def filled_from(network, source):
    """Return the network with memory, and with the source's numbers."""
    materialise(network, CPU, torch.float32)
    network.load_state_dict(source.state_dict())
    return network


def seeded(build, seed=0):
    torch.manual_seed(seed)
    return build()


@pytest.mark.parametrize("name", ["vgg9", "resnet20", "densenet121"])
def test_the_networks_of_the_paper_are_built_empty_and_filled(name):
    network = build_empty(ZOO[name])
    assert all_on_meta(network)
    assert not any(buffer.is_meta for buffer in network.buffers())
    assert [(n, p.shape, p.requires_grad) for n, p in network.named_parameters()] == [
        (n, p.shape, p.requires_grad) for n, p in seeded(ZOO[name]).named_parameters()
    ]


@pytest.mark.parametrize("name", ["vgg9", "resnet20"])
def test_a_filled_network_computes_what_its_source_does(name):
    source = seeded(ZOO[name]).eval()
    network = filled_from(build_empty(ZOO[name]).eval(), source)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(x), source(x))


BUILDS = {
    "lstm": lambda: nn.LSTM(3, 4, 2, bidirectional=True),
    "transformer": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "spectral norm": lambda: spectral_norm(nn.Linear(3, 4)),
    "parametrized": lambda: parametrizations.weight_norm(nn.Linear(3, 4)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "lists": lambda: nn.ParameterList([torch.randn(2), torch.randn(3)]),
    "copied": lambda: nn.Sequential(*[copy.deepcopy(nn.Linear(3, 3)) for _ in range(2)]),
    "reads": Reads,
    "copies": Copies,
    "whole": lambda: nn.ParameterDict({"n": nn.Parameter(torch.arange(3), requires_grad=False)}),
    "complex": lambda: nn.ParameterList([torch.randn(2, dtype=torch.complex64)]),
    "half": lambda: nn.Linear(2, 2).half(),
}


@pytest.mark.parametrize("name", BUILDS)
def test_any_network_has_its_parameters_on_meta_and_takes_a_state_dict_afterwards(name):
    build = BUILDS[name]
    source = seeded(build, 1)
    network = seeded(lambda: build_empty(build))
    assert all_on_meta(network)
    assert list(network.state_dict()) == list(source.state_dict())
    filled_from(network, source)
    for key, tensor in source.state_dict().items():
        found = network.state_dict()[key]
        assert torch.equal(found, tensor.to(found.dtype)), key
    assert {p.dtype for p in network.parameters()} <= {torch.float32, torch.complex64, torch.int64}


def test_recurrent_layers_use_what_they_were_filled_with():
    source = seeded(BUILDS["lstm"]).eval()
    network = filled_from(build_empty(BUILDS["lstm"]), source).eval()
    x = torch.randn(5, 2, 3)
    assert torch.equal(network(x)[0], source(x)[0])


@pytest.mark.parametrize("how", ["registered twice", "taken from the other", "memory", "memory of one tensor"])
def test_what_is_tied_stays_tied(how):
    network = build_empty(lambda: Tied(how))
    assert all_on_meta(network)
    assert (network.a is network.b) == ("memory" not in how)
    materialise(network, CPU, torch.float64)
    assert network.a.data_ptr() == network.b.data_ptr() != 0
    assert network.a.dtype == network.b.dtype == network.inside.weight.dtype == torch.float64
    with torch.no_grad():
        network.a.fill_(7)
    assert (network.b == 7).all()


@pytest.mark.parametrize("build", [Reads, Copies])
def test_a_network_that_needs_its_weights_is_built_as_usual_and_emptied(build):
    torch.manual_seed(3)
    expected = build()
    torch.manual_seed(3)
    network = build_empty(build)
    assert all_on_meta(network)
    if build is Reads:
        assert network.start == expected.start
    else:
        assert torch.equal(network.start, expected.start)


def test_a_parameter_that_is_kept_elsewhere_too_is_one_object_all_the_time():
    network = build_empty(Kept)
    assert network.w.is_meta
    assert network.others[0] is network.w
    materialise(network, CPU, torch.float32)
    assert network.others[0] is network.w
    assert not network.w.is_meta


DRAWS = {
    "buffer": lambda: torch.rand(4) < 0.5,
    "list": lambda: torch.randperm(64).tolist(),
    "array": lambda: torch.randperm(64).numpy(),
    "number": lambda: torch.rand(()).item(),
    "in place": lambda: torch.zeros(4).normal_(),
    "by numpy": lambda: np.random.default_rng(0).random(4),
    "by python": lambda: random.random(),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("seed", [None, 5])
def test_what_is_drawn_beside_the_state_dict_is_drawn_as_usual(name, seed):
    def made(build):
        torch.manual_seed(1)
        random.seed(1)
        return build()

    usual = made(lambda: Masked(DRAWS[name], seed=seed))
    network = made(lambda: build_empty(lambda: Masked(DRAWS[name], seed=seed)))
    assert all_on_meta(network)
    assert torch.equal(torch.as_tensor(network.mask), torch.as_tensor(usual.mask))


def test_what_a_checkpoint_replaces_does_not_cost_the_memory_of_the_weights():
    calls = []

    def build():
        calls.append(1)
        return Masked(persistent=True)

    assert all_on_meta(build_empty(build))
    assert len(calls) == 1


def test_parameters_that_no_state_dict_holds_stay_real():
    torch.manual_seed(2)
    usual = Unsaved()
    torch.manual_seed(2)
    network = build_empty(Unsaved)
    assert network.head.weight.is_meta
    assert torch.equal(network.frozen.weight, usual.frozen.weight)
    materialise(network, CPU, torch.float64)
    assert torch.equal(network.frozen.weight, usual.frozen.weight.double())


def test_lazy_parameters_are_left_alone():
    network = build_empty(lambda: nn.LazyLinear(3))
    assert isinstance(network.weight, nn.UninitializedParameter)


def test_what_the_callable_raises_is_raised():
    def build():
        raise UserError("model.options", "found 0")

    with pytest.raises(UserError, match="found 0"):
        build_empty(build)
    assert not nn.Linear(1, 1).weight.is_meta


def test_what_is_no_network_is_returned():
    assert build_empty(lambda: 3) == 3


def test_other_threads_build_as_usual():
    found = []

    def build():
        thread = threading.Thread(target=lambda: found.append(nn.Linear(2, 2)))
        thread.start()
        thread.join()
        return nn.Linear(2, 2)

    assert all_on_meta(build_empty(build))
    assert not found[0].weight.is_meta


def test_the_network_takes_no_memory_for_its_parameters():
    before = anonymous()
    network = build_empty(lambda: nn.Sequential(*(nn.Linear(4096, 4096) for _ in range(8))))
    assert all_on_meta(network)
    assert anonymous() - before < 100e6  # 8 layers of 67 MB


def test_a_network_of_a_job_can_be_built_empty(tmp_path):
    (tmp_path / "empty_net.py").write_text("from torch import nn\ndef net(n):\n    return nn.Linear(n, n)\n")
    network = build_network("empty_net:net", {"n": 4}, tmp_path, empty=True)
    assert all_on_meta(network)
    assert not any(p.is_meta for p in build_network("vgg9", {"width": 1}, tmp_path).parameters())

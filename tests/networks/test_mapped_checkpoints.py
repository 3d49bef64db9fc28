"""Checkpoints are fitted to networks without memory, and their tensors are views of the files."""

import argparse
import json
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from landscape_mpi.errors import UserError
from landscape_mpi.networks import load_checkpoint, open_checkpoint
from landscape_mpi.networks.checkpoint import BLOCK
from landscape_mpi.networks.files import places, read_weights, views
from landscape_mpi.networks.meta import build_empty, materialise
from support.memory import anonymous

KEY = "model.checkpoint"


class Net(nn.Module):
    """Some layers, with a head that is the first one where that is asked for."""

    def __init__(self, width=8, tied=False):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(3)])
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, width, bias=False)
        if tied:
            self.head.weight = self.layers[0].weight


class Older(nn.Module):
    """A network whose hook loads the names of its first version."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_load_state_dict_pre_hook(self.renamed)

    @staticmethod
    def renamed(module, state, prefix, *_):  # noqa: ARG004 - as torch calls it
        for name in ("weight", "bias"):
            if prefix + f"old_{name}" in state:
                state[prefix + f"layer.{name}"] = state.pop(prefix + f"old_{name}")


def made(seed=0, **options):
    torch.manual_seed(seed)
    return Net(**options)


def of_torch(state, path, **options):
    torch.save(state, path, **options)


def inert(state, path):
    torch.save({"model": state, "args": argparse.Namespace(lr=1)}, path)


def legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def sharded(state, path):
    path.mkdir()
    names = list(state)
    parts = {"a.safetensors": names[:2], "b.safetensors": names[2:]}
    for shard, held in parts.items():
        save_file({name: state[name] for name in held}, path / shard)
    weight_map = {name: shard for shard, held in parts.items() for name in held}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


WAYS = {"safetensors": save_file, "shards": sharded, "archive": of_torch, "inert": inert}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("way", WAYS)
def test_tensors_are_views_of_the_file_with_its_bits(tmp_path, way, dtype):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in made().state_dict().items()}
    path = tmp_path / "net"
    WAYS[way](state, path)
    found = open_checkpoint(build_empty(Net), path, KEY, mapped=True)
    assert found.copied == ()
    assert set(found.state) == set(state)
    for name, tensor in found.state.items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name])


def test_a_file_whose_tensors_cannot_be_mapped_says_so(tmp_path):
    state = made().state_dict()
    legacy(state, tmp_path / "net.pt")
    found = open_checkpoint(build_empty(Net), tmp_path / "net.pt", KEY, mapped=True)
    assert set(found.copied) == set(state)
    assert open_checkpoint(build_empty(Net), tmp_path / "net.pt", KEY).copied == ()


def test_what_is_written_into_a_mapped_tensor_does_not_reach_the_file(tmp_path):
    save_file(made().state_dict(), tmp_path / "net.safetensors")
    before = (tmp_path / "net.safetensors").read_bytes()
    found = open_checkpoint(build_empty(Net), tmp_path / "net.safetensors", KEY, mapped=True)
    found.state["head.weight"].zero_()
    assert (tmp_path / "net.safetensors").read_bytes() == before


@pytest.mark.parametrize("held", ["layers.0.weight", "head.weight"])
def test_a_network_on_meta_wants_tied_tensors_once(tmp_path, held):
    state = made(tied=True).state_dict()
    other = {"layers.0.weight": "head.weight", "head.weight": "layers.0.weight"}[held]
    save_file({k: v for k, v in state.items() if k != other}, tmp_path / "net.safetensors")
    found = open_checkpoint(build_empty(lambda: Net(tied=True)), tmp_path / "net.safetensors", KEY, mapped=True)
    assert found.state[other] is found.state[held]
    assert torch.equal(found.state[held], state[held])
    with pytest.raises(UserError, match=rf"`{re.escape(other)}` \[8, 8\] is missing"):
        open_checkpoint(build_empty(Net), tmp_path / "net.safetensors", KEY)


def test_tied_tensors_that_differ_in_the_file_are_refused(tmp_path):
    state = made().state_dict()
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match="one tensor in the network and two that differ"):
        open_checkpoint(build_empty(lambda: Net(tied=True)), tmp_path / "net.safetensors", KEY)
    state["head.weight"] = state["layers.0.weight"].clone()
    save_file(state, tmp_path / "net.safetensors")
    open_checkpoint(build_empty(lambda: Net(tied=True)), tmp_path / "net.safetensors", KEY)


def test_the_tie_may_be_one_of_memory(tmp_path):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.randn(3, 2))
            self.b = nn.Parameter(self.a.data)

    save_file({"a": torch.ones(3, 2)}, tmp_path / "net.safetensors")
    found = open_checkpoint(build_empty(Shared), tmp_path / "net.safetensors", KEY)
    assert set(found.state) == {"a", "b"}


def test_a_network_on_meta_has_its_older_names_loaded_by_its_own_hooks(tmp_path):
    weights = {"old_weight": torch.randn(3, 3), "old_bias": torch.randn(3)}
    save_file(weights, tmp_path / "net.safetensors")
    found = open_checkpoint(build_empty(Older), tmp_path / "net.safetensors", KEY, mapped=True)
    assert torch.equal(found.state["layer.weight"], weights["old_weight"])
    assert set(found.copied) == {"layer.weight", "layer.bias"}


def test_a_network_that_was_built_empty_and_filled_is_the_one_that_was_saved(tmp_path):
    source = made().eval()
    save_file(source.state_dict(), tmp_path / "net.safetensors")
    network = materialise(build_empty(Net), torch.device("cpu"), torch.float32).eval()
    load_checkpoint(network, tmp_path / "net.safetensors")
    x = torch.randn(4, 8)
    assert torch.equal(network.layers[0](x), source.layers[0](x))
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("way", ["safetensors", "shards", "archive"])
def test_opening_a_large_checkpoint_takes_no_memory_of_its_size(tmp_path, way):
    width = 2048  # 4 tensors of 17 MB
    WAYS[way](made(width=width).state_dict(), tmp_path / "net")
    network = build_empty(lambda: Net(width))
    open_checkpoint(network, tmp_path / "net", KEY, mapped=True)  # what is imported now counts no more
    before = anonymous()
    found = open_checkpoint(network, tmp_path / "net", KEY, mapped=True)
    assert anonymous() - before < 5e6
    assert found.copied == ()


class Sizes(TorchFunctionMode):
    """Keeps the sizes of what comparisons make."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if "eq" in func.__name__:
            self.found.append(result.numel())
        return result


def test_tied_tensors_are_compared_in_blocks(tmp_path):
    width = 600
    state = made(width=width).state_dict()
    state["head.weight"] = state["layers.0.weight"].clone()
    save_file(state, tmp_path / "net.safetensors")
    network = build_empty(lambda: Net(width, tied=True))
    with Sizes() as sizes:
        open_checkpoint(network, tmp_path / "net.safetensors", KEY, mapped=True)
    assert sum(sizes.found) >= width * width
    assert max(sizes.found) <= BLOCK < width * width


@pytest.mark.parametrize("beyond", [0, 2])
def test_tensors_that_begin_between_two_numbers_of_a_file_are_read_and_not_mapped_anew(tmp_path, beyond):
    path, numbers = tmp_path / "net.safetensors", torch.arange(6.0)
    header = json.dumps({"w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}).encode()
    header += b" " * ((beyond - 8 - len(header)) % 4)
    path.write_bytes(len(header).to_bytes(8, "little") + header + numbers.numpy().tobytes())
    state = read_weights(path, KEY, mapped=True).loaded
    assert torch.equal(state["w"], numbers)
    found = places(state, [path])
    assert set(found) == (set() if beyond else {"w"})
    assert all(torch.equal(tensor, numbers) for tensor in views(found, [path]).values())

"""Every form in which people keep weights loads to the bits that were saved, and says how they were found."""

import argparse
import collections
import datetime
import enum
import functools
import json
import pathlib
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.optim.swa_utils import AveragedModel

from landscape_mpi.errors import UserError
from landscape_mpi.networks import load_checkpoint, load_state, open_checkpoint, sha256


class Net(nn.Module):
    """A little of everything that has names: batch norm, a module within a module, a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3))
        self.head = nn.Linear(3, 2)
        self.register_buffer("scale", torch.ones(3), persistent=False)


class Tied(nn.Module):
    """A head that is the embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.mix = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


class Wrapped(nn.Module):
    """A network of which all is in `network`."""

    def __init__(self):
        super().__init__()
        self.network = Net()


def made(kind=Net, seed=0):
    torch.manual_seed(seed)
    return kind()


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def same(network, state, prefix=""):
    found = network.state_dict()
    return all(torch.equal(found[prefix + name], tensor) for name, tensor in state.items())


STATE = made().state_dict()
OTHER = made(seed=1).state_dict()
EXTRA = {"criterion.weight": torch.ones(4)}
AVERAGED = AveragedModel(made()).state_dict()

QUIET = {
    "plain": STATE,
    "counters": {**STATE, "total_ops": torch.ones(1), "stem.total_params": torch.ones(1)},
    "model_state": {"epoch": 1, "model_state": STATE, "optimizer_state": {"state": {0: {"exp_avg": torch.ones(3)}}}},
    "params": {"params": STATE},
    "deep": {"run": {"checkpoint": {"weights": STATE}}},
    "list": {"networks": [STATE]},
    "twice": {"model": STATE, "state_dict": made().state_dict()},
    "moments": {"model": STATE, "optimizer": {"exp_avg": OTHER}},
    "moments by name": {"weights": STATE, "opt": {"m": OTHER, "v": OTHER}},
    "computed": {**STATE, "scale": torch.zeros(3)},
}
TOLD = {
    "ddp": (under("module.", STATE), r"its names begin with `module\.` and those of the network do not"),
    "compiled": ({"model": under("_orig_mod.", STATE)}, r"begin with `_orig_mod\.` and"),
    "ddp compiled": (under("_orig_mod.module.", STATE), r"begin with `_orig_mod\.module\.` and"),
    "compiled ddp": (under("module._orig_mod.", STATE), r"begin with `module\._orig_mod\.` and"),
    "compiled within": (
        {name.replace("stem.", "stem._orig_mod."): tensor for name, tensor in STATE.items()},
        r"`_orig_mod` within names was left out",
    ),
    "ddp within": (
        {name.replace("stem.", "stem.module."): tensor for name, tensor in STATE.items()},
        r"`module` within names was left out|`_orig_mod`.*`module` within names was left out",
    ),
    "lightning": (
        {"state_dict": {**under("model.", STATE), **EXTRA}, "hyper_parameters": {"lr": 0.1}},
        r"begin with `model\.` .*; left out, as the network does not have it: `criterion\.weight`",
    ),
    "criterion": ({**STATE, **EXTRA}, r"left out, as the network does not have it: `criterion\.weight`"),
    "averaged": (AVERAGED, r"begin with `module\.`"),
    "ema beside": ({"model": STATE, "ema": OTHER}, r"several .* fit: `model` is taken, not `ema`; model\.entry names"),
    "ema within": (
        {**under("model.", STATE), **under("model_ema.", OTHER)},
        r"several .* fit: `model` is taken, not `model_ema`",
    ),
    "student": ({"student": STATE, "teacher": OTHER}, r"`student` is taken, not `teacher`"),
    "params_ema": ({"params": STATE, "params_ema": OTHER}, r"`params` is taken, not `params_ema`"),
    "ema alone": ({"model": {"a": torch.ones(1)}, "model_ema": STATE}, r"`model_ema` is taken, the only set"),
}


@pytest.mark.parametrize("name", QUIET)
def test_weights_are_found_where_they_are(tmp_path, name):
    torch.save(QUIET[name], tmp_path / "net.pt")
    network = made(seed=2)
    notes = load_checkpoint(network, tmp_path / "net.pt")
    assert same(network, STATE)
    assert notes == () or name == "computed"
    assert torch.equal(network.scale, torch.ones(3))


@pytest.mark.parametrize("name", TOLD)
def test_what_was_chosen_or_left_out_is_told(tmp_path, name):
    content, message = TOLD[name]
    torch.save(content, tmp_path / "net.pt")
    network = made(seed=2)
    notes = load_checkpoint(network, tmp_path / "net.pt")
    assert same(network, STATE)
    assert re.search(message, "\n".join(notes))
    assert all(note.startswith(f"model.checkpoint: {tmp_path / 'net.pt'}") for note in notes)


@pytest.mark.parametrize("prefix", ["", "module.", "network.", "module.network."])
def test_the_networks_own_prefix_may_be_lacking(tmp_path, prefix):
    save_file(under(prefix, STATE), tmp_path / "net.safetensors")
    network = made(Wrapped, 2)
    load_checkpoint(network, tmp_path / "net.safetensors")
    assert same(network, STATE, "network.")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [(".", STATE), ("model", STATE), ("ema", OTHER), ("state_dict.student", STATE), ("state_dict.teacher", OTHER)],
)
def test_the_entry_that_the_job_names_is_taken(tmp_path, entry, expected):
    content = {"model": STATE, "ema": under("module.", OTHER)}
    content |= STATE
    content["state_dict"] = {**under("student.", STATE), **under("teacher.", OTHER)}
    torch.save(content, tmp_path / "net.pt")
    network = made(seed=2)
    load_checkpoint(network, tmp_path / "net.pt", entry=entry)
    assert same(network, expected)


def test_an_entry_that_is_not_there_is_named_with_those_that_are(tmp_path):
    torch.save({"model": STATE, "ema": OTHER}, tmp_path / "net.pt")
    message = (
        r"model\.entry: found 'emma', which .*net\.pt does not hold; it has `model`, `ema` \(did you mean `ema`\?\)"
    )
    with pytest.raises(UserError, match=message):
        load_checkpoint(made(), tmp_path / "net.pt", entry="emma")
    notes = load_checkpoint(made(), tmp_path / "net.pt", "plane.to", entry="emma")
    assert any("holds no 'emma' of model.entry" in note for note in notes)


def test_two_sets_that_might_be_meant_are_asked_for(tmp_path):
    torch.save({"first": STATE, "second": OTHER}, tmp_path / "net.pt")
    with pytest.raises(
        UserError, match=r"holds several sets .*: `first`, `second`; say by model\.entry which is meant"
    ):
        load_checkpoint(made(), tmp_path / "net.pt")


def test_tied_tensors_are_wanted_once(tmp_path):
    tied = made(Tied)
    save_model(tied, str(tmp_path / "one.safetensors"))
    torch.save({name: t for name, t in tied.state_dict().items() if name != "embed.weight"}, tmp_path / "other.pt")
    torch.save({name: t.clone() for name, t in tied.state_dict().items()}, tmp_path / "both.pt")
    for file in ("one.safetensors", "other.pt", "both.pt"):
        fresh = made(Tied, 2)
        load_checkpoint(fresh, tmp_path / file)
        assert same(fresh, tied.state_dict())
        assert fresh.head.weight is fresh.embed.weight
        assert set(open_checkpoint(fresh, tmp_path / file, "k").state) == set(tied.state_dict())


class Headed(nn.Module):
    """A network of which all is in `transformer`, but for a head that is a tensor of it."""

    def __init__(self):
        super().__init__()
        self.lm_head = nn.Linear(3, 5, bias=False)
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(5, 3), "mix": nn.Linear(3, 3)})
        self.transformer["wte"].weight = self.lm_head.weight


@pytest.mark.parametrize("prefix", ["transformer.", "", "module.transformer."])
def test_the_networks_own_prefix_may_be_lacking_where_a_tied_head_stands_outside(tmp_path, prefix):
    """As the published GPT-2, whose file has the names of the network without its head."""
    inner = made(Headed).transformer.state_dict()
    save_file(under(prefix, inner), tmp_path / "net.safetensors")
    network = made(Headed, 2)
    load_checkpoint(network, tmp_path / "net.safetensors")
    assert same(network, inner, "transformer.")
    assert network.lm_head.weight is network.transformer["wte"].weight


@pytest.mark.slow
def test_networks_that_are_wrapped_or_lazy_themselves(tmp_path):
    torch.save(STATE, tmp_path / "net.pt")
    for wrapped, prefix in ((nn.DataParallel(made(seed=2)), "module."), (torch.compile(made(seed=2)), "_orig_mod.")):
        load_checkpoint(wrapped, tmp_path / "net.pt")
        assert same(wrapped, STATE, prefix)
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "lazy.pt")
    lazy = nn.LazyLinear(2)
    load_checkpoint(lazy, tmp_path / "lazy.pt")
    assert lazy.weight.shape == (2, 3)


def test_tensors_that_the_network_ties_and_the_file_does_not(tmp_path):
    state = made(Tied).state_dict()
    torch.save({**state, "head.weight": state["head.weight"] + 1}, tmp_path / "net.pt")
    with pytest.raises(
        UserError, match=r"`embed\.weight` and `head\.weight` are one tensor in the network and two that"
    ):
        load_checkpoint(made(Tied), tmp_path / "net.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("evaluated", [torch.float32, torch.float64])
@pytest.mark.parametrize("built", [torch.float32, torch.bfloat16, torch.float64])
def test_theta_is_what_the_file_says_to_the_last_bit_that_the_evaluation_holds(tmp_path, dtype, evaluated, built):
    state = {
        name: torch.randn(t.shape, dtype=torch.float64).to(dtype) for name, t in nn.Linear(7, 5).state_dict().items()
    }
    save_file(state, tmp_path / "net.safetensors")
    network = nn.Linear(7, 5, dtype=built)
    load_checkpoint(network, tmp_path / "net.safetensors", dtype=evaluated)
    for name, tensor in network.to(evaluated).state_dict().items():
        assert torch.equal(tensor, state[name].to(evaluated))


class Colour(enum.Enum):
    RED = 1


class Config(dict):
    """A mapping of a class of one's own, as configurations often are."""


class Run:
    """An object of one's own that keeps weights."""

    def __init__(self, state):
        self.weights = state


BESIDE = {
    "args": argparse.Namespace(lr=0.1, out=pathlib.PurePosixPath("run")),
    "scalar": np.float64(93.2),
    "array": np.arange(3),
    "dtype": np.dtype("f4"),
    "partial": functools.partial(torch.optim.SGD, lr=0.1),
    "default": collections.defaultdict(list, {"a": [1]}),
    "deque": collections.deque([1, 2]),
    "time": datetime.datetime(2026, 1, 1),
    "enum": Colour.RED,
    "config": Config(a=1, b=Config(c=[Colour.RED])),
    "key": {Colour.RED: 1},
}
WAYS = {"zip": {}, "old": {"_use_new_zipfile_serialization": False}, "protocol 4": {"pickle_protocol": 4}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*BESIDE, pytest.param("optimizer", marks=pytest.mark.slow)])
def test_what_stands_beside_the_weights_is_told_and_not_executed(tmp_path, name, way):
    # Not made at import: that loads torch's compiler, seconds of a core.
    beside = BESIDE[name] if name in BESIDE else torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=1.0)
    halves = {name: t.to(torch.bfloat16) if t.is_floating_point() else t for name, t in OTHER.items()}
    torch.save({"beside": beside, "model": STATE, "half_ema": halves}, tmp_path / "net.pt", **WAYS[way])
    network = made(seed=2)
    notes = load_checkpoint(network, tmp_path / "net.pt")
    assert same(network, STATE)
    assert any("`model` is taken, not `half_ema`" in note for note in notes)
    if name not in ("array", "default"):
        assert any("beside the weights: not executed, left out" in note for note in notes)
    load_checkpoint(network, tmp_path / "net.pt", entry="half_ema")
    assert same(network, {name: t.to(STATE[name].dtype) for name, t in halves.items()})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "wrap", [lambda net: net, lambda net: {"model": net}, lambda net: Run(net.state_dict()), Config]
)
def test_weights_within_objects_are_read_without_their_classes(tmp_path, wrap, way):
    thing = made()
    thing = wrap(thing.state_dict() if wrap is Config else thing)
    torch.save(thing, tmp_path / "net.pt", **WAYS[way])
    network = made(seed=2)
    load_checkpoint(network, tmp_path / "net.pt")
    assert same(network, STATE)


@pytest.mark.parametrize("way", WAYS)
def test_views_and_shared_storages_come_out_as_they_were(tmp_path, way):
    whole = torch.arange(24.0)
    state = {"weight": whole[4:16].view(4, 3).t(), "bias": whole[20:23]}
    torch.save({"net": state, "beside": argparse.Namespace()}, tmp_path / "net.pt", **WAYS[way])
    network = nn.Linear(4, 3)
    load_checkpoint(network, tmp_path / "net.pt")
    assert same(network, state)


def sharded(folder, suffix="safetensors", stem="model"):
    """Write a folder as save_pretrained does, in two shards."""
    names = list(STATE)
    files = {name: f"{stem}-0000{1 + i % 2}-of-00002.{suffix}" for i, name in enumerate(names)}
    for file in set(files.values()):
        part = {name: STATE[name] for name in names if files[name] == file}
        save_file(part, folder / file) if suffix == "safetensors" else torch.save(part, folder / file)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))
    (folder / "config.json").write_text("{}")
    return index


@pytest.mark.parametrize(("suffix", "stem"), [("safetensors", "model"), ("bin", "pytorch_model")])
def test_shards_are_one_checkpoint_by_their_index_and_by_their_folder(tmp_path, suffix, stem):
    index = sharded(tmp_path, suffix, stem)
    for path in (index, tmp_path):
        network = made(seed=2)
        assert load_checkpoint(network, path) == ()
        assert same(network, STATE)
    assert sha256(index) == sha256(tmp_path)
    before = sha256(tmp_path)
    shard = sorted(tmp_path.glob(f"{stem}-*"))[1]
    shard.write_bytes(shard.read_bytes() + b" ")
    assert sha256(tmp_path) != before


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_one_file_is_that_file(tmp_path, name):
    save_file(STATE, tmp_path / name) if name.endswith("s") else torch.save(STATE, tmp_path / name)
    network = made(seed=2)
    load_checkpoint(network, tmp_path)
    assert same(network, STATE)
    assert sha256(tmp_path) == sha256(tmp_path / name)


def test_the_links_of_hugging_faces_cache_are_followed(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0a1b"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    index = sharded(blobs)
    for path in (index, *blobs.glob("*.safetensors")):
        (snapshot / path.name).symlink_to(pathlib.Path("../../blobs") / path.name)
    network = made(seed=2)
    load_checkpoint(network, snapshot)
    assert same(network, STATE)


def test_a_file_of_hugging_faces_cache_has_no_ending(tmp_path):
    save_file(STATE, tmp_path / "0a1b2c")
    network = made(seed=2)
    load_checkpoint(network, tmp_path / "0a1b2c")
    assert same(network, STATE)
    index = sharded(tmp_path)
    index.rename(tmp_path / "3d4e5f")
    load_checkpoint(network, tmp_path / "3d4e5f")
    assert same(network, STATE)


def test_a_folder_without_weights_says_what_it_has(tmp_path):
    torch.save(STATE, tmp_path / "net.pt")
    with pytest.raises(UserError, match=r"holds none of model\.safetensors, .* \(it has net\.pt: name the file\)"):
        load_checkpoint(made(), tmp_path)


def test_names_of_an_older_version_go_through_the_networks_own_hooks(tmp_path):
    old = nn.utils.weight_norm(nn.Linear(3, 2))
    torch.save(old.state_dict(), tmp_path / "net.pt")
    network = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    (note,) = load_checkpoint(network, tmp_path / "net.pt")
    assert "its hooks converted them" in note
    x = torch.randn(4, 3)
    assert torch.equal(network(x), old(x))


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
        self.register_buffer("places", torch.zeros(3, dtype=torch.int64))


def test_complex_and_whole_numbers_are_kept_or_refused(tmp_path):
    state = {"filter": torch.randn(3, dtype=torch.complex64), "places": torch.arange(3)}
    for name, save in (("net.pt", torch.save), ("net.safetensors", save_file)):
        save(state, tmp_path / name)
        network = Rotary()
        load_checkpoint(network, tmp_path / name)
        assert same(network, state)
        save({"weight": state["filter"].view(1, 3), "bias": torch.zeros(1)}, tmp_path / name)
        with pytest.raises(
            UserError, match=r"holds `weight` as complex numbers \(torch\.complex64\), and the network has"
        ):
            load_checkpoint(nn.Linear(3, 1), tmp_path / name)
    with pytest.raises(UserError, match=r"`places` as torch\.float32, and the network has whole numbers"):
        load_state(Rotary(), {**state, "places": torch.tensor([0.5, 1, 2])}, "plane.to")
    load_state(Rotary(), {**state, "places": torch.tensor([0.0, 1, 2])}, "plane.to")


def test_what_does_not_fit_is_named_with_the_nearest_and_counted(tmp_path):
    cases = {
        "renamed": (
            {name.replace("head", "heads"): t for name, t in STATE.items()},
            r"`head\.weight` \[2, 3\] is missing from it \(nearest: `heads\.weight`\); of 9 tensors .* 2 are.*0",
        ),
        "shapes": (
            {**STATE, "head.weight": torch.ones(7, 3), "head.bias": torch.ones(7)},
            r"`head\.weight` is \[7, 3\] in it and \[2, 3\] in the network; of 9 .* 2 have another shape",
        ),
        "prefix": (
            under("net.", {n: t for n, t in STATE.items() if n != "head.bias"}),
            r"`head\.bias` \[2\] is missing",
        ),
        "more": ({**STATE, "body.weight": torch.ones(2)}, r"it holds `body\.weight` \[2\], which the network does not"),
    }
    for name, (state, message) in cases.items():
        torch.save({"model": state}, tmp_path / f"{name}.pt")
        with pytest.raises(UserError, match=message):
            load_checkpoint(made(), tmp_path / f"{name}.pt")

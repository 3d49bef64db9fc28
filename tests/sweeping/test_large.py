"""Networks too large to copy: one network a rank, or its layers one after the other, on directions that are drawn."""

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping import choose_engine, large
from landscape_mpi.sweeping.run import Options, sweep
from support import texts
from support.jobs import results, tiny_job
from support.stand_ins import StandInLane
from support.texts import language_job

OPTIONS = Options(device="cpu")
GRID = {"grid": {"alpha": [-0.5, 0.5, 5], "beta": [-0.5, 0.5, 3]}}


@pytest.fixture
def everything_is_large(monkeypatch):
    """Networks of any size are held once."""
    monkeypatch.setattr(large, "LARGE", 0)


def swept(folder, name, write=tiny_job, **changes):
    """The file of a sweep of a small network."""
    path = folder / f"{name}.h5"
    assert sweep(write(folder, output__file=path.name, **{**GRID, **changes}), OPTIONS, Solo()) == Exit.COMPLETE
    return path


def arrays(path):
    with h5py.File(path, locking=False) as file:
        return {name: file[name][()] for name in file if name.endswith(("_loss", "_acc", "_stderr"))}


def attributes(path):
    with h5py.File(path, locking=False) as file:
        return dict(file.attrs)


@pytest.mark.slow
def test_batches_of_a_live_network_are_replayed_where_there_are_lanes(
    tmp_path, monkeypatch, everything_is_large, caplog
):
    changes = {"evaluate": {"batch": 16, "weights": "resident"}}
    plain, log = swept(tmp_path, "plain", **changes), []
    monkeypatch.setattr(choose_engine, "lanes_of", lambda _: [StandInLane(0, log)])
    caplog.set_level("INFO")
    ours = swept(tmp_path, "ours", **changes)
    assert results(ours) == results(plain)
    assert ("replay", 0) in log
    assert "the network's own forward pass, replayed as 1 CUDA graph." in caplog.text
    assert attributes(ours)["engine"] == "eager"


class Stale(StandInLane):
    """A lane whose recording gives what it gave when it was made."""

    def record(self, run):
        outputs = run()
        return lambda: None, outputs


@pytest.mark.slow
def test_recordings_that_give_something_else_are_not_used(tmp_path, monkeypatch, everything_is_large, caplog):
    changes = {"evaluate": {"batch": 16, "weights": "resident"}}
    plain = swept(tmp_path, "plain", **changes)
    monkeypatch.setattr(choose_engine, "lanes_of", lambda _: [Stale()])
    caplog.set_level("INFO")
    assert results(swept(tmp_path, "ours", **changes)) == results(plain)
    assert "not replayed as CUDA graphs: the plain train loss is " in caplog.text
    assert "own forward pass, replayed" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"plane__only": ["2.*"], "plane__ignore": "none"}, marks=pytest.mark.slow),
        pytest.param({"plane__normalize": "layer", "model__options": {"batchnorm": True}}, marks=pytest.mark.slow),
        pytest.param({"plane__normalize": "weight", "evaluate__dtype": "float64"}, marks=pytest.mark.slow),
        pytest.param(
            {"plane__normalize": "none", "model__options": {"batchnorm": True}, "evaluate__batchnorm": "recompute"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_resident_and_streamed_weights_give_the_same_bits_and_copies_the_same_numbers(tmp_path, monkeypatch, changes):
    if "model__options" in changes:
        from support import tiny

        torch.manual_seed(0)
        torch.save(tiny.network(batchnorm=True).state_dict(), tmp_path / "net.pt")
    copied = swept(tmp_path, "copied", evaluate__engine="eager", **changes)
    streamed = swept(tmp_path, "streamed", evaluate__weights="streamed", **changes)
    monkeypatch.setattr(large, "LARGE", 0)
    resident = swept(tmp_path, "resident", evaluate__weights="resident", **changes)
    assert results(streamed) == results(resident)
    for name, values in arrays(copied).items():
        np.testing.assert_allclose(arrays(resident)[name], values, rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_a_transformer_has_the_same_bits_either_way(tmp_path, everything_is_large):
    pytest.importorskip("tokenizers")
    found = [
        swept(tmp_path, weights, language_job, evaluate__weights=weights, metrics=["loss"])
        for weights in ("resident", "streamed")
    ]
    assert results(found[0]) == results(found[1])
    assert np.ptp(arrays(found[0])["train_loss"]) > 0.01


def test_theta_of_half_precision_is_what_the_file_says(tmp_path, everything_is_large):
    torch.manual_seed(1)
    network = texts.network()
    halves = {name: tensor.bfloat16() for name, tensor in network.state_dict().items()}
    changes = {"grid": {"alpha": [0, 0, 1]}, "metrics": ["loss"], "data__splits": ["train"]}
    job = language_job(tmp_path, model__checkpoint="half.safetensors", **changes)
    save_file(halves, tmp_path / "half.safetensors")
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    network.load_state_dict({name: tensor.float() for name, tensor in halves.items()})
    ids = texts.tokenizer().encode(texts.TEXT[:1200]).ids
    tokens = torch.tensor([ids[i : i + 32] for i in range(0, len(ids) - 31, 32)])
    with torch.no_grad():
        logits = network.eval()(tokens)["logits"]
    expected = nn.functional.cross_entropy(logits[:, :-1].double().transpose(1, 2), tokens[:, 1:]).item()
    assert arrays(tmp_path / "surface.h5")["train_loss"][0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_directions_need_not_be_in_the_file_and_the_sweep_goes_on_to_the_same_bits(tmp_path, everything_is_large):
    stored = swept(tmp_path, "stored")
    drawn = swept(tmp_path, "drawn", output__directions=False)
    assert results(stored) == results(drawn)
    with h5py.File(stored) as one, h5py.File(drawn, "a") as other:
        assert "xdirection" in one
        assert not {"xdirection", "ydirection"} & set(other)
        assert other.attrs["xdirection_sha256"] == one.attrs["xdirection_sha256"] != one.attrs["ydirection_sha256"]
        assert (other.attrs["generator"], other.attrs["normalize"], other.attrs["seed"]) == ("counter-2", "filter", 3)
        other["status"][1:, 2:] = 0
        other["train_loss"][1:, 2:] = np.nan
        other["complete"][()] = 0
    swept(tmp_path, "drawn", output__directions=False)
    assert results(stored) == results(drawn)


@pytest.mark.slow
def test_another_fingerprint_of_the_plane_is_refused(tmp_path, everything_is_large):
    path = swept(tmp_path, "drawn", output__directions=False)
    with h5py.File(path, "a") as file:
        file.attrs["plane_sha256"] = "0" * 64
        file["complete"][()] = 0
    with pytest.raises(UserError, match="plane: it was made from other directions"):
        swept(tmp_path, "drawn", output__directions=False)


def test_how_weights_are_held_is_no_part_of_the_experiment(tmp_path, everything_is_large):
    path = swept(tmp_path, "surface", evaluate__weights="resident")
    before = path.read_bytes()
    swept(tmp_path, "surface", evaluate__weights="streamed")
    assert path.read_bytes() == before


def test_derivatives_and_streamed_weights_do_not_go_together(tmp_path):
    with pytest.raises(UserError, match=r"evaluate\.weights: found streamed, and metrics.* needs the whole network"):
        swept(tmp_path, "surface", evaluate__weights="streamed", metrics=["loss", "hessian"])


def test_an_interpolation_of_large_networks_ends_at_the_other_one(tmp_path, everything_is_large):
    tiny_job(tmp_path)
    torch.manual_seed(5)
    from support import tiny

    torch.save(tiny.network().state_dict(), tmp_path / "other.pt")
    line = {"plane": {"kind": "interpolate", "to": "other.pt"}, "grid": {"alpha": [0, 1, 3]}}
    path = swept(tmp_path, "line", **line)
    other = swept(tmp_path, "other", model__checkpoint="other.pt", grid={"alpha": [0, 0, 1]})
    assert arrays(path)["train_loss"][2] == pytest.approx(arrays(other)["train_loss"][0], rel=1e-6)


OWN = '''
import torch
from torch import nn


class Merges(nn.Linear):
    """Computes what it multiplies by once, as it enters eval mode."""

    def train(self, mode=True):
        self.merged = None if mode else (2 * self.weight).detach()
        return super().train(mode)

    def forward(self, x):
        return x @ self.merged.T + self.bias


class Adds(nn.Linear):
    """Adds something of its weights to them as it enters eval mode."""

    def train(self, mode=True):
        self.weight.data += 0 if mode == self.training else (1 - 2 * mode) * self.bias.data[:, None]
        return super().train(mode)


class Keeps(nn.Linear):
    """Multiplies by the weights of its first forward pass."""

    kept = None

    def forward(self, x):
        self.kept = self.weight.detach().clone() if self.kept is None else self.kept
        return x @ self.kept.T + self.bias


class Loaded(nn.Linear):
    """Divides by the norm that its weights had when they were loaded."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("norm", torch.ones(()), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.found())

    def found(self):
        self.norm.copy_(self.weight.detach().norm())

    def forward(self, x):
        return super().forward(x) / self.norm


class Whole(nn.Linear):
    """Multiplies by whole numbers."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.counts = nn.Parameter(torch.arange(sizes[1]), requires_grad=False)

    def forward(self, x):
        return super().forward(x) * self.counts


class Renamed(nn.Linear):
    """Has other names in its state dict."""

    def state_dict(self, *args, destination=None, prefix="", **kwargs):
        mine = super().state_dict(*args, destination={}, prefix="", **kwargs)
        return {} if destination is None else destination.update({f"{prefix}w_{key}": x for key, x in mine.items()})

    def _load_from_state_dict(self, state, prefix, *args):
        for name, parameter in self.named_parameters():
            parameter.data.copy_(state[f"{prefix}w_{name}"])


class Unsaved(nn.Linear):
    """Has a parameter that its state dict does not hold."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_state_dict_post_hook(lambda _, state, prefix, __: state.pop(f"{prefix}scale") and None)

    def forward(self, x):
        return super().forward(x) * self.scale


class Versioned(nn.Linear):
    """Loads weights of its own version alone."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *args):
        if metadata.get("version") != 2:
            raise ValueError(f"the version is {metadata.get('version')}")
        super()._load_from_state_dict(state, prefix, metadata, *args)


class Laid(nn.Module):
    """Has its weights transposed in memory, and its parameters are parts of one array."""

    def __init__(self, inputs, outputs):
        super().__init__()
        every = torch.randn(inputs + 1, outputs)
        self.weight, self.bias = nn.Parameter(every[:-1].t()), nn.Parameter(every[-1])

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


def network(kind):
    layers = {"Lazy": lambda _, n: nn.LazyLinear(n), **globals()}
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), layers[kind](64, 3))
'''


def own_job(folder, kind):
    """The job of a network of OWN, and its checkpoint."""
    (folder / "own.py").write_text(OWN)
    names = {}
    exec(OWN, names)  # noqa: S102 - ours
    torch.manual_seed(4)
    network = names["network"](kind)
    network.eval()(torch.zeros(2, 4))  # which gives lazy ones their shapes
    torch.save(network.train().state_dict(), folder / "net.pt")
    return {"model__build": "own:network", "model__options": {"kind": kind}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Laid", "Versioned"])
def test_networks_of_their_own_kind_have_the_same_bits_either_way(tmp_path, monkeypatch, kind):
    changes = own_job(tmp_path, kind)
    copied = swept(tmp_path, "copied", evaluate__engine="eager", **changes)
    streamed = swept(tmp_path, "streamed", evaluate__weights="streamed", **changes)
    monkeypatch.setattr(large, "LARGE", 0)
    assert results(streamed) == results(swept(tmp_path, "resident", **changes))
    np.testing.assert_allclose(arrays(copied)["train_loss"], arrays(streamed)["train_loss"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Lazy", r"evaluate\.weights: found streamed, and `2\.weight` gets its shape from the first inputs"),
        ("Whole", r"evaluate\.weights: found streamed, and the parameter `2\.counts` holds whole numbers"),
        ("Renamed", r"evaluate\.weights: .* another name for its parameter `2\.weight`; write .*resident"),
        ("Loaded", r"model: the network computes something from its weights when they are loaded; .*: resident"),
        ("Merges", r"model: the Merges `2` keeps a tensor without values"),
        ("Adds", r"model: the Adds `2` computes something from its parameters between train and eval mode"),
        ("Keeps", r"model\.build: at alpha -0\.23585, beta -0\.23585 .* keeps what it once computed"),
    ],
)
def test_what_cannot_be_streamed_is_refused_and_copies_are_right(tmp_path, kind, message):
    changes = own_job(tmp_path, kind)
    with pytest.raises(UserError, match=message):
        swept(tmp_path, "surface", evaluate__weights="streamed", **changes)
    assert not (tmp_path / "surface.h5").exists()
    assert np.ptp(arrays(swept(tmp_path, "surface", evaluate__weights="resident", **changes))["train_loss"]) > 0.01


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Merges", "keeps what it once computed from its weights does this; this one is not copied"),
        ("Keeps", "keeps what it once computed from its weights does this; this one is not copied"),
        ("Loaded", "keeps what it once computed from its weights does this; this one is not copied"),
        ("Adds", "changes its weights, or keeps what it computed from them, as it enters eval mode, does this"),
    ],
)
def test_a_large_network_that_is_not_what_its_weights_say_is_refused(tmp_path, everything_is_large, kind, message):
    with pytest.raises(UserError, match=rf"(?s)model\.build: at alpha 0, beta 0 .* {message}"):
        swept(tmp_path, "surface", **own_job(tmp_path, kind))
    assert not (tmp_path / "surface.h5").exists()


@pytest.mark.slow
@pytest.mark.parametrize("plane", [{"kind": "interpolate", "to": "other.pt"}, {"kind": "random", "trajectory": "*.pt"}])
def test_other_checkpoints_have_what_no_state_dict_holds(tmp_path, plane):
    changes = own_job(tmp_path, "Unsaved")
    other = {name: 2 * tensor for name, tensor in torch.load(tmp_path / "net.pt").items()}
    torch.save(other, tmp_path / "other.pt")
    changes |= {"plane": plane, "grid": {"alpha": [0, 1, 3]}}
    copied, streamed = (swept(tmp_path, way, evaluate__weights=way, **changes) for way in ("resident", "streamed"))
    np.testing.assert_allclose(arrays(copied)["train_loss"], arrays(streamed)["train_loss"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Lazy", "Whole", "Renamed"])
def test_networks_that_cannot_be_held_once_are_copied(tmp_path, monkeypatch, kind):
    changes = own_job(tmp_path, kind)
    copied = swept(tmp_path, "copied", **changes)
    monkeypatch.setattr(large, "LARGE", 0)
    assert results(copied) == results(swept(tmp_path, "large", **changes))


@pytest.mark.slow
def test_a_surface_that_was_begun_with_copies_goes_on_with_streamed_weights_and_back(tmp_path):
    whole = swept(tmp_path, "whole", evaluate__engine="eager")
    path = swept(tmp_path, "surface", evaluate__engine="eager")
    for weights in ("streamed", "resident"):
        with h5py.File(path, "a") as file:
            file["status"][1:, 2:] = 0
            file["train_loss"][1:, 2:] = np.nan
            file["complete"][()] = 0
        swept(tmp_path, "surface", evaluate__weights=weights, evaluate__engine="eager")
        np.testing.assert_allclose(arrays(path)["train_loss"], arrays(whole)["train_loss"], rtol=1e-6)
    with h5py.File(path, "a") as file:
        file["status"][1:, 2:] = 0
        file["complete"][()] = 0
        file.attrs["engine"] = "fused"
    with pytest.raises(UserError, match=r"the engine fused, .* copies .* Go on without evaluate\.weights: streamed"):
        swept(tmp_path, "surface", evaluate__weights="streamed", evaluate__engine="eager")


@pytest.mark.slow
def test_an_engine_that_takes_copies_is_passed_over_and_told(tmp_path, caplog):
    path = swept(tmp_path, "surface", evaluate__weights="streamed", evaluate__engine="fused")
    assert attributes(path)["engine"] == "eager"
    assert "not the engine fused: it takes copies of the network, and the weights are held at most once." in caplog.text

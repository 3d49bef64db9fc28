"""Networks too large to copy: one network a rank, or its layers one after the other, on directions that are drawn."""

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping import large
from landscape_mpi.sweeping.run import Options, sweep
from support import texts
from support.jobs import results, tiny_job
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


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"plane__only": ["2.*"], "plane__ignore": "none"},
        {"plane__normalize": "layer", "model__options": {"batchnorm": True}},
        {"plane__normalize": "weight", "evaluate__dtype": "float64"},
        {"plane__normalize": "none", "model__options": {"batchnorm": True}, "evaluate__batchnorm": "recompute"},
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


MERGES = '''
from torch import nn


class Merges(nn.Linear):
    """Computes what it multiplies by once, as it enters eval mode."""

    def train(self, mode=True):
        self.merged = None if mode else (2 * self.weight).detach()
        return super().train(mode)

    def forward(self, x):
        return x @ self.merged.T + self.bias


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), Merges(8, 3))
'''


def test_a_network_that_keeps_what_it_computed_from_its_weights_is_refused(tmp_path, everything_is_large):
    job = tiny_job(tmp_path, model__build="keeping:network")
    (tmp_path / "keeping.py").write_text(MERGES)
    with pytest.raises(UserError, match=r"(?s)model\.build: at alpha 0, beta 0 .* keeps what it once computed"):
        sweep(job, OPTIONS, Solo())
    assert not (tmp_path / "surface.h5").exists()

"""What was chosen and left out of checkpoints reaches the user: in a line, once, from rank 0, in every command."""

import h5py
import pytest
import torch
from safetensors.torch import save_file

from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping.check import check
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.run import sweep
from support import tiny
from support.jobs import tiny_job
from support.launch import launch

pytestmark = pytest.mark.usefixtures("lines_on_stderr")

PREFIX = "its names begin with `module._orig_mod.` and those of the network do not."


def weights(seed, prefix="module._orig_mod."):
    torch.manual_seed(seed)
    return {prefix + name: tensor for name, tensor in tiny.network().state_dict().items()}


def told(capsys):
    """The notes on checkpoints."""
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix("note: ") for line in lines if line.startswith(("note: model.", "note: plane."))]


def trajectory(folder):
    (folder / "run").mkdir()
    for epoch in range(4):
        save_file(weights(epoch), folder / "run" / f"epoch-{epoch}.safetensors")
    torch.save(weights(9), folder / "net.pt")
    plane = {"kind": "pca", "trajectory": "run/epoch-*.safetensors"}
    return tiny_job(folder, plane=plane, grid={"alpha": [-1, 1, 2], "beta": [-1, 1, 2]})


@pytest.mark.slow
def test_a_trajectory_of_many_checkpoints_is_one_line(tmp_path, capsys):
    job = trajectory(tmp_path)
    check(job, "cpu")
    checked = told(capsys)
    sweep(job, Options(device="cpu"), Solo())
    assert checked == told(capsys)
    assert [note.partition(" ")[0] for note in checked] == ["model.checkpoint:", "plane.trajectory:"]
    assert all(note.endswith(PREFIX) for note in checked)


def test_the_entry_counts_at_every_end_that_has_it(tmp_path, capsys):
    torch.save({"model": weights(0, ""), "ema": weights(1, "")}, tmp_path / "net.pt")
    torch.save({"model": weights(2, ""), "ema": weights(3, "")}, tmp_path / "to.pt")
    torch.save(weights(4, ""), tmp_path / "via.pt")
    plane = {"kind": "interpolate", "to": "to.pt", "via": "via.pt"}
    job = tiny_job(tmp_path, plane=plane, model__entry="ema", grid={"alpha": [0, 1, 2], "beta": [0, 1, 2]})
    sweep(job, Options(device="cpu"), Solo())
    notes = told(capsys)
    assert len(notes) == 1, notes
    (note,) = notes
    assert note.endswith("via.pt holds no 'ema' of model.entry.")
    inputs, targets = tiny.data(None, "train")
    network, expected = tiny.network(), []
    for seed in (1, 3, 4):
        network.load_state_dict(weights(seed, ""))
        expected.append(tiny.cross_entropy(network(inputs), targets).mean().item())
    with h5py.File(tmp_path / "surface.h5") as file:
        found = file["train_loss"][()]
    assert [found[0, 0], found[0, 1], found[1, 0]] == pytest.approx(expected, rel=1e-5)


def test_float64_files_keep_their_digits_at_both_ends_of_a_line(tmp_path):
    """A change of 1e-12 relative is beyond float32."""
    state = {name: tensor.double() for name, tensor in weights(0, "").items()}
    other = {name: tensor * (1 + 1e-12) for name, tensor in state.items()}
    torch.save(state, tmp_path / "net.pt")
    save_file(other, tmp_path / "to.safetensors")
    grid = {"alpha": [0, 1e12, 2]}
    plane = {"kind": "interpolate", "to": "to.safetensors"}
    job = tiny_job(tmp_path, plane=plane, grid=grid, evaluate={"dtype": "float64"})
    sweep(job, Options(device="cpu"), Solo())
    inputs, targets = tiny.data(None, "train")
    network = tiny.network().double()
    network.load_state_dict({name: state[name] + 1e12 * (other[name] - state[name]) for name in state})
    expected = tiny.cross_entropy(network(inputs.double()), targets).mean().item()
    with h5py.File(tmp_path / "surface.h5") as file:
        assert file["train_loss"][1] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_other_weights_of_the_same_file_are_another_sweep(tmp_path, capsys):
    torch.save({"model": weights(0), "ema": weights(1)}, tmp_path / "net.pt")
    sweep(tiny_job(tmp_path), Options(device="cpu"), Solo())
    run = launch("sweep", tiny_job(tmp_path, model__entry="ema"), "--device", "cpu")
    assert run.returncode == 2
    assert "model.entry: the file has None and the job says ema" in run.stderr

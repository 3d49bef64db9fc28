"""Training: a checkpoint and a row of history an epoch, the same bits for a seed, nothing of another run lost."""

import errno
import math
import os
from dataclasses import asdict, fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from training import bits, images, run, small_network, squares

from landscape_mpi.data import Normalisation, Split
from landscape_mpi.errors import UserError
from landscape_mpi.networks.checkpoint import load_checkpoint
from landscape_mpi.surface.training import EDGES, EpochRecord, read_history
from landscape_mpi.train import initialise

RESUME = ("resume.safetensors", "resume.safetensors.lock")


def test_there_is_a_checkpoint_for_each_epoch_and_the_initial_state(tmp_path):
    network = initialise(small_network, 3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    run(tmp_path, network, epochs=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [*(f"epoch-000{epoch}.safetensors" for epoch in range(4)), "history.h5", *RESUME]
    first, last = (load_file(tmp_path / name) for name in (names[0], names[3]))
    assert first.keys() == before.keys()
    assert all(torch.equal(first[name], before[name]) for name in before)
    assert all(torch.equal(last[name], tensor) for name, tensor in network.state_dict().items())
    assert last["1.num_batches_tracked"] == 9
    assert not torch.equal(first["1.running_mean"], last["1.running_mean"])


def test_no_epochs_leave_the_initial_state_alone(tmp_path):
    _, records, _ = run(tmp_path, epochs=0)
    assert [record.epoch for record in records] == [0]
    assert (tmp_path / "epoch-0000.safetensors").exists()


def test_a_checkpoint_evaluates_to_what_the_history_says(tmp_path):
    test = replace(images(30, seed=1), name="test")
    _, records, _ = run(tmp_path, test=test, epochs=3)
    inputs = Normalisation((0.5,) * 3, (0.25,) * 3).apply(test.inputs)
    for record in records:
        network = small_network()
        load_checkpoint(network, tmp_path / f"epoch-{record.epoch:04d}.safetensors")
        outputs = network.eval()(inputs)
        assert record.test_loss == pytest.approx(functional.cross_entropy(outputs, test.targets).item(), rel=1e-5)
        assert record.test_acc == pytest.approx(100 * (outputs.argmax(1) == test.targets).float().mean().item())


def test_the_history_is_in_the_file(tmp_path):
    _, records, lines = run(tmp_path, test=replace(images(seed=1), name="test"), epochs=3, drops=[2])
    np.testing.assert_equal(list(map(asdict, read_history(tmp_path / "history.h5"))), list(map(asdict, records)))
    with h5py.File(tmp_path / "history.h5", locking=False) as file:
        assert set(file) == {field.name for field in fields(EpochRecord)} | {"weight_edges"}
        assert file["epoch"].dtype == np.int64
        np.testing.assert_array_equal(file["epoch"], range(4))
        np.testing.assert_allclose(file["lr"], [math.nan, 0.05, 0.05, 0.005])
        assert math.isnan(file["train_loss"][0])
        assert np.isfinite(file["test_loss"]).all()
        assert 0 <= file["train_acc"][1] <= 100
    assert len(lines) == 4
    assert lines[3].startswith(f"epoch 3/3; train loss {records[3].train_loss:.4f}, ")


def test_where_training_starts_and_ends_the_train_split_is_evaluated_as_a_sweep_would(tmp_path):
    split = images()
    _, records, _ = run(tmp_path, split=split, epochs=3, augment=True)
    inputs = Normalisation((0.5,) * 3, (0.25,) * 3).apply(split.inputs)
    for record in (records[0], records[3]):
        network = small_network()
        load_checkpoint(network, tmp_path / f"epoch-{record.epoch:04d}.safetensors")
        outputs = network.eval()(inputs)
        loss, right = functional.cross_entropy(outputs, split.targets).item(), outputs.argmax(1) == split.targets
        assert record.train_eval_loss == pytest.approx(loss, rel=1e-5)
        assert record.train_eval_acc == pytest.approx(100 * right.float().mean().item())
    assert all(math.isnan(record.train_eval_loss) for record in records[1:3])


def test_the_history_knows_norm_and_histogram_of_the_weights_of_each_checkpoint(tmp_path):
    _, records, _ = run(tmp_path, epochs=2, lr=3.0)
    for record in records:
        state = load_file(tmp_path / f"epoch-{record.epoch:04d}.safetensors")
        weights = np.concatenate([tensor.flatten().numpy() for tensor in state.values() if tensor.ndim > 1])
        assert record.weight_norm == pytest.approx(np.linalg.norm(weights.astype(float)), rel=1e-12)
        np.testing.assert_array_equal(record.weight_histogram, np.histogram(weights, EDGES)[0])
    assert records[2].weight_histogram[[0, -1]].sum() > 0
    with h5py.File(tmp_path / "history.h5", locking=False) as file:
        np.testing.assert_array_equal(file["weight_edges"], EDGES)
        assert file["weight_histogram"].dtype == np.int64
        assert (file["weight_histogram"][()].sum(1) == 3 * 4 * 9 + 144 * 3).all()


def test_the_history_of_an_older_version_is_read(tmp_path):
    run(tmp_path, epochs=2)
    new = read_history(tmp_path / "history.h5")
    with h5py.File(tmp_path / "history.h5", "r+", locking=False) as file:
        for name in ("train_eval_loss", "train_eval_acc", "weight_norm", "weight_histogram", "weight_edges"):
            del file[name]
    old = read_history(tmp_path / "history.h5")
    assert [record.train_loss for record in old[1:]] == [record.train_loss for record in new[1:]]
    assert all(math.isnan(record.weight_norm) and record.weight_histogram is None for record in old)


def test_a_histogram_of_another_shape_is_no_history(tmp_path):
    run(tmp_path, epochs=1)
    with h5py.File(tmp_path / "history.h5", "r+", locking=False) as file:
        del file["weight_histogram"]
        file["weight_histogram"] = np.zeros((2, 5), np.int64)
    with pytest.raises(UserError, match=r"cannot be read as a training history \(weight_histogram is int64 \[2, 5\]"):
        read_history(tmp_path / "history.h5")


def test_a_seed_gives_the_same_bits_whatever_else_draws_random_numbers(tmp_path):
    changes = {"augment": True, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
    run(tmp_path / "a", seed=5, **changes)
    torch.rand(100)
    run(tmp_path / "b", seed=5, **changes)
    run(tmp_path / "c", seed=6, **changes)
    assert bits(tmp_path / "a") == bits(tmp_path / "b")
    assert bits(tmp_path / "a")["epoch-0000.safetensors"] == bits(tmp_path / "c")["epoch-0000.safetensors"]
    assert bits(tmp_path / "a")["epoch-0001.safetensors"] != bits(tmp_path / "c")["epoch-0001.safetensors"]


def test_neither_initialising_nor_training_disturbs_the_callers_random_numbers(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    run(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_initialising_is_seeded():
    one, same, other = (initialise(small_network, seed)[0].weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_tied_weights_are_saved(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(4, 4, bias=False)
            self.two = nn.Linear(4, 2, bias=False)
            self.also_one = self.one

        def forward(self, x):
            return self.two(self.also_one(self.one(x)))

    network, split = initialise(Tied, 0), Split("train", torch.rand(8, 4), torch.rand(8, 2))
    run(tmp_path, network, split, loss=squares, epochs=1)
    load_checkpoint(Tied(), tmp_path / "epoch-0001.safetensors")


def test_an_output_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"train\.output: .*file cannot be made"):
        run(tmp_path / "file")


@pytest.mark.parametrize("name", ["epoch-0001.safetensors", "history.h5"])
def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, name):
    replace = Path.replace

    def refuse(self, target):
        if Path(target).name == name:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    sentence = rf"train\.output: {tmp_path / name} cannot be written \(Disk quota exceeded\)"
    with pytest.raises(UserError, match=sentence):
        run(tmp_path)
    assert not (tmp_path / name).exists()
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_is_no_history_is_one_sentence(tmp_path):
    path = tmp_path / "history.h5"
    path.write_bytes(b"rubbish")
    with pytest.raises(UserError, match=f"^{path}: cannot be read as a training history"):
        read_history(path)
    with h5py.File(path, "w") as file:
        file["epoch"] = [1, 2]
    with pytest.raises(UserError, match=r"expected history\.h5"):
        read_history(path)

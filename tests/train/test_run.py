"""Training: the same bits for a seed, nothing of another run lost; the command stopped by signals, limits and kills."""

import errno
import math
import os
import random
import signal
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from training import bits, images, run, small_network, squares

from landscape_mpi.data import Normalisation, Split
from landscape_mpi.errors import UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.networks.checkpoint import load_checkpoint
from landscape_mpi.surface.training import EDGES, EpochRecord, read_history
from landscape_mpi.train import Options, initialise, train_jobs
from support.jobs import tiny_job
from support.launch import finish, kill_session, launch, start
from support.waiting import wait_for

pytestmark = pytest.mark.usefixtures("lines_on_stderr")


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


TRAIN = {"epochs": 4, "batch": 8, "lr": 0.05, "augment": False, "drops": [2]}
SLOW = {"TINY_SLEEP": "0.2", "TINY_CALLS": "16"}
"""Five batches per epoch: the first takes a second, and from the second on a batch takes two."""


def train_job(folder, name="job", **changes):
    """Write a job that trains the tiny network into nets/NAME."""
    return tiny_job(folder, f"{name}.yaml", train={"output": f"nets/{name}", **TRAIN, **changes}, plane=None, grid=None)


def begun(folder, epoch, *args, **options):
    """Start a training and wait for a checkpoint of it."""
    process = start("train", *args, **options)
    wait_for(lambda: (folder / f"epoch-{epoch:04d}.safetensors").exists() or process.poll() is not None)
    assert process.poll() is None
    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The checkpoints of the tiny training."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = launch("train", train_job(folder))
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{folder}/nets/job/epoch-0004.safetensors\n"
    return bits(folder / "nets" / "job")


@pytest.mark.slow
def test_stopped_by_a_signal_and_by_a_limit_it_goes_on_with_the_same_bits(tmp_path, undisturbed):
    job, folder = train_job(tmp_path), tmp_path / "nets" / "job"
    process = begun(folder, 1, job, env=SLOW)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    stopped = finish(process, 60), launch("train", job, "--time-limit", "1", env=SLOW)
    for ended, reason in zip(stopped, ("SIGTERM", "the time limit"), strict=True):
        assert ended.returncode == 75, ended.stderr
        assert f"stopped by {reason}; all complete epochs are kept: run the same command again" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert len(bits(folder)) < 5
    again, nothing = launch("train", job), launch("train", job)
    assert again.returncode == nothing.returncode == 0
    assert "goes on after epoch" in again.stderr
    assert "all 4 epochs are there; nothing to do" in nothing.stderr
    assert bits(folder) == undisturbed


@pytest.mark.slow
def test_two_jobs_of_one_process_killed_at_random_end_with_the_same_bits(tmp_path):
    """A convolutional network on augmented images, by SGD and by Adam."""
    model = {"build": "resnet20", "options": {"width": 2}}
    data = {"build": "shapes10", "options": {"images": 96}}
    trained = {"epochs": 4, "batch": 16, "lr": 0.01, "augment": True}
    folders = {}
    for place in ("killed", "whole"):
        (tmp_path / place).mkdir()
        folders[place] = [train_job(tmp_path / place, kind, optimizer=kind, **trained) for kind in ("sgd", "adam")]
        for path in folders[place]:
            job = yaml.safe_load(path.read_text())
            path.write_text(yaml.safe_dump({**job, "model": model, "data": data, "loss": "cross_entropy"}))
    nets = {place: [tmp_path / place / "nets" / kind for kind in ("sgd", "adam")] for place in folders}
    for which, epoch in ((0, 1), (0, 3), (1, 2)):
        process = begun(nets["killed"][which], epoch, *folders["killed"])
        time.sleep(random.uniform(0, 0.5))
        kill_session(process)
    for place in folders:
        run = launch("train", *folders[place])
        assert run.returncode == 0, run.stderr
        assert [line.split("/")[-2] for line in run.stdout.splitlines()] == ["sgd", "adam"]
    for killed, whole in zip(nets["killed"], nets["whole"], strict=True):
        assert len(bits(whole)) == 5
        assert bits(killed) == bits(whole)


@pytest.mark.mpi
def test_ranks_train_a_job_each_and_one_that_fails_keeps_none_from_ending(tmp_path, undisturbed):
    jobs = [train_job(tmp_path, "diverging", lr=1e30), train_job(tmp_path), train_job(tmp_path, "third", seed=1)]
    run = launch("train", *jobs, "--quiet", ranks=2)
    assert run.returncode == 2
    assert f"{jobs[0]}: error: train.lr: with 1e+30 the loss became" in run.stderr
    assert "Traceback" not in run.stderr
    assert sorted(run.stdout.split()) == [f"{tmp_path}/nets/{name}/epoch-0004.safetensors" for name in ("job", "third")]
    assert bits(tmp_path / "nets" / "job") == undisturbed
    assert len(bits(tmp_path / "nets" / "third")) == 5


@pytest.mark.mpi
def test_a_signal_to_the_launcher_stops_all_ranks_and_one_process_ends_it(tmp_path, undisturbed):
    jobs = [train_job(tmp_path), train_job(tmp_path, "second", seed=1)]
    process = begun(tmp_path / "nets" / "second", 1, *jobs, ranks=2, env=SLOW)
    process.send_signal(signal.SIGUSR1)
    stopped = finish(process, 60)
    assert stopped.returncode == 75, stopped.stderr
    assert all(f"{job}: stopped by SIGUSR1" in stopped.stderr for job in jobs)
    assert launch("train", *jobs).returncode == 0
    assert bits(tmp_path / "nets" / "job") == undisturbed


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("same.yaml", "job.yaml and {place}/same.yaml both write into {place}/nets/job"),
        ("other/job.yaml", "other/job.yaml: the module tiny beside it differs from that in {place}"),
        ("missing.yaml", "missing.yaml; expected a job file"),
    ],
)
def test_jobs_in_the_way_of_each_other_are_refused_before_anything_is_written(tmp_path, capsys, other, message):
    (tmp_path / "other").mkdir()
    one = train_job(tmp_path)
    train_job(tmp_path, "same", output="nets/job")
    train_job(tmp_path / "other")
    assert train_jobs([one, tmp_path / other], Options(), Solo()) == 2
    assert message.format(place=tmp_path.resolve()) in capsys.readouterr().err
    assert not (tmp_path / "nets").exists()

"""Going on with a training: wherever it was stopped, it ends with the bits of an undisturbed run, or refuses."""

import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training import bits, cross_entropy, images, lesson, run

from landscape_mpi.errors import UserError
from landscape_mpi.files import atomic as durable
from landscape_mpi.surface import lock_surface
from landscape_mpi.surface.training import read_history
from landscape_mpi.train import run as running
from landscape_mpi.train.checkpoints import read_run_state, write_run_state
from landscape_mpi.train.run import train_into

SGD = {"epochs": 3, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3, "augment": True, "drops": [1]}
ADAM = {"epochs": 3, "optimizer": "adam", "lr": 0.01, "augment": True}
TEST = replace(images(10, seed=1), name="test")


class KilledError(BaseException):
    """Nothing of the process is left to clean up."""


def killed_at(moment):
    """What lets so many calls pass and kills at the next; it is not called again."""
    calls = count()

    def call(*_):
        if next(calls) == moment:
            raise KilledError

    return call


def measured(folder):
    """The history without how long things took."""
    return [asdict(replace(record, seconds=0.0)) for record in read_history(folder / "history.h5")]


@pytest.fixture(scope="module", params=[SGD, ADAM], ids=["sgd", "adam"])
def undisturbed(request, tmp_path_factory):
    """The settings of a training, its checkpoints and its history."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(folder, test=TEST, **request.param)
    return request.param, bits(folder), measured(folder)


def check_that_it_ends_the_same(folder, undisturbed):
    changes, checkpoints, history = undisturbed
    torch.rand(7)  # another process is at another place in its random numbers
    run(folder, test=TEST, **changes)
    assert bits(folder) == checkpoints
    np.testing.assert_equal(measured(folder), history)
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("moment", [0, 3, 7, 14, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 6, 9, 12))])
def test_killed_at_any_batch_it_ends_with_the_same_bits(tmp_path, undisturbed, moment):
    with pytest.raises(KilledError):
        train_into(tmp_path, lesson(test=TEST, pause=killed_at(moment), **undisturbed[0]), print)
    check_that_it_ends_the_same(tmp_path, undisturbed)


@pytest.mark.slow
def test_killed_at_any_write_it_ends_with_the_same_bits(tmp_path, undisturbed, monkeypatch):
    """Before and after each file gets its name: 13 files, one of them to begin with, three an epoch."""
    for moment in (0, 1, 2, *range(8, 14), 25):
        folder = tmp_path / str(moment)
        with monkeypatch.context() as patch:
            patch.setattr(durable, "make_durable", killed_at(moment))
            with pytest.raises(KilledError):
                run(folder, test=TEST, **undisturbed[0])
        check_that_it_ends_the_same(folder, undisturbed)
        shutil.rmtree(folder)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bits(tmp_path, undisturbed):
    for _ in range(3):
        with pytest.raises(KilledError):
            train_into(tmp_path, lesson(test=TEST, pause=killed_at(4), **undisturbed[0]), print)
    check_that_it_ends_the_same(tmp_path, undisturbed)


def test_a_finished_run_is_left_as_it_is(tmp_path):
    run(tmp_path, epochs=2)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    for epochs in (2, 1):
        _, records, lines = run(tmp_path, epochs=epochs)
        assert records == []
        assert lines == [f"{tmp_path}: all {epochs} epochs are there; nothing to do."]
    del before["resume.safetensors.lock"]
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, (time, _) in before.items())


@pytest.mark.slow
def test_more_epochs_go_on_from_the_last(tmp_path):
    run(tmp_path / "one", **SGD | {"epochs": 1})
    _, records, lines = run(tmp_path / "one", **SGD)
    run(tmp_path / "all", **SGD)
    assert lines[0] == f"{tmp_path / 'one'}: goes on after epoch 1."
    assert bits(tmp_path / "one") == bits(tmp_path / "all")
    assert [record.epoch for record in records] == [0, 1, 2, 3]


def test_overwriting_starts_afresh_and_leaves_nothing_of_the_earlier_run(tmp_path):
    run(tmp_path, epochs=4, seed=1)
    run(tmp_path, epochs=1, overwrite=True)
    run(tmp_path / "new", epochs=1)
    assert bits(tmp_path) == bits(tmp_path / "new")
    assert len(read_history(tmp_path / "history.h5")) == 2


def test_an_overwriting_run_that_is_killed_before_its_first_step_has_destroyed_nothing(tmp_path):
    run(tmp_path, epochs=2, seed=1)
    before = bits(tmp_path)
    for moment in (0, 1):  # the evaluation of the initial network, and the first batch
        with pytest.raises(KilledError):
            train_into(tmp_path, lesson(epochs=1, pause=killed_at(moment)), print, overwrite=True)
        assert bits(tmp_path) == before
    assert run(tmp_path, epochs=2, seed=1)[1] == []


@pytest.mark.slow
def test_an_overwriting_run_that_is_killed_after_its_first_step_goes_on_as_the_new_one(tmp_path):
    run(tmp_path, epochs=2, seed=1)
    with pytest.raises(KilledError):
        train_into(tmp_path, lesson(epochs=1, pause=killed_at(2)), print, overwrite=True)
    run(tmp_path, epochs=1)
    run(tmp_path / "new", epochs=1)
    assert bits(tmp_path) == bits(tmp_path / "new")


OTHER = {
    "lr": ({"lr": 0.1}, r"train\.lr: it was begun with 0\.05 and the job says 0\.1"),
    "optimizer": ({"optimizer": "adam"}, r"train\.optimizer: it was begun with sgd and the job says adam"),
    "drops": ({"drops": [2]}, r"train\.drops: it was begun with \[150, 225, 275\] and the job says \[2\]"),
    "images": ({"split": images(seed=3)}, r"data: the train split has other inputs or targets"),
    "test": ({"test": images(seed=3)}, r"data: the train split has other inputs or targets"),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_training_is_refused_and_nothing_touched(tmp_path, name):
    changes, message = OTHER[name]
    run(tmp_path)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=rf"train\.output: .* holds another run: {message}; .*--overwrite"):
        run(tmp_path, **changes)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


def one_number(outputs, targets):
    return cross_entropy(outputs, targets).mean()


def wrong_at(batch):
    """A loss that is what it should be until so many batches have been seen."""
    calls = count()
    return lambda outputs, targets: (one_number if next(calls) >= batch else cross_entropy)(outputs, targets)


@pytest.mark.parametrize("batch", [0, 1])
def test_a_run_that_fails_before_its_first_step_leaves_nothing(tmp_path, batch):
    folder = tmp_path / "new" / "nets"
    with pytest.raises(UserError, match="one loss per example"):
        run(folder, loss=wrong_at(batch))
    assert not (tmp_path / "new").exists()
    run(folder, epochs=1, seed=1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="one loss per example"):
        run(folder, loss=wrong_at(batch), overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("fault", [{"loss": wrong_at(3)}, {"lr": 1e30}], ids=["a later batch", "diverged"])
def test_a_first_epoch_that_fails_is_in_no_corrected_jobs_way(tmp_path, fault):
    with pytest.raises(UserError):
        run(tmp_path / "run", **fault)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["resume.safetensors.lock"]
    run(tmp_path / "run", lr=0.01)
    run(tmp_path / "new", lr=0.01)
    assert bits(tmp_path / "run") == bits(tmp_path / "new")


@pytest.mark.parametrize("changes", [{"lr": 0.01}, {"split": images(seed=3)}, {"optimizer": "adam"}])
def test_a_run_that_was_killed_in_its_first_epoch_is_replaced_by_another_job(tmp_path, changes):
    with pytest.raises(KilledError):
        train_into(tmp_path / "run", lesson(pause=killed_at(3)), print)
    assert bits(tmp_path / "run").keys() == {"epoch-0000.safetensors"}
    _, _, lines = run(tmp_path / "run", **changes)
    assert lines[0] == f"{tmp_path / 'run'}: a run that had not finished its first epoch is replaced."
    run(tmp_path / "new", **changes)
    assert bits(tmp_path / "run") == bits(tmp_path / "new")


def test_initial_weights_that_were_asked_for_are_not_replaced(tmp_path):
    run(tmp_path, epochs=0)
    with pytest.raises(UserError, match=r"holds another run: train\.seed"):
        run(tmp_path, epochs=0, seed=1)


def checkpoint_of_another_hand(folder):
    state = load_file(folder / "epoch-0001.safetensors")
    save_file({**state, "1.bias": state["1.bias"] + 1}, folder / "epoch-0001.safetensors")


def moments_of_another_network(folder):
    run_state = read_run_state(folder)
    tensors = {**run_state.tensors, "optimizer.0.momentum_buffer": torch.zeros(3)}
    write_run_state(folder, replace(run_state, tensors=tensors))


DAMAGE = {
    "no state": (lambda folder: (folder / "resume.safetensors").unlink(), "already holds 2 checkpoints, and no resume"),
    "rubbish": (lambda folder: (folder / "resume.safetensors").write_bytes(b"rubbish"), "cannot be read as the state"),
    "none of ours": (lambda folder: save_file({}, folder / "resume.safetensors"), "cannot be read as the state"),
    "checkpoint gone": (lambda folder: (folder / "epoch-0001.safetensors").unlink(), "0001.* is not there as the run"),
    "checkpoint": (checkpoint_of_another_hand, r"epoch-0001\.safetensors is not there as the run left it"),
    "history gone": (lambda folder: (folder / "history.h5").unlink(), "cannot be read as a training history"),
    "moments": (moments_of_another_network, r"does not fit this network and optimiser \(found momentum_buffer of"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_cannot_be_gone_on_with_is_one_sentence(tmp_path, name):
    damage, message = DAMAGE[name]
    run(tmp_path, **SGD | {"epochs": 1})
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, **SGD)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "epoch-0002.safetensors").exists()


def test_two_processes_do_not_train_into_one_folder(tmp_path, monkeypatch):
    path = tmp_path / "resume.safetensors.lock"
    program = f"import fcntl; f = open({str(path)!r}, 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    monkeypatch.setattr(running, "lock_surface", partial(lock_surface, patience=0.1))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as holder:
        holder.stdout.readline()
        with pytest.raises(UserError, match=r"is training into it; wait for its end, or name another train\.output"):
            run(tmp_path)
        assert list(tmp_path.iterdir()) == [path]
        holder.communicate(b"\n")
    run(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_but_what_training_wrote_is_replaced_or_removed(tmp_path, overwrite):
    """The folder may hold files of others under names like ours."""
    (tmp_path / "epoch-best.safetensors").write_text("mine")
    (tmp_path / "history.h5").write_text("of another program")
    with pytest.raises(
        UserError,
        match=r"train\.output: .*history\.h5 would be replaced and is not a training history of landscape_mpi",
    ):
        run(tmp_path, epochs=1, overwrite=overwrite)
    assert not list(tmp_path.glob("epoch-0*")) + list(tmp_path.glob("resume.safetensors"))
    (tmp_path / "history.h5").unlink()
    run(tmp_path, epochs=1, overwrite=overwrite)
    assert (tmp_path / "epoch-best.safetensors").read_text() == "mine"

"""A language model swept on text: the job's own files, the loss at theta*, samples, the Hessian, mistakes."""

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping.run import Options, sweep
from support import texts
from support.texts import language_job

pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
OPTIONS = Options(device="cpu")


def surface(path):
    with h5py.File(path, locking=False) as file:
        found = {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}
        return found, dict(file.attrs)


def at_theta(text):
    """Windows of 32 tokens of a text, and their logits at theta*."""
    ids = texts.tokenizer().encode(text).ids
    tokens = torch.tensor([ids[i : i + 32] for i in range(0, len(ids) - 31, 32)])
    with torch.no_grad():
        return tokens, texts.network().eval()(tokens)["logits"]


def by_torch(text):
    """The loss of each window of 32 tokens of a text at theta*, by torch's own cross entropy."""
    tokens, logits = at_theta(text)
    losses = functional.cross_entropy(logits[:, :-1].double().transpose(1, 2), tokens[:, 1:], reduction="none")
    return losses.mean(1).numpy()


@pytest.mark.slow
def test_a_line_through_a_transformer_has_the_losses_of_its_text(tmp_path, caplog):
    job = language_job(tmp_path)
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    found, attributes = surface(tmp_path / "surface.h5")
    for split, text in (("train", texts.TEXT[:1200]), ("test", texts.TEXT[5000:5900])):
        losses = by_torch(text)
        assert attributes[f"{split}_size"] == len(losses) > 5
        assert found[f"{split}_loss"][2] == pytest.approx(losses.mean(), rel=1e-6)
        assert found[f"{split}_loss_stderr"][2] == pytest.approx(losses.std(ddof=1) / np.sqrt(len(losses)), rel=1e-5)
        assert f"{split}: the last " in caplog.text
    assert (found["train_loss"][[0, -1]] > found["train_loss"][2]).all()
    assert set(found["status"]) == {1}
    assert attributes["batch"] == 64


@pytest.mark.slow
def test_the_text_and_the_tokenizer_may_move_and_another_text_is_another_experiment(tmp_path):
    assert sweep(language_job(tmp_path), OPTIONS, Solo()) == Exit.COMPLETE
    (tmp_path / "elsewhere").mkdir()
    for name in ("tok", "train.txt", "test.txt"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    moved = {"data__root": "elsewhere/{split}.txt", "data__options__tokenizer": "elsewhere/tok/tokenizer.json"}
    job = language_job(tmp_path, **moved)
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    (tmp_path / "elsewhere/test.txt").write_text(texts.TEXT[6000:7000])
    with pytest.raises(UserError, match="data"):
        sweep(job, OPTIONS, Solo())


@pytest.mark.slow
def test_windows_are_sampled(tmp_path):
    (tmp_path / "long.txt").write_text(texts.TEXT[:60_000])
    changes = {"data__root": "long.txt", "data__splits": ["train"], "sampling": {"error": 0.05, "audit": 3}}
    assert sweep(language_job(tmp_path, **changes), OPTIONS, Solo()) == Exit.COMPLETE
    found, attributes = surface(tmp_path / "surface.h5")
    assert (found["train_examples"] < attributes["train_size"]).any()
    assert (found["train_loss_bar"] <= 0.05 * found["train_loss"]).all()


@pytest.mark.slow
def test_accuracy_is_that_of_tokens_also_where_windows_are_sampled(tmp_path):
    every = {"metrics": ["loss", "accuracy"], "data__root": "long.txt", "data__splits": ["train"]}
    (tmp_path / "long.txt").write_text(texts.TEXT[:60_000])
    assert sweep(language_job(tmp_path, **every), OPTIONS, Solo()) == Exit.COMPLETE
    found, _ = surface(tmp_path / "surface.h5")
    tokens, logits = at_theta(texts.TEXT[:60_000])
    right = (logits[:, :-1].argmax(2) == tokens[:, 1:]).double().mean(1)
    assert found["train_acc"][2] == pytest.approx(100 * right.mean().item())
    assert found["train_acc_stderr"][2] == pytest.approx(100 * right.std().item() / len(right) ** 0.5)
    sampled = {"sampling": {"error": 0.05, "audit": 3}, "output__file": "sampled.h5"}
    job = language_job(tmp_path, **every, **sampled)
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    some, attributes = surface(tmp_path / "sampled.h5")
    assert (some["train_examples"] < attributes["train_size"]).any()
    off = np.abs(some["train_acc"] - found["train_acc"]) / some["train_acc_bar"].clip(1e-12)
    assert (off < 2).all()


@pytest.mark.slow
def test_the_loss_of_a_transformer_can_be_differentiated_twice(tmp_path):
    changes = {"metrics": ["loss", "hessian"], "grid": {"alpha": [0, 0, 1]}, "hessian": {"tolerance": 0.1}}
    changes |= {"data__splits": ["train"], "data__limit": 4, "evaluate__dtype": "float64"}
    assert sweep(language_job(tmp_path, **changes), OPTIONS, Solo()) == Exit.COMPLETE
    found, _ = surface(tmp_path / "surface.h5")
    assert found["min_eig"][0] < found["max_eig"][0] > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data__options__length": 48}, r"model\.build: the forward pass of support\.texts:network"),
        ({"data__root": "train.txt"}, r"data\.splits: found .*, and data\.root .train\.txt. names one text"),
        ({"data__options__tokenizer": None}, r"data\.options\.tokenizer: the key is missing"),
        ({"loss": "cross_entropy"}, r"loss: found cross_entropy, and text has a token at every place; expected next_"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        sweep(language_job(tmp_path, **changes), OPTIONS, Solo())
    assert not (tmp_path / "surface.h5").exists()

"""The example of multiple-choice questions: the scores of transformers' own model, and lm-eval's files."""

import json
import shutil
import sys
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

from landscape_mpi.errors import Exit
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping.run import Options, sweep
from support import texts
from support.jobs import changed, write_job
from support.transformers_models import transformers

pytestmark = pytest.mark.usefixtures("transformers")
JOBS = Path(__file__).parents[2] / "jobs/own"


@pytest.fixture
def folder(tmp_path):
    """The example with a small model and its tokenizer."""
    package = transformers()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": texts.VOCABULARY}
    torch.manual_seed(0)
    package.GPT2LMHeadModel(package.GPT2Config(**sizes, max_position_embeddings=96)).save_pretrained(tmp_path / "lm")
    texts.tokenizer().save(str(tmp_path / "lm/tokenizer.json"))
    for name in ("choices.py", "questions.jsonl"):
        shutil.copy(JOBS / name, tmp_path / name)
    return tmp_path


def swept(folder, name, **changes):
    job = yaml.safe_load((JOBS / "choices.yaml").read_text())
    usual = {"model.checkpoint": "lm", "data.options": {"tokenizer": "lm"}, "output.file": f"{name}.h5"}
    usual |= {"grid": {"alpha": [-2, 2, 3]}, **{key.replace("__", "."): value for key, value in changes.items()}}
    assert (
        sweep(write_job(folder / f"{name}.yaml", changed(job, usual)), Options(device="cpu"), Solo()) == Exit.COMPLETE
    )
    with h5py.File(folder / f"{name}.h5", locking=False) as file:
        return {key: file[key][()] for key in file if key.startswith("train_")}


def scored(folder, rows):
    """Sums of log p of each choice by transformers, one text at a time."""
    model = transformers().GPT2LMHeadModel.from_pretrained(folder / "lm").eval()
    tokenizer = texts.tokenizer()
    found = []
    for context, choices in rows:
        start = len(tokenizer.encode(context).ids)
        found.append([])
        for choice in choices:
            ids = torch.tensor([tokenizer.encode(context + choice).ids])
            with torch.no_grad():
                logs = model(ids).logits.double().log_softmax(-1)
            found[-1].append(sum(logs[0, place - 1, ids[0, place]].item() for place in range(start, ids.shape[1])))
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_the_likeliest_choice_is_the_answer(folder, weights):
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    known = scored(folder, [(row["context"], [f" {choice}" for choice in row["choices"]]) for row in rows])
    answers = np.array([row["answer"] for row in rows])
    found = swept(folder, "s", evaluate={"batch": 5, "weights": weights})
    assert found["train_loss"][1] == pytest.approx(-known[np.arange(len(rows)), answers].mean(), rel=1e-5)
    assert found["train_correct"][1] == pytest.approx((known.argmax(1) == answers).mean())
    lengths = np.array([[len(choice) for choice in row["choices"]] for row in rows])
    assert found["train_correct_norm"][1] == pytest.approx(((known / lengths).argmax(1) == answers).mean())
    share = found["train_correct"][1]
    assert found["train_correct_stderr"][1] == pytest.approx((share * (1 - share) / (len(rows) - 1)) ** 0.5)


@pytest.mark.slow
def test_samples_of_lm_eval_are_the_same_questions(folder):
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    lines = []
    for row in rows:
        pairs = ({"arg_0": row["context"], "arg_1": f" {choice}"} for choice in row["choices"])
        arguments = {f"gen_args_{number}": pair for number, pair in enumerate(pairs)}
        lines.append(json.dumps({"doc_id": 0, "doc": {}, "target": str(row["answer"]), "arguments": arguments}))
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n")
    ours, theirs = swept(folder, "ours"), swept(folder, "theirs", data__root="samples.jsonl")
    for name, values in ours.items():
        assert values.tobytes() == theirs[name].tobytes(), name


def test_questions_may_have_other_numbers_of_choices_and_be_too_long(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "choices", raising=False)
    choices = import_module("choices")
    rows = [
        {"context": "One two ", "choices": ["a"], "answer": 0},
        {"context": "x" * 60, "choices": ["b", "cc", "ddd"], "answer": 2},
    ]
    (folder / "few.jsonl").write_text("\n".join(map(json.dumps, rows)))
    inputs, targets = choices.data(folder / "few.jsonl", "train", "lm", length=20)
    assert inputs.shape == (2, 20)
    assert targets["counted"].any(2).tolist() == [[True, False, False], [True, True, True]]
    assert targets["characters"][1].tolist() == [1, 2, 3]
    assert not targets["counted"][:, :, 0].any()

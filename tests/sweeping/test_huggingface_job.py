"""Jobs of models of transformers: a folder and no line of Python by the user for the network."""

import json
from importlib import import_module

import h5py
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping.run import Options, sweep
from support.jobs import write_job
from support.launch import launch
from support.texts import TEXT
from support.transformers_models import causal, classifier

pytestmark = pytest.mark.usefixtures("transformers")
DATA = """
import torch
def images(root, split):
    generator = torch.Generator().manual_seed(len(split))
    return torch.randn(40, 3, 8, 8, generator=generator), torch.randint(5, (40,), generator=generator)
"""


@pytest.fixture
def job(tmp_path):
    classifier().save_pretrained(tmp_path / "vit")
    (tmp_path / "hfdata.py").write_text(DATA)
    values = {
        "model": {"build": "huggingface", "checkpoint": "vit"},
        "data": {"build": "hfdata:images", "splits": ["train"]},
        "plane": {"kind": "random", "seed": 1},
        "grid": {"alpha": [-0.5, 0.5, 3]},
        "output": {"file": "s.h5"},
    }
    return write_job(tmp_path / "job.yaml", values)


@pytest.mark.slow
def test_the_centre_is_the_loss_of_transformers_own_model(job, tmp_path):
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    with h5py.File(tmp_path / "s.h5", locking=False) as file:
        found = {name: file[name][()] for name in ("train_loss", "train_acc")}
    inputs, targets = import_module("hfdata").images(None, "train")
    with torch.no_grad():
        logits = classifier()(inputs).logits
    assert found["train_loss"][1] == pytest.approx(cross_entropy(logits.double(), targets).item(), rel=1e-6)
    assert found["train_acc"][1] == pytest.approx(100 * (logits.argmax(1) == targets).double().mean().item())
    assert np.isfinite(found["train_loss"]).all()


def language_folder(folder, kind, tied):
    """Write a language model's folder and a text, and return the sections of a job of them, and the tokenizer."""
    from tokenizers import Tokenizer, models, trainers

    causal(tied, kind).save_pretrained(folder / "lm")
    tokenizer = Tokenizer(models.BPE(unk_token="?"))
    trainer = trainers.BpeTrainer(vocab_size=40, limit_alphabet=30, special_tokens=["?"], show_progress=False)
    tokenizer.train_from_iterator([TEXT[:2000]], trainer)
    tokenizer.save(str(folder / "lm/tokenizer.json"))
    (folder / "novel.txt").write_text(TEXT[:2000])
    data = {"root": "novel.txt", "options": {"tokenizer": "lm", "length": 64}}
    values = {
        "model": {"build": "huggingface", "checkpoint": "lm"},
        "data": {"build": "text", "splits": ["train"], "limit": 9, **data},
        "loss": "next_token",
        "metrics": ["loss"],
        "plane": {"kind": "random"},
        "grid": {"alpha": [-0.5, 0.5, 3]},
        "output": {"file": "s.h5"},
    }
    return values, tokenizer


@pytest.mark.slow
@pytest.mark.filterwarnings("error:.*no-op:UserWarning")  # of weights that are loaded into no memory
@pytest.mark.parametrize("weights", ["auto", "streamed"])
@pytest.mark.parametrize(("kind", "tied"), [("Llama", True), ("Llama", False), ("GPT2", True), ("Mixtral", False)])
def test_a_language_model_and_its_tokenizer_lie_in_one_folder(tmp_path, kind, tied, weights):
    values, tokenizer = language_folder(tmp_path, kind, tied)
    job = write_job(tmp_path / "job.yaml", values | {"evaluate": {"weights": weights}})
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    ids = torch.tensor(tokenizer.encode(TEXT[:2000]).ids[: 9 * 64]).view(9, 64)
    with torch.no_grad():
        logits = causal(tied, kind)(ids).logits.double()
    wanted = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()
    with h5py.File(tmp_path / "s.h5", locking=False) as file:
        assert file["train_loss"][1] == pytest.approx(wanted, rel=1e-6)
        assert np.isfinite(file["train_loss"][()]).all()


@pytest.mark.slow
def test_a_torchvision_that_does_not_load_is_no_hindrance(tmp_path):
    """As one for CUDA is beside a torch for CPUs; transformers imports it for language models as well."""
    values, _ = language_folder(tmp_path, "Llama", True)
    broken = tmp_path / "path" / "torchvision"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    variables = {"PYTHONPATH": str(broken.parent)}
    run = launch("sweep", write_job(tmp_path / "job.yaml", values), "--quiet", env=variables, fresh=True)
    assert run.returncode == 0, run.stderr


def test_a_class_that_transformers_does_not_have_is_one_sentence(job, tmp_path):
    config = tmp_path / "vit" / "config.json"
    values = json.loads(config.read_text()) | {"architectures": ["Own"], "auto_map": {"AutoModel": "own.Own"}}
    config.write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"names 'Own', which is no model of transformers .* is not executed"):
        sweep(job, Options(device="cpu"), Solo())
    assert not (tmp_path / "s.h5").exists()

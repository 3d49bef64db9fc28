"""`init --model FOLDER`: a job for the language model of a folder, which runs as it is."""

import json
import re

import h5py
import pytest

from landscape_mpi import cli
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping.first_job import first_job
from landscape_mpi.sweeping.run import Options, sweep
from support import texts
from support.texts import TEXT
from support.transformers_models import causal, classifier, transformers

pytestmark = pytest.mark.usefixtures("transformers")


@pytest.fixture
def folder(tmp_path):
    """A folder with a language model and a tokenizer, of a name that has to be quoted."""
    place = tmp_path / "my nets, 2: x"
    package = transformers()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": texts.VOCABULARY}
    package.GPT2LMHeadModel(package.GPT2Config(**sizes, max_position_embeddings=64)).save_pretrained(place)
    texts.tokenizer().save(str(place / "tokenizer.json"))
    return place


def written(folder, tmp_path, data=None, name="job.yaml"):
    text, notes = first_job(folder, data, tmp_path / name)
    (tmp_path / name).write_text(text)
    return load_job(tmp_path / name, SweepJob).values, notes


@pytest.mark.slow
def test_it_runs_as_it_is(folder, tmp_path, monkeypatch):
    (tmp_path / "novel.txt").write_text(TEXT[:9000])
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path)
    arguments = ["init", "jobs/first.yaml", "--model", folder.name, "--data", "novel.txt"]
    assert cli.run(arguments) == Exit.COMPLETE
    job = load_job(tmp_path / "jobs/first.yaml", SweepJob).values
    assert job.model.checkpoint == f"../{folder.name}"
    assert job.data.options == {"tokenizer": job.model.checkpoint, "length": 64}
    assert (job.loss, job.metrics, job.evaluate.dtype) == ("next_token", ("loss",), "float32")
    assert sweep(tmp_path / "jobs/first.yaml", Options(device="cpu"), Solo()) == Exit.COMPLETE
    with h5py.File(tmp_path / "jobs/first.h5", locking=False) as file:
        alpha, losses = file["xcoordinates"][()], file["train_loss"][()]
        assert file.attrs["train_size"] == job.data.limit
    assert len(alpha) == 25
    assert alpha[0] == -alpha[-1]
    assert max(losses[[0, -1]]) >= losses[12] + 1


@pytest.mark.parametrize(
    ("characters", "length", "windows"),
    [(100_000, 64, 64), (9_000, 64, 60), (1_500, 32, 23), (100, 8, 7)],
)
def test_short_texts_are_cut_into_shorter_windows(folder, tmp_path, characters, length, windows):
    (tmp_path / "novel.txt").write_text(TEXT[:characters])
    job, _ = written(folder, tmp_path, tmp_path / "novel.txt")
    assert (job.data.options["length"], job.data.root) == (length, str(tmp_path / "novel.txt"))
    assert abs(job.data.limit - windows) <= windows // 3
    assert "special" not in job.data.options


def test_special_tokens_are_around_windows_where_the_tokenizer_puts_them_around_texts(folder, tmp_path):
    texts.surrounded().save(str(folder / "tokenizer.json"))
    (tmp_path / "novel.txt").write_text(TEXT[:9000])
    assert written(folder, tmp_path, tmp_path / "novel.txt")[0].data.options["special"] is True


def test_without_a_text_it_is_that_of_the_folder_or_to_be_filled_in(folder, tmp_path):
    job, notes = written(folder, tmp_path)
    assert notes == (f"{tmp_path / 'job.yaml'}: fill in data.root, the text to evaluate",)
    with pytest.raises(UserError, match=r"data\.root: no file .*my-text\.txt"):
        sweep(tmp_path / "job.yaml", Options(device="cpu"), Solo())
    (folder / "README.md").write_text(TEXT[:9000])
    job, notes = written(folder, tmp_path)
    assert (job.data.root, notes) == (str(folder / "README.md"), ())


@pytest.mark.parametrize(("stored", "dtype"), [("bfloat16", "float32"), ("float64", "float64"), (None, "float32")])
def test_weights_are_held_exactly(folder, tmp_path, stored, dtype):
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = stored
    (folder / "config.json").write_text(json.dumps(config))
    assert written(folder, tmp_path)[0].evaluate.dtype == dtype


def test_what_is_no_language_model_is_refused(tmp_path):
    classifier().save_pretrained(tmp_path / "vit")
    for place, message in (
        (tmp_path / "vit", r"--model: .*vit holds ViTForImageClassification; expected a language model"),
        (tmp_path / "none", r"--model: .*none is no folder"),
    ):
        with pytest.raises(UserError, match=message):
            first_job(place, None, tmp_path / "job.yaml")
    causal().save_pretrained(tmp_path / "lm")
    (tmp_path / "novel.txt").write_text(TEXT[:900])
    with pytest.raises(UserError, match=re.escape("data.options.tokenizer")):
        first_job(tmp_path / "lm", tmp_path / "novel.txt", tmp_path / "job.yaml")
    with pytest.raises(UserError, match="--data: found it alone; expected with --model FOLDER"):
        cli.run(["init", str(tmp_path / "job.yaml"), "--data", "x"])
    assert not (tmp_path / "job.yaml").exists()

"""Every mistake in a job is one sentence that names the key, and writes nothing."""

import os
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from landscape_mpi.errors import UserError
from landscape_mpi.sweeping.check import check
from support import tiny
from support.jobs import tiny_job
from support.launch import launch


def edited(text):
    """A job whose text is changed as text, for what YAML itself stumbles over."""

    def make(folder):
        job = tiny_job(folder)
        job.write_text(text(job.read_text()))
        return job

    return make


def replaced(text):
    """A job file that holds this text instead of a job."""
    return lambda folder: write_text(folder / "job.yaml", text)


def write_text(path, text):
    path.write_text(text)
    return path


def keys(**changes):
    return lambda folder: tiny_job(folder, **changes)


def checkpoint(make):
    def job(folder):
        path = tiny_job(folder)
        make(folder / "net.pt")
        return path

    return job


class Evil:
    """Unpickling this makes a folder called `executed`."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def cifar10(make):
    """A job on CIFAR-10 whose one batch `make` returns the bytes of."""

    def job(folder):
        batches = folder / "cifar-10-batches-py"
        batches.mkdir()
        (batches / "data_batch_1").write_bytes(make())
        return tiny_job(
            folder, data={"build": "cifar10", "root": ".", "splits": ["train"]}, model__build="tiny:network"
        )

    return job


def batch(rows=4):
    content = {b"data": np.zeros((rows, 3072), np.uint8), b"labels": [0] * 4}
    return pickle.dumps(content, protocol=2)


def other_sweep(folder):
    launch("sweep", tiny_job(folder, grid={"alpha": [-1, 1, 3]}), timeout=60)
    return tiny_job(folder, grid={"alpha": [-1, 1, 3]}, plane__seed=9)


def normed(**changes):
    """A job on a network with batch norm."""

    def job(folder):
        torch.save(tiny.network(batchnorm=True).state_dict(), folder / "normed.pt")
        return tiny_job(folder, model__options={"batchnorm": True}, model__checkpoint="normed.pt", **changes)

    return job


def other_end(folder):
    torch.save(tiny.network().state_dict(), folder / "to.pt")
    torch.save(tiny.network(width=9).state_dict(), folder / "other.pt")
    return tiny_job(folder, plane={"kind": "interpolate", "to": "to.pt", "via": "other.pt"})


def retrained(folder):
    job = tiny_job(folder, grid={"alpha": [-1, 1, 3]})
    launch("sweep", job, timeout=60)
    state = torch.load(folder / "net.pt", weights_only=True)
    state["0.weight"][0, 0] += 1
    torch.save(state, folder / "net.pt")
    return job


BAD = {
    "unknown key": (keys(plane__sead=3), "plane.sead: unknown key (did you mean `seed`?)"),
    "unknown section": (keys(modle=3), "modle: unknown key (did you mean `model`?)"),
    "missing section": (keys(grid=None), "grid: the key is missing; it is required, as only the path of"),
    "missing checkpoint key": (keys(model__checkpoint=None), "model.checkpoint: the key is missing"),
    "an entry without a name": (keys(model__entry=""), "model.entry: found ''"),
    "an entry that is not there": (
        keys(model__entry="ema"),
        "model.entry: found 'ema', which model.checkpoint: net.pt does not",
    ),
    "wrong type": (keys(data__limit="many"), "data.limit: found 'many'; expected a whole number"),
    "true is no number": (keys(plane__seed=True), "plane.seed: found True; expected a whole number"),
    "a list for a section": (keys(data=[1, 2]), "data: found [1, 2]; expected a mapping of keys"),
    "1e-3 as text": (
        edited(lambda text: text.replace("- -1\n", "- 1e-3\n", 1)),
        "grid.alpha[0]: found '1e-3', which YAML reads as text; expected a number: write 1.0e-3",
    ),
    "0 points": (keys(grid__alpha=[-1, 1, 0]), "grid.alpha[2]: found 0 points"),
    "half a point": (keys(grid__alpha=[-1, 1, 2.5]), "grid.alpha[2]: found 2.5; expected a whole number"),
    "reversed range": (keys(grid__beta=[1, -1, 5]), "grid.beta: found the reversed range 1 to -1; write [-1, 1, 5]"),
    "one point, two ends": (keys(grid__beta=[0, 1, 1]), "grid.beta: found one point from 0 to 1"),
    "many points, one end": (keys(grid__beta=[1, 1, 4]), "grid.beta: found 4 points from 1 to 1"),
    "infinite range": (edited(lambda text: text.replace("- -1\n", "- -.inf\n", 1)), "expected finite numbers"),
    "coordinates that coincide": (
        keys(grid__alpha=[1, 1 + 4e-16, 50]),
        "grid.alpha: found 50 points from 1.0 to 1.000",
    ),
    "coordinates beyond float64": (keys(grid__alpha=[-1.7e308, 1.7e308, 5]), "lie beyond float64"),
    "a line longer than any reader takes": (
        keys(grid={"alpha": [-1, 1, 2**24 + 1]}),
        "grid: found 16777217 points; expected at most 16,777,216 in all",
    ),
    "a plane larger than any reader takes": (
        keys(grid={"alpha": [-1, 1, 4100], "beta": [-1, 1, 4200]}),
        "grid: found 4100 x 4200 points; expected at most 16,777,216 in all",
    ),
    "planes without end": (
        keys(plane__repeats=10**9),
        "plane.repeats: found 1000000000; expected a whole number <= 10000",
    ),
    "a limit of 80 digits": (keys(data__limit=10**79), "data.limit: found a whole number of 80 digits"),
    "a mean of NaN": (
        keys(data__normalize={"mean": [float("nan")], "std": [1.0]}),
        "data.normalize.mean[0]: found nan; expected a finite number",
    ),
    "a key that is no text": (
        keys(model__options={1: 2}),
        "model.options: found the key 1, which is no text; expected keys of text",
    ),
    "a section's key that is no text": (
        edited(lambda text: text + "7: 1\n"),
        "the job: found the key 7, which is no text",
    ),
    "two numbers": (keys(grid__alpha=[0, 1]), "an axis is [first, last, number of points]"),
    "four numbers": (keys(grid__alpha=[0, 1, 5, 7]), "an axis is [first, last, number of points]"),
    "unknown kind": (keys(plane__kind="randm"), "plane.kind: found 'randm'; expected one of random, "),
    "key of another kind": (keys(plane__path="x.h5"), "plane.path: unknown key"),
    "unknown normalisation": (keys(plane__normalize="fliter"), "(did you mean `filter`?)"),
    "pattern without match": (keys(plane__only=["layr*"]), "plane.only: the pattern 'layr*' matches no parameter"),
    "unknown split": (keys(data__splits=["train", "tset"]), "data.splits[1]: found 'tset'"),
    "no split": (keys(data__splits=[]), "data.splits: found []"),
    "a split twice": (keys(data__splits=["train", "train"]), "data.splits: found ['train', 'train']"),
    "metrics without loss": (keys(metrics=["accuracy"]), "metrics: found ['accuracy']"),
    "eigenvalues, sampled": (
        keys(metrics=["loss", "hessian"], sampling={"error": 0.02}),
        "metrics: found hessian beside `sampling`, which is for means: its error bars are those of means, and an eigen",
    ),
    "a Hessian of no image": (keys(hessian={"images": 0}), "hessian.images: found 0; expected a whole number >= 1"),
    "a tolerance of 0": (keys(hessian={"tolerance": 0}), "hessian.tolerance: found 0; expected a number > 0.0"),
    "a tolerance of 1": (keys(hessian={"tolerance": 1}), "hessian.tolerance: found 1; expected a number < 1.0"),
    "unknown key of the Hessian": (keys(hessian={"image": 1}), "hessian.image: unknown key (did you mean `images`?)"),
    "key of no eigenvectors": (keys(plane={"kind": "hessian", "seed": 1}), "plane.seed: unknown key"),
    "eigenvectors over no parameter": (
        keys(plane={"kind": "hessian", "ignore": ["*"]}),
        "plane: `ignore` and `only` leave no parameter to perturb",
    ),
    "a loss with one derivative": (
        keys(metrics=["loss", "hessian"], loss="tiny:once"),
        "hessian: the network or its loss cannot be differentiated twice (RuntimeError",
    ),
    "sampling without a target": (keys(sampling={"seed": 1}), "sampling.error: the key is missing; it is required"),
    "a negative target": (keys(sampling={"error": -0.01}), "sampling.error: found -0.01; expected a number >= 0.0"),
    "a target of all": (keys(sampling={"error": 2}), "sampling.error: found 2; expected a number < 1.0"),
    "half an audit": (
        keys(sampling={"error": 0.1, "audit": 0.5}),
        "sampling.audit: found 0.5; expected a whole number",
    ),
    "unknown key of sampling": (keys(sampling={"eror": 0.1}), "sampling.eror: unknown key (did you mean `error`?)"),
    "means without deviations": (keys(data__normalize={"mean": [0.5, 0.5], "std": [1.0]}), "data.normalize: found 2"),
    "a deviation of 0": (keys(data__normalize={"mean": [0.5], "std": [0]}), "data.normalize.std[0]: found 0"),
    "batch of 0": (keys(evaluate={"batch": 0}), "evaluate.batch: found 0; expected a whole number >= 1"),
    "unknown precision": (
        keys(evaluate={"dtype": "float16"}),
        "evaluate.dtype: found 'float16'; expected one of float32, float64, tf32, bfloat16, bfloat16x2",
    ),
    "tf32 on a CPU": (keys(evaluate={"dtype": "tf32"}), "evaluate.dtype: found tf32, which a CPU does not have"),
    "weights nowhere": (
        keys(evaluate={"weights": "disk"}),
        "evaluate.weights: found 'disk'; expected one of auto, resident, streamed",
    ),
    "deleted engine": (
        keys(evaluate={"engine": "winograd"}),
        "evaluate.engine: found 'winograd'; expected one of auto, eager, fused, compiled",
    ),
    "unknown network": (keys(model__build="resnt20"), "model.build: found 'resnt20' (did you mean `resnet20`?)"),
    "unknown module": (keys(model__build="nowhere:net"), "model.build: importing the module of 'nowhere:net' failed"),
    "unknown callable": (keys(model__build="tiny:netwrk"), "model.build: found no callable `netwrk`"),
    "not a network": (keys(model__build="tiny:not_a_network"), "model.build: 'tiny:not_a_network' returned int"),
    "option of no network": (keys(model__options={"depth": 3}), "model.options: tiny:network does not take"),
    "unknown data": (keys(data={"build": "cifar100"}), "data.build: found 'cifar100'"),
    "unknown loss": (keys(loss="hinge"), "loss: found 'hinge'"),
    "loss of one value": (keys(loss="tiny:one_value"), "loss: it returned the shape []"),
    "accuracy of a regression": (
        keys(data={"build": "tiny:regression"}, loss="mse"),
        "metrics: accuracy needs class targets",
    ),
    "missing checkpoint": (keys(model__checkpoint="gone.pt"), "model.checkpoint: no file"),
    "other architecture": (keys(model__options={"width": 9}), "the tensor `0.weight` is [8, 4] in it and [9, 4]"),
    "missing tensor": (keys(model__options={"batchnorm": True}), "the tensor `1.weight`"),
    "pickle that is not weights": (
        checkpoint(lambda path: torch.save({"state_dict": Evil()}, path)),
        "is not a file of weights alone and was not executed (it names posix.mkdir)",
    ),
    "checkpoint of text": (checkpoint(lambda path: path.write_text("hello")), "is not a file of weights alone"),
    "missing data": (keys(data={"build": "cifar10", "root": "nowhere"}), "nowhere"),
    "cifar10 without root": (keys(data={"build": "cifar10"}), "data.root: the key is missing"),
    "truncated batch": (cifar10(lambda: batch()[:-500]), "data_batch_1"),
    "batch of other rows": (cifar10(lambda: batch(3)), "data_batch_1"),
    "malicious batch": (cifar10(lambda: pickle.dumps({b"data": Evil()}, protocol=2)), "data_batch_1"),
    "missing end": (keys(plane={"kind": "interpolate", "to": "gone.pt"}, grid__beta=None), "plane.to: no file gone.pt"),
    "an end that is theta": (
        keys(plane={"kind": "interpolate", "to": "net.pt"}, grid__beta=None),
        "plane.to: net.pt holds what model.checkpoint holds",
    ),
    "no end": (keys(plane={"kind": "interpolate"}), "plane.to: the key is missing; it is required"),
    "an end of another network": (
        other_end,
        "plane.via: other.pt is of another network than model.build: the tensor `0.weight` is [9, 4] in it",
    ),
    "beta without via": (keys(plane={"kind": "interpolate", "to": "b.pt"}), "plane.via: the key is missing; grid.beta"),
    "via without beta": (
        keys(plane={"kind": "interpolate", "to": "b.pt", "via": "c.pt"}, grid__beta=None),
        "grid.beta: the key is missing; plane.via",
    ),
    "unknown policy": (
        keys(evaluate={"batchnorm": "mov"}),
        "evaluate.batchnorm: found 'mov'; expected one of keep, move",
    ),
    "statistics of random directions": (
        keys(evaluate={"batchnorm": "move"}),
        "evaluate.batchnorm: found move, and plane.kind random has no directions for running statistics",
    ),
    "statistics of a shortened way": (
        keys(
            plane={"kind": "interpolate", "to": "b.pt", "normalize": "filter"},
            grid__beta=None,
            evaluate={"batchnorm": "move"},
        ),
        "evaluate.batchnorm: found move, which takes the running statistics all the way",
    ),
    "statistics in the weights of an engine": (
        keys(evaluate={"batchnorm": "recompute", "engine": "fused"}),
        "evaluate.engine: found fused, whose weights hold the running statistics",
    ),
    "no statistics": (
        keys(evaluate={"batchnorm": "recompute"}),
        "evaluate.batchnorm: found recompute, and the network has no batch norm",
    ),
    "statistics of one example": (
        normed(data__options={"images": 1}, evaluate={"batchnorm": "recompute"}),
        "evaluate.batchnorm: found recompute, and there is one training example",
    ),
    "missing direction file": (keys(plane={"kind": "file", "path": "gone.h5"}), "plane.path: no file gone.h5"),
    "unwritable output": (keys(output__file="/proc/surface.h5"), "surface.h5 cannot be written, because /proc"),
    "output below a file": (keys(output__file="net.pt/surface.h5"), "cannot be written, because"),
    "output is a folder": (keys(output__file="."), "is a folder"),
    "output of another sweep": (other_sweep, "plane.seed: the file has 3 and the job says 9"),
    "output of another checkpoint": (retrained, "model.checkpoint: it was made from another checkpoint"),
    "a tag": (
        edited(lambda text: text + "x: !!python/object/apply:os.mkdir [executed]\n"),
        "not readable as plain YAML",
    ),
    "aliases that unfold to gigabytes": (
        replaced(
            "".join(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise("abcdefghij"))
        ),
        "an alias (*name) is not read here",
    ),
    "a merge key": (edited(lambda text: text + "x: &a {y: 1}\nz: {<<: *a}\n"), "an alias (*name) is not read here"),
    "a merge key in place": (
        edited(lambda text: text + "z: {<<: {a: 1}, b: 2}\n"),
        "the merge key << is not read here",
    ),
    "a tag of YAML's own": (
        edited(lambda text: text + "x: !!str 1\n"),
        "a tag (tag:yaml.org,2002:str) is not read here",
    ),
    "a list for a key": (edited(lambda text: text + "? [a]\n: 1\n"), "a list or a mapping for a key is not read here"),
    "a key twice, as numbers": (edited(lambda text: text + "x: {1: a, 1.0: b}\n"), "the key `1.0` appears twice"),
    "an escape beyond Unicode": (replaced('a: "\\UFFFFFFFF"'), "not readable as plain YAML: Python int too large"),
    "half a character": (replaced('a: "\\ud800"'), "half a character"),
    "a number to the base 60": (
        replaced("a: 1" + ":1" * 1000 + ".5"),
        "a number of 2,003 characters; expected at most",
    ),
    "a number of thousands of digits": (replaced("a: " + "9" * 5000), "not readable as plain YAML"),
    "a control character": (edited(lambda text: text + "x: \x1b[2J\n"), "not readable as plain YAML"),
    "an object of Python": (replaced("!!python/object/new:os.system [touch executed]"), "not readable as plain YAML"),
    "a name of Python": (edited(lambda text: text + "x: !!python/name:os.system\n"), "not readable as plain YAML"),
    "an escape in a value": (keys(data__splits=["\x1b[2J"]), "data.splits[0]: found '\\x1b[2J'"),
    "an alias": (edited(lambda text: text + "x: &a [1]\ny: *a\n"), "an alias (*name) is not read here"),
    "a key twice": (edited(lambda text: text + "loss: mse\n"), "the key `loss` appears twice"),
    "no YAML": (replaced("model: [1, 2"), "not readable as plain YAML"),
    "a list at the top": (replaced("- 1\n"), "found a list at the top"),
    "an empty file": (replaced(""), "found nothing at the top"),
    "too large": (edited(lambda text: text + "#" * 1_000_001), "larger than 1,000,000 bytes"),
    "too deep": (replaced("a: " + "[" * 5000), "not readable as plain YAML"),
}


def listing(folder):
    return {path: path.stat().st_size for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_bad_job_is_one_sentence_and_writes_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make, message = BAD[name]
    job = make(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(UserError) as caught:
        check(job, "cpu")
    sentence = str(caught.value)
    assert message in sentence
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    assert listing(tmp_path) == before
    assert not Path("executed").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unknown key", "missing checkpoint", "malicious batch", "a tag", "tf32 on a CPU"])
@pytest.mark.parametrize("command", ["check", "sweep"])
def test_the_command_says_it_in_one_line_and_exits_with_2(tmp_path, name, command):
    make, message = BAD[name]
    run = launch(command, make(tmp_path), cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")
    assert message in run.stderr
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "surface.h5").exists()

"""Metrics of the user's own: known answers, the same bits however they are computed, and what is refused."""

import re
import sys
import types

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import landscape_mpi
from landscape_mpi import UserError
from landscape_mpi.evaluate.first_batch import examples_that_fit
from landscape_mpi.job import SweepJob, read_job
from landscape_mpi.metrics.own import RECORD, is_name
from landscape_mpi.plot.__main__ import main as plot
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.page import content
from landscape_mpi.surface.read import read_surface
from support import tiny
from support.jobs import done, results, tiny_job
from support.launch import kill_session, launch, start
from support.waiting import wait_for

OURS = ["loss", "accuracy", "tiny:square", "tiny:several"]
LINE = {"alpha": [-1, 1, 3]}
SAMPLED = {
    "data__options": {"images": 4000},
    "data__splits": ["train"],
    "grid": {"alpha": [-3, 3, 9]},
    "metrics": OURS,
}


def sweep(network, data, metrics, grid=LINE, **options):
    return landscape_mpi.sweep(network, "cross_entropy", data, grid=grid, metrics=metrics, quiet=True, **options)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return tiny.network()


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "tiny", tiny)


@pytest.fixture
def given(monkeypatch):
    """Make a callable importable as `given:NAME`; return the job's key."""

    def made(function, name="mine"):
        monkeypatch.setitem(sys.modules, "given", types.ModuleType("given"))
        setattr(sys.modules["given"], name, function)
        return f"given:{name}"

    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The tiny job with metrics of its own, on one process."""
    folder = tmp_path_factory.mktemp("own")
    run = launch("sweep", tiny_job(folder, metrics=OURS))
    assert run.returncode == 0, run.stderr
    return folder, run.stderr


def array(path, name):
    with h5py.File(path, locking=False) as file:
        return file[name][()]


def test_the_mean_square_of_a_linear_map_is_known_in_closed_form():
    """|(W + a D) x|^2, averaged, with its standard error."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Linear(4, 3, bias=False).double()
    delta = {"weight": torch.randn(3, 4, generator=generator)}
    inputs, targets = torch.randn(20, 4, generator=generator).double(), torch.arange(20) % 3
    surface = sweep(network, (inputs, targets), ["loss", "tiny:square"], {"alpha": [-2, 1, 4]}, plane=(delta,))
    for alpha, mean, error in zip(
        surface.alpha, surface.metrics["train_square"], surface.metrics["train_square_stderr"], strict=True
    ):
        squares = (inputs @ (network.weight.detach() + alpha * delta["weight"].double()).T).square().sum(1).numpy()
        assert mean == pytest.approx(squares.mean(), rel=1e-12)
        assert error == pytest.approx(squares.std(ddof=1) / 20**0.5, rel=1e-9)


def test_a_mapping_gives_each_name_a_result_and_truth_values_are_0_and_1(network):
    inputs, targets = tiny.data(None, "train")
    surface = sweep(network, {"train": (inputs, targets), "test": (inputs, targets)}, ["loss", "tiny:several"])
    with torch.no_grad():
        logits = network(inputs)
    two = (logits.topk(2).indices == targets[:, None]).any(1).double().mean().item()
    assert surface.metrics["train_top_two"][1] == surface.metrics["test_top_two"][1] == pytest.approx(two)
    sure = logits.softmax(1).amax(1).double().mean().item()
    assert surface.metrics["train_sureness"][1] == pytest.approx(sure, rel=1e-6)
    assert "train_acc" not in surface.metrics


def test_a_function_of_the_notebook_is_named_by_main(network, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "largest", lambda outputs, _: outputs.amax(1), raising=False)
    surface = sweep(network, tiny.data(None, "train"), ["loss", "__main__:largest"])
    with torch.no_grad():
        largest = network(tiny.data(None, "train")[0]).amax(1).double().mean().item()
    assert surface.metrics["train_largest"][1] == pytest.approx(largest, rel=1e-6)


def test_a_surface_without_metrics_of_its_own_says_nothing_of_them(tmp_path, network):
    path = sweep(network, tiny.data(None, "train"), ["loss"]).save(tmp_path / "s.h5").path
    with h5py.File(path) as file:
        assert RECORD not in file.attrs


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_change_no_bit(tmp_path, whole, ranks):
    run = launch("sweep", tiny_job(tmp_path, metrics=OURS), ranks=ranks)
    assert run.returncode == 0, run.stderr
    assert results(tmp_path / "surface.h5") == results(whole[0] / "surface.h5")


@pytest.mark.slow
def test_shards_make_the_surface_of_one_run(tmp_path, whole):
    job = tiny_job(tmp_path, metrics=OURS)
    for index in range(2):
        assert launch("sweep", job, "--shard", f"{index}/2").returncode == 0
    run = launch("merge", tmp_path / "surface.h5", *sorted(tmp_path.glob("surface.shard-*.h5")))
    assert run.returncode == 0, run.stderr
    assert results(tmp_path / "surface.h5") == results(whole[0] / "surface.h5")
    assert launch("sweep", job).returncode == 0


@pytest.mark.mpi
def test_killed_it_goes_on_to_the_same_bits(tmp_path, whole):
    job, surface = tiny_job(tmp_path, metrics=OURS), tmp_path / "surface.h5"
    process = start("sweep", job, ranks=2, env={"TINY_SLEEP": "0.02", "TINY_CALLS": "28"})
    wait_for(lambda: done(surface) > 5 or process.poll() is not None)
    kill_session(process)
    assert 0 < done(surface) < 35
    assert launch("sweep", job).returncode == 0
    assert results(surface) == results(whole[0] / "surface.h5")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A sampled sweep, and the same on every example."""
    folder = tmp_path_factory.mktemp("sampled")
    sampling = {"error": 0.02, "audit": 3}
    run = launch("sweep", tiny_job(folder, **SAMPLED, sampling=sampling))
    assert run.returncode == 0, run.stderr
    assert launch("sweep", tiny_job(folder, "every.yaml", **SAMPLED, output__file="every.h5")).returncode == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_square", "train_sureness", "train_top_two"])
def test_sampled_means_have_bars_that_hold(sampled, name):
    surface, every = sampled / "surface.h5", sampled / "every.h5"
    means, bars, images = (array(surface, one) for one in (name, f"{name}_bar", "train_examples"))
    truth = array(every, name)
    assert images.min() < 4000
    assert (bars[images < 4000] > 0).all()
    assert (bars[images == 4000] == 0).all()
    assert (np.abs(means - truth) <= 2 * bars + 1e-9).all()
    np.testing.assert_allclose(array(surface, f"{name}_stderr"), array(every, f"{name}_stderr"), rtol=0.35, atol=1e-9)


@pytest.mark.mpi
def test_a_sampled_sweep_that_was_killed_goes_on_to_the_same_bits(tmp_path, sampled):
    job, folder = tiny_job(tmp_path, **SAMPLED, sampling={"error": 0.02, "audit": 3}), tmp_path / "surface.h5.examples"

    def written(folder):
        return sum(path.stat().st_size for path in folder.glob("rank-*.journal"))

    enough = written(sampled / "surface.h5.examples") / 2
    process = start("sweep", job, ranks=2, env={"TINY_SLEEP": "0.01", "TINY_JOURNALS": f"{enough}:{folder}"})
    wait_for(lambda: written(folder) >= enough or process.poll() is not None)
    kill_session(process)
    assert 0 < written(folder) < 2 * enough
    assert launch("sweep", job).returncode == 0
    assert results(tmp_path / "surface.h5") == results(sampled / "surface.h5")


def test_a_metric_without_a_number_at_a_point_holds_nothing_up(network, given):
    key = given(lambda outputs, _: outputs[:, 0] * torch.nan)
    surface = sweep(network, tiny.data(None, "train", 4000), ["loss", key], sampling={"error": 0.05, "audit": 0})
    assert surface.complete
    assert np.isnan(surface.metrics["train_mine"]).all()


@pytest.mark.slow
def test_figures_page_and_exports_know_them(tmp_path, whole, capsys):
    path = whole[0] / "surface.h5"
    surface = read_surface(path)
    assert field_of(surface, "train_sureness").quantity.label == "training sureness"
    assert field_of(surface, "test_top_two_stderr").quantity.label == "standard error of the test top two"
    assert plot([str(path), "--metric", "train_square", "-o", str(tmp_path / "square.svg")]) == 0, capsys.readouterr()
    assert "training square" in (tmp_path / "square.svg").read_text()
    assert launch("export", path, tmp_path / "out.npz").returncode == 0
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["test_top_two"].tobytes() == array(path, "test_top_two").tobytes()
    opened = landscape_mpi.open(path)
    assert np.array_equal(opened.metrics["train_square"], array(path, "train_square"))
    assert "train square" in whole[1]
    assert "train_sureness" in launch("info", path).stdout


def test_a_surface_whose_callable_calls_its_results_otherwise_is_not_gone_on_with(tmp_path, whole):
    job = tiny_job(tmp_path, metrics=OURS)
    (tmp_path / "surface.h5").write_bytes((whole[0] / "surface.h5").read_bytes())
    module = tmp_path / "tiny.py"
    module.write_text(module.read_text().replace('"sureness"', '"surety"'))
    before = (tmp_path / "surface.h5").read_bytes()
    run = launch("sweep", job)
    assert run.returncode == 2
    assert f"metrics: it was made from a callable that calls its results otherwise ({RECORD} differs)" in run.stderr
    assert (tmp_path / "surface.h5").read_bytes() == before


REFUSED = {
    "one number": (
        lambda outputs, _: outputs.mean(),
        r"given:mine returned the shape \[\], torch.float32, for 40 exam",
    ),
    "numbers of another shape": (
        lambda outputs, _: outputs,
        r"the shape \[40, 3\], torch.float32, for 40 exam",
    ),
    "no tensor": (
        lambda outputs, _: outputs[:, 0].tolist(),
        r"returned a list for 40 examples; expected a tensor of one",
    ),
    "an array": (
        lambda outputs, _: outputs[:, 0].numpy(),
        r"returned the shape \[40\], float32, for 40 exam",
    ),
    "complex numbers": (lambda outputs, _: outputs[:, 0] * 1j, r"the shape \[40\], torch.complex64, for 40 examples"),
    "nothing": (lambda *_: None, "given:mine returned a NoneType for 40 examples"),
    "no names": (lambda *_: {}, "given:mine returned an empty mapping; expected one number per example"),
    "a name that is taken": (
        lambda outputs, _: {"loss": outputs[:, 0]},
        "given:mine calls a result 'loss'; expected let",
    ),
    "a name that is no text": (lambda outputs, _: {3: outputs[:, 0]}, "given:mine calls a result 3; expect"),
    "what raises": (
        lambda outputs, _: outputs[:, 9],
        r"given:mine failed with IndexError: .*, on outputs float",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_metric_is_one_sentence_at_the_first_batch(network, given, name):
    function, sentence = REFUSED[name]
    with pytest.raises(UserError, match=f"^metrics: .*{sentence}"):
        sweep(network, tiny.data(None, "train"), ["loss", given(function)])


def test_other_names_at_a_later_batch_are_refused(network, given):
    calls = []

    def fickle(outputs, _):
        calls.append(1)
        return {"one" if len(calls) == 1 else "other": outputs[:, 0]}

    with pytest.raises(UserError, match="given:mine returned the results other; expected one as for the first batch"):
        sweep(network, tiny.data(None, "train"), ["loss", given(fickle)])


def test_two_callables_of_one_name_are_refused(network, given):
    key = given(lambda outputs, _: outputs[:, 0], "square")
    with pytest.raises(UserError, match="metrics: two callables have a result square; expected names of their own"):
        sweep(network, tiny.data(None, "train"), ["loss", "tiny:square", key])


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("tiny:sqare", "metrics: found no callable `sqare` in"),
        ("nowhere:metric", "metrics: importing the module of 'nowhere:metric' failed"),
    ],
)
def test_what_cannot_be_imported_is_named(network, key, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        sweep(network, tiny.data(None, "train"), ["loss", key])


def test_an_unknown_metric_is_told_what_there_is(tmp_path):
    text = tiny_job(tmp_path, metrics=["loss", "acuracy"]).read_text()
    sentence = (
        "metrics[1]: found 'acuracy'; expected one of loss, accuracy, hessian, spectrum, or `package.module:callable`"
    )
    with pytest.raises(UserError, match=re.escape(sentence)):
        read_job(text, tmp_path / "job.yaml", SweepJob)


@pytest.mark.parametrize("name", ["ece", "top_5", "A", "loss_at_5", "barrier", "accuracy2"])
def test_sane_names(name):
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "_a",
        "a_",
        "5a",
        "a b",
        "a-b",
        "é",
        "loss",
        "my_loss",
        "acc",
        "x_stderr",
        "x_bar",
        "images",
        "examples",
        "x" * 65,
    ],
)
def test_names_that_would_be_read_as_others_are_none(name):
    assert not is_name(name)


def test_the_page_offers_them(whole):
    assert "train_sureness" in str(content([read_surface(whole[0] / "surface.h5")], Options()))


def test_the_first_batch_of_a_metric_is_no_larger_than_others(network, monkeypatch):
    monkeypatch.setitem(examples_that_fit.__globals__, "ROOM", 8 * 3 * 4)  # for the outputs of eight examples
    seen = []

    def square(outputs, targets):
        seen.append(len(targets))
        return outputs.square().sum(1)

    sweep(network, tiny.data(None, "train"), ["loss", square])
    assert max(seen) == 8


def test_a_callable_that_asks_for_them_gets_the_network_at_the_point_and_its_inputs(network, given):
    def again(outputs, targets, network, inputs):
        assert isinstance(network, nn.Module)
        return {"apart": (network(inputs) - outputs).abs().sum(1), "hit": network(inputs).argmax(1) == targets}

    surface = sweep(network, tiny.data(None, "train"), ["loss", "accuracy", given(again)], {"alpha": [-1, 1, 5]})
    assert surface.metrics["train_apart"].tolist() == [0] * 5
    np.testing.assert_allclose(100 * surface.metrics["train_hit"], surface.metrics["train_acc"], rtol=1e-12)
    assert len(set(surface.metrics["train_hit"].tolist())) > 1


@pytest.mark.kernel
def test_only_the_networks_own_forward_pass_gives_the_network_to_a_metric():
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    data = torch.randn(64, 3, 8, 8), torch.arange(64) % 3

    def plain(outputs, _):
        return outputs[:, 0]

    def calling(outputs, _, network):
        return outputs[:, 0] - network(data[0][:1])[0, 0]

    engines = []
    for function in (plain, calling):
        surface = sweep(convolution, data, ["loss", function])
        engines.append(surface.attributes["engine"])
    assert engines[1] == "eager" != engines[0]


@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_large_networks_are_given_to_a_metric_too(tmp_path, weights, monkeypatch):
    from landscape_mpi.sweeping import large

    monkeypatch.setattr(large, "LARGE", 0)
    (tmp_path / "calling.py").write_text(
        "def apart(outputs, targets, network, inputs):\n    return (network(inputs) - outputs).abs().sum(1)\n"
    )
    job = tiny_job(tmp_path, grid=LINE, metrics=["loss", "calling:apart"], evaluate={"weights": weights})
    run_here(job)
    assert array(tmp_path / "surface.h5", "train_apart").tolist() == [0, 0, 0]


def run_here(job, **options):
    from landscape_mpi.errors import Exit
    from landscape_mpi.mpi.world import Solo
    from landscape_mpi.sweeping.run import Options as Flags
    from landscape_mpi.sweeping.run import sweep as sweep_job

    assert sweep_job(job, Flags(device="cpu", **options), Solo()) == Exit.COMPLETE


def test_bars_of_shares_never_say_that_nothing_is_unknown(network, given):
    """Where all examples seen give 0 the bar of the mean is that of the rule of three, and not 0."""

    def rare(outputs, targets):
        return {"never": outputs[:, 0] > 1e9, "always": (outputs[:, 0] < 1e9).double(), "five": outputs[:, 0] * 0 + 5}

    data = tiny.data(None, "train", 4000)
    found = sweep(network, data, ["loss", given(rare)], {"alpha": [-3, 3, 9]}, sampling={"error": 0.05, "audit": 0})
    used = found.metrics["train_examples"]
    assert (used < 4000).any()
    for name, mean in (("never", 0), ("always", 1)):
        assert found.metrics[f"train_{name}"] == pytest.approx(mean)
        expected = np.where(used < 4000, 3 / used, 0)
        np.testing.assert_allclose(found.metrics[f"train_{name}_bar"], expected, rtol=1e-12)
    np.testing.assert_allclose(found.metrics["train_five_bar"][used < 4000], 5 / used.min(), rtol=1e-9)

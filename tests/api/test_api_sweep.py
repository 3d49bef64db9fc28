"""`landscape_mpi.sweep` on objects: known answers, and the numbers of the command."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape_mpi
from landscape_mpi import UserError
from support import tiny
from support.jobs import results, tiny_job
from support.launch import launch

LINE = {"alpha": [-1, 1, 3]}
PLANE = {"alpha": [-1, 1, 7], "beta": [-0.5, 1, 5]}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return tiny.network()


def quiet(*args, **options):
    return landscape_mpi.sweep(*args, quiet=True, **options)


def losses(network, data):
    inputs, targets = data
    with torch.no_grad():
        return nn.functional.cross_entropy(network.double()(inputs.double()), targets).item()


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """What the command makes of the tiny job."""
    folder = tmp_path_factory.mktemp("command")
    run = launch("sweep", tiny_job(folder, loss="cross_entropy"))
    assert run.returncode == 0, run.stderr
    return results(folder / "surface.h5")


@pytest.mark.slow
def test_the_same_bits_as_the_command(tmp_path, network, command):
    """`tiny_job` saves the weights of the same seed."""
    data = {split: tiny.data(None, split) for split in ("train", "test")}
    surface = quiet(network, "cross_entropy", data, {"kind": "random", "seed": 3}, PLANE)
    assert results(surface.save(tmp_path / "s.h5").path) == command
    assert surface.loss("test").shape == (5, 7)


@pytest.mark.slow
def test_bars_of_the_rise_hold(network):
    data, line = tiny.data(None, "train", 1600), {"alpha": [-2, 2, 25]}
    full = quiet(network, "cross_entropy", data, grid=line).loss()
    surface = quiet(network, "cross_entropy", data, grid=line, sampling={"error": 0.3, "of": "rise", "audit": 2})
    bars, rises = surface.metrics["train_loss_bar"], np.abs(surface.loss() - full[12])
    assert surface.complete
    assert (surface.attributes["sampling_of"], surface.attributes["train_loss_centre"]) == ("rise", full[12])
    assert (bars <= 1.0001 * np.maximum(0.3 * rises, 1e-3 * full[12])).all()
    assert (np.abs(surface.loss() - full) <= bars + 1e-6).mean() >= 0.9
    assert (surface.metrics["train_examples"] < 1600).any()


def test_a_quadratic_along_given_directions():
    """Squared error of a linear map, |(W + a D + b E) x - t|^2 / 3, averaged: known in closed form."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Linear(4, 3, bias=False).double()
    delta, eta = ({"weight": torch.randn(3, 4, generator=generator)} for _ in range(2))
    inputs, targets = torch.randn(20, 4, generator=generator).double(), torch.randn(20, 3, generator=generator).double()
    surface = quiet(network, "mse", (inputs, targets), (delta, eta), {"alpha": [-2, 1, 4], "beta": [0, 1, 3]})
    weight = network.weight.detach()
    for (row, column), found in np.ndenumerate(surface.loss()):
        there = weight + surface.alpha[column] * delta["weight"] + surface.beta[row] * eta["weight"]
        assert found == pytest.approx((inputs @ there.T - targets).square().mean().item(), rel=1e-12)
    assert surface.attributes["dtype"] == "float64"
    assert "train_acc" not in surface.metrics


def test_numbers_of_points_stand_for_a_plane_or_a_line(network):
    data = tiny.data(None, "train")
    assert quiet(network, "cross_entropy", data, grid=(5, 3)).loss().shape == (3, 5)
    delta = {"0.weight": torch.ones(8, 4)}
    line = quiet(network, "cross_entropy", data, (delta,), 5)
    assert line.beta is None
    assert line.alpha.tolist() == [-1, -0.5, 0, 0.5, 1]
    moved = tiny.network()
    moved.load_state_dict(network.state_dict())
    moved[0].weight.data += 0.5
    assert line.loss()[3] == pytest.approx(losses(moved, data), rel=1e-5)


def test_three_directions_make_a_volume(network):
    data, weight = tiny.data(None, "train"), network[0].weight.detach().clone()
    generator = torch.Generator().manual_seed(0)
    directions = tuple({"0.weight": torch.randn(8, 4, generator=generator)} for _ in range(3))
    volume = quiet(network, "cross_entropy", data, directions, (2, 3, 4))
    assert volume.loss().shape == (4, 3, 2)
    moved = tiny.network()
    moved.load_state_dict(network.state_dict())
    moved[0].weight.data = weight + sum(
        float(at[1]) * direction["0.weight"]
        for at, direction in zip((volume.alpha, volume.beta, volume.gamma), directions, strict=True)
    )
    assert volume.loss()[1, 1, 1] == pytest.approx(losses(moved, data), rel=1e-5)


@pytest.mark.parametrize(("given", "axes"), [(1, 2), (1, 3), (2, 3)])
def test_an_axis_without_a_direction_is_refused(network, given, axes):
    directions = ({"0.weight": torch.ones(8, 4)},) * given
    plural = "s" if given > 1 else ""
    with pytest.raises(
        UserError, match=rf"grid: found {axes} axes for {given} direction{plural}; expected a direction"
    ):
        quiet(network, "cross_entropy", tiny.data(None, "train"), directions, (3,) * axes)


def test_a_line_to_another_network_ends_there(network):
    data, other = tiny.data(None, "test"), tiny.network()
    surface = quiet(network, "cross_entropy", {"test": data}, {"kind": "interpolate", "to": other}, 5)
    assert surface.alpha.tolist() == [-0.5, 0, 0.5, 1, 1.5]
    assert surface.loss()[[1, 3]] == pytest.approx([losses(network, data), losses(other, data)], rel=1e-5)
    states = {"kind": "interpolate", "to": other.state_dict(), "via": tiny.network().state_dict()}
    assert quiet(network, "cross_entropy", {"test": data}, states, 3).loss().shape == (3, 3)


@pytest.mark.slow
def test_a_checkpoint_on_disk_is_an_end_as_well(network, tmp_path, monkeypatch):
    torch.save((other := tiny.network()).state_dict(), tmp_path / "other.pt")
    monkeypatch.chdir(tmp_path)
    data, ends = tiny.data(None, "train"), {"alpha": [0, 1, 2]}
    named = quiet(network, "cross_entropy", data, {"kind": "interpolate", "to": tmp_path / "other.pt"}, ends)
    relative = quiet(network, "cross_entropy", data, {"kind": "interpolate", "to": "other.pt"}, ends)
    given = quiet(network, "cross_entropy", data, {"kind": "interpolate", "to": other}, ends)
    assert named.loss().tolist() == given.loss().tolist() == relative.loss().tolist()


def test_a_whole_checkpoint_in_memory_is_an_end_as_well(network):
    """As torch.load returns it, with its moving average."""
    data, other = tiny.data(None, "train"), tiny.network()
    average = {f"module.{name}": 2 * tensor for name, tensor in other.state_dict().items()}
    content = {"epoch": 3, "model": other.state_dict(), "ema": average, "optimizer": {"state": {0: torch.ones(3)}}}
    surface = quiet(network, "cross_entropy", data, {"kind": "interpolate", "to": content}, {"alpha": [0, 1, 2]})
    assert surface.loss()[1] == pytest.approx(losses(other, data), rel=1e-5)


class Named(nn.Module):
    """A network whose inputs have names."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, left, right):
        return self.left(left) + self.right(right)


def test_batches_of_named_tensors_and_a_loss_of_ones_own():
    torch.manual_seed(1)
    inputs, targets = {"left": torch.randn(40, 4), "right": torch.randn(40, 2)}, {"wanted": torch.randn(40, 3)}

    def loss(outputs, targets):
        return (outputs - targets["wanted"]).abs().sum(1)

    surface = quiet(network := Named(), loss, (inputs, targets), grid=LINE)
    with torch.no_grad():
        wanted = (network(**inputs) - targets["wanted"]).abs().sum(1).mean().item()
    assert surface.loss()[1] == pytest.approx(wanted, rel=1e-6)
    assert "Named" in surface.found.job
    assert "test_batches_of_named_tensors" in surface.found.job


@pytest.mark.slow
def test_a_dataset_gives_what_its_tensors_give(network):
    inputs, targets = tiny.data(None, "train")
    numbers = [
        quiet(network, "cross_entropy", data, grid=LINE).loss().tolist()
        for data in [(inputs, targets), TensorDataset(inputs, targets), (inputs.numpy(), targets.numpy())]
    ]
    assert numbers[0] == numbers[1] == numbers[2]


def test_accuracy_is_there_where_cross_entropy_has_classes(network):
    inputs, targets = tiny.data(None, "train")
    assert quiet(network, "cross_entropy", (inputs, targets), grid=LINE).accuracy().max() <= 100
    soft = nn.functional.one_hot(targets, 3).float()
    assert set(quiet(network, "cross_entropy", (inputs, soft), grid=LINE).metrics) == {
        "train_loss",
        "train_loss_stderr",
    }


class Sureness:
    """A metric that is an object, as those of libraries are."""

    def __call__(self, outputs, targets):  # noqa: ARG002
        return outputs.softmax(1).amax(1)


def test_metrics_may_be_callables_of_any_sort(tmp_path, network):
    """A nested function by its own name, an object by its class's, a lambda by what it returns; gone on with too."""
    shift = 3.0

    def margin(outputs, targets):
        return outputs.gather(1, targets[:, None])[:, 0] - shift

    named = lambda outputs, targets: {"top": outputs.amax(1)}  # noqa: ARG005, E731
    data, file = tiny.data(None, "train"), tmp_path / "s.h5"
    asked = {"grid": LINE, "output": file, "metrics": ["loss", margin, Sureness(), named]}
    surface = quiet(network, "cross_entropy", data, **asked)
    assert set(surface.metrics) == {
        f"train_{name}{end}" for name in ("loss", "margin", "Sureness", "top") for end in ("", "_stderr")
    }
    with torch.no_grad():
        outputs = network(data[0])
    expected = outputs.gather(1, data[1][:, None])[:, 0] - shift
    assert surface.metrics["train_margin"][1] == pytest.approx(expected.mean().item(), rel=1e-5)
    assert surface.metrics["train_top"][1] == pytest.approx(outputs.amax(1).mean().item(), rel=1e-5)
    again = quiet(network, "cross_entropy", data, **asked)
    assert np.array_equal(again.metrics["train_Sureness"], surface.metrics["train_Sureness"])
    with pytest.raises(UserError, match="metrics: the file has"):
        quiet(network, "cross_entropy", data, **{**asked, "metrics": ["loss", margin]})


@pytest.mark.slow
def test_batch_norm_moves_and_the_hessian_is_found_as_in_jobs():
    torch.manual_seed(2)
    network, other, data = tiny.network(batchnorm=True), tiny.network(batchnorm=True), tiny.data(None, "train")
    other.train()(data[0])
    other.eval()
    plane = {"kind": "interpolate", "to": other}
    moved = quiet(network, "cross_entropy", data, plane, {"alpha": [0, 1, 2]}, batchnorm="move")
    assert moved.loss()[1] == pytest.approx(losses(other, data), rel=1e-5)
    asked = {"metrics": ["loss", "hessian"], "hessian": {"images": 20, "tolerance": 0.01}}
    curved = quiet(network, "cross_entropy", data, grid={"alpha": [0, 1, 2]}, **asked)
    assert (curved.metrics["max_eig"] >= curved.metrics["min_eig"]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": 3}, "model: found a int; expected a torch.nn.Module."),
        ({"loss": "crossentropy"}, "loss: found 'crossentropy'; expected cross_entropy, mse, next_token, or a call"),
        ({"loss": nn.CrossEntropyLoss()}, r"loss: it returned the shape \[\] .*reduction='none'"),
        ({"data": {}}, "data: found a mapping of nothing; expected"),
        ({"data": {"valid": 1}}, "data: found a mapping of 'valid'; expected"),
        ({"data": [1, 2, 3]}, "data: what was given failed with TypeError"),
        ({"data": (torch.zeros(3, 4), torch.zeros(2))}, r"data: what was given returned .*\[3, 4\]"),
        ({"data": DataLoader(TensorDataset(torch.zeros(3)))}, "data: found a DataLoader .*loader.dataset"),
        ({"plane": 3}, "plane: found a int; expected a mapping such as"),
        ({"plane": {"kind": "randomm"}}, "^plane.kind: found 'randomm'; expected one of"),
        ({"plane": {"kind": "random", "sed": 1}}, r"^plane.sed: unknown key \(did you mean `seed`\?\)"),
        ({"plane": {"kind": "random", "seed": 1j}}, "^plane.seed: found a complex; expected text, a number"),
        ({"plane": {"kind": "random", "repeats": 3}}, "^plane.repeats: is for jobs"),
        ({"plane": ({"0.wait": torch.ones(1)},)}, "plane: delta names `0.wait`, which is no parameter"),
        ({"plane": ({"0.weight": torch.ones(1)},)}, "delta holds `0.weight`"),
        ({"plane": {"kind": "interpolate", "to": tiny.network(9)}}, "plane.to: the state dict is of another network"),
        ({"plane": {"kind": "interpolate", "to": "none.pt"}}, "plane.to: no file none.pt"),
        ({"grid": "wide"}, "^grid: found 'wide'; expected"),
        ({"grid": {"alpha": [1, -1, 3]}}, "^grid.alpha: found the reversed range 1 to -1"),
        ({"metrics": "loss"}, "^metrics: found 'loss'; expected a list of names and callables"),
        ({"metrics": ["loss", Sureness(), Sureness()]}, "^metrics: found two callables .*:Sureness"),
        ({"metrics": ["loss", lambda outputs, _: outputs[:, 0]]}, "^metrics: .*calls a result '<lambda>'"),
        ({"metrics": ["loss", lambda outputs, _: {"a": outputs}]}, r"^metrics: .*returned the shape \[.*, 3\]"),
        ({"metrics": ["loss", "acuracy"]}, "^metrics.*expected one of loss, accuracy, hessian"),
        ({"batch_size": 0}, "^batch_size: found 0"),
        ({"engine": "fast"}, "^engine: found 'fast'; expected one of auto"),
        ({"device": "gpu"}, "^device: found 'gpu'; expected auto, cpu, cuda"),
        ({"batchnorm": "move"}, "^batchnorm: found move"),
        ({"hessian": {"image": 3}}, "^hessian.image: unknown key"),
        ({"output": "/proc/none/s.h5"}, "^output: /proc/none/s.h5 cannot be written"),
    ],
)
def test_a_mistake_is_a_sentence_that_names_the_argument(network, change, words):
    arguments = {"model": network, "loss": "cross_entropy", "data": tiny.data(None, "train"), "grid": 3} | change
    with pytest.raises(UserError, match=words):
        quiet(**arguments)


def test_what_a_users_code_raised_is_the_cause(network):
    def broken(outputs, targets):
        raise ZeroDivisionError("the loss broke")

    with pytest.raises(Exception, match="the loss broke") as raised:
        quiet(network, broken, tiny.data(None, "train"), grid=3)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_network_that_draws_random_numbers_is_refused():
    with pytest.raises(Exception, match=r"f\(0, 0\) does not match"):
        quiet(tiny.Dropping(), "cross_entropy", tiny.data(None, "train"), grid=3)

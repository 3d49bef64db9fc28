"""Numbers that are right: closed forms, invariances, sums that depend on nothing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from landscape_mpi.data import Split
from landscape_mpi.data.split import FEWEST_ROWS, batches, parts
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import EagerEvaluator, Task, build_loss, measure
from landscape_mpi.evaluate.losses import cross_entropy, mse
from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.examples import PerExample, summarise
from landscape_mpi.metrics.registry import METRICS
from landscape_mpi.networks import build_network
from landscape_mpi.plane import Plane, RandomDirections
from support import tiny


def parameters(network):
    return {name: tensor.detach().clone() for name, tensor in network.named_parameters()}


def plane_of(network, seed=0, normalise="filter"):
    theta, directions = parameters(network), RandomDirections(seed, normalise, "biasbn")
    return Plane(theta, (directions.draw(theta, 0), directions.draw(theta, 1)))


def tiny_task(loss=cross_entropy, data=tiny.data, dtype=torch.float32):
    return Task({name: Split(name, *data(None, name)) for name in ("train", "test")}, None, loss, dtype)


def test_a_quadratic_has_its_closed_form():
    """The squared error of a linear map is a quadratic: f(a, b) = |R + a D X + b E X|^2 / 3n with R the residual."""
    torch.manual_seed(0)
    network = tiny.linear().double()
    task = tiny_task(mse, tiny.regression, torch.float64)
    plane = plane_of(network, normalise="none")
    evaluator = EagerEvaluator(network, plane, task, 16)
    inputs, targets = (tensor.double() for tensor in tiny.regression(None, "train"))
    residual = inputs @ plane.theta["weight"].T - targets
    delta, eta = (direction["weight"].double() for direction in plane.directions)
    along_delta, along_eta = inputs @ delta.T, inputs @ eta.T
    for alpha, beta in [(0.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.7, 0.3), (-2.0, 5.0)]:
        found = measure(evaluator, (alpha, beta), ["train"], [LOSS])["train_loss"]
        exact = (residual + alpha * along_delta + beta * along_eta).square().mean().item()
        assert found == pytest.approx(exact, rel=1e-12)


def test_a_rescaled_relu_network_has_the_same_filter_normalised_surface():
    """Scaling a layer by s and the next by 1/s changes no function; filter-normalised surfaces agree (section 4)."""
    torch.manual_seed(0)
    network = tiny.network().double()
    rescaled = tiny.network().double()
    rescaled.load_state_dict(network.state_dict())
    with torch.no_grad():
        rescaled[0].weight.mul_(7.0)
        rescaled[0].bias.mul_(7.0)
        rescaled[2].weight.div_(7.0)

    def surface(net, normalise):
        # both networks draw the same Gaussians
        task = tiny_task(dtype=torch.float64)
        evaluator = EagerEvaluator(net, plane_of(net, 3, normalise), task, 64)
        points = [(a, b) for a in (-1.0, 0.0, 0.5) for b in (-0.5, 1.0)]
        return np.array([measure(evaluator, point, ["train"], [LOSS])["train_loss"] for point in points])

    np.testing.assert_allclose(surface(rescaled, "filter"), surface(network, "filter"), rtol=1e-5)
    assert np.abs(surface(rescaled, "none") / surface(network, "none") - 1).max() > 0.05


def test_the_callers_network_stays_at_theta():
    torch.manual_seed(0)
    network = tiny.network()
    before = parameters(network)
    evaluator = EagerEvaluator(network, plane_of(network), tiny_task(), 64)
    evaluator.per_example((1.0, 1.0), "train", slice(0, 4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_parameters())


def test_the_centre_is_the_plain_evaluation_to_the_bit():
    torch.manual_seed(0)
    network, task = tiny.network(batchnorm=True).eval(), tiny_task()
    evaluator = EagerEvaluator(network, plane_of(network), task, 16)
    evaluator.per_example((1.0, -1.0), "train", slice(0, 40))
    ours = evaluator.per_example((0.0, 0.0), "train", slice(0, 40))
    plain = task.evaluate(network, "train", slice(0, 40), 16)
    assert ours.losses.tobytes() == plain.losses.tobytes()


@pytest.mark.parametrize("batch", [2, 3, 8, 33, 64, 500])
def test_a_convolutional_networks_losses_depend_on_no_batch_beyond_rounding(batch, tmp_path):
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = build_network("resnet20", {"width": 8}, tmp_path).eval()
    images = torch.randint(0, 256, (65, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    from landscape_mpi.data import DEFAULT_NORMALISATION

    task = Task(
        {"train": Split("train", images, torch.arange(65) % 10)}, DEFAULT_NORMALISATION["cifar10"], cross_entropy
    )
    one = task.evaluate(network, "train", slice(0, 65), batch)
    other = task.evaluate(network, "train", slice(0, 65), 16)
    torch.set_num_threads(threads)
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-6, atol=1e-5)
    assert one.losses.mean() == pytest.approx(other.losses.mean(), rel=1e-6)


@given(st.integers(1, 500), st.integers(2, 90))
def test_batches_cover_all_examples_and_none_is_small(examples, batch):
    cuts = list(batches(examples, batch))
    assert [i for cut in cuts for i in range(examples)[cut]] == list(range(examples))
    sizes = [cut.stop - cut.start for cut in cuts]
    assert all(size >= min(batch, FEWEST_ROWS) for size in sizes) or len(sizes) == 1
    assert all(size < batch + FEWEST_ROWS for size in sizes)


@given(st.integers(1, 500), st.integers(2, 90), st.integers(1, 6))
def test_what_is_cut_at_whole_batches_first_makes_the_same_batches(examples, batch, of):
    once = [(cut.start, cut.stop) for cut in batches(examples, batch)]
    coarse = batches(examples, of * batch)
    assert [(cut.start, cut.stop) for part in coarse for cut in parts(part, examples, batch)] == once


def test_examples_in_any_order_give_what_they_give_in_theirs():
    torch.manual_seed(0)
    network, task = tiny.network().eval(), tiny_task()
    evaluator = EagerEvaluator(network, plane_of(network), task, 16)
    order = np.random.default_rng(0).permutation(40)
    whole = evaluator.per_example((0.3, -1.0), "train", slice(0, 40))
    some = evaluator.per_example((0.3, -1.0), "train", order[:23])
    np.testing.assert_allclose(some.losses, whole.losses[order[:23]], rtol=1e-6)
    np.testing.assert_array_equal(some.others["acc"], whole.others["acc"][order[:23]])


def test_a_diverged_point_is_a_result():
    losses = np.array([1.0, math.inf, 2.0])
    found = summarise({"train": PerExample(losses, {"acc": np.array([True, False, True])})}, METRICS)
    assert found["train_loss"] == math.inf
    assert math.isnan(found["train_loss_stderr"])
    assert found["train_acc"] == pytest.approx(200 / 3)


def test_nan_logits_count_as_wrong():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.p = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            outputs = torch.zeros(len(x), 3)
            outputs[:, 0] = 1.0
            outputs[::2, 0] = math.nan
            return outputs

    task = Task({"train": Split("train", torch.zeros(6, 4), torch.zeros(6, dtype=torch.int64))}, None, cross_entropy)
    found = summarise({"train": task.evaluate(Broken(), "train", slice(0, 6), 4)}, METRICS)
    assert found["train_acc"] == 50.0
    assert math.isnan(found["train_loss"])


def test_mse_takes_classes_as_one_hot_vectors():
    outputs, classes = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([0, 1])
    assert mse(outputs, classes).tolist() == [0.0, 0.25]
    assert torch.equal(mse(outputs, nn.functional.one_hot(classes).float()), mse(outputs, classes))


def test_cross_entropy_is_in_nats():
    assert cross_entropy(torch.zeros(1, 10), torch.tensor([3])).item() == pytest.approx(math.log(10))


def test_accuracy_without_class_targets_and_losses_of_the_wrong_shape_are_refused(tmp_path):
    with pytest.raises(UserError, match="metrics: accuracy needs class targets"):
        summarise({"train": PerExample(np.zeros(3))}, METRICS)
    with pytest.raises(UserError, match="one loss per example"):
        tiny_task(tiny.one_value).evaluate(tiny.network(), "train", slice(0, 10), 10)
    with pytest.raises(UserError, match="loss: found 'crossentropy'"):
        build_loss("crossentropy", tmp_path)

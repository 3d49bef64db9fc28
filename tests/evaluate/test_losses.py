"""Targets that a loss of ours takes: the mean is over what counts, and what does not fit is one sentence."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import landscape_mpi
from landscape_mpi.data import Split
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Task, build_loss, first_batch, prepared
from landscape_mpi.evaluate import losses as module
from landscape_mpi.evaluate.losses import cross_entropy, mse, next_token, tokens_right
from landscape_mpi.metrics.base import ACCURACY, LOSS
from landscape_mpi.metrics.examples import summarise
from support import tiny

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
LINE = {"alpha": [0, 1, 2]}


class Fixed(nn.Module):
    """A network with the same outputs for every batch."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x):
        return self.outputs[: len(x)] if isinstance(self.outputs, torch.Tensor) else self.outputs


def refusal(outputs, targets, loss=cross_entropy, accuracy=False):
    task = Task({"train": Split("train", torch.zeros(6, 2), targets)}, None, loss)
    with pytest.raises(UserError) as found:
        first_batch(task, Fixed(outputs), accuracy=accuracy)
    return str(found.value)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([-100, 255, 0]), st.floats(0.0, 0.95), st.integers(1, 5))
def test_the_mean_is_that_of_torch_over_what_counts_however_it_is_spread(seed, index, share, batch):
    torch.manual_seed(seed)
    network, inputs, targets = nn.Conv2d(2, 4, 1).double(), torch.randn(9, 2, 3, 3), torch.randint(4, (9, 3, 3))
    targets[torch.rand(9, 3, 3) < share * torch.rand(9, 1, 1)] = index
    targets[0, 0, 0] = 1
    loss = build_loss("cross_entropy", None, {"ignore_index": index})
    split = prepared(Split("train", inputs, targets), loss)
    task = first_batch(Task({"train": split}, None, loss, torch.float64), network)
    found = summarise({"train": task.evaluate(network, "train", slice(0, len(split)), batch)}, [LOSS])["train_loss"]
    wanted = functional.cross_entropy(network(inputs.double()), targets, ignore_index=index).item()
    assert found == pytest.approx(wanted, rel=1e-12)


def test_unlabelled_examples_are_left_out_of_loss_and_accuracy_and_told():
    torch.manual_seed(0)
    network, inputs, targets = nn.Linear(6, 4), torch.randn(100, 6), torch.randint(4, (100,))
    targets[::2] = -100
    surface = landscape_mpi.sweep(network, "cross_entropy", (inputs, targets), grid=LINE, quiet=True)
    logits = network(inputs)
    assert surface.loss()[0] == pytest.approx(functional.cross_entropy(logits.double(), targets).item(), rel=1e-6)
    assert surface.accuracy()[0] == pytest.approx(100 * (logits.argmax(1) == targets)[1::2].float().mean().item())
    (note,) = prepared(Split("train", inputs, targets), cross_entropy).notes
    assert note == "train: 50 of 100 examples have no target but -100, which is ignored; they are left out."


def test_the_index_may_be_named_in_a_call():
    torch.manual_seed(0)
    network, inputs, targets = nn.Linear(6, 4), torch.randn(20, 6), torch.randint(4, (20,))
    targets[:9] = 7
    options = {"grid": LINE, "quiet": True, "loss_options": {"ignore_index": 7}}
    surface = landscape_mpi.sweep(network, "cross_entropy", (inputs, targets), **options)
    wanted = functional.cross_entropy(network(inputs[9:]), targets[9:]).item()
    assert surface.loss()[0] == pytest.approx(wanted, rel=1e-6)


def test_where_all_places_count_no_bit_changes():
    torch.manual_seed(0)
    outputs, targets = torch.randn(64, 5, 7, 3), torch.randint(5, (64, 7, 3))
    plain = functional.cross_entropy(outputs.double(), targets, reduction="none").flatten(1).mean(1)
    assert torch.equal(cross_entropy(outputs, targets), plain)


@pytest.mark.slow
def test_sampling_and_eigenvalues_know_what_examples_count():
    torch.manual_seed(0)
    network, inputs = nn.Conv1d(2, 3, 1), torch.randn(1500, 2, 6)
    targets = torch.randint(3, (1500, 6))
    targets[torch.arange(6) >= torch.randint(1, 7, (1500, 1))] = -100
    given = (network, "cross_entropy", (inputs, targets), None, LINE)
    sampled = landscape_mpi.sweep(*given, quiet=True, sampling={"error": 0.1, "audit": 0})
    wanted = functional.cross_entropy(network(inputs), targets).item()
    assert sampled.loss()[0] == pytest.approx(wanted, rel=0.1)
    hessian = {"images": 100, "tolerance": 1e-6}
    curved = landscape_mpi.sweep(*given, quiet=True, metrics=["loss", "hessian"], hessian=hessian)

    def loss(weight):
        logits = functional.conv1d(inputs[:100].double(), weight[:6].view(3, 2, 1), weight[6:])
        return functional.cross_entropy(logits, targets[:100])

    flat = torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).double()
    largest = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))[-1].item()
    assert curved.metrics["max_eig"][0] == pytest.approx(largest, rel=1e-4)


def test_a_module_of_torch_knows_its_own_index_and_other_losses_are_told_of():
    inputs, targets = torch.zeros(6, 2), torch.tensor([0, 9, 1, -100, 9, 2])
    assert len(prepared(Split("train", inputs, targets), nn.CrossEntropyLoss(reduction="none", ignore_index=9))) == 4
    (note,) = prepared(Split("train", inputs, targets), tiny.cross_entropy).notes
    assert note.startswith("train: 1 of 6 examples have targets of -100, which a loss of your own has to deal with")
    assert prepared(Split("train", inputs, LABELS), tiny.cross_entropy).notes == ()


def test_nothing_that_counts_is_refused():
    with pytest.raises(UserError, match="every target of the train split is -100, which cross_entropy ignores"):
        prepared(Split("train", torch.zeros(3, 2), torch.full((3,), -100)), cross_entropy)


@pytest.mark.parametrize("targets", [LABELS[:, None], LABELS[:, None].to(torch.uint8)])
def test_a_column_of_classes_is_taken_as_classes_and_told(targets):
    split = prepared(Split("train", torch.zeros(6, 2), targets), cross_entropy)
    assert torch.equal(split.targets.long(), LABELS)
    assert split.notes[0].endswith("[6, 1] are taken as classes [6].")
    assert prepared(Split("train", torch.zeros(6, 2), targets), mse).targets is targets


def test_truth_values_are_classes():
    split = prepared(Split("train", torch.zeros(6, 2), LABELS > 1), cross_entropy)
    assert split.targets.tolist() == [0, 0, 1, 0, 0, 1]


def test_one_column_and_whole_numbers_are_numbers_to_be_met():
    assert mse(torch.zeros(3, 1), torch.tensor([0, 1, 3])).tolist() == [0.0, 1.0, 9.0]


class Output(dict):
    """As the outputs of Hugging Face's models."""


@pytest.mark.parametrize(
    ("outputs", "targets", "words"),
    [
        (torch.zeros(6, 3), LABELS + 1, "has the class 3, and the network has 3 outputs, classes 0 to 2"),
        (torch.zeros(6, 3), LABELS - 1, "loss_options: {ignore_index: -1} for places that do not count"),
        (torch.zeros(6, 1), LABELS, "at least two classes, .* binary_cross_entropy_with_logits"),
        (torch.zeros(6), LABELS, "at least two classes"),
        (torch.zeros(6, 3), LABELS.float(), r"whole numbers as classes, .* float32 \[6\] .* return targets.long\(\)"),
        (torch.zeros(6, 3), functional.one_hot(LABELS), r"return targets.argmax\(1\) from data.build"),
        (torch.zeros(6, 3, 4, 4), torch.zeros(6, 5, 4).long(), r"expected targets of shape \[6, 4, 4\]"),
        (torch.zeros(6, 5, 9), torch.zeros(6, 5).long(), r"comes second: \[n, classes, ...\]"),
        (Output(out=torch.zeros(6, 3)), LABELS, r"takes one tensor, .* a Output of 'out' \(float32 \[6, 3\]\)"),
        ((torch.zeros(6, 3), None), LABELS, r"a tuple of float32 \[6, 3\], None; .* outputs\[0\]"),
    ],
)
def test_what_cross_entropy_cannot_take_is_one_sentence(outputs, targets, words):
    found = refusal(outputs, targets)
    assert found.startswith("loss: ")
    assert re.search(words, found), found


@pytest.mark.parametrize("loss", [cross_entropy, mse])
def test_of_outputs_by_name_the_logits_are_taken(loss):
    logits = torch.arange(18.0).reshape(6, 3)
    task = Task({"train": Split("train", torch.zeros(6, 2), LABELS)}, None, loss)
    found = task.evaluate(lambda _: Output(logits=logits, hidden_states=None), "train", slice(0, 6), 4)
    assert found.losses == pytest.approx(loss(logits, LABELS).numpy())


def test_a_loss_of_ones_own_gets_all_that_the_network_returns():
    task = Task({"train": Split("train", torch.zeros(6, 2), LABELS)}, None, lambda outputs, _: outputs["logits"][:, 0])
    found = task.evaluate(lambda x: Output(logits=torch.ones(len(x), 3)), "train", slice(0, 6), 4)
    assert found.losses.tolist() == [1] * 6


@pytest.mark.parametrize(
    ("outputs", "targets", "words"),
    [
        (torch.zeros(6, 3, 4, 4), torch.zeros(6, 4, 4, 3), "mse takes targets of the outputs' shape"),
        (torch.zeros(6, 3), LABELS * 2, "classes of 3 outputs, .* with the classes 0 to 4"),
        (torch.zeros(6, 3), torch.zeros(6, 2), "mse takes targets of the outputs' shape"),
    ],
)
def test_what_mean_squares_cannot_take_too(outputs, targets, words):
    assert re.search(words, refusal(outputs, targets, mse))


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [((6, 1), (6,)), ((6,), (6, 1)), ((6, 2, 3), (6, 6)), ((6, 6), (6, 2, 3)), ((6, 3), (6, 3))],
)
def test_mean_squares_take_columns_and_flat_rows(outputs, targets):
    task = Task({"train": Split("train", torch.zeros(6, 2), torch.ones(targets))}, None, mse)
    network = Fixed(torch.zeros(outputs))
    assert first_batch(task, network).evaluate(network, "train", slice(0, 6), 6).losses.tolist() == [1.0] * 6


def test_accuracy_of_one_column_is_refused():
    def loss(outputs, targets):
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float(), reduction="none")

    found = refusal(torch.zeros(6, 1), LABELS, loss, accuracy=True)
    assert found.startswith("metrics: accuracy takes the largest of several outputs")


def test_probabilities_of_classes_are_targets():
    torch.manual_seed(0)
    outputs, targets = torch.randn(6, 3), torch.rand(6, 3)
    wanted = functional.cross_entropy(outputs.double(), targets.double(), reduction="none")
    np.testing.assert_allclose(cross_entropy(outputs, targets), wanted)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cross_entropy", {"label_smoothing": 0.1}, "loss_options: found label_smoothing for cross_entropy"),
        ("cross_entropy", {"ignore_index": "void"}, "loss_options.ignore_index: found 'void'"),
        ("mse", {"ignore_index": 3}, "loss_options: found ignore_index for mse; expected none"),
    ],
)
def test_options_of_our_losses(name, options, words):
    with pytest.raises(UserError, match=words):
        build_loss(name, None, options)


def test_a_loss_may_change_its_targets_and_a_network_its_inputs_in_place():
    """A label of 1 to k made 0 to k - 1: the second evaluation begins with the data as they were."""

    def loss(outputs, targets):
        targets -= 1
        return functional.cross_entropy(outputs, targets, reduction="none")

    class Changing(nn.Embedding):
        def forward(self, x):
            return super().forward(x.sub_(1))

    torch.manual_seed(0)
    task, network = Task({"train": Split("train", LABELS + 1, LABELS + 1)}, None, loss), Changing(3, 3)
    first, second = (task.evaluate(network, "train", slice(0, 6), 6).losses for _ in range(2))
    assert np.array_equal(first, second)


class Bigram(nn.Module):
    """Logits of the next token from the last one alone, returned in one of the ways of transformers' models."""

    def __init__(self, vocabulary=7, form="tensor"):
        super().__init__()
        self.table, self.form = nn.Embedding(vocabulary, vocabulary), form

    def forward(self, input_ids):
        logits = self.table(input_ids)
        others = {"loss": None, "logits": logits, "past_key_values": torch.zeros(3)}
        forms = {
            "tensor": logits,
            "mapping": others,
            "object": type("Output", (), others)(),
            "tuple": (logits, torch.zeros(3)),
        }
        return forms[self.form]


def by_torch(logits, tokens, index=-100):
    """The mean of each example, by torch's cross entropy in float64."""
    losses = functional.cross_entropy(
        logits[:, :-1].double().transpose(1, 2), tokens[:, 1:], reduction="none", ignore_index=index
    )
    return losses.sum(1) / (tokens[:, 1:] != index).sum(1).clamp(min=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 7, 20, 10**6]), st.floats(0, 0.9), st.sampled_from([1, 30, 300]))
def test_it_is_torchs_cross_entropy_of_the_tokens_that_follow(seed, block, share, scale):
    torch.manual_seed(seed)
    logits, tokens = scale * torch.randn(4, 6, 5), torch.randint(5, (4, 6))
    tokens[torch.rand(4, 6) < share] = -100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found = next_token(logits, tokens)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, by_torch(logits, tokens), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(next_token(logits.double().requires_grad_(), tokens).detach(), found)


def test_the_block_and_the_examples_beside_it_change_no_bit(monkeypatch):
    torch.manual_seed(0)
    logits, tokens = torch.randn(5, 9, 33), torch.randint(33, (5, 9))
    whole = next_token(logits, tokens)
    monkeypatch.setattr(module, "BLOCK", 100)
    assert torch.equal(next_token(logits, tokens), whole)
    assert torch.equal(torch.cat([next_token(logits[i : i + 1], tokens[i : i + 1]) for i in range(5)]), whole)


def test_a_token_that_is_sure_has_a_loss_that_float32_cannot_hold():
    logits = torch.zeros(1, 2, 3)
    logits[0, 0, 1] = 25.0
    assert next_token(logits, torch.tensor([[0, 1]])).item() == pytest.approx(math.log1p(2 * math.exp(-25)), rel=1e-12)


@pytest.mark.parametrize("wild", [math.nan, math.inf])
def test_wild_logits_make_a_wild_loss_where_a_token_is_predicted_from_them(wild):
    logits, tokens = torch.zeros(3, 4, 5), torch.ones(3, 4, dtype=torch.int64)
    logits[0, 1, 2] = logits[1, 3, 2] = wild  # no token follows the last place
    assert next_token(logits, tokens).isnan().tolist() == [True, False, False]
    logits[2, 0, 1] = -math.inf
    assert next_token(logits, tokens)[2] == math.inf


def test_the_eigenvalues_of_its_hessian_are_those_of_torchs_loss():
    torch.manual_seed(0)
    network, tokens = Bigram(5), torch.randint(5, (9, 6))
    options = {"grid": {"alpha": [0, 0, 1]}, "quiet": True, "metrics": ["loss", "hessian"]}
    surface = landscape_mpi.sweep(network, "next_token", (tokens, tokens), **options)

    def loss(table):
        return by_torch(table[tokens], tokens).mean()

    table = network.table.weight.detach().double()
    eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, table).reshape(25, 25))
    assert surface.metrics["max_eig"][0] == pytest.approx(eigenvalues[-1].item(), rel=1e-2)
    assert surface.metrics["min_eig"][0] == pytest.approx(0, abs=1e-2 * eigenvalues[-1].item())


@pytest.mark.parametrize("form", ["tensor", "mapping", "object", "tuple"])
def test_logits_are_found_in_what_transformers_models_return(form):
    torch.manual_seed(0)
    network, tokens = Bigram(form=form), torch.randint(7, (6, 5))
    surface = landscape_mpi.sweep(network, "next_token", (tokens, tokens), grid={"alpha": [0, 1, 2]}, quiet=True)
    wanted = by_torch(network.table(tokens), tokens).mean().item()
    assert surface.loss()[0] == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 0.9), st.integers(1, 5))
def test_the_mean_is_over_all_tokens_that_count_however_they_are_spread(seed, share, batch):
    torch.manual_seed(seed)
    network, inputs = Bigram().double(), torch.randint(7, (8, 5))
    targets = inputs.clone()
    targets[torch.rand(8, 5) < share] = 9
    targets[0, :2], targets[1, 1:] = 3, 9
    loss = build_loss("next_token", None, {"ignore_index": 9})
    split = prepared(Split("train", inputs, targets), loss)
    assert len(split) < 8
    assert "have no target but 9" in split.notes[0]
    task = first_batch(Task({"train": split}, None, loss, torch.float64), network)
    per_example = task.evaluate(network, "train", slice(0, len(split)), batch)
    found = summarise({"train": per_example}, [LOSS, ACCURACY])
    logits, wanted = network(inputs)[:, :-1].flatten(0, 1), targets[:, 1:].flatten()
    assert found["train_loss"] == pytest.approx(functional.cross_entropy(logits, wanted, ignore_index=9).item())
    right = (logits.argmax(1) == wanted)[wanted != 9]
    assert found["train_acc"] == pytest.approx(100 * right.double().mean().item())


def test_a_token_with_wild_logits_is_not_right():
    logits = torch.zeros(2, 3, 4)
    logits[:, :, 2] = 1
    logits[0, 0, 1] = math.nan
    assert tokens_right(logits, torch.full((2, 3), 2)).tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("outputs", "targets", "words"),
    [
        (torch.zeros(6, 4, 3), torch.zeros(6).long(), r"whole numbers \[n, length\] of at least two tokens"),
        (torch.zeros(6, 1, 3), torch.zeros(6, 1).long(), r"whole numbers \[n, length\] of at least two tokens"),
        (torch.zeros(6, 4, 3), torch.zeros(6, 4), "targets float32.* whole numbers"),
        (torch.zeros(6, 4, 3), {"labels": torch.zeros(6, 4).long()}, "a dict of 'labels'"),
        (torch.zeros(6, 3), torch.zeros(6, 4).long(), r"outputs \[n, 4, vocabulary\], or an object"),
        (torch.zeros(6, 3, 4), torch.zeros(6, 4).long(), r"outputs \[n, 4, vocabulary\]"),
        (torch.zeros(6, 4, 3), torch.full((6, 4), 3), "the token 3, and the network has logits for 3; expected tokens"),
        ({"hidden": torch.zeros(6, 4, 3)}, torch.zeros(6, 4).long(), "next_token takes one tensor, .* 'hidden'"),
        (torch.zeros(6, 4, 3), torch.full((6, 4), -100), "every target of the train split is -100, which next_token"),
    ],
)
def test_what_does_not_fit_is_one_sentence(outputs, targets, words):
    class Fixed(nn.Module):
        def forward(self, _):
            return outputs

    with pytest.raises(UserError, match=words):
        first_batch(
            Task({"train": prepared(Split("train", torch.zeros(6, 4), targets), next_token)}, None, next_token), Fixed()
        )


def test_it_takes_an_ignored_index_and_nothing_else():
    with pytest.raises(UserError, match=r"loss_options: found smoothing for next_token; expected no other than ignore"):
        build_loss("next_token", None, {"smoothing": 0.1})

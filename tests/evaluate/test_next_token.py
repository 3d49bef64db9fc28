"""The loss of language models: torch's own cross entropy of the tokens that follow, and what does not fit."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import landscape_mpi
from landscape_mpi.data import Split
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Task, build_loss, first_batch, prepared, summarise
from landscape_mpi.evaluate import next_token as module
from landscape_mpi.evaluate.next_token import next_token
from landscape_mpi.metrics.loss import LOSS


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
    found = summarise({"train": task.evaluate(network, "train", slice(0, len(split)), batch)}, [LOSS])["train_loss"]
    logits = network(inputs)[:, :-1].flatten(0, 1)
    assert found == pytest.approx(functional.cross_entropy(logits, targets[:, 1:].flatten(), ignore_index=9).item())


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

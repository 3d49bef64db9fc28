"""Transformers: heads, their dimensions, gated layers and the residual stream, tied embeddings among it."""

import pytest
import torch
from shuffling import shuffled, sizes, wild
from torch import nn

from landscape_mpi.align import UnknownStructureError, match, structure_of
from landscape_mpi.networks.state import load
from support.transformers_models import causal, classifier

TOKENS = torch.randint(40, (2, 7), generator=torch.Generator().manual_seed(0))


def logits(network, inputs):
    return network(inputs).logits


def check(network, inputs):
    """Permute all that may be permuted, compare the logits, and find the order again; return the sizes of groups."""
    network = wild(network)
    structure = structure_of(network, logits, inputs, frozenset(name for name, _ in network.named_parameters()))
    _, before, after = shuffled(network, structure)
    theta = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    with torch.no_grad():
        expected = logits(network, inputs)
        load(network, after)
        # norms of transformers are computed in float32
        torch.testing.assert_close(logits(network, inputs), expected, rtol=1e-5, atol=1e-5)
    back = match(structure, theta, after).apply(after)
    assert all(torch.equal(back[name], before[name]) for name in theta)
    return sizes(structure)


@pytest.mark.slow(10)
@pytest.mark.parametrize("tied", [False, True])
def test_rotary_embeddings_keep_the_dimensions_of_queries_and_keys(tied):
    """Two layers: two heads of 8, which share a key and a value; values of 8; gates of 24; a stream of 16."""
    assert check(causal(tied), TOKENS) == [2, 2, 8, 8, 16, 24, 24]


@pytest.mark.slow
def test_one_projection_for_queries_keys_and_values():
    """Two layers: two heads; queries with keys, and values; hidden layers of 64; a stream of 16."""
    assert check(causal(kind="GPT2"), TOKENS) == [2, 2, 8, 8, 8, 8, 16, 64, 64]


@pytest.mark.slow
def test_a_vision_transformer():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    assert check(classifier(), images) == [2, 2, 8, 8, 8, 8, 16, 24, 24]


@pytest.mark.slow
def test_a_router_is_refused_by_its_name():
    network = causal(kind="Mixtral")
    names = frozenset(name for name, _ in network.named_parameters())
    with pytest.raises(UnknownStructureError, match=r"`model\.layers\.0\.mlp\.gate` \(\w+\) calls topk"):
        structure_of(network, logits, TOKENS, names)


def test_the_layer_of_torch_in_its_fast_path_too():
    """Two layers: four heads of 4 that share their order, and hidden layers of 32; the stream stays."""
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False
    )
    network, inputs = wild(encoder), torch.randn(2, 5, 16).double()
    names = frozenset(name for name, _ in network.named_parameters())
    structure = structure_of(network, lambda module, given: module(given), inputs, names)
    assert sizes(structure) == [4, 4, 4, 4, 32, 32]
    assert torch.backends.mha.get_fastpath_enabled()
    _, _, after = shuffled(network, structure)
    with torch.no_grad():
        expected = network(inputs)
        load(network, after)
        torch.testing.assert_close(network(inputs), expected, rtol=1e-9, atol=1e-9)

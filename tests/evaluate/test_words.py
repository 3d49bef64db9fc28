"""Products of two bfloat16 words: their digits, what they reach, what they leave alone, sweeps that take them."""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from landscape_mpi.errors import Exit
from landscape_mpi.evaluate.evaluator import MODES
from landscape_mpi.evaluate.words import Products, two_words, words_of
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping import large
from landscape_mpi.sweeping.run import Options, sweep
from support.jobs import results, tiny_job

OPTIONS = Options(device="cpu")


@given(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False))
def test_two_words_are_a_number_to_16_bits(value):
    x = torch.tensor(value)
    hi, lo = words_of(x)
    assert (hi.dtype, lo.dtype) == (torch.bfloat16, torch.bfloat16)
    assert abs(hi.double() + lo.double() - x.double()) <= 2**-17 * abs(value) + 1e-38


def test_a_product_is_that_of_all_words():
    a, b = (torch.randn(9, 9, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    first, second = ([word.double() for word in words_of(x, count)] for x, count in ((a, 3), (b, 2)))
    with two_words():
        ours = a @ b
    expected = sum(x @ y for x in first for y in second) - first[2] @ second[1]
    np.testing.assert_allclose(ours.double(), expected, rtol=0, atol=2e-6)


def test_a_small_step_away_from_weights_of_one_word_is_multiplied_to_its_digits():
    generator = torch.Generator().manual_seed(2)
    x, theta, delta = (torch.randn(40, 40, generator=generator) for _ in range(3))
    theta = theta.bfloat16().float()
    moved = theta + 1e-4 * delta * theta
    exact = x.double() @ (moved.double() - theta.double())
    with two_words():
        ours = (x @ moved).double() - (x @ theta).double()
    assert relative(ours, exact) < 3e-3
    with Products(lambda each, _: (each.bfloat16(),)):
        one = (x @ moved).double() - (x @ theta).double()
    assert relative(one, exact) > 0.9  # hardly a weight has moved


def relative(ours, exact):
    return float((ours.detach().double() - exact).norm() / exact.norm())


A, B, C = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in ((6, 50, 70), (90, 70), (90,)))


@pytest.mark.parametrize(
    "product",
    [
        lambda a, b, _: a @ b.T,
        lambda a, b, _: functional.linear(a, b),
        functional.linear,
        lambda a, b, c: functional.linear(a[0], b, c),
        lambda a, b, _: torch.einsum("bij,kj->bik", a, b),
        lambda a, _b, _c: torch.bmm(a, a.mT),
        lambda a, b, c: torch.addmm(c, a[0], b.T, beta=0.5, alpha=2.0),
        lambda a, b, c: torch.addmm(c * torch.nan, a[0], b.T, beta=0),
        lambda a, _b, _c: torch.baddbmm(torch.ones_like(a[:, :, :50]), a, a.mT, beta=-1),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_products_have_16_bits_in_every_mode(product, mode):
    exact = product(*(x.double() for x in (A, B, C)))
    with MODES[mode]():
        with two_words():
            ours = product(A, B, C)
        with Products(lambda x, _: (x.bfloat16(),)):
            one = product(A, B, C)
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, product(A, B, C))
    assert relative(ours, exact) < 1e-5 < 1e-3 < relative(one, exact)


@pytest.mark.parametrize("x", [A.double(), A.bfloat16(), A.to(torch.complex64)], ids=lambda x: str(x.dtype))
def test_other_dtypes_are_left_alone(x):
    with two_words():
        ours = x @ x.mT
    assert torch.equal(ours, x @ x.mT)


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)),
        (nn.LSTM(5, 6), torch.randn(3, 2, 5)),
        (nn.Embedding(7, 3), torch.tensor([[1, 2], [3, 4]])),
        (nn.BatchNorm1d(5).eval(), torch.randn(4, 5)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_is_no_product_of_matrices_keeps_its_bits(network, inputs):
    with torch.inference_mode():
        with two_words():
            ours = network(inputs)
        plain = network(inputs)
    first = [x[0] if isinstance(x, tuple) else x for x in (ours, plain)]
    assert torch.equal(*first)


def test_torchs_transformer_layer_takes_no_path_around_them():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    x = torch.randn(3, 7, 32)
    with torch.inference_mode():
        exact = layer.double()(x.double())
        with two_words():
            ours = layer.float()(x)
        plain = layer(x)
    assert 3 * relative(plain, exact) < relative(ours, exact) < 1e-5
    assert torch.backends.mha.get_fastpath_enabled()


def test_gradients_are_those_of_float32():
    weight = B.clone().requires_grad_()
    (expected,) = torch.autograd.grad(functional.linear(A, weight).square().sum(), weight)
    with two_words():
        (found,) = torch.autograd.grad(functional.linear(A, weight).square().sum(), weight)
    assert 0 < relative(found, expected.double()) < 1e-5


def swept(folder, name, **changes):
    job = tiny_job(folder, output__file=name, evaluate__dtype="bfloat16x2", **changes)
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    return folder / name


@pytest.mark.slow
def test_a_sweep_is_near_float32s_and_says_what_it_costs(tmp_path, caplog):
    caplog.set_level("INFO")
    ours = swept(tmp_path, "two.h5")
    assert sweep(tiny_job(tmp_path), OPTIONS, Solo()) == Exit.COMPLETE
    assert "bfloat16x2: the maximum relative error of mean losses against float32 is" in caplog.text
    with h5py.File(ours) as file, h5py.File(tmp_path / "surface.h5") as plain:
        np.testing.assert_allclose(file["train_loss"], plain["train_loss"], rtol=1e-4)
        assert np.any(file["train_loss"][()] != plain["train_loss"][()])
        assert (file.attrs["engine"], file.attrs["dtype"]) == ("eager", "bfloat16x2")
        assert 0 < file.attrs["precision_error"] < 1e-4
        assert 0 < file.attrs["precision_floor"] < 1e-4


@pytest.mark.slow
def test_streamed_and_resident_weights_give_the_same_bits(tmp_path, monkeypatch):
    streamed = swept(tmp_path, "streamed.h5", evaluate__weights="streamed")
    monkeypatch.setattr(large, "LARGE", 0)
    resident = swept(tmp_path, "resident.h5")
    assert results(streamed) == results(resident)

"""Numbers by counter: any slice alone, the same bits everywhere, standard normal, independent in every argument."""

import hashlib
import math
import subprocess
import sys
from itertools import combinations, product
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.plane import Plane, RandomDirections, counter
from landscape_mpi.plane.counter import BLOCK, FACTORS, LEVELS, by_kernel, by_numpy, library, standard_normal

MANY = 2_000_000
KEYS = (0x0123456789ABCDEF, 0xFEDCBA9876543210)


@pytest.fixture(scope="module")
def many():
    return standard_normal(0, 0, "weight", 0, MANY).astype(np.float64)


def correlation(a, b):
    """The sample correlation in units of its standard deviation."""
    return float(np.corrcoef(a, b)[0, 1]) * math.sqrt(len(a))


def levels():
    """The instruction sets of the kernel that this machine has."""
    return range(library().landscape_normal_level() + 1)


def numbers_by(way, start, count, keys, *options):
    numbers = np.full(count, np.nan, np.float32)
    way(numbers, start, keys, *options)
    return numbers


@given(st.integers(0, 2**62), st.integers(0, 2), st.integers(0, 70_000), st.integers(0, 70_000))
def test_a_slice_is_that_of_the_whole(seed, axis, start, length):
    stop = min(start + length, 70_000)
    whole = standard_normal(seed, axis, "conv1.weight", 0, 70_000)
    np.testing.assert_array_equal(standard_normal(seed, axis, "conv1.weight", start, stop), whole[start:stop])


def test_the_numbers_are_these():
    numbers = standard_normal(7, 1, "layer3.0.conv1.weight", 0, 100_000)
    assert (
        hashlib.sha256(numbers.astype("<f4").tobytes()).hexdigest()
        == "709429987428669fae9b38a66a38d600ee43a9f35ed0623052ee09091f507eff"
    )


@pytest.mark.kernel
@given(st.integers(0, 2**63), st.integers(0, 5000), st.tuples(*[st.integers(0, 2**64 - 1)] * 2))
def test_the_kernel_gives_the_bits_of_numpy_by_every_instruction_set(start, count, keys):
    expected = numbers_by(by_numpy, start, count, keys)
    for level in levels():
        assert numbers_by(by_kernel, start, count, keys, level).tobytes() == expected.tobytes(), LEVELS[level]


def unmixed(word, other):
    """The first key of the block whose place 0 is hashed to this word, given the other key: `hashed`, backwards."""
    one, two, three = (pow(factor, -1, 2**32) for factor in FACTORS[1:])
    word = word * three % 2**32
    word = (word ^ word >> 16) * two % 2**32 ^ other
    word = (word ^ word >> 15 ^ word >> 30) * one % 2**32
    return word ^ word >> 16


def unmixed_64(word):
    """The word that the finaliser of MurmurHash3 takes to this one."""
    for factor in (0xC4CEB9FE1A85EC53, 0xFF51AFD7ED558CCD):
        word = (word ^ word >> 33) * pow(factor, -1, 2**64) % 2**64
    return word ^ word >> 33


def keys_to(word):
    """Keys of a stream whose first number is made of this word."""
    return unmixed_64(unmixed_64(unmixed(word, 0xABCD1234) | 0xABCD1234 << 32) ^ 77), 77


def ends():
    """Words at both ends of every octave of the tail, of both signs."""
    tails = {0, *((2**power + step) % 2**31 for power in range(32) for step in (-(2**15), -1, 0, 1, 2**15))}
    return [sign << 31 | tail for tail in sorted(tails) for sign in (0, 1)]


@pytest.mark.kernel
def test_the_kernel_gives_the_bits_of_numpy_at_both_ends_of_every_power_of_two():
    for word in ends():
        expected = counter.normal_of(np.array([word], np.uint32))
        assert numbers_by(by_numpy, 0, 1, keys_to(word)).tobytes() == expected.tobytes()
        for level in levels():
            assert numbers_by(by_kernel, 0, 1, keys_to(word), level).tobytes() == expected.tobytes(), LEVELS[level]


def test_torch_gives_the_bits_of_numpy():
    words = np.array(ends(), np.uint32)
    table = torch.from_numpy(counter.QUANTILES.T.copy())
    by_torch = counter.normal_by_torch(torch.from_numpy(words.view(np.int32)), table)
    assert by_torch.numpy().tobytes() == counter.normal_of(words).tobytes()
    for start, count in ((0, 3 * BLOCK), (BLOCK - 3, 9), (2**45 + 5, BLOCK), (7, 0)):
        drawn = counter.by_torch(KEYS, start, start + count, torch.device("cpu"))
        assert drawn.numpy().tobytes() == numbers_by(by_numpy, start, count, KEYS).tobytes()


@pytest.mark.kernel
def test_the_kernel_draws_where_there_is_one(monkeypatch):
    monkeypatch.setattr(counter, "by_numpy", lambda *_: pytest.fail("numpy draws"))
    assert np.isfinite(standard_normal(0, 0, "weight", 0, 3)).all()


def test_without_the_kernel_numpy_draws_the_same(monkeypatch):
    drawn = standard_normal(3, 2, "weight", 5, 70_000)
    monkeypatch.setattr(counter, "library", lambda: None)
    assert standard_normal(3, 2, "weight", 5, 70_000).tobytes() == drawn.tobytes()


def exact(words):
    """The quantiles of the words' tails."""
    return np.array([-NormalDist().inv_cdf((word + 0.5) / 2**32) for word in words.tolist()])


def test_quantiles_are_those_of_the_normal_distribution():
    words = np.random.default_rng(0).integers(0, 2**31, 5000, dtype=np.uint32)
    tails = np.concatenate([words >> np.uint32(octave) for octave in range(31)])
    np.testing.assert_allclose(counter.normal_of(tails), exact(tails), rtol=0, atol=5e-5)
    np.testing.assert_array_equal(counter.normal_of(tails | np.uint32(2**31)), -counter.normal_of(tails))


def test_both_ends_of_the_tail():
    words = np.array([0, 1, 2, 2**31 - 1], np.uint32)
    np.testing.assert_allclose(counter.normal_of(words), exact(words), rtol=0, atol=5e-5)


def test_no_two_blocks_have_the_same_keys():
    one, other = counter.block_keys(KEYS, 0, 100_000)
    pairs = one.astype(np.uint64) << np.uint64(32) | other
    assert len(np.unique(pairs)) == 100_000
    again = counter.block_keys(KEYS, 99_999, 1)
    assert (again[0][0], again[1][0]) == (one[-1], other[-1])


@pytest.mark.slow
def test_moments_and_tails(many):
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((many**power).mean() - mean) < 4 * math.sqrt(variance / MANY)
    for bound in (1, 2, 3, 4, 4.5):
        for side in (many > bound, many < -bound):
            expected = NormalDist().cdf(-bound) * MANY
            assert abs(side.sum() - expected) < 4 * math.sqrt(expected)


@pytest.mark.slow
def test_the_distribution_is_normal_by_kolmogorov_and_smirnov(many):
    ordered = np.sort(many)
    exact = np.array([NormalDist().cdf(value) for value in ordered[::20]])
    assert np.abs(exact - np.arange(0, MANY, 20) / MANY).max() < 1.95 / math.sqrt(MANY)


@pytest.mark.parametrize("lag", [1, 2, 3, 9, 64, 576, 4096, 32768, 65536])
def test_neighbours_are_not_correlated(many, lag):
    assert abs(correlation(many[:-lag], many[lag:])) < 4
    assert abs(correlation(many[:-lag] ** 2, many[lag:] ** 2)) < 4


@pytest.mark.slow
def test_axes_seeds_and_names_are_not_correlated():
    streams = [
        standard_normal(seed, axis, name, 0, 50_000)
        for seed, axis, name in product((0, 1, 2, 2**62), (0, 1, 2), ("conv1.weight", "conv2.weight", "1"))
    ]
    for one, other in combinations(streams, 2):
        assert abs(correlation(one, other)) < 5
        assert abs(correlation(one**2, other**2)) < 5


PLANE = """
import hashlib
import numpy as np
import torch
from landscape_mpi.plane import Plane, RandomDirections, feed
shapes = {"conv.weight": (40, 24, 3, 3), "linear.weight": (10, 1001), "bias": (77,)}
def numbers(shape):  # by numpy: torch's square root is not rounded correctly, and not alike on two processors
    return torch.from_numpy(np.sqrt(np.arange(1, 1 + np.prod(shape), dtype="f4")).reshape(shape))
theta = {name: numbers(shape) for name, shape in shapes.items()}
for normalise in ("filter", "layer", "weight", "none"):
    directions = RandomDirections(5, normalise, "none")
    plane, digest = Plane(theta, (directions.draw(theta, 0), directions.draw(theta, 1))), hashlib.sha256()
    for parameters in (*plane.directions, plane.at(0.3, -0.7), plane.at(-2.0, 1.1, dtype=torch.float64)):
        feed(digest, dict(parameters))
    print(digest.hexdigest(), plane.fingerprint())
"""


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_a_plane_has_the_same_bits_with_and_without_vector_instructions(capability):
    if capability == "avx512" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("the processor has no AVX-512")
    command = [sys.executable, "-c", PLANE]
    env = {"ATEN_CPU_CAPABILITY": capability, "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3", "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()
    assert [one[:16] for one in found] == [
        *("7ce232ccf63378c9", "5ea30851d0117d0c"),
        *("6018d2a662d8ec54", "e44a6f0beabab011"),
        *("ab25f1f3faca47fe", "d1c1fcb80c635b43"),
        *("d8c8eb4775ed3635", "ab9b4d78867f4438"),
    ]


def test_other_parameters_change_no_number_of_a_tensor():
    theta = {"a": torch.ones(3, 4), "b": torch.ones(5, 2)}
    alone = RandomDirections(1, "none", "none").draw({"b": theta["b"]}, 0)
    both = RandomDirections(1, "none", "none").draw(theta, 0)
    assert torch.equal(alone["b"], both["b"])
    assert not Plane(theta, (both, RandomDirections(1, "none", "none").draw(theta, 1))).cosine(0, 1) > 0.9

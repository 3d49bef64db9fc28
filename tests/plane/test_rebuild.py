"""Weights rebuilt at a point: the arithmetic that is promised, of any part of a tensor, and theta itself at 0."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.plane import counter
from landscape_mpi.plane.counter import KINDS, LEVELS, library
from landscape_mpi.plane.rebuild import Drawn, Itself, Rows, by_kernel, by_torch, rebuild, rebuild_rows

WIDTH, ROWS = 300, 500
SIZE = WIDTH * ROWS
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def numbers(seed, size=SIZE):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


SCALES = torch.rand(ROWS, generator=torch.Generator().manual_seed(1))
PARTS = {
    "stored": numbers(2),
    "plain": Drawn(5, 0, "weight"),
    "one number": Drawn(5, 1, "weight", 0.3),
    "by row": Drawn(5, 1, "weight", Rows(SCALES, WIDTH)),
    "by weight": Drawn(5, 0, "other", "theta"),
    "itself": Itself(),
}


def d_of(name, theta):
    """The whole direction of PARTS, by numpy, float32."""
    part, theta = PARTS[name], theta.float().numpy()
    if name == "stored":
        return part.numpy()
    if name == "itself":
        return theta
    z = counter.standard_normal(part.seed, part.axis, part.name, 0, SIZE)
    scale = {"plain": np.float32(1), "one number": np.float32(0.3), "by row": SCALES.numpy().repeat(WIDTH)}
    return z * scale.get(name, theta)


def promised(theta, steps, dtype):
    """W by numpy: every product and every sum rounded alone."""
    kind = np.float64 if dtype == torch.float64 else np.float32
    weights = theta.double().numpy().astype(kind)
    for coordinate, name in steps:
        weights = weights + kind(coordinate) * d_of(name, theta).astype(kind)
    return torch.from_numpy(weights).to(dtype)


def cut(part, there):
    return part[there] if isinstance(part, torch.Tensor) else part


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("names", [[name] for name in PARTS] + [["by row", "by weight"], ["plain", "itself", "stored"]])
def test_every_kind_of_direction_in_every_dtype(names, dtype, to):
    theta = numbers(3).to(dtype)
    steps = list(zip((0.1, -0.7, 1 / 3), names, strict=False))
    out = torch.full((SIZE,), torch.nan, dtype=to)
    rebuild(out, theta, [(coordinate, PARTS[name]) for coordinate, name in steps])
    assert bits(out) == bits(promised(theta, steps, to))


@pytest.mark.kernel
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("width", [1, 7, WIDTH, SIZE])
def test_the_kernel_gives_the_bits_of_torch_by_every_instruction_set(dtype, width):
    scales = torch.rand(SIZE // width + 1, generator=torch.Generator().manual_seed(8))
    theta, start = numbers(3, 5000).to(dtype), 64_321
    steps = [(0.3, PARTS["stored"][:5000]), (-0.1, Drawn(1, 2, "w", Rows(scales, width))), (0.7, PARTS["by weight"])]
    expected, out = torch.empty(5000), torch.empty(5000)
    by_torch(expected, theta, steps, start)
    for level in range(library().landscape_normal_level() + 1):
        by_kernel(out.fill_(torch.nan), theta, steps, start, level)
        assert bits(out) == bits(expected), LEVELS[level]


@pytest.mark.kernel
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("start", [0, 65_520 - 640, 7])
@pytest.mark.parametrize("width", [16, 48, 576, 70_000])
@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_drawn_directions_whose_rows_may_be_whole_vectors(dtype, start, width, axes):
    size = 2_000 + 5  # not whole vectors
    scales = torch.rand(-(-(start + size) // width), generator=torch.Generator().manual_seed(9))
    rows = Rows(scales, width)
    steps = [(0.3, Drawn(1, 0, "w", rows)), (-7.0, Drawn(1, 1, "w", 0.1)), (1e-9, Drawn(1, 2, "w", rows))]
    steps.append((0.5, Drawn(2, 0, "w")))
    theta, expected, out = numbers(3, size).to(dtype), torch.empty(size), torch.empty(size)
    by_torch(expected, theta, steps[:axes], start)
    for level in range(library().landscape_normal_level() + 1):
        by_kernel(out.fill_(torch.nan), theta, steps[:axes], start, level)
        assert bits(out) == bits(expected), LEVELS[level]


@pytest.mark.kernel
@pytest.mark.parametrize("scale", [0.0, 1e-45, 1e-38, 2.0**-100, 3e38, torch.inf, torch.nan])
def test_scales_at_the_ends_of_what_float32_holds(scale):
    scales = torch.tensor([0.5, scale, 0.25])
    steps = [(2.0**100, Drawn(1, 0, "w", Rows(scales, 64))), (0.5, Drawn(1, 1, "w", scale))]
    theta, expected, out = torch.zeros(192), torch.empty(192), torch.empty(192)
    for some in (steps[:1], steps[1:]):
        by_torch(expected, theta, some, 0)
        for level in range(library().landscape_normal_level() + 1):
            by_kernel(out, theta, some, 0, level)
            assert bits(out.nan_to_num(7)) == bits(expected.nan_to_num(7)), LEVELS[level]
            assert torch.equal(out.isnan(), expected.isnan())


@pytest.mark.kernel
@pytest.mark.parametrize("skipped", [0, 1, 4, 8])
def test_arrays_that_are_too_large_for_the_caches(skipped):
    size = 2**18 + 3
    theta, steps = numbers(6, size), [(0.5, PARTS["one number"]), (0.25, Itself())]
    expected, out = torch.empty(size), torch.empty(size + skipped)[skipped:]
    by_torch(expected, theta, steps, 5)
    for level in range(library().landscape_normal_level() + 1):
        by_kernel(out.fill_(torch.nan), theta, steps, 5, level)
        assert torch.equal(out, expected), LEVELS[level]


@pytest.mark.kernel
def test_every_number_of_16_bits_is_widened_as_torch_does():
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    for dtype, part in ((torch.bfloat16, Itself()), (torch.float16, torch.zeros(2**16))):
        theta = halves.view(dtype)
        expected, out = torch.empty(2**16), torch.empty(2**16)
        by_torch(expected, theta, [(1.0, part)], 0)
        for level in range(library().landscape_normal_level() + 1):
            by_kernel(out, theta, [(1.0, part)], 0, level)
            assert torch.equal(out.nan_to_num(1.25), expected.nan_to_num(1.25)), LEVELS[level]
            assert torch.equal(out.isnan(), expected.isnan())


@pytest.mark.slow
@given(st.integers(0, SIZE), st.integers(0, SIZE), st.sampled_from(DTYPES))
def test_a_part_is_that_of_the_whole(start, length, dtype):
    there = slice(start, min(start + length, SIZE))
    theta = numbers(4).to(dtype)
    steps = [(0.2, PARTS["by row"]), (0.4, PARTS["by weight"]), (-0.3, PARTS["stored"])]
    whole, out = torch.empty(SIZE), torch.empty(there.stop - there.start)
    rebuild(whole, theta, steps)
    rebuild(out, theta[there], [(coordinate, cut(part, there)) for coordinate, part in steps], start)
    assert bits(out) == bits(whole[there])


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_at_coordinates_0_it_is_theta_to_the_bit(dtype, to):
    theta = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-40, 6e-8, 1.5]).to(dtype)
    if dtype == to:
        theta.view(torch.uint8)[: dtype.itemsize] = 0xFF  # a NaN that no arithmetic makes
    out = torch.empty(8, dtype=to)
    rebuild(out, theta, [(0.0, torch.full((8,), torch.inf)), (-0.0, PARTS["plain"])])
    assert bits(out) == bits(theta.to(to))


def test_weights_may_be_rebuilt_in_place():
    theta, steps = numbers(5), [(0.5, PARTS["by weight"]), (0.25, PARTS["itself"])]
    expected = torch.empty(SIZE)
    rebuild(expected, theta, steps)
    rebuild(theta, theta, steps)
    assert bits(theta) == bits(expected)


def test_a_coordinate_is_taken_in_float32_for_weights_in_float32():
    out = torch.empty(1)
    rebuild(out, torch.zeros(1), [(0.1, torch.tensor([3.0]))])
    assert out.item() == float(np.float32(0.1) * np.float32(3))


@pytest.mark.parametrize("theta_in", DTYPES)
@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("names", [[], ["by row", "one number"], ["stored", "by weight", "itself"]])
@pytest.mark.parametrize("compiled", [True, False])
def test_some_rows_are_those_of_the_whole(names, theta_in, to, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(counter, "library", lambda: None)
    theta, rows = numbers(3).to(theta_in), torch.tensor([0, 1, 219, ROWS - 1])
    steps = [(x, PARTS[name]) for x, name in zip((0.1, -0.7, 1 / 3), names, strict=False)]
    whole, out = torch.empty(SIZE, dtype=to), torch.empty(len(rows), WIDTH, dtype=to)
    rebuild(whole, theta, steps)
    rebuild_rows(out, theta.view(ROWS, WIDTH), steps, rows)
    assert bits(out) == bits(whole.view(ROWS, WIDTH)[rows])

"""The benchmark of the precision floor: TF32 is emulated to the bit, and its table has the largest errors."""

import pytest
import torch

from landscape_mpi.evaluate.words import Products


@pytest.fixture
def floor(benchmark_named):
    return benchmark_named("floor")


def test_tf32_has_10_bits_after_the_point_rounded_to_even(floor):
    steps = torch.tensor([1.0, 1.5, 2.5, 3.5, 2.51, 0.0])
    for sign in (1, -1):
        (rounded,) = floor.tf32(sign * (1 + steps * 2**-10))
        assert (sign * rounded).sub(1).mul(2**10).tolist() == [1, 2, 2, 4, 3, 0]
    assert torch.equal(floor.tf32(rounded)[0], rounded)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 40, generator=generator)
    errors = (floor.tf32(x)[0] / x - 1).abs()
    assert 2**-12 < errors.max() <= 2**-11
    with Products(floor.tf32):
        assert torch.equal(x @ x.T, floor.tf32(x)[0] @ floor.tf32(x)[0].T)


def test_the_table_has_the_largest_relative_error_of_all_lines(floor):
    lines = []
    for seed, error in ((0, 0.01), (1, -0.25)):
        line = {"seed": seed, "float64": [0.5, -2.0, 3.0, 4.0]}
        lines.append(line | {name: [x * (1 + error) for x in line["float64"]] for name in floor.WAYS})
    lines[0] |= {f"{name} floor": 1e-3 for name in floor.WAYS}
    rows = list(floor.table(lines))
    assert rows[2].startswith("| f(alpha) - f(0) in float64, nats | 0.5 to 0.5 | 2 to 2 |")
    assert rows[3:] == [f"| {name} |" + " 2.5e-01 |" * 4 + " 1.0e-03 |" for name in floor.WAYS]
    page = floor.written(f"before\n{floor.BEGIN}\nold\n{floor.END}\nafter", lines)
    assert page.startswith(f"before\n{floor.BEGIN}\n\n")
    assert page.endswith(f"\n\n{floor.END}\nafter")
    assert "old" not in page
    with pytest.raises(ValueError, match="found no part"):
        floor.written("nothing", lines)

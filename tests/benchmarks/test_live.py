"""The benchmark of today's networks: every way evaluates the same point, and ratios are those of one round."""

import pytest
import torch
from torch import nn

from landscape_mpi.data import Split
from landscape_mpi.networks.meta import build_empty

TOKENS = torch.tensor([[0, 1, 2, 3], [3, 3, 1, 0], [2, 0, 1, 1]])


class Predicts(nn.Module):
    """Logits of the token that follows: a table."""

    def forward(self, tokens):
        """Return [n, length, 5]."""
        return torch.randn(5, 5, generator=torch.Generator().manual_seed(0))[tokens]


@pytest.fixture
def live(benchmark_named):
    return benchmark_named("live")


@pytest.fixture
def subject(live):
    """A small network whose parameters have no memory."""
    network = build_empty(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))).eval()
    generator = torch.Generator().manual_seed(0)
    theta = {name: torch.randn(p.shape, generator=generator) for name, p in network.named_parameters()}
    inputs = torch.randn(5, 1, 6, 6, generator=generator)
    return live.Subject(network, theta, Split("test", inputs, torch.arange(5) % 3), 5, "cross_entropy")


def test_every_way_evaluates_the_same_point(subject):
    ways = subject.ways()
    found = {name: way((0.3, -0.2)).losses.tobytes() for name, way in ways.items()}
    assert found["resident, line"] == found["streamed, line"] != found["plain"]
    assert found["resident, plane"] == found["streamed, plane"] != found["resident, line"]
    centre = {name: way((0.0, 0.0)).losses.tobytes() for name, way in ways.items() if not name.startswith("engine")}
    assert set(centre.values()) == {found["plain"]}


def test_ratios_are_those_of_a_round(live):
    times = {
        "script": [(2.2, 2.0), (2.0, 2.0), (8.0, 2.0)],
        "plain": [(1.0, 2.0), (2.0, 2.0), (8.0, 2.0)],
        "resident, line": [(1.1, 4.0), (2.6, 4.0), (8.8, 6.0)],
    }
    row = live._row("resident, line", times, [1.0, 1.0, 2.0])
    assert row["cpu_ms_range"] == (1100, 8800)
    assert row["of_script"] == pytest.approx(1.1)
    assert row["of_plain"] == pytest.approx(1.1)
    assert row["wall_of_plain"] == 2
    assert row["of_floor"] == pytest.approx(2.6)


def test_without_its_folder_smollm2_is_left_out(live, tmp_path, capsys):
    assert live.main(["--networks", "smollm2", "--folder", str(tmp_path / "absent")]) == 0
    assert capsys.readouterr().out.startswith("smollm2: left out, because there is no ")


def test_a_script_evaluates_what_a_sweep_evaluates(live, subject):
    language = live.Subject(Predicts().eval(), {}, Split("test", TOKENS, TOKENS), 2, "next_token")
    for one in (subject, language):
        losses = one.task.evaluate(one.filled, "test", slice(None), one.batch).losses
        assert one.by_hand() == pytest.approx(losses.mean())

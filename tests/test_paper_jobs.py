"""The jobs of the paper's figures: what their script writes, and complete; and what rescaling leaves alone."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parents[1] / "jobs" / "li2018"


@pytest.fixture
def scripts(monkeypatch):
    """The folder's scripts, to import."""
    monkeypatch.syspath_prepend(FOLDER)
    yield
    for name in ("write_jobs", "rescale"):
        sys.modules.pop(name, None)


def test_the_files_are_what_the_script_writes(scripts):
    import write_jobs

    for size in (write_jobs.PAPER, write_jobs.LAPTOP):
        written = {f"{name}.yaml": write_jobs.render(size, name, *job) for name, job in write_jobs.jobs(size).items()}
        kept = {path.name: path.read_text() for path in (FOLDER / size.folder).glob("*.yaml")}
        assert kept == written


def test_what_a_sweep_needs_a_training_leaves(scripts):
    import write_jobs

    for size in (write_jobs.PAPER, write_jobs.LAPTOP):
        jobs = {name: job for name, (_, job) in write_jobs.jobs(size).items()}
        made = {
            f"{job['train']['output']}/epoch-{job['train']['epochs']:04d}.safetensors"
            for job in jobs.values()
            if "train" in job
        }
        needed = {job["model"]["checkpoint"] for job in jobs.values() if "train" not in job}
        assert {path for path in needed - made if "li2018" not in path and "rescaled" not in path} == set()


@torch.no_grad()
def test_a_rescaled_network_computes_the_same_function_with_larger_weights(scripts):
    import rescale

    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5)]
    network = nn.Sequential(*layers, nn.Linear(5, 2)).double()
    images = torch.randn(16, 3, 5, 5, dtype=torch.float64)
    for _ in range(3):
        network(images)
    network.eval()
    before, last, norm = network(images), network[-1].weight.clone(), network[0].weight.norm()
    rescale.rescale(network, 3.0)
    torch.testing.assert_close(network(images), before, rtol=1e-12, atol=1e-12)
    assert network[0].weight.norm() == pytest.approx(3 * norm)
    assert torch.equal(network[-1].weight, last)

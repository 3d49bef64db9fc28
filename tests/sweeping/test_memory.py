"""What `check` says of memory and of the file, and weights for which there is no room."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from landscape_mpi.cli import run
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import EagerEvaluator
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping import check, large, memory
from landscape_mpi.sweeping.load import JobSource, load_experiment
from landscape_mpi.sweeping.memory import Needs, Room, Weights, are_streamed, check_room, measured, room_of
from landscape_mpi.sweeping.planes.build import build_plane
from landscape_mpi.sweeping.run import Options, sweep
from support.jobs import tiny_job

OPTIONS = Options(device="cpu")
GRID = {"grid": {"alpha": [-0.5, 0.5, 5], "beta": [-0.5, 0.5, 3]}}


@pytest.fixture
def a_node(monkeypatch):
    """A node with some bytes of free memory, for which networks of any size are large."""

    def has(free):
        monkeypatch.setattr(large, "LARGE", 0)
        monkeypatch.setattr(memory, "free_memory", lambda: free)

    return has


def node(free):
    return Room("here", "this node", free)


def told(job, ranks=1, group=None):
    return lines(check.check(job, "cpu", ranks, group))


def lines(text):
    return dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in text.splitlines()[1:] if "  " in line.strip())


def test_weights_of_a_network():
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)).to("meta")
    assert Weights.of(network, 4) == Weights(232, 160, 232, 232)
    assert Weights.of(network, 2) == Weights(116, 80, 116, 116)
    assert Weights.of(nn.Linear(4, 8, dtype=torch.complex64), 4) == Weights(320, 320, 320, 320)
    assert (Weights(1000, 10).streamed, Weights(1000, 700).streamed) == (20, 1000)


def test_what_all_ranks_of_a_node_take():
    needs = Needs({"weights": 100, "activations": 20}, {"data": 7, "theta*": 100})
    assert needs.total(1) == 227
    assert needs.total(4) == 587


@pytest.mark.parametrize(
    ("ranks", "free", "streamed", "sentence"),
    [
        (1, 32e9, False, None),
        (1, None, False, None),
        (4, 24e9, True, None),
        (
            1,
            24e9,
            False,
            (
                "evaluate.weights: weights that are resident take 31 GB per rank, 31 GB for 1 rank, and this node has "
                "24 GB free; expected room for them: evaluate.weights: streamed."
            ),
        ),
        (
            4,
            100e9,
            False,
            (
                "evaluate.weights: weights that are resident take 31 GB per rank, 124 GB for 4 ranks, and this node "
                "has 100 GB free; expected room for them: evaluate.weights: streamed or --group 2 or at most 3 ranks "
                "per node."
            ),
        ),
        (
            2,
            1.5e9,
            True,
            (
                "evaluate.weights: weights that are streamed, a layer beside the next one, take 1 GB per rank, 2 GB "
                "for 2 ranks, and this node has 1.5 GB free; expected room for them: one rank per node."
            ),
        ),
        (
            2,
            0.5e9,
            True,
            (
                "evaluate.weights: weights that are streamed, a layer beside the next one, take 1 GB per rank, 2 GB "
                "for 2 ranks, and this node has 0.5 GB free; expected room for them: use a node with more memory."
            ),
        ),
    ],
)
def test_weights_without_room_are_refused_with_the_arithmetic(ranks, free, streamed, sentence):
    weights = Weights(31_000_000_000, 500_000_000)
    if sentence is None:
        check_room(weights, ranks, node(free), streamed=streamed)
        return
    with pytest.raises(UserError) as refused:
        check_room(weights, ranks, node(int(free)), streamed=streamed)
    assert str(refused.value) == sentence


def test_a_group_holds_its_weights_once():
    weights = Weights(31_000_000_000, 500_000_000, 800_000_000, 600_000_000)
    assert weights.of_group(4) == 7_750_000_000 + 800_000_000 + 300_000_000
    assert weights.of_group(1) == 31_000_000_000
    check_room(weights, 4, node(36_000_000_000), group=4)
    text = (
        r"--group: found 2, and weights that are held by 2 ranks take 16\.9 GB per rank, 67\.6 GB for 4 ranks, and "
        r"this node has 36 GB free; expected room for them: evaluate\.weights: streamed without --group or --group 4 "
        r"or at most 2 ranks per node\."
    )
    with pytest.raises(UserError, match=text):
        check_room(weights, 4, node(36_000_000_000), group=2)


def test_advice_is_what_has_room():
    weights = Weights(31_000_000_000, 20_000_000_000, 20_000_000_000, 20_000_000_000)
    with pytest.raises(UserError, match=r"this node has 24 GB free; expected room for them: use a node with more"):
        check_room(weights, 1, node(24_000_000_000))
    device = Room("a", "cuda:0 of here", 24_000_000_000, "device")
    weights = Weights(31_000_000_000, 500_000_000, 800_000_000, 600_000_000)
    with pytest.raises(UserError, match=r"31 GB for 1 rank, and cuda:0 of here has 24 GB .* streamed or --group 2\."):
        check_room(weights, 1, device, of_node=4)
    with pytest.raises(
        UserError, match=r"62 GB for 2 ranks, and cuda:0 of here has 40 GB .* streamed or one rank per "
    ):
        check_room(weights, 2, Room("a", "cuda:0 of here", 40_000_000_000, "device"), of_node=8)


CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize(("free", "expected"), [(250, True), (464, False), (None, False)])
def test_weights_on_a_device_are_streamed_by_what_is_free_there(tmp_path, caplog, free, expected):
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)).to("meta")
    job = load_job(tiny_job(tmp_path), SweepJob).values

    def look(device, host):
        assert device == CUDA
        return Room(f"{host} GPU-1", f"{device} of {host}", free, "device")

    with caplog.at_level("INFO", "landscape_mpi"):
        assert are_streamed(network, job, Solo(), CUDA, look=look) is expected
    assert ("streamed, a layer at a time: 1 x 2.32e-07 GB on cuda:0 of" in caplog.text) is expected
    assert not are_streamed(network, job, Solo(), CUDA, group=2, look=look)


def test_a_cpus_memory_is_the_nodes(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 17)
    assert room_of(torch.device("cpu"), "here") == Room("here", "here", 17)


@pytest.mark.parametrize(
    ("asked", "ranks", "shared"), [("auto", 5, 2), ("cuda", 4, 1), ("cuda:1", 5, 5), ("cpu", 5, 5)]
)
def test_ranks_share_a_device_or_the_node(monkeypatch, asked, ranks, shared):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    seen = check.Memory.seen(asked, ranks, 1, "here", lambda device, host: Room(host, str(device), None))
    assert (seen.sharing, seen.ranks, seen.node.words) == (shared, ranks, "cpu")
    assert seen.room.words == {"auto": "cuda:0", "cuda": "cuda:0"}.get(asked, asked)


def test_what_lies_on_a_device_is_said_apart_from_what_the_node_takes(tmp_path, a_node):
    a_node(1 << 40)
    job = load_job(tiny_job(tmp_path, **GRID), SweepJob)
    experiment = load_experiment(job, JobSource(job), "cpu", Solo())
    there, plane, _ = build_plane(Solo(), experiment, 0, None)
    evaluator = EagerEvaluator(there.theta.network, plane, there.task, 8)
    for free, on_device in ((10_000_000, True), (100, False)):
        room = Room("GPU-1", "cuda:0", free, "device")
        seen = check.Memory(4, 1, Room("here", "here", 1 << 30), room, 2)
        found = dict(check._memory(replace(there, device=CUDA), plane, evaluator, {"activations": 1000}, seen))
        assert "Python and torch" in found["memory"]
        assert "weights" not in found["memory"]
        assert "weights" in found["on its device"]
        assert "activations 1 KB" in found["on its device"]
        assert ("theta*" in found["on its device"]) is on_device
        assert found["this node"].startswith("4 ranks take about 1.0 GB of 1.1 GB")
        assert found["this device"].startswith("2 ranks take about")
    assert found["weights"].startswith("streamed")  # 100 bytes


def test_a_sweep_with_resident_weights_ends_before_they_take_memory(tmp_path, a_node, monkeypatch):
    a_node(100)
    monkeypatch.setattr(large, "materialise", None)  # nothing is made
    with pytest.raises(UserError, match=r"weights that are resident take .* has 1e-07 GB free"):
        sweep(tiny_job(tmp_path, evaluate__weights="resident", **GRID), OPTIONS, Solo())
    assert not (tmp_path / "surface.h5").exists()


def test_check_says_how_weights_are_held_and_from_how_many_ranks_on_they_are_streamed(tmp_path, a_node):
    a_node(100_000)
    job = tiny_job(tmp_path, **GRID)
    with_one = told(job)
    resident = sum(4 * tensor.numel() for tensor in torch.load(tmp_path / "net.pt").values())
    first = 50_000 // resident + 1
    assert with_one["weights"] == f"resident; streamed from {first} ranks per node on"
    assert told(job, ranks=first - 1)["weights"].startswith("resident")
    assert told(job, ranks=first)["weights"].startswith("streamed, the largest layer twice")
    assert f"{first} ranks take about" in told(job, ranks=first)["this node"]
    assert "theta* " in with_one["memory"].partition("once per node")[2]
    with pytest.raises(UserError, match=r"resident take .* for 1000 ranks, and this node has"):
        told(tiny_job(tmp_path, evaluate__weights="resident", **GRID), ranks=1000)


def test_check_says_what_a_rank_of_a_group_takes(tmp_path, a_node):
    a_node(3000)
    job = tiny_job(tmp_path, **GRID)
    weights = sum(4 * tensor.numel() for tensor in torch.load(tmp_path / "net.pt").values())
    assert weights == 268
    found = told(job, ranks=4, group=2)
    assert found["weights"] == "held by 2 ranks together: 1 KB per rank"
    assert "weights 1 KB" in found["memory"]
    with pytest.raises(UserError, match=r"--group: found 2, and weights that are held by 2 ranks take 6.7e-07 GB"):
        told(job, ranks=6, group=2)
    with pytest.raises(UserError, match="--group: found 2; expected a divisor of the number of ranks, 3"):
        told(job, ranks=3, group=2)
    with pytest.raises(UserError, match=r"--group: found 2, and metrics: \[hessian\] needs the whole network"):
        told(tiny_job(tmp_path, metrics=["loss", "hessian"], **GRID), ranks=2, group=2)


def test_small_networks_are_copied_and_nothing_is_said_of_streaming(tmp_path):
    found = told(tiny_job(tmp_path, **GRID), ranks=3)
    assert "weights" not in found
    assert "network and plane" in found["memory"]
    assert "3 ranks take about" in found["this node"]


@pytest.mark.parametrize(
    "changes",
    [{}, {"output__directions": False}, pytest.param({"grid": {"alpha": [-1, 1, 400]}}, marks=pytest.mark.slow)],
)
def test_the_file_is_about_as_large_as_check_says(tmp_path, changes):
    job = tiny_job(tmp_path, **{**GRID, **changes})
    found = told(job)["file"]
    assert ("with the directions" in found) == (changes.get("output__directions", True))
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    size = int(re.search(r"about ([\d,]+) KB", found)[1].replace(",", "")) * 1000
    assert size == pytest.approx((tmp_path / "surface.h5").stat().st_size, rel=0.3)


def test_what_a_call_takes_is_measured():
    if not measured(lambda: np.ones(1 << 22)):
        pytest.skip("this system does not say")
    assert 60e6 < measured(lambda: np.ones(1 << 23).sum()) < 90e6
    assert measured(lambda: None) < 4e6


def test_a_system_that_does_not_say_what_a_call_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    assert measured(lambda: np.ones(1 << 20)) == 0


@pytest.mark.parametrize("ranks", ["0", "-1", "many"])
def test_a_number_of_ranks_that_is_none(tmp_path, capsys, ranks):
    with pytest.raises(SystemExit):
        run(["check", str(tmp_path / "job.yaml"), f"--ranks={ranks}"])
    assert "--ranks" in capsys.readouterr().err

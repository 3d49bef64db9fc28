"""Which batch goes to which lane, in which order and by which path; the lanes are stand-ins for a GPU's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from landscape_mpi.data import DEFAULT_NORMALISATION, Split
from landscape_mpi.engines import FusedEvaluator, ReplayedEvaluator
from landscape_mpi.engines.cuda_graphs import Replay
from landscape_mpi.engines.layers import DirectLayer
from landscape_mpi.evaluate import EagerEvaluator, Task
from landscape_mpi.evaluate.live import Resident
from landscape_mpi.evaluate.losses import cross_entropy
from landscape_mpi.networks import build_network
from landscape_mpi.networks.state import duplicate
from support.engines import parameters, plane_of, settle
from support.stand_ins import StandInLane

POINTS = [(0.0, 0.0), (0.7, -0.4), (0.0, 0.0)]


def doubled(inputs):
    return inputs * 2


def lanes_of(count, log, room=9):
    return [StandInLane(name, log, room) for name in range(count)]


def test_batches_take_lanes_in_turn_and_all_lanes_are_joined():
    log = []
    replay = Replay(doubled, lanes_of(2, log), torch.zeros(4, 3))
    log.clear()
    for number in range(5):
        with replay.lane(number):
            replay(torch.ones(4, 3))
    replay.join()
    used = [(event, lane) for event, lane in log if event != "follow"]
    turns = [
        event for number in range(5) for event in (("enter", number % 2), ("replay", number % 2), ("leave", number % 2))
    ]
    assert used == [*turns, ("lead", 0), ("lead", 1)]


def test_a_lane_follows_its_caller_before_its_first_batch_and_no_later():
    log = []
    replay = Replay(doubled, lanes_of(3, log), torch.zeros(4, 3))
    for _ in range(2):
        log.clear()
        for number in range(7):
            with replay.lane(number):
                replay(torch.ones(4, 3))
        for lane in range(3):
            assert log.count(("follow", lane)) == 1
            assert log.index(("follow", lane)) < log.index(("enter", lane))


def test_only_batches_like_the_sample_are_replayed():
    log = []
    replay = Replay(doubled, lanes_of(1, log), torch.zeros(4, 3))
    for inputs in (torch.ones(4, 3), torch.ones(3, 3), torch.ones(4, 3, dtype=torch.float64)):
        log.clear()
        with replay.lane(0):
            assert torch.equal(replay(inputs), inputs * 2)
        assert (("replay", 0) in log) == (inputs.shape == (4, 3) and inputs.dtype == torch.float32)


def test_outputs_outlive_the_next_replay():
    replay = Replay(doubled, lanes_of(1, []), torch.zeros(2, 1))
    with replay.lane(0):
        first = replay(torch.tensor([[1.0], [2.0]]))
        replay(torch.tensor([[5.0], [6.0]]))
    assert first.tolist() == [[2.0], [4.0]]


@pytest.mark.parametrize(
    ("room", "description"),
    [
        (9, "replayed as 3 CUDA graphs"),
        (1, "replayed as 1 CUDA graph (no more: no room on lane 1)"),
        (0, "not replayed as a CUDA graph (no room on lane 0)"),
    ],
)
def test_what_cannot_be_recorded_runs_as_it_is_and_says_so(room, description):
    log = []
    replay = Replay(doubled, lanes_of(3, log, room), torch.zeros(4, 3))
    log.clear()
    for number in range(4):
        with replay.lane(number):
            assert replay(torch.ones(4, 3)).sum() == 24
    assert replay.description == description
    assert {lane for event, lane in log if event == "replay"} == set(range(min(room, 3)))
    assert {lane for event, lane in log if event == "enter"} == set(range(max(1, min(room, 3))))


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    network = build_network("resnet20", {"width": 4}, None)
    return settle(network, torch.randn(16, 3, 32, 32))


def uint8_task(images=75, loss=cross_entropy):
    pixels = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Task({"train": Split("train", pixels, torch.arange(images) % 10)}, DEFAULT_NORMALISATION["cifar10"], loss)


def evaluator(network, lanes=(), task=None, batch=16):
    return FusedEvaluator(network, plane_of(network), task or uint8_task(), batch, (DirectLayer,), lanes)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, pytest.param(2, marks=pytest.mark.slow), 4])
def test_replays_on_any_number_of_lanes_change_no_bit_at_any_point(resnet, lanes):
    log = []
    plain, ours = evaluator(resnet), evaluator(resnet, lanes_of(lanes, log))
    log.clear()
    for point in POINTS:
        expected, found = (one.per_example(point, "train", slice(0, 75)) for one in (plain, ours))
        assert found.losses.tobytes() == expected.losses.tobytes()
        assert found.others["acc"].tobytes() == expected.others["acc"].tobytes()
    # the last of the 4 batches takes the 11 images that are left, and another shape is not replayed
    assert sum(event == "replay" for event, _ in log) == 3 * 3
    assert f"replayed as {lanes} CUDA graph" in ours.description
    assert "CUDA" not in plain.description


def test_a_split_smaller_than_the_batch_is_replayed_too(resnet):
    log = []
    ours = evaluator(resnet, lanes_of(2, log), uint8_task(10), 64)
    log.clear()
    ours.per_example((0.0, 0.0), "train", slice(0, 10))
    assert ("replay", 0) in log


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved_for_good_and_no_longer_replayed(resnet):
    sizes = []

    def hungry(outputs, targets):
        sizes.append(len(targets))
        if len(targets) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return cross_entropy(outputs, targets)

    log = []
    ours = evaluator(resnet, lanes_of(2, log), uint8_task(96, hungry), 48)
    found = ours.per_example((0.5, 0.5), "train", slice(0, 96))
    assert (ours.batch, sizes) == (24, [48, 24, 24, 24, 24])
    log.clear()
    again = ours.per_example((0.5, 0.5), "train", slice(0, 96))
    assert sizes[5:] == [24] * 4
    assert log == []
    assert "CUDA" not in ours.description
    expected = evaluator(resnet, task=uint8_task(96), batch=24).per_example((0.5, 0.5), "train", slice(0, 96))
    assert found.losses.tobytes() == again.losses.tobytes() == expected.losses.tobytes()


def live(resnet):
    return Resident(duplicate(resnet).eval())


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "replays"), [(16, 9), (75, 3)])
def test_the_weights_of_a_live_network_move_under_its_recording(resnet, asked, replays):
    log = []
    task, plane = uint8_task(), plane_of(resnet)
    plain = EagerEvaluator(live(resnet), plane, task, asked)
    ours = ReplayedEvaluator(live(resnet), plane, task, asked, lanes_of(1, log))
    log.clear()
    for point in POINTS:
        expected, found = (one.per_example(point, "train", slice(0, 75)) for one in (plain, ours))
        assert found.losses.tobytes() == expected.losses.tobytes()
    assert sum(event == "replay" for event, _ in log) == replays
    assert ours.description == f"{plain.description}, replayed as 1 CUDA graph"


class Several(nn.Module):
    """Returns two tensors."""

    def forward(self, x):
        return x.flatten(1)[:, :10], x


def test_what_returns_several_tensors_runs_as_it_is():
    def loss(outputs, targets):
        return cross_entropy(outputs[0], targets)

    network = nn.Sequential(nn.BatchNorm2d(3), Several()).eval()
    task, plane = uint8_task(loss=loss), plane_of(network, "none")
    ours = ReplayedEvaluator(Resident(network), plane, task, 16, lanes_of(1, []))
    assert ours.description.endswith("not replayed as a CUDA graph (the network returns several tensors)")
    assert np.isfinite(ours.per_example((0.5, 0.0), "train", slice(0, 20)).losses).all()


def test_a_network_that_takes_gradients_is_not_recorded(resnet):
    task = replace(uint8_task(), gradients="enabled")
    ours = ReplayedEvaluator(live(resnet), plane_of(resnet), task, 16, lanes_of(1, []))
    assert "CUDA" not in ours.description


def test_a_batch_of_a_live_network_that_does_not_fit_is_no_longer_replayed(resnet):
    def hungry(outputs, targets):
        if len(targets) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return cross_entropy(outputs, targets)

    ours = ReplayedEvaluator(live(resnet), plane_of(resnet), uint8_task(96, hungry), 48, lanes_of(1, []))
    found = ours.per_example((0.5, 0.5), "train", slice(0, 96))
    expected = EagerEvaluator(live(resnet), plane_of(resnet), uint8_task(96), 24)
    assert (ours.batch, "CUDA" in ours.description) == (24, False)
    assert found.losses.tobytes() == expected.per_example((0.5, 0.5), "train", slice(0, 96)).losses.tobytes()


def test_the_callers_network_stays_at_theta(resnet):
    before = parameters(resnet)
    evaluator(resnet, lanes_of(2, [])).per_example((1.0, 1.0), "train", slice(0, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in resnet.named_parameters())

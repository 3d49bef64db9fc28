"""Networks that several ranks hold together: the bits of one rank's network, and what is refused."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import sharded, units
from landscape_mpi.evaluate.live import Resident
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.communicator import MpiWorld
from landscape_mpi.mpi.shutdown import Interrupted, Stop
from landscape_mpi.mpi.world import Solo
from landscape_mpi.networks.meta import build_empty
from landscape_mpi.plane import Plane, RandomDirections
from landscape_mpi.sweeping.large import team_of
from landscape_mpi.sweeping.memory import Room, are_streamed
from landscape_mpi.sweeping.run import Options, sweep
from support import tiny
from support.jobs import TINY, results

CPU = torch.device("cpu")
POINTS = [(0.3, -0.2), (0.0, 0.0), (-0.5, 0.1)]


@pytest.fixture(autouse=True)
def units_of_any_size(monkeypatch):
    """Small networks are cut as large ones are."""
    monkeypatch.setattr(units, "SMALLEST", 1)


class Encoder(nn.Module):
    """torch's transformer, whose encoder reads parameters of its first layer, and whose layers have a fast path."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 3), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.encoder(x, src_key_padding_mask=x[..., 0] > 1))


class Tied(nn.Module):
    """A language model that reads its embedding once more at the end, outside of the embedding's forward pass."""

    def __init__(self, module=False):
        super().__init__()
        self.embedding, self.scale = nn.Embedding(11, 7), nn.Parameter(torch.tensor(0.7))
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(7, 7), nn.GELU()) for _ in range(2))
        self.head = nn.Linear(7, 11, bias=False) if module else None
        if self.head is not None:
            self.head.weight = self.embedding.weight

    def forward(self, x):
        x = self.embedding(x.abs().mul(3).long() % 11).mean(2)
        for block in (*self.blocks, self.blocks[0]):
            x = x + self.scale * block(x)
        return self.head(x) if self.head is not None else x @ self.embedding.weight.T


class Recurrent(nn.Module):
    """Recurrent layers, a convolution, batch norm and a weight that is computed from others."""

    def __init__(self):
        super().__init__()
        self.lstm, self.norm = nn.LSTM(16, 5, 2, batch_first=True), nn.BatchNorm1d(5)
        self.layers = nn.ModuleList([nn.Conv1d(5, 6, 3), nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))])

    def forward(self, x):
        x = self.norm(self.lstm(x)[0].transpose(1, 2))
        return self.layers[1](self.layers[0](x))


class Stages(nn.Module):
    """Lists of blocks within a list of stages, each stage with a parameter of its own, of complex numbers."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(Stage() for _ in range(2))

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


class Stage(nn.Module):
    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(torch.randn(5, 16, dtype=torch.complex64))
        self.blocks = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 16))

    def forward(self, x):
        return self.blocks(x) + (x @ self.turn.abs().T).sum(-1, keepdim=True)


class Wavering(nn.Module):
    """Runs a block or not, as its inputs say."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 16)])

    def forward(self, x):
        return self.blocks[1](self.blocks[0](x) if x.sum() > 0 else x)


class Listed(nn.Module):
    """Keeps a parameter in a list of its own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 2)
        self.mine = [self.linear.weight]

    def forward(self, x):
        return x @ self.mine[0].T


def made(build):
    """A network in eval mode, another one of it without memory, and a plane through it."""
    torch.manual_seed(0)
    network = build().eval()
    theta = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    directions = RandomDirections(1, "filter", "none")
    plane = Plane.along(theta, [directions.draw(theta, axis) for axis in range(2)])
    empty = build_empty(build).eval()
    for name, buffer in empty.named_buffers():
        buffer.copy_(network.get_buffer(name))
    return network, empty, plane


@pytest.mark.parametrize(
    "build",
    [Encoder, Tied, lambda: Tied(module=True), Recurrent, Stages, lambda: nn.Sequential(nn.Linear(16, 1), nn.Tanh())],
)
def test_a_divided_network_gives_the_bits_of_a_whole_one(world, build):
    network, empty, plane = made(build)
    whole, x = Resident(network), torch.randn(3, 4, 16)
    with team_of(world, world.size) as team, torch.inference_mode():
        divided = sharded.Sharded(empty, team, CPU)
        for point in POINTS:
            whole.move(plane, point)
            divided.move(plane, point)
            assert torch.equal(divided(x), whole(x))
        assert divided.passes == len(POINTS)
        assert sum(world.allgather(divided.nbytes)) <= whole.nbytes + 4 * world.size


@pytest.mark.parametrize("shares", [True, False])
def test_weights_are_messages_only_where_ranks_can_share_no_memory(world, monkeypatch, shares):
    network, empty, plane = made(Encoder)
    shared, call = [], sharded._Gather.__call__
    monkeypatch.setattr(sharded._Gather, "__call__", lambda *args, **named: shared.append(1) or call(*args, **named))
    if not shares:
        monkeypatch.setattr(MpiWorld, "_hold", lambda *_: (None, ""))
    whole, x = Resident(network), torch.randn(3, 4, 16)
    with team_of(world, world.size) as team, torch.inference_mode():
        divided = sharded.Sharded(empty, team, CPU)
        for point in POINTS:
            whole.move(plane, point)
            divided.move(plane, point)
            assert torch.equal(divided(x), whole(x))
    assert bool(shared) is shares


def test_each_rank_holds_its_part_alone(world):
    network, empty, _ = made(Encoder)
    with team_of(world, world.size) as team:
        held = world.allgather(sharded.Sharded(empty, team, CPU).nbytes)
    assert sum(held) == sum(parameter.nbytes for parameter in network.parameters())
    assert max(held) < 1.2 * sum(held) / world.size


def test_a_pass_that_fails_on_one_rank_leaves_no_rank_waiting(world):
    network, empty, plane = made(Encoder)
    inner = empty.encoder.layers[1].linear1

    def refuse(_, args):
        if failing:
            raise ZeroDivisionError("in the middle")

    inner.register_forward_pre_hook(refuse)
    whole, x, failing = Resident(network), torch.randn(3, 4, 16), False
    network.encoder.layers[1].linear1.register_forward_pre_hook(lambda *_: None)  # the same path
    with team_of(world, world.size) as team, torch.no_grad():
        divided = sharded.Sharded(empty, team, CPU)
        divided.move(plane, POINTS[0])
        whole.move(plane, POINTS[0])
        assert torch.equal(divided(x), whole(x))
        failing = world.rank == world.size - 1
        if failing:
            with pytest.raises(ZeroDivisionError):
                divided(x)
        elif world.rank == 0:
            divided.idle()
        else:
            divided(x)
        failing = False
        assert torch.equal(divided(x), whole(x))


def test_a_network_whose_modules_depend_on_its_inputs_is_refused(world):
    _, empty, plane = made(Wavering)
    with team_of(world, world.size) as team, torch.no_grad():
        divided = sharded.Sharded(empty, team, CPU)
        divided.move(plane, POINTS[0])
        divided(torch.ones(2, 16))
        if world.rank == 0:
            with pytest.raises(UserError, match="--group: which modules the network runs"):
                divided(-torch.ones(2, 16))
        else:
            divided(torch.ones(2, 16))


def test_what_cannot_be_divided_is_refused(world):
    with team_of(world, world.size) as team, pytest.raises(UserError, match="Listed, keeps a parameter in a place"):
        sharded.Sharded(made(Listed)[1], team, CPU)
    with team_of(world, world.size) as team, torch.enable_grad():
        divided = sharded.Sharded(made(Encoder)[1], team, CPU)
        with pytest.raises(UserError, match="--group: it evaluates without gradients"):
            divided(torch.ones(1, 4, 16))


# Sweeps of small networks; with --group 1 by one rank that holds a whole network.

SAMPLED = {
    "data__options": {"images": 1000},
    "loss": "tiny:cross_entropy",
    "grid": {"alpha": [-3, 3, 5], "beta": [-2, 2, 3]},
    "sampling": {"error": 0.02, "audit": 6},
}


def by_one(world, folder, job, **changes):
    """The results of a sweep by rank 0 alone, on every rank."""
    path = job("alone.yaml", output__file="alone.h5", **changes)
    if world.rank == 0:
        assert sweep(path, Options(device="cpu", group=1), Solo()) == Exit.COMPLETE
    world.barrier()
    return results(folder / "alone.h5")


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluate": {"batch": 17}},
        {"model__options": {"batchnorm": True}, "evaluate": {"batchnorm": "recompute"}, "plane__normalize": "none"},
        {"evaluate": {"dtype": "bfloat16", "batch": 11}},
        {"evaluate": {"dtype": "bfloat16x2", "batch": 17}},
        SAMPLED,
    ],
)
def test_groups_change_no_bit(world, folder, job, changes):
    if world.rank == 0 and "model__options" in changes:
        torch.save(tiny.network(batchnorm=True).state_dict(), folder / "net.pt")
    world.barrier()
    alone = by_one(world, folder, job, **changes)
    for group in (1, world.size):
        path = job(output__file=f"{group}.h5", **changes)
        assert sweep(path, Options(device="cpu", group=group), world) == Exit.COMPLETE
        assert results(folder / f"{group}.h5") == alone


class Soon(Stop):
    """A reason to stop at some question for it, on the last rank alone."""

    def __init__(self, world, after):
        super().__init__()
        self.world, self.after = world, after

    @property
    def reason(self):
        self.after -= 1
        return "the test" if self.after < 0 and self.world.rank == self.world.size - 1 else ""


def test_a_sweep_that_is_stopped_on_one_rank_goes_on_with_another_group(world, folder, job):
    changes = {"evaluate": {"batch": 7}, "grid": TINY["grid"]}
    alone = by_one(world, folder, job, **changes)
    path = job(output__file="group.h5", **changes)
    try:
        code = sweep(path, Options(device="cpu", group=world.size), world, Soon(world, 40))
    except Interrupted:
        code = Exit.RUN_AGAIN
    assert code == Exit.RUN_AGAIN
    assert (folder / "group.h5").exists()
    assert sweep(path, Options(device="cpu", group=1), world) == Exit.COMPLETE
    assert results(folder / "group.h5") == alone


def test_ranks_that_hold_a_network_together_do_not_give_it_to_a_metric(world, folder, job):
    if world.rank == 0:
        (folder / "calling.py").write_text("def apart(outputs, targets, network):\n    return outputs[:, 0]\n")
    path = job(metrics=["loss", "calling:apart"])
    with pytest.raises(UserError, match="calling:apart calls the network, which the ranks of --group can only do"):
        sweep(path, Options(device="cpu", group=world.size), world)


RAISING = """
import os
from torch.nn.functional import cross_entropy
from support.tiny import rank

CALLS = 0


def loss(outputs, targets):
    global CALLS
    CALLS += 1
    if CALLS > 12 and str(rank()) == os.environ["RAISES_ON"]:
        raise ZeroDivisionError("the user's loss broke")
    return cross_entropy(outputs, targets, reduction="none")
"""


def test_a_point_that_raises_on_one_rank_of_a_group_is_tried_again_and_told(world, folder, job, monkeypatch):
    if world.rank == 0:
        (folder / "raising.py").write_text(RAISING)
    monkeypatch.setenv("RAISES_ON", str(world.size - 1))
    options = Options(device="cpu", group=world.size, tolerant=True)
    changes = {"loss": "raising:loss", "evaluate": {"batch": 7}}
    path = job(output__file="group.h5", **changes)
    assert sweep(path, options, world) == Exit.FAILED_POINTS
    with h5py.File(folder / "group.h5", locking=False) as file:
        texts = [text.decode() for text in file["error"][()].ravel() if text]
    assert texts
    assert all(f"rank {world.size - 1} on {world.host} failed at alpha" in text for text in texts)
    assert all("the user's loss broke" in text for text in texts)
    monkeypatch.setenv("RAISES_ON", "none")
    assert sweep(path, Options(device="cpu", group=world.size), world) == Exit.COMPLETE
    assert results(folder / "group.h5") == by_one(world, folder, job, **changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"metrics": ["loss", "hessian"]}, r"--group: found \d, and metrics: \[hessian\] needs the whole network"),
        ({"plane": {"kind": "worst"}}, r"--group: found \d, and plane\.kind needs the whole network at a time"),
        ({"evaluate": {"weights": "streamed"}}, r"evaluate\.weights: found streamed, and --group has several ranks"),
    ],
)
def test_what_groups_cannot_do(world, job, changes, text):
    with pytest.raises(UserError, match=text):
        sweep(job(**changes), Options(device="cpu", group=world.size), world)


def test_groups_that_do_not_come_out_even_are_refused(world, job):
    with pytest.raises(UserError, match=f"--group: found 5; expected a divisor of .* ranks, {world.size}"):
        sweep(job(), Options(device="cpu", group=5), world)


def test_ranks_that_share_a_device_are_counted_by_its_name(world, job):
    values, network = load_job(job(), SweepJob).values, nn.Linear(10, 10, bias=False, device="meta")

    def look(device, host):
        return Room(f"{host} GPU-{world.rank % 2}", f"{device} of {host}", 1000, "device")

    streamed = are_streamed(network, values, world, torch.device("cuda", 0), look=look)
    assert streamed == (world.size > 2)  # of three ranks two share a device, with 800 bytes of weights together


def test_parts_of_a_plane(world):
    _, _, plane = made(Recurrent)
    name = "lstm.weight_hh_l0"
    theta, (one, _) = plane.parts(name, slice(7, 19))
    np.testing.assert_array_equal(theta, plane.theta[name].reshape(-1)[7:19])
    assert one.scale.width == plane.theta[name].shape[1]

"""Valid files of every kind that is read as data, how each is read, and damage to them; `fuzz.py` and tests use both.

Knows the readers and formats; nothing of processes, counts or tables.
"""

import argparse
import json
import pickle
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from landscape_mpi.job import Axis
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.surface import Evaluated, Journal, NewSurface, PlanLog, Record, begin_plan, create_surface
from landscape_mpi.surface import open_writer as open_surface
from landscape_mpi.surface.journal import FRAME, IDENTITY, THETA
from landscape_mpi.surface.schema import Rows

JOB = """\
model: {build: resnet20, options: {shortcut: none, width: 2}, checkpoint: nets/theta.safetensors}
data: {build: cifar10, root: data, splits: [train], limit: 500, normalize: {mean: [0.5], std: [0.25]}}
plane: {kind: random, seed: 3, normalize: filter, ignore: biasbn}
grid:
  alpha: [-1, 1.5, 5]
  beta: [-1.0e-1, 1, 3]
metrics: [loss, accuracy]
evaluate: {batch: auto, dtype: float32}
train: {output: nets/resnet20, epochs: 2, drops: [1], lr: 0.1}
output: {file: surface.h5}
"""
SWEEP = b"i" * IDENTITY
MAGICS = (b"landscape_mpi images 1\n", b"landscape_mpi plan 1\n")
COMMON = (b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", struct.pack("<Q", 1 << 60))
YAML = (
    b"*a",
    b"&a ",
    b"!!python/object/apply:os.system [ls]",
    b"{",
    b"[",
    b"]",
    b": ",
    b"\n",
    b"- ",
    b"\t",
    b"#",
    b"'",
)
NUMBERS = (b"1e999", b"-.inf", b".nan", b"9" * 5000, b"0x" + b"f" * 40, b"1:60:60", b"2001-13-41", b"=", b"<<", b"~")
PICKLE = (
    b"cos\nsystem\n",
    b"\x93",
    b"R",
    b"b",
    b"t",
    b"(",
    b"0",
    b"2",
    b"h\0",
    b"\x8e" + b"\xff" * 7 + b"\0",
    b"]",
    b".",
)
JSON = (b"[", b"{", b'"', b"1e999", b"-1", b"null", b"9" * 5000, b"[" * 3000, b",")

Edit = tuple[int, int, int]
"""What to do, where and with what: any numbers, each taken modulo what there is."""
Damage = Callable[[bytes, Sequence[Edit], Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Subject:
    """A kind of file.

    Attributes:
        file: Its name in the folder of the inputs.
        make: Writes a valid one, and all that is read with it, into the folder.
        read: Reads what is in the folder.
        tokens: Bytes that mean something in the format.
        damage: How edits change the bytes.
    """

    file: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    tokens: tuple[bytes, ...] = ()
    damage: Damage | None = None

    def damaged(self, data: bytes, edits: Sequence[Edit]) -> bytes:
        """Return the bytes of a file after some edits."""
        return (self.damage or edited)(data, edits, COMMON + self.tokens)


def random_edits(source: random.Random) -> list[Edit]:
    """Return one to eight edits."""
    return [tuple(source.randrange(1 << 32) for _ in range(3)) for _ in range(source.choice((1, 1, 2, 3, 5, 8)))]


def edited(data: bytes, edits: Sequence[Edit], tokens: Sequence[bytes]) -> bytes:
    """Return bytes after some edits; half of the places are near the beginning or the end, where formats have heads."""
    raw = bytearray(data)
    for what, where, value in edits:
        size = max(len(raw), 1)
        near = (where >> 2) % min(512, size)
        place = (near, size - 1 - near, (where >> 2) % size, (where >> 2) % size)[where % 4]
        _edit(raw, what % 8, place, value, tokens)
    return bytes(raw)


def _edit(raw: bytearray, what: int, place: int, value: int, tokens: Sequence[bytes]) -> None:
    token = tokens[value % len(tokens)]
    few = struct.pack("<I", value)[: 1 + value % 4]
    flipped = bytes(byte ^ (1 << value % 8) for byte in raw[place : place + 1])
    elsewhere = bytes(raw[value % max(len(raw), 1) :][:16])
    length, new = (
        (1, bytes([value % 256])),
        (1, flipped),
        (0, few),
        (1 + value % 16, b""),
        (0, token),
        (len(token), token),
        (16, elsewhere),
        (len(raw) if value % 4 == 0 else 0, b""),
    )[what]
    raw[place : place + length] = new


def mended(data: bytes, edits: Sequence[Edit], tokens: Sequence[bytes]) -> bytes:
    """Return a file of records with one of them edited and its checksum right again: what no accident makes."""
    begin = next(len(magic) for magic in MAGICS if data.startswith(magic)) + IDENTITY
    records, place = [], begin
    while place < len(data):
        length, _ = FRAME.unpack_from(data, place)
        records.append(data[place + FRAME.size : place + FRAME.size + length])
        place += FRAME.size + length
    chosen = edits[0][2] % len(records) if edits else 0
    records[chosen] = edited(records[chosen], edits, tokens)
    framed = (FRAME.pack(len(record), zlib.crc32(record)) + record for record in records)
    return data[:begin] + b"".join(framed)


def _surface(path: Path, shard: str, points: Sequence[tuple[int, int]]) -> None:
    """Write a plane of 5 x 3 points with directions of two tensors, some of it done."""
    direction = [
        Rows("conv.weight", (2, 3), [np.ones((2, 3), np.float32)]),
        Rows("conv.bias", (2,), [np.zeros(2, np.float32)]),
    ]
    names = ("train_loss", "train_loss_stderr", "train_acc", "train_acc_stderr")
    fixed = {"seed": 3, "checkpoint_sha256": "c" * 64, "batch": 8, "engine": "eager", "versions": '{"numpy": "2"}'}
    axes = Axis(-1, 1.5, 5).coordinates(), Axis(-0.1, 1, 3).coordinates()
    create_surface(
        path,
        NewSurface(
            axes,
            names,
            (direction, direction),
            JOB,
            {**fixed, "shard": shard},
        ),
    )
    writer = open_surface(path, None, root=True)
    for index in points:
        writer.at_root(Record(index, dict.fromkeys(names, 1.5), 0, 0.1))
    writer.finish(lambda: None, complete=False)


def _shards(folder: Path) -> None:
    _surface(folder / "surface.h5", "0/2", [(0, 0), (2, 4)])
    _surface(folder / "other.h5", "1/2", [(1, 1), (1, 2)])


def _foreign(folder: Path) -> None:
    """Write a surface as tomgoldstein/loss-landscape does, compressed as others may have stored it."""
    with h5py.File(folder / "surface.h5", "w") as file:
        file["xcoordinates"], file["ycoordinates"] = np.linspace(-1, 1, 5), np.linspace(-1, 1, 3)
        file["dir_file"] = "directions.h5"
        for name in ("train_loss", "train_acc"):
            file.create_dataset(name, data=np.ones((5, 3)), chunks=(2, 2), compression="gzip", shuffle=True)


def _losscape(folder: Path) -> None:
    """Write a plane as losscape does."""
    columns, rows = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 3))
    with h5py.File(folder / "surface.h5", "w") as file:
        file["X"], file["Y"], file["losses"] = columns, rows, columns**2 + rows


def _landscaper(folder: Path) -> None:
    """Write a plane as landscaper does."""
    np.savez(folder / "plane.npz", loss=np.ones((5, 5)), coordinates=[np.linspace(-1, 1, 5)] * 2)


def _projection(folder: Path) -> None:
    """Write a projected path as tomgoldstein/loss-landscape does."""
    with h5py.File(folder / "proj_cos.h5", "w") as file:
        file["proj_xcoord"], file["proj_ycoord"] = np.linspace(-1, 0, 5), np.linspace(1, 0, 5) ** 2


def _read_path(folder: Path) -> object:
    from landscape_mpi.surface.foreign.loss_landscape import read_projection

    return read_projection(folder / "proj_cos.h5")


def _read_plane(folder: Path) -> object:
    from landscape_mpi.surface import read_surface

    return read_surface(folder / "plane.npz")


def _describe(folder: Path) -> object:
    from landscape_mpi.plot.origin import origin_of
    from landscape_mpi.surface import read_surface
    from landscape_mpi.surface.status import describe

    return describe(folder / "surface.h5"), origin_of(read_surface(folder / "surface.h5"))


def _directions(folder: Path) -> object:
    from landscape_mpi.surface import read_directions

    return read_directions(folder / "surface.h5", axes=2)


def _merge(*names: str) -> Callable[[Path], object]:
    """Return what merges shards into a surface, the first of which is copied and the others read."""

    def merged(folder: Path) -> object:
        from landscape_mpi.surface.merge import merge

        (folder / "whole.h5").unlink(missing_ok=True)
        return merge(folder / "whole.h5", [folder / name for name in names])

    return merged


def _history(folder: Path) -> None:
    from landscape_mpi.surface.training import EpochRecord, write_history

    write_history(folder / "history.h5", [EpochRecord(epoch, 1.0, 50.0, 1.0, 50.0, 0.1, 2.0) for epoch in range(3)])


def _read_history(folder: Path) -> object:
    from landscape_mpi.surface.training import read_history

    return read_history(folder / "history.h5")


def _run_state(folder: Path) -> None:
    import torch

    from landscape_mpi.train.checkpoints import RunState, write_run_state

    tensors = {"optimizer.0.momentum_buffer": torch.zeros(2, 3), "random.cpu": torch.get_rng_state()[:64]}
    write_run_state(folder, RunState(JOB, {"train": "00" * 32}, 1, "11" * 32, tensors))


def _read_run_state(folder: Path) -> object:
    from landscape_mpi.train.checkpoints import read_run_state

    return read_run_state(folder)


def _pickled(folder: Path) -> None:
    place = folder / "cifar-10-batches-py"
    place.mkdir(exist_ok=True)
    batch = {b"batch_label": b"one", b"labels": [3, 1], b"data": np.zeros((2, 3072), np.uint8), b"filenames": [b"a"]}
    (place / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=2))


def _binary(folder: Path) -> None:
    place = folder / "cifar-10-batches-bin"
    place.mkdir(exist_ok=True)
    (place / "data_batch_1.bin").write_bytes(b"".join(bytes([label]) + bytes(3072) for label in (3, 1)))


def _cifar(folder: Path) -> object:
    from landscape_mpi.data.cifar import read_cifar10

    return read_cifar10(folder, "train")


def _checkpoint(name: str) -> Callable[[Path], None]:
    """Return what writes a small state dict in the format that the name stands for."""

    def write(folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        state = torch.nn.Linear(3, 2).state_dict()
        if name.endswith(".safetensors"):
            save_file(state, folder / name)
        elif name.endswith(".json"):
            save_file({"weight": state["weight"]}, folder / "1.safetensors")
            save_file({"bias": state["bias"]}, folder / "2.safetensors")
            shards = {"weight": "1.safetensors", "bias": "2.safetensors"}
            (folder / name).write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": shards}))
        else:
            beside = {"args": argparse.Namespace(lr=0.1, best=np.float64(1))} if name.startswith("args") else {}
            content = {"state_dict": state, **beside}
            torch.save(content, folder / name, _use_new_zipfile_serialization=name.endswith(".pt"))

    return write


def _config(folder: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "rope_parameters": {"rope_type": "default"}}
    values = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", **sizes}
    (folder / "config.json").write_text(json.dumps(values))


def _read_config(folder: Path) -> object:
    from landscape_mpi.networks.huggingface import read_config

    return read_config(folder / "config.json")


def _load(name: str) -> Callable[[Path], object]:
    def load(folder: Path) -> None:
        import torch

        from landscape_mpi.networks import load_checkpoint

        load_checkpoint(torch.nn.Linear(3, 2), folder / name)

    return load


def _job(folder: Path) -> None:
    (folder / "job.yaml").write_text(JOB)


def _read_job(folder: Path) -> object:
    from landscape_mpi.job import SweepJob, TrainJob, load_job

    return load_job(folder / "job.yaml", SweepJob), load_job(folder / "job.yaml", TrainJob)


def _evaluated(point: int) -> Evaluated:
    losses = np.linspace(0, 1, 11)
    return Evaluated(point, 0, 0, PerExample(losses, {"acc": losses > 0.5}))


def _journal(folder: Path) -> None:
    with Journal(folder, 0, SWEEP) as journal:
        for point in range(4):
            journal.add(_evaluated(point))


def _read_journal(folder: Path) -> object:
    from landscape_mpi.surface import read_journals

    return list(read_journals(folder, SWEEP))


def _plan(folder: Path) -> None:
    begin_plan(folder, SWEEP, [_evaluated(THETA)])
    with PlanLog(folder, SWEEP) as log:
        log.add(0, [(1, 2), (3, 1)])


def _read_plan(folder: Path) -> object:
    from landscape_mpi.surface import read_plan

    return read_plan(folder, SWEEP)


def _whole(folder: Path) -> None:
    _surface(folder / "surface.h5", "0/1", [(iy, ix) for iy in range(3) for ix in range(5)])


SUBJECTS = {
    "job": Subject("job.yaml", _job, _read_job, YAML + NUMBERS),
    "surface": Subject("surface.h5", _whole, _describe),
    "surface of another tool": Subject("surface.h5", _foreign, _describe),
    "plane of losscape": Subject("surface.h5", _losscape, _describe),
    "plane of landscaper": Subject("plane.npz", _landscaper, _read_plane, (b"|O", b"<f8", b"PK\x01\x02", b"(5, 5)")),
    "path of another tool": Subject("proj_cos.h5", _projection, _read_path),
    "directions": Subject("surface.h5", _whole, _directions),
    "shard, merged first": Subject("surface.h5", _shards, _merge("surface.h5", "other.h5")),
    "shard, merged second": Subject("other.h5", _shards, _merge("surface.h5", "other.h5")),
    "training history": Subject("history.h5", _history, _read_history),
    "state of a training": Subject("resume.safetensors", _run_state, _read_run_state, JSON),
    "CIFAR-10, pickled": Subject("cifar-10-batches-py/data_batch_1", _pickled, _cifar, PICKLE),
    "CIFAR-10, binary": Subject("cifar-10-batches-bin/data_batch_1.bin", _binary, _cifar),
    "checkpoint .pt": Subject("net.pt", _checkpoint("net.pt"), _load("net.pt"), PICKLE),
    "checkpoint of old torch": Subject("net.t7", _checkpoint("net.t7"), _load("net.t7"), PICKLE),
    "checkpoint .safetensors": Subject(
        "net.safetensors", _checkpoint("net.safetensors"), _load("net.safetensors"), JSON
    ),
    "checkpoint .pt with arguments": Subject("args.pt", _checkpoint("args.pt"), _load("args.pt"), PICKLE),
    "checkpoint of old torch with arguments": Subject("args.t7", _checkpoint("args.t7"), _load("args.t7"), PICKLE),
    "index of shards": Subject(
        "net.safetensors.index.json",
        _checkpoint("net.safetensors.index.json"),
        _load("net.safetensors.index.json"),
        JSON,
    ),
    "config of a model": Subject("config.json", _config, _read_config, JSON),
    "journal": Subject("rank-00000.journal", _journal, _read_journal),
    "journal, checksum mended": Subject("rank-00000.journal", _journal, _read_journal, (), mended),
    "plan": Subject("plan.journal", _plan, _read_plan, JSON),
    "plan, checksum mended": Subject("plan.journal", _plan, _read_plan, JSON, mended),
}

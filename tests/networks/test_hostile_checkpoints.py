"""Checkpoints that would run something, or claim to be enormous, are refused."""

import argparse
import collections
import contextlib
import copyreg
import functools
import importlib
import json
import marshal
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import tempfile
import zipfile
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from landscape_mpi.errors import UserError
from landscape_mpi.networks import build_network, load_checkpoint


@pytest.fixture
def network(tmp_path):
    return build_network("resnet20", {"width": 2}, tmp_path)


class Calls:
    """Pickles as a call of `os.system`."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["zip", "old", "bare"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_pickle_that_names_os_system_is_refused_and_not_run(tmp_path, network, how, beside):
    attack = Calls(f"touch {tmp_path / 'executed'}")
    content = {**network.state_dict(), "conv1.weight": attack} if beside else attack
    if how == "bare":
        (tmp_path / "net.pt").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(UserError, match=r"was not executed \(it names (posix|os)\.system\)"):
        load_checkpoint(network, tmp_path / "net.pt")
    assert not (tmp_path / "executed").exists()
    assert pickle.loads(pickle.dumps(attack)) == 0
    assert (tmp_path / "executed").exists(), "the attack itself is broken"


def safetensors(header, length=None, data=b""):
    """Return a file with that header, which may claim another length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def claim(shape, end, dtype="F32"):
    return {"conv1.weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


@pytest.mark.parametrize(
    "content",
    [
        safetensors(claim([1], 4), length=2**63, data=bytes(4)),
        safetensors(claim([1], 4), length=2**64 - 1, data=bytes(4)),
        safetensors(claim([2**60], 2**62)),
        safetensors(claim([2**62, 2**62], 4), data=bytes(4)),
        safetensors(claim([1], 2**63), data=bytes(4)),
        safetensors(claim([-1], 4), data=bytes(4)),
        safetensors(claim([1], 4, dtype="OBJECT"), data=bytes(4)),
        safetensors(b"[" * 100_000),
        safetensors({"__metadata__": {"a": 3}}),
    ],
    ids=["header", "header-1", "values", "product", "end", "negative", "dtype", "nested", "metadata"],
)
def test_a_safetensors_file_that_claims_the_absurd(tmp_path, network, content):
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"net\.safetensors is not a safetensors file"):
        load_checkpoint(network, tmp_path / "net.safetensors")


@pytest.mark.slow
def test_a_compressed_archive_that_would_unfold_to_gigabytes_is_refused(tmp_path, network):
    torch.save({"conv1.weight": torch.zeros(1 << 24)}, tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for member in plain.infolist():
            bomb.writestr(member.filename, plain.read(member), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pt").stat().st_size < 100_000
    with pytest.raises(UserError, match=r"claims to hold 67,\d+,\d+ bytes in a file of \d\d,\d+"):
        load_checkpoint(network, tmp_path / "bomb.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(8, 8).to_sparse(),
        torch.zeros(8, 8, dtype=torch.complex64),
        torch.zeros(8, 8, device="meta"),
        torch.zeros(1).expand(1 << 40),
    ],
    ids=["sparse", "complex", "meta", "expanded"],
)
def test_tensors_that_are_no_plain_arrays_are_refused(tmp_path, tensor):
    torch.save({"weight": tensor, "bias": torch.zeros(8)}, tmp_path / "net.pt")
    with pytest.raises(
        UserError, match=r"expected plain arrays|`weight` is \[1099511627776\] in it|not a file of weights"
    ):
        load_checkpoint(nn.Linear(8, 8), tmp_path / "net.pt")


class Reduces:
    """Pickles as a call of any callable, or with any state."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


class Marks:
    """Leaves a mark where any code of its own runs."""

    made: ClassVar[list[str]] = []

    def __init__(self):
        self.made.append("init")

    def __new__(cls):
        cls.made.append("new")
        return super().__new__(cls)

    def __setstate__(self, state):
        self.made.append("setstate")

    def __reduce__(self):
        return copyreg.__newobj__, (Marks,), {"a": 1}


def attacks(mark):
    """Objects whose unpickling would touch the file `mark`, run code of the process or change a class."""
    mkdir = Reduces(os.mkdir, (str(mark),))
    touch = Reduces(pathlib.Path.touch, (mark,))
    return {
        "mkdir": mkdir,
        "eval": Reduces(eval, (f"__import__('os').mkdir({str(mark)!r})",)),
        "exec": Reduces(exec, (f"import os; os.mkdir({str(mark)!r})",)),
        "popen": Reduces(subprocess.Popen, (["mkdir", str(mark)],)),
        "partial": functools.partial(os.mkdir, str(mark)),
        "touch": touch,
        "temporary": Reduces(tempfile.mkdtemp, ("", "mark", str(mark.parent))),
        "torch": Reduces(torch.save, (1, str(mark))),
        "hub": Reduces(torch.hub.set_dir, (str(mark),)),
        "from_file": Reduces(torch.from_file, (str(mark), True, 8)),
        "nested": Reduces(torch.storage._load_from_bytes, (pickle.dumps(mkdir),)),
        "code": Reduces(marshal.loads, (marshal.dumps(compile("1", "", "eval")),)),
        "marks": Marks(),
        "items": Reduces(collections.defaultdict, (os.getcwd,), None, None, iter([(mkdir, touch)])),
        "state": Reduces(argparse.Namespace, (), (None, {"__class__": Marks})),
    }


@pytest.mark.slow
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("name", attacks(pathlib.Path("mark")))
def test_nothing_of_a_file_runs_whether_it_is_read_or_refused(tmp_path, network, name, old):
    state = {key: torch.full_like(tensor, 2) for key, tensor in network.state_dict().items()}
    attack = attacks(tmp_path / "mark")[name]
    torch.save({"model": state, "beside": attack}, tmp_path / "net.pt", _use_new_zipfile_serialization=not old)
    (tmp_path / "mark").unlink(missing_ok=True)
    Marks.made.clear()
    with contextlib.suppress(UserError):
        assert any("not executed" in note for note in load_checkpoint(network, tmp_path / "net.pt"))
        assert all(torch.equal(network.state_dict()[key], tensor) for key, tensor in state.items())
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]
    assert Marks.made == []


def archive(path, pickled, **storages):
    """Write what torch.save writes around a pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/byteorder", "little")
        file.writestr("a/version", "3\n")
        for key, content in storages.items():
            file.writestr(f"a/data/{key.removeprefix('s')}", content)


def tensor_of(storage="FloatStorage", count=4, offset=0, size=b"(K\x04t", stride=b"(K\x01t"):
    """Return the opcodes of a tensor of storage 0."""
    return (
        f"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n{storage}\nX\x01\0\0\0"
        f"0X\x03\0\0\0cpuJ".encode()
        + struct.pack("<i", count)
        + b"tQJ"
        + struct.pack("<i", offset)
        + size
        + stride
        + b"\x89}tR"
    )


def dictionary(value, before=b""):
    """Return a pickle of {"bias": value}, which names a class that torch does not know, so that stand-ins read it."""
    return b"\x80\x02" + before + b"cmailbox\nMailbox\n0}X\x04\0\0\0bias" + value + b"s."


def bias(path):
    network = nn.Linear(2, 4)
    del network._parameters["weight"]
    network._parameters["weight"] = None
    load_checkpoint(network, path)
    return network.bias.tolist()


def test_the_attacks_by_hand_are_built_on_a_file_that_is_read(tmp_path):
    archive(tmp_path / "net.pt", dictionary(tensor_of()), s0=struct.pack("<4f", 1, 2, 3, 4))
    assert bias(tmp_path / "net.pt") == [1, 2, 3, 4]


CLASSES = ["torch.nn.parameter\nParameter", "torch\nTensor", "torch._utils\n_rebuild_tensor_v2", "torch\nFloatStorage"]


@pytest.mark.parametrize("name", [*CLASSES, "collections\nOrderedDict", "argparse\nNamespace", "builtins\nset"])
def test_no_attribute_of_a_class_is_set(tmp_path, name):
    """BUILD sets attributes of whatever lies on the stack: here of classes and functions themselves."""
    put = f"c{name}\nN}}X\x04\0\0\0evilK\x01s\x86b0".encode()
    archive(tmp_path / "net.pt", dictionary(tensor_of(), put), s0=bytes(16))
    with contextlib.suppress(UserError):
        bias(tmp_path / "net.pt")
    module, _, attribute = name.partition("\n")
    assert not hasattr(getattr(importlib.import_module(module), attribute), "evil")


@pytest.mark.parametrize(
    ("value", "before"),
    [
        (tensor_of(count=5), b""),
        (tensor_of(count=-1), b""),
        (tensor_of(count=2**31 - 1), b""),
        (tensor_of(offset=1), b""),
        (tensor_of(offset=-4), b""),
        (tensor_of(size=b"(J\xff\xff\xff\x7ft", stride=b"(K\0t"), b""),
        (tensor_of(storage="DoubleStorage"), b""),
        (tensor_of(storage="Nothing"), b""),
        (tensor_of(), b"Nr\xff\xff\xff\x7f0"),
        (tensor_of().replace(b"storage", b"modules"), b""),
        (tensor_of().replace(b"X\x01\0\0\x000", b"X\x01\0\0\x001"), b""),
    ],
    ids=["short", "negative", "huge", "offset", "before", "size", "dtype", "unknown", "memo", "kind", "key"],
)
def test_tensors_that_lie_about_their_storage_are_refused(tmp_path, value, before):
    archive(tmp_path / "net.pt", dictionary(value, before), s0=bytes(16))
    with pytest.raises(UserError, match=r"model\.checkpoint: "):
        bias(tmp_path / "net.pt")


@pytest.mark.parametrize("old", [True, False])
def test_containers_that_hold_themselves_end(tmp_path, old):
    loop, chain = {}, []
    loop["state_dict"] = loop["model"] = loop
    chain.append([chain, loop])
    for content in (loop, chain, {"a": chain, "beside": argparse.Namespace(loop=loop)}):
        torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=not old)
        with pytest.raises(UserError, match=r"holds a (dict|list) without tensors"):
            load_checkpoint(nn.Linear(1, 1), tmp_path / "net.pt")
    loop["net"] = nn.Linear(1, 1).state_dict()
    torch.save(loop, tmp_path / "net.pt", _use_new_zipfile_serialization=not old)
    load_checkpoint(nn.Linear(1, 1), tmp_path / "net.pt")


def test_a_ladder_of_containers_that_share_is_walked_once(tmp_path):
    """100 levels with two ways down each: 2^100 paths."""
    rung = {"weights": torch.ones(1)}
    for _ in range(100):
        rung = {"a": rung, "b": rung, "c": argparse.Namespace(rung=rung)}
    torch.save(rung, tmp_path / "net.pt")
    with pytest.raises(UserError):
        load_checkpoint(nn.Linear(1, 1), tmp_path / "net.pt")


def index(folder, **shards):
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": shards}))
    return path


@pytest.mark.parametrize("name", ["../out.safetensors", "/out.safetensors", "sub/out.safetensors", "..", "", "a\0.bin"])
def test_an_index_names_no_file_elsewhere(tmp_path, name):
    folder = tmp_path / "net"
    (folder / "sub").mkdir(parents=True)
    save_file({"weight": torch.ones(1, 1), "bias": torch.ones(1)}, tmp_path / "out.safetensors")
    shutil.copy(tmp_path / "out.safetensors", folder / "sub")
    name = name.replace("/out", f"{tmp_path}/out") if name.startswith("/") else name
    with pytest.raises(UserError, match=r"names the shard .*; expected a \.safetensors or \.bin file beside it"):
        load_checkpoint(nn.Linear(1, 1), index(folder, weight=name, bias=name))


def a_link(folder):
    save_file({"weight": torch.ones(1, 1), "bias": torch.ones(1)}, folder.parent / "out.safetensors")
    (folder / "a.safetensors").symlink_to(folder.parent / "out.safetensors")


def a_loop(folder):
    (folder / "a.safetensors").symlink_to(folder / "a.safetensors")


SHARDS = {
    "link": (a_link, r"a\.safetensors is a link to .*out\.safetensors, outside of its folder"),
    "loop": (a_loop, "there is no such file beside it"),
    "pipe": (lambda folder: os.mkfifo(folder / "a.safetensors"), "there is no such file beside it"),
    "folder": (lambda folder: (folder / "a.safetensors").mkdir(), "there is no such file beside it"),
    "rubbish": (lambda folder: (folder / "a.safetensors").write_bytes(b"?"), "is not a safetensors file"),
    "nothing": (lambda folder: save_file({}, folder / "a.safetensors"), "holds `weight`, which is not in it"),
}


def test_a_shard_with_a_name_that_no_file_can_have(tmp_path):
    with pytest.raises(UserError, match=r"names the shard a{80}, and there is no such file") as caught:
        load_checkpoint(nn.Linear(1, 1), index(tmp_path, weight="a" * 10_000 + ".bin"))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", SHARDS)
def test_shards_that_are_no_files_of_weights_are_refused(tmp_path, name):
    make, message = SHARDS[name]
    (tmp_path / "net").mkdir()
    make(tmp_path / "net")
    with pytest.raises(UserError, match=message):
        load_checkpoint(nn.Linear(1, 1), index(tmp_path / "net", weight="a.safetensors", bias="a.safetensors").parent)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[1]",
        b"{}",
        b'{"weight_map": {}}',
        b'{"weight_map": {"a": 3}}',
        b'{"weight_map": {"a": "model.safetensors.index.json"}}',
        b"[" * 1_000_000,
        b'{"weight_map": {"a": ' + b"9" * 100_000 + b"}}",
        b" " * ((1 << 24) + 1),
    ],
    ids=["empty", "bytes", "list", "no map", "no name", "number", "itself", "nested", "digits", "large"],
)
def test_an_index_that_is_none_is_one_sentence(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_bytes(text)
    with pytest.raises(UserError, match=r"model\.checkpoint: .*index") as caught:
        load_checkpoint(nn.Linear(1, 1), tmp_path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_path_that_is_no_file(tmp_path, make):
    make(tmp_path / "net.pt")
    with pytest.raises(UserError, match=r"net\.pt: found a pipe|the folder .*net\.pt holds none of"):
        load_checkpoint(nn.Linear(1, 1), tmp_path / "net.pt")


@pytest.mark.parametrize(
    "key", [b")" + b"\x85" * 1_000_000, b")" + b"\x85q\1" * 500_000, b")" + b"N\x86h\1\x86q\1" * 300_000]
)
@pytest.mark.parametrize("how", ["zip", "bare"])
def test_tuples_a_million_deep_as_a_key_crash_nothing(tmp_path, key, how):
    """Python hashes a tuple by a recursion in C that has no limit: a segmentation fault."""
    content = b"\x80\x02}" + key.replace(b")", b")q\1", 1) + b"K\x01s."
    if how == "zip":
        archive(tmp_path / "net.pt", content)
    else:
        (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"was not executed \(tuples more than 1000 deep within each other\)"):
        bias(tmp_path / "net.pt")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: you tried")])
def test_a_lack_of_memory_speaks_for_no_damage(tmp_path, monkeypatch, error):
    def starved(*_, **__):
        raise error

    torch.save({"weight": torch.zeros(3)}, tmp_path / "net.pt")
    monkeypatch.setattr("torch.load", starved)
    with pytest.raises(UserError, match=r"there is not enough memory to read .*net\.pt; the file may be sound"):
        load_checkpoint(nn.Linear(3, 1), tmp_path / "net.pt")

"""Checkpoints that would run something, or claim to be enormous, are refused."""

import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
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

"""What ranks of a node share: devices of invented machines, and arrays in a file that several processes map."""

from pathlib import Path

import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.mpi import node
from landscape_mpi.mpi.node import choose_device

FORMS = [
    ((3, 5), np.dtype(np.float64)),
    ((0,), np.dtype(np.uint8)),
    ((7001,), np.dtype(np.uint8)),
    ((), np.dtype("i8")),
]


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_what_one_writes_the_other_reads():
    name = node.new_file(node.nbytes(FORMS))
    mine, theirs = node.mapped(name, FORMS), node.mapped(name, FORMS)
    Path(name).unlink()
    for number, array in enumerate(mine):
        array[...] = number + 1
    for number, ((shape, dtype), array) in enumerate(zip(FORMS, theirs, strict=True)):
        assert (array.shape, array.dtype) == (shape, dtype)
        assert (array == number + 1).all()


def test_a_file_without_room_leaves_nothing(temporary):
    assert node.new_file(1 << 60) is None
    assert not [*temporary.iterdir()]


def test_a_file_that_cannot_be_opened_is_none(temporary):
    assert node.mapped(str(temporary / "nothing"), FORMS) is None


def test_nobody_knows_the_room_of_no_folder(temporary):
    assert node.room(temporary / "nothing") is None
    assert node.room(temporary) > 0


@pytest.mark.parametrize(
    ("requested", "local_rank", "devices", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 5, 0, "cpu"),
        ("auto", 0, 4, "cuda:0"),
        ("auto", 3, 4, "cuda:3"),
        ("auto", 7, 4, "cuda:3"),
        ("auto", 2, 1, "cuda:0"),
        ("cpu", 1, 4, "cpu"),
        ("cuda", 5, 4, "cuda:1"),
        ("cuda:2", 0, 4, "cuda:2"),
    ],
)
def test_device_of_a_rank(requested, local_rank, devices, expected):
    assert choose_device(requested, local_rank, devices) == expected


@pytest.mark.parametrize(("requested", "devices"), [("cuda", 0), ("cuda:4", 4), ("gpu", 2), ("cuda:x", 1)])
def test_a_device_that_is_not_there_is_refused(requested, devices):
    with pytest.raises(UserError, match="--device"):
        choose_device(requested, 0, devices)

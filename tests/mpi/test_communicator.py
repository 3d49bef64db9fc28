"""Arrays that ranks of a node share in a file, which several processes map."""

from pathlib import Path

import numpy as np
import pytest

from landscape_mpi.mpi import communicator

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
    name = communicator.new_file(communicator.nbytes(FORMS))
    mine, theirs = communicator.map_arrays(name, FORMS), communicator.map_arrays(name, FORMS)
    Path(name).unlink()
    for number, array in enumerate(mine):
        array[...] = number + 1
    for number, ((shape, dtype), array) in enumerate(zip(FORMS, theirs, strict=True)):
        assert (array.shape, array.dtype) == (shape, dtype)
        assert (array == number + 1).all()


def test_a_file_without_room_leaves_nothing(temporary):
    assert communicator.new_file(1 << 60) is None
    assert not [*temporary.iterdir()]


def test_a_file_that_cannot_be_opened_is_none(temporary):
    assert communicator.map_arrays(str(temporary / "nothing"), FORMS) is None


def test_nobody_knows_the_room_of_no_folder(temporary):
    assert communicator.free_bytes(temporary / "nothing") is None
    assert communicator.free_bytes(temporary) > 0

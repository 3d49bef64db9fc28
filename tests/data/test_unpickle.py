"""A pickled batch is read as data: the official bytes arrive, and nothing of a stream is ever executed."""

import builtins
import os
import pickle
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from cifar_files import python2_pickle, random_batch
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.data.cifar import read_cifar10
from landscape_mpi.data.unpickle import MAX_BYTES, read_pickled_batch
from landscape_mpi.errors import UserError

ROWS, LABELS = random_batch(0)
STREAM = python2_pickle(ROWS, LABELS)


def read(path, stream):
    path.write_bytes(stream)
    return read_pickled_batch(path)


def test_the_hand_written_stream_is_one_that_python_reads():
    batch = pickle.loads(STREAM, encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], ROWS)
    assert batch[b"labels"] == LABELS


def test_a_stream_of_python_2_is_read(tmp_path):
    batch = read(tmp_path / "batch", STREAM)
    np.testing.assert_array_equal(batch["data"].to_uint8(), ROWS)
    assert batch["labels"] == LABELS
    assert batch["batch_label"] == b"training batch 1 of 5"


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_stream_of_todays_numpy_is_read(tmp_path, protocol, order):
    content = {b"data": np.asarray(ROWS, order=order), b"labels": LABELS}
    batch = read(tmp_path / "batch", pickle.dumps(content, protocol))
    np.testing.assert_array_equal(batch["data"].to_uint8(), ROWS)


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Pickle takes for a function only what can be called."""


def touch(path):
    return f"open({str(path)!r}, 'w').close()"


ATTACKS = {
    "os.system": lambda path: Calls(os.system, f"touch {path}"),
    "eval": lambda path: Calls(eval, touch(path)),
    "exec": lambda path: Calls(exec, touch(path)),
    "Popen": lambda path: Calls(subprocess.Popen, ["touch", str(path)]),
    "check_call": lambda path: Calls(subprocess.check_call, ["touch", str(path)]),
    "getattr": lambda path: Calls(Calls(getattr, Calls(__import__, "os"), "system"), f"touch {path}"),
    "method": lambda path: Calls(Path(path).touch),
}
STREAMS = {
    "INST": lambda path: b"(S'touch %s'\nios\nsystem\n." % bytes(path),
    "OBJ": lambda path: b"(cos\nsystem\nS'touch %s'\no." % bytes(path),
}
NESTS = {
    "alone": lambda attack: attack,
    "beside data": lambda attack: {b"data": ROWS, b"labels": LABELS, b"filenames": [attack]},
    "as data": lambda attack: {b"data": attack, b"labels": LABELS},
}


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_not_executed(tmp_path, name, nest):
    trace = tmp_path / "executed"
    stream = pickle.dumps(NESTS[nest](ATTACKS[name](trace)), protocol=2)
    with pytest.raises(UserError, match=r"batch: the pickle names \S+\.\S+, which no batch of CIFAR-10 needs"):
        read(tmp_path / "batch", stream)
    time.sleep(0.2 if name == "Popen" else 0)  # a process left behind would need a moment
    assert not trace.exists()


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attacks_would_work_on_an_ordinary_reader(tmp_path, name):
    trace = tmp_path / "executed"
    found = pickle.loads(pickle.dumps(ATTACKS[name](trace), protocol=2))
    if isinstance(found, subprocess.Popen):
        found.wait()
    assert trace.exists()


@pytest.mark.parametrize("name", STREAMS)
def test_old_opcodes_are_no_way_around(tmp_path, name):
    trace = tmp_path / "executed"
    stream = STREAMS[name](trace)
    with pytest.raises(UserError, match=r"the pickle names os\.system"):
        read(tmp_path / "batch", stream)
    assert not trace.exists()
    pickle.loads(stream)
    assert trace.exists(), "the attack itself is broken"


@pytest.mark.parametrize(
    "name",
    [
        ("numpy", "ndarray.__class__"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray._reconstruct", "__call__"),
        ("_codecs", "decode"),
        ("_codecs", "encode.__self__"),
        ("codecs", "encode"),
        ("builtins", "getattr"),
        ("", ""),
    ],
)
def test_only_the_five_names_are_allowed(tmp_path, name):
    module, attribute = (bytes([0x8C, len(part)]) + part.encode() for part in name)
    with pytest.raises(UserError, match="which no batch of CIFAR-10 needs"):
        read(tmp_path / "batch", b"\x80\x04" + module + attribute + b"\x93.")


def test_a_persistent_id_is_refused(tmp_path):
    with pytest.raises(UserError, match="persistent"):
        read(tmp_path / "batch", b"\x80\x02U\x01aQ.")


def test_a_codec_other_than_latin1_is_refused(tmp_path):
    with pytest.raises(UserError, match="'rot13'; expected latin1"):
        read(tmp_path / "batch", b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")


def test_a_stream_cannot_change_what_the_next_one_gets(tmp_path):
    """BUILD sets attributes of whatever a stream was given: here the defaults of the stand-in for `encode`."""
    attack = b"\x80\x02c_codecs\nencode\n(N}X\x08\x00\x00\x00__name__X\x04\x00\x00\x00evilstb."
    with pytest.raises(UserError, match="holds a function"):
        read(tmp_path / "batch", attack)
    np.testing.assert_array_equal(read(tmp_path / "batch", STREAM)["data"].to_uint8(), ROWS)
    assert builtins.eval.__name__ == "eval"


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo index 2147483647"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.", "281474976710655|1099511627775"),
        (b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "numpy.ndarray is called"),
    ],
    ids=["memo", "bytes", "ndarray"],
)
def test_a_stream_cannot_claim_memory_that_it_has_no_bytes_for(tmp_path, stream, found):
    with pytest.raises(UserError, match=found):
        read(tmp_path / "batch", stream)


def test_a_file_larger_than_any_batch_is_not_read(tmp_path):
    path = tmp_path / "batch"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="is larger than 67,108,864 bytes"):
        read_pickled_batch(path)


@pytest.mark.parametrize(
    "array",
    [
        ROWS.astype(object),
        ROWS.astype(np.int64),
        ROWS.astype(np.float32),
        ROWS.astype("S1"),
        ROWS[0],
        ROWS[None],
        np.zeros(3, [("a", "u1")]),
    ],
    ids=["object", "int64", "float32", "bytes", "1-d", "3-d", "record"],
)
def test_only_matrices_of_bytes_become_arrays(tmp_path, array):
    assert read(tmp_path / "batch", pickle.dumps({"data": array}, protocol=2))["data"].to_uint8() is None


@pytest.mark.parametrize("shape", [(2, 3072), (3, 3071), (0, 3072), (300, 3072)])
def test_a_shape_that_contradicts_the_bytes_is_no_array(tmp_path, shape):
    stream = python2_pickle(ROWS, LABELS, shape=shape)
    assert read(tmp_path / "batch", stream)["data"].to_uint8() is None


@pytest.mark.slow
@given(data=st.data())
def test_a_damaged_file_gives_a_batch_or_one_sentence(data, tmp_path_factory):
    """Bytes outside the pixels are replaced, or the end is cut off."""
    root = tmp_path_factory.mktemp("damaged")
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    start = STREAM.index(ROWS.tobytes())
    places = st.one_of(st.integers(0, start), st.integers(start + ROWS.nbytes, len(STREAM) - 1))
    stream = bytearray(STREAM)
    for place in data.draw(st.lists(places, max_size=4)):
        stream[place] = data.draw(st.integers(0, 255))
    (folder / "data_batch_1").write_bytes(stream[: data.draw(st.sampled_from([len(stream), start, start // 2]))])
    try:
        images, labels, _ = read_cifar10(root, "train")
    except UserError as error:
        sentence = str(error)
    else:
        sentence = ""
        assert images.shape[1:] == (3, 32, 32)
        assert len(images) == len(labels)
        assert labels.max() < 10
    assert sentence == "" or str(folder / "data_batch_1") in sentence
    assert "\n" not in sentence

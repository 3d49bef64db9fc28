"""CIFAR-10 in both official layouts: the right images in the right order, and a sentence for whatever is wrong."""

import pickle

import numpy as np
import pytest
import torch
from cifar_files import BATCHES, binary_records, python2_pickle, random_batch, write_binary, write_python

from landscape_mpi.data import DEFAULT_NORMALISATION, load_split
from landscape_mpi.errors import UserError

WHOLE = {name: random_batch(seed, images=2 + seed) for seed, name in enumerate([*BATCHES, "test_batch"])}
ROWS, LABELS = random_batch(0)
WRITERS = pytest.mark.parametrize("write", [write_python, write_binary])


def load(root, split="train", limit=None):
    return load_split("cifar10", root, split, {}, limit)


@WRITERS
def test_the_batches_come_in_canonical_order(tmp_path, write):
    write(tmp_path, WHOLE)
    train, test = load(tmp_path), load(tmp_path, "test")
    rows = np.concatenate([WHOLE[name][0] for name in BATCHES])
    np.testing.assert_array_equal(train.inputs.numpy(), rows.reshape(-1, 3, 32, 32))
    assert train.targets.tolist() == [label for name in BATCHES for label in WHOLE[name][1]]
    assert (train.inputs.dtype, train.targets.dtype) == (torch.uint8, torch.int64)
    np.testing.assert_array_equal(test.inputs.numpy(), WHOLE["test_batch"][0].reshape(-1, 3, 32, 32))


def test_both_layouts_have_the_same_fingerprint(tmp_path):
    write_python(tmp_path / "python", WHOLE)
    write_binary(tmp_path / "binary", WHOLE)
    assert load(tmp_path / "python").fingerprint() == load(tmp_path / "binary").fingerprint()
    assert load(tmp_path / "python").fingerprint() != load(tmp_path / "python", limit=19).fingerprint()


@WRITERS
def test_the_limit_takes_the_first_images_and_reads_no_more_files(tmp_path, write):
    folder = write(tmp_path, WHOLE)
    next(folder.glob("data_batch_3*")).write_bytes(b"rubbish")
    everything = np.concatenate([WHOLE[name][0] for name in BATCHES])
    np.testing.assert_array_equal(load(tmp_path, limit=5).inputs.flatten(1).numpy(), everything[:5])
    with pytest.raises(UserError, match="data_batch_3"):
        load(tmp_path, limit=6)


@WRITERS
def test_a_partial_set_works_and_says_so(tmp_path, write):
    write(tmp_path, {name: WHOLE[name] for name in BATCHES[:1]})
    split = load(tmp_path)
    assert len(split) == 2
    assert len(split.notes) == 1
    assert split.notes[0].startswith("data_batch_1")
    assert split.notes[0].endswith(" alone: 2 of 50000 training images")
    write(tmp_path, {"data_batch_4": WHOLE["data_batch_4"]})
    assert " alone" not in load(tmp_path).notes[0]
    assert load(tmp_path).notes[0].endswith("7 of 50000 training images")


@pytest.mark.slow
def test_a_whole_set_has_nothing_to_say(tmp_path):
    folder = write_binary(tmp_path, {})
    (folder / "test_batch.bin").write_bytes(bytes(3073) * 10_000)
    assert load(tmp_path, "test").notes == ()
    assert load(tmp_path, "test", limit=10).notes == ()


@WRITERS
@pytest.mark.parametrize(("there", "absent"), [("train", "test"), ("test", "train")])
def test_an_absent_split_is_named_with_the_way_out(tmp_path, write, there, absent):
    write(tmp_path, {{"train": "data_batch_1", "test": "test_batch"}[there]: (ROWS, LABELS)})
    with pytest.raises(UserError, match=rf"the {absent} split of cifar10 is absent.*`splits: \[{there}\]`"):
        load(tmp_path, absent)


def test_a_root_without_cifar10_is_named(tmp_path):
    with pytest.raises(UserError, match=f"data.root: {tmp_path} holds neither cifar-10-batches-py nor"):
        load(tmp_path)


def test_a_missing_root_and_unknown_options_are_named(tmp_path):
    with pytest.raises(UserError, match=r"data\.root: is missing"):
        load(None)
    with pytest.raises(UserError, match=r"data\.options: found \['size'\]"):
        load_split("cifar10", tmp_path, "train", {"size": 3}, None)


BAD_PICKLES = {
    "truncated": (python2_pickle(ROWS, LABELS)[:-2000], "truncated or damaged"),
    "empty": (b"", "truncated or damaged"),
    "no pickle": (b"\x1f\x8b\x08 rubbish", "truncated or damaged"),
    "no dictionary": (pickle.dumps([1, 2]), "holds a list; expected a dictionary"),
    "no labels": (pickle.dumps({"data": ROWS}, 2), r"has no labels, found \['data'\]"),
    "nothing in it": (pickle.dumps({}), "has no data and no labels"),
    "data is a list": (pickle.dumps({"data": [1], "labels": [1]}), "no whole uint8 array"),
    "data of objects": (pickle.dumps({"data": ROWS.astype(object), "labels": LABELS}, 2), "no whole uint8 array"),
    "another width": (pickle.dumps({"data": ROWS[:, :3000].copy(), "labels": LABELS}, 2), r"shape \[3, 3000\]"),
    "fewer labels": (python2_pickle(ROWS, LABELS[:2]), "has 2 labels for 3 images"),
    "labels in a text": (pickle.dumps({"data": ROWS, "labels": "abc"}, 2), "labels of type str for 3 images"),
    "label 10": (python2_pickle(ROWS, [1, 10, 2]), "image 1 has label 10; expected a whole number from 0 to 9"),
    "label true": (pickle.dumps({"data": ROWS, "labels": [1, 2, True]}, 2), "image 2 has label of type bool"),
    "label text": (pickle.dumps({"data": ROWS, "labels": ["cat", 1, 2]}, 2), "image 0 has label of type str"),
    "label huge": (pickle.dumps({"data": ROWS, "labels": [1 << 20_000, 1, 2]}, 2), "image 0 has label of type int"),
    "oversized": (pickle.dumps({"data": np.zeros((10_001, 3072), "u1"), "labels": []}, 2), r"shape \[10001, 3072\]"),
}


@pytest.mark.parametrize("name", BAD_PICKLES)
def test_a_bad_batch_is_one_sentence_that_names_the_file(tmp_path, name):
    stream, found = BAD_PICKLES[name]
    path = write_python(tmp_path, {"test_batch": (ROWS, LABELS)}) / "data_batch_1"
    path.write_bytes(stream)
    with pytest.raises(UserError, match=f"^{path}: .*{found}"):
        load(tmp_path)


BAD_RECORDS = {
    "truncated": (binary_records(ROWS, LABELS)[:-1], "has 9,218 bytes; expected 3073 for each"),
    "empty": (b"", "has 0 bytes"),
    "oversized": (bytes(3073 * 10_001), "has 30,733,073 bytes"),
    "label 10": (binary_records(ROWS, [1, 2, 10]), "image 2 has label 10; expected"),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_binary_batch_is_one_sentence_that_names_the_file(tmp_path, name):
    stream, found = BAD_RECORDS[name]
    path = write_binary(tmp_path, {}) / "data_batch_1.bin"
    path.write_bytes(stream)
    with pytest.raises(UserError, match=f"^{path}: .*{found}"):
        load(tmp_path)


def test_a_batch_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    path = write_python(tmp_path, {"data_batch_1": (ROWS, LABELS)}) / "data_batch_1"
    path.unlink()
    path.symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match=f"^{path}: "):
        load(tmp_path)


@pytest.mark.slow
def test_the_real_images_arrive_bit_for_bit(cifar10, shared_data):
    real = np.load(shared_data / "cifar10-train-first4k.npz")
    split = load(cifar10)
    np.testing.assert_array_equal(split.inputs.permute(0, 2, 3, 1).numpy(), real["images"])
    np.testing.assert_array_equal(split.targets.numpy(), real["labels"])
    assert split.notes == ("data_batch_1 alone: 4000 of 50000 training images",)
    normalised = DEFAULT_NORMALISATION["cifar10"].apply(split.inputs)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(3), atol=0.02, rtol=0)


@pytest.mark.slow
def test_all_sixty_thousand_images_arrive(tmp_path):
    whole = {name: random_batch(seed, images=10_000) for seed, name in enumerate([*BATCHES, "test_batch"])}
    write_python(tmp_path, whole)
    for split, names in (("train", BATCHES), ("test", ["test_batch"])):
        found = load(tmp_path, split)
        assert (len(found), found.notes) == (10_000 * len(names), ())
        for number, name in enumerate(names):
            part = slice(10_000 * number, 10_000 * (number + 1))
            np.testing.assert_array_equal(found.inputs[part].flatten(1).numpy(), whole[name][0])
            np.testing.assert_array_equal(found.targets[part].numpy(), whole[name][1])

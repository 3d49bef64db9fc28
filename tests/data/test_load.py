"""Splits and the user's own data: what a callable may return, and the sentence for whatever it may not."""

import hashlib

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from landscape_mpi.data import Split, load_split
from landscape_mpi.errors import UserError

INPUTS = torch.arange(24, dtype=torch.float32).reshape(6, 4)
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


def load(returned, limit=None, split="train", **options):
    function = returned if callable(returned) else lambda _root, _split: returned
    return load_split("mine:data", None, split, options, limit, function)


class Squares(Dataset):
    """Counts which items were asked for."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        self.asked.append(index)
        return np.full((2, 3), index, np.float32), index**2


def test_the_callable_gets_root_split_and_options(tmp_path):
    calls = []

    def data(root, split, *, size):
        calls.append((root, split, size))
        return INPUTS, TARGETS

    load_split("mine:data", tmp_path, "test", {"size": 3}, None, data)
    assert calls == [(tmp_path, "test", 3)]


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.numpy()], ids=["torch", "numpy"])
def test_pairs_of_tensors_or_arrays_arrive(make):
    split = load((make(INPUTS), make(TARGETS.to(torch.int32))))
    assert torch.equal(split.inputs, INPUTS)
    assert torch.equal(split.targets, TARGETS)
    assert split.targets.dtype == torch.int64
    assert torch.equal(load([make(INPUTS), make(TARGETS)], limit=4).inputs, INPUTS[:4])


def test_arrays_that_torch_does_not_take_as_they_are_arrive_too():
    backwards = INPUTS.numpy()[::-1]
    frozen = np.arange(6.0)
    frozen.flags.writeable = False
    split = load((backwards, frozen))
    assert torch.equal(split.inputs, INPUTS.flip(0))
    assert torch.equal(split.targets, torch.arange(6, dtype=torch.float64))


def test_a_data_set_is_stacked_after_the_limit():
    squares = Squares()
    split = load(squares, limit=5)
    assert torch.equal(split.inputs, torch.arange(5.0)[:, None, None].expand(5, 2, 3))
    assert split.targets.tolist() == [0, 1, 4, 9, 16]
    assert set(squares.asked) == set(range(5))


def test_a_data_set_of_two_items_is_not_taken_for_a_pair():
    assert torch.equal(load(TensorDataset(INPUTS[:2], TARGETS[:2])).inputs, INPUTS[:2])


def test_targets_of_any_kind_arrive_as_they_are():
    for targets in (torch.rand(6, 3), torch.rand(6).double(), torch.tensor([True] * 6)):
        found = load((INPUTS, targets)).targets
        assert found.dtype == targets.dtype
        assert torch.equal(found, targets)


def raising(_root, _split):
    raise RuntimeError("no such table\nand more")


BAD = {
    "lengths": ((INPUTS, TARGETS[:5]), r"inputs of shape \[6, 4\] and targets of shape \[5\]"),
    "scalar": ((INPUTS, torch.tensor(1)), r"targets of shape \[\]"),
    "empty": ((INPUTS[:0], TARGETS[:0]), "at least one example"),
    "nothing": (None, "it returned a NoneType; expected \\(inputs, targets\\)"),
    "three": ((INPUTS, TARGETS, TARGETS), "item 0 of its data set is a Tensor; expected \\(input, target\\)"),
    "objects": ((np.array([{}, {}]), TARGETS[:2]), "with TypeError"),
    "raises": (
        raising,
        r"mine:data failed with RuntimeError: no such table \(test_load.py, .*, called for the split 'train'\.$",
    ),
    "signature": (lambda _root: None, r"data.options: mine:data does not take {}: too many positional"),
    "no items": ([], "its data set is empty"),
    "dictionaries": ([{"x": 1}], "item 0 of its data set is a dict"),
    "texts": ([("a", 1)], "holds a str; expected tensors, arrays or numbers"),
    "ragged": ([(torch.zeros(2), 1), (torch.zeros(3), 1)], r"item 1 of its data set has shape \[3\]"),
    "ragged by name": (({"a": torch.zeros(6, 2), "b": torch.zeros(5)}, TARGETS), "5 inputs 'b', but 6 of the first"),
    "empty by name": (({}, TARGETS), "has no inputs at all"),
    "mixed": ([(torch.zeros(2), 1), (torch.zeros(2), 0.5)], "item 1 of its data set has shape .* torch.float32"),
}


NAMED = {"tokens": torch.arange(12).reshape(6, 2), "mask": np.ones((6, 2), bool)}


def test_inputs_and_targets_may_be_several_tensors_by_name():
    split = load((NAMED, {"next": TARGETS.to(torch.int32), "weight": torch.ones(6)}), limit=4)
    assert torch.equal(split.inputs["tokens"], NAMED["tokens"][:4])
    assert split.inputs["mask"].dtype == torch.bool
    assert split.targets["next"].dtype == torch.int64
    assert split.targets["weight"].dtype == torch.float32
    assert len(split) == 4


def test_a_data_set_may_give_them_item_by_item():
    items = [({name: part[i] for name, part in NAMED.items()}, i % 3) for i in range(6)]
    stacked, whole = load(items), load((NAMED, TARGETS))
    assert stacked.fingerprint() == whole.fingerprint()


def test_the_fingerprint_knows_the_names():
    tokens = NAMED["tokens"]
    splits = [Split("train", inputs, TARGETS) for inputs in (tokens, {"a": tokens}, {"b": tokens})]
    assert len({split.fingerprint() for split in splits}) == 3


@pytest.mark.parametrize("name", BAD)
def test_what_a_callable_may_not_do_is_one_sentence(name):
    returned, message = BAD[name]
    with pytest.raises(UserError, match=message):
        load(returned)


def test_the_traceback_of_the_users_code_is_kept():
    with pytest.raises(UserError) as caught:
        load(raising)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_unknown_data_set_is_named():
    with pytest.raises(UserError, match=r"data\.build: found 'cifar100'; expected cifar10, shapes10, text or"):
        load_split("cifar100", None, "train", {}, None)


def test_the_fingerprint_is_the_hash_of_dtype_shape_and_bytes():
    split = Split("train", torch.tensor([[1, 2]], dtype=torch.uint8), torch.tensor([3]))
    expected = hashlib.sha256(b"torch.uint8 [1, 2]\n\x01\x02torch.int64 [1]\n\x03" + bytes(7))
    assert split.fingerprint() == expected.hexdigest()


def test_the_fingerprint_sees_what_matters_and_nothing_else():
    base = Split("train", INPUTS, TARGETS).fingerprint()
    same = Split("test", INPUTS.T.contiguous().T, TARGETS.clone(), ("a note",)).fingerprint()
    assert same == base
    changed = INPUTS.clone()
    changed[5, 3] += 1e-5
    others = [
        Split("train", changed, TARGETS),
        Split("train", INPUTS, TARGETS.flip(0)),
        Split("train", INPUTS.reshape(6, 2, 2), TARGETS),
        Split("train", INPUTS.view(torch.int32), TARGETS),
        Split("train", INPUTS[:5], TARGETS[:5]),
    ]
    assert len({base, *(split.fingerprint() for split in others)}) == 6


def test_a_split_of_unequal_lengths_or_of_nothing_cannot_be_made():
    with pytest.raises(UserError, match="6 inputs and 5 targets"):
        Split("train", INPUTS, TARGETS[:5])
    with pytest.raises(UserError, match=r"inputs of shape \[0, 4\]"):
        Split("train", INPUTS[:0], TARGETS[:0])

"""Text files become windows of tokens: those of the whole text, cut as the job says; nothing that is read is run."""

import os
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape_mpi.data import load_split
from landscape_mpi.data import text as module
from landscape_mpi.errors import UserError
from support import texts

pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
EMOJI = "é漢字🙂 " * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a text of two files and a tokenizer."""
    folder = tmp_path_factory.mktemp("text")
    texts.surrounded().save(str(folder / "tokenizer.json"))
    (folder / "part-2.txt").write_text(texts.TEXT[:3000], encoding="utf-8", newline="")
    (folder / "part-10.txt").write_text(texts.TEXT[3000:5000] + EMOJI, encoding="utf-8", newline="")
    return folder


def load(folder, root="part-*.txt", limit=None, order=None, **options):
    options = {"tokenizer": str(folder), "length": 16} | options
    return load_split("text", folder / root, "train", options, limit, None, order)


def whole(folder, special=False):
    """The tokens of both files by the tokenizers library itself."""
    text = texts.TEXT[:3000] + "\n\n" + texts.TEXT[3000:5000] + EMOJI
    return texts.tokenizer().encode(text).ids if not special else texts.surrounded().encode(text).ids


def test_windows_are_those_of_all_files_in_their_order_a_blank_line_between(folder):
    split, tokens = load(folder), whole(folder)
    assert split.inputs is split.targets
    assert split.inputs.tolist() == [tokens[i : i + 16] for i in range(0, len(tokens) - 15, 16)]
    left = len(tokens) % 16
    assert left
    assert split.notes == (f"train: the last {left} of {len(tokens):,} tokens fill no window of 16 and are left out.",)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(length=st.integers(2, 40), stride=st.integers(1, 60), limit=st.none() | st.integers(1, 200))
def test_a_stride_lets_windows_overlap_or_leaves_text_out(folder, length, stride, limit):
    tokens = whole(folder)
    found = load(folder, length=length, stride=stride, limit=limit)
    starts = range(0, len(tokens) - length + 1, stride)[:limit]
    assert found.inputs.tolist() == [tokens[i : i + length] for i in starts]


def test_special_tokens_are_put_around_each_window_where_they_are_asked_for(folder):
    tokens, found = whole(folder), load(folder, special=True, limit=3)
    assert whole(folder, special=True) == [0, *tokens, 1]
    assert found.inputs.tolist() == [[0, *tokens[i : i + 14], 1] for i in (0, 14, 28)]


@pytest.mark.parametrize("kind", ["bytes", "prepended", "unigram"])
@pytest.mark.parametrize("piece", [777, 5000])
def test_the_tokens_of_pieces_are_those_of_the_whole_text(kind, piece, monkeypatch):
    tokenizer, text = texts.tokenizer(kind), texts.TEXT[:10_000] + EMOJI + texts.TEXT[10_000:20_000]
    expected = tokenizer.encode(text).ids
    monkeypatch.setattr(module, "PIECE", piece)
    assert module._tokens(tokenizer, text, None).tolist() == expected
    some = module._tokens(tokenizer, text, 1000)
    assert 1000 <= len(some) < len(expected)
    assert some.tolist() == expected[: len(some)]


def test_a_limit_reads_no_more_than_it_needs_and_an_order_needs_all(folder):
    every = load(folder).inputs
    assert load(folder, limit=5).inputs.equal(every[:5])
    mixed = load(folder, limit=5, order=1)
    assert not mixed.inputs.equal(every[:5])
    assert all(row in every.tolist() for row in mixed.inputs.tolist())
    assert mixed.fingerprint() == load(folder, limit=5, order=1).fingerprint() != load(folder, limit=5).fingerprint()


def test_a_root_may_name_the_split_and_one_file(folder):
    (folder / "train.txt").write_text(texts.TEXT[:500], encoding="utf-8", newline="")
    found = load(folder, root="{split}.txt").inputs
    assert found.equal(load(folder, root="train.txt").inputs)
    assert found.tolist()[0] == texts.tokenizer().encode(texts.TEXT[:500]).ids[:16]


def test_what_a_tokenizer_was_saved_with_for_training_does_not_count(folder, tmp_path):
    made = texts.tokenizer()
    made.enable_truncation(20)
    made.enable_padding(length=5000)
    made.model.dropout = 0.5
    made.save(str(tmp_path / "tokenizer.json"))
    plain = load(folder).inputs
    assert load(folder, tokenizer=str(tmp_path)).inputs.equal(plain)
    assert load(folder, tokenizer=str(tmp_path / "tokenizer.json")).inputs.equal(plain)


def test_a_mark_of_byte_order_is_dropped_and_line_ends_stay(folder):
    (folder / "marked.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo, three and four")
    first = load(folder, root="marked.txt", length=4).inputs.tolist()[0]
    assert first == texts.tokenizer().encode("one\r\ntwo").ids[:4]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": "none-*.txt"}, r"data\.root: no file .*none-\*\.txt for the train split; expected a text file"),
        ({"root": ""}, r"data\.root: found the folder .*; expected a text file, or a pattern"),
        ({"root": "latin.txt"}, r"data\.root: .*latin\.txt is not UTF-8 text, from byte 3 on; expected UTF-8"),
        ({"root": "empty.txt"}, r"has 0 tokens; expected at least the 16 of one window: take more text, or a smaller"),
        ({"length": 100_000}, r"expected at least the 100,000 of one window"),
        ({"length": 1}, r"data\.options\.length: found 1 for text; expected a whole number >= 2"),
        ({"stride": 0}, r"data\.options\.stride: found 0 for text"),
        ({"stride": True}, r"data\.options\.stride: found True for text"),
        ({"special": 1}, r"data\.options\.special: found 1 for text; expected true or false"),
        ({"special": True, "length": 2}, r"data\.options\.length: found 2 .* more than the 2 special tokens"),
        ({"tokenizer": 3}, r"data\.options\.tokenizer: found 3 for text"),
        (
            {"lenght": 3},
            r"data\.options\.lenght: found no such option; expected one of tokenizer, length, stride, spec",
        ),
        ({"tokenizer": "{}/none"}, r"data\.options\.tokenizer: no file .*none; expected the tokenizer\.json"),
        ({"tokenizer": "{}/damaged"}, r"data\.options\.tokenizer: .*tokenizer\.json is no tokenizer \("),
        ({"tokenizer": "{}/deep"}, r"data\.options\.tokenizer: .*tokenizer\.json is no tokenizer \("),
        ({"tokenizer": "{}/latin.txt"}, r"data\.options\.tokenizer: .*latin\.txt is no tokenizer \("),
        (
            {"tokenizer": "{}/words"},
            r"data\.options\.tokenizer: it cannot split the text into tokens \(WordLevel error",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(folder, changes, words):
    (folder / "latin.txt").write_bytes("café".encode("latin-1"))
    (folder / "empty.txt").write_bytes(b"")
    good = (folder / "tokenizer.json").read_text(encoding="utf-8")
    by_word = '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}}'
    for name, content in {"damaged": good[: len(good) // 2], "deep": "[" * 100_000, "words": by_word}.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "tokenizer.json").write_text(content, encoding="utf-8")
    if isinstance(changes.get("tokenizer"), str):
        changes = {"tokenizer": changes["tokenizer"].format(folder)}
    with pytest.raises(UserError, match=words):
        load(folder, **changes)


def test_a_missing_tokenizer_and_files_that_are_too_large_are_named(folder, monkeypatch):
    with pytest.raises(UserError, match=r"data\.options\.tokenizer: the key is missing"):
        load_split("text", folder / "part-2.txt", "train", {}, None)
    monkeypatch.setattr(module, "LARGEST_TEXT", 4000)
    with pytest.raises(UserError, match=r"the files of the train split have [\d,]+ bytes; expected at most 4,000"):
        load(folder)
    monkeypatch.setattr(module, "LARGEST_TOKENIZER", 4000)
    with pytest.raises(UserError, match=r"tokenizer\.json has [\d,]+ bytes; expected at most 4,000"):
        load(folder)


def test_without_the_package_the_remedy_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"data\.build: found text, and the package tokenizers is not installed; inst"):
        load(folder)


def test_a_panic_of_the_library_is_a_sentence_and_an_interrupt_stays_one(folder, monkeypatch):
    panic = type("PanicException", (BaseException,), {})
    for error, told in ((panic("index out of bounds"), UserError), (KeyboardInterrupt(), KeyboardInterrupt)):

        class Breaking:
            def encode(self, *_, error=error, **__):
                raise error

        with pytest.raises(told):
            module._encode(Breaking(), "text")


def test_threads_change_no_token(folder, monkeypatch):
    plain = load(folder).inputs
    for parallel in ("false", "true"):
        monkeypatch.setitem(os.environ, "TOKENIZERS_PARALLELISM", parallel)
        assert np.array_equal(load(folder).inputs, plain)

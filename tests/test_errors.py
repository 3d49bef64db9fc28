"""A mistake is one line that a terminal only shows."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import landscape_mpi.__main__
import landscape_mpi.plot.__main__
from landscape_mpi.errors import Either, Flag, Key, UserError, printable


@given(st.text(st.characters()))
def test_a_sentence_is_one_line_of_printable_characters(text):
    assert str(UserError("", text)).replace("\t", "").isprintable()


def test_only_what_a_terminal_would_obey_is_changed():
    text = "größe θ* 50 % 'a'  b\n\tc"
    assert printable(text) == text
    assert printable("\x1b[2J\x07\x9b\udcff\u202e") == "\\x1b[2J\\x07\\x9b\\udcff\\u202e"
    assert str(UserError("what\nwas", "\r\nwrong")) == "what was:  wrong."


@pytest.mark.parametrize(
    ("main", "where", "prefix"),
    [
        (landscape_mpi.__main__.main, "landscape_mpi.cli.parse", "error: "),
        (landscape_mpi.plot.__main__.main, "landscape_mpi.plot.__main__.build_parser", "landscape-plot: "),
    ],
)
def test_memory_that_runs_out_is_one_sentence(main, where, prefix, monkeypatch, capsys):
    def starved(*_):
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr(where, starved)
    assert main() == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith(f"{prefix}there is not enough memory for this (Unable to allocate 3 TiB); expected")
    assert sentence.count("\n") == 1


WHOLE = UserError(
    ("evaluate.", Key("x")),
    ("found 3 beside ", Key("evaluate.batch")),
    expected="a number",
    remedy=("write ", Key("metrics", ("loss", "accuracy")), ", or ", Flag("kind", ("heat", "line"))),
    place="job.yaml",
    details="Traceback ...",
)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("", "nothing fits"), "nothing fits."),
        (UserError("grid", "found 3", expected="a range"), "grid: found 3; expected a range."),
        (UserError("grid", "found 3", "a range", "mend it"), "grid: found 3; expected a range: mend it."),
        (UserError("grid", "found 3", "a range", "Mend it"), "grid: found 3; expected a range. Mend it."),
        (UserError("grid", "is missing", remedy="mend it"), "grid: is missing; mend it."),
        (UserError(Flag("log"), "is odd", remedy=("leave ", Flag("log"), " out")), "--log: is odd; leave --log out."),
        (UserError(Path("/a/b.h5"), "is damaged"), "/a/b.h5: is damaged."),
        (UserError("", "it lacks a norm", remedy=Either("name one", "scale first")), "it lacks a norm; name one."),
        (
            WHOLE,
            (
                "job.yaml: evaluate.x: found 3 beside evaluate.batch; expected a number: write metrics: "
                "[loss, accuracy], or --kind heat | line."
            ),
        ),
    ],
)
def test_the_sentence_is_made_of_the_parts_that_there_are(error, sentence):
    assert str(error) == sentence


def test_readers_may_have_other_words_for_keys_and_flags():
    error = UserError("grid", ("stands beside ", Key("model")), remedy=Either("run again", "call again"))
    error.called = lambda term: term.python if isinstance(term, Either) else f"<{term.name}>"
    assert str(error) == "<grid>: stands beside <model>; call again."


def test_parts_pass_from_process_to_process():
    copy = pickle.loads(pickle.dumps(WHOLE))
    assert str(copy) == str(WHOLE)
    assert [copy.key, copy.found, copy.expected, copy.remedy] == [WHOLE.key, WHOLE.found, WHOLE.expected, WHOLE.remedy]
    assert copy.details == "Traceback ..."
    assert copy.place == "job.yaml"

"""A mistake is one line that a terminal only shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import landscape_mpi.__main__
import landscape_mpi.plot.__main__
from landscape_mpi.errors import UserError, printable


@given(st.text(st.characters()))
def test_a_sentence_is_one_line_of_printable_characters(text):
    assert str(UserError(text)).replace("\t", "").isprintable()


def test_only_what_a_terminal_would_obey_is_changed():
    text = "größe θ* 50 % 'a'  b\n\tc"
    assert printable(text) == text
    assert printable("\x1b[2J\x07\x9b\udcff\u202e") == "\\x1b[2J\\x07\\x9b\\udcff\\u202e"
    assert str(UserError("what\nwas\r\nwrong")) == "what was wrong"


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

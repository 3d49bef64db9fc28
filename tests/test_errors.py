"""A mistake is one line that a terminal only shows."""

from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.errors import UserError, printable


@given(st.text(st.characters()))
def test_a_sentence_is_one_line_of_printable_characters(text):
    assert str(UserError(text)).replace("\t", "").isprintable()


def test_only_what_a_terminal_would_obey_is_changed():
    text = "größe θ* 50 % 'a'  b\n\tc"
    assert printable(text) == text
    assert printable("\x1b[2J\x07\x9b\udcff\u202e") == "\\x1b[2J\\x07\\x9b\\udcff\\u202e"
    assert str(UserError("what\nwas\r\nwrong")) == "what was wrong"

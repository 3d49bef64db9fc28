"""The README in Korean has the commands, links, features and numbers of the one in English."""

import re
from collections import Counter

import pytest
from page_snippets import snippets


@pytest.fixture
def both(checkout):
    """The paths of the English and the Korean README."""
    return checkout / "README.md", checkout / "README.ko.md"


def test_the_blocks_are_the_same(both):
    english, korean = ([(block.language, block.text) for block in snippets(path)] for path in both)
    assert english == korean


def test_each_links_to_the_other_and_to_the_same_pages(both):
    english, korean = (Counter(re.findall(r"\]\(([^)]+)\)", path.read_text())) for path in both)
    assert english - korean == {"README.ko.md": 1}
    assert korean - english == {"README.md": 1}


def test_the_tables_have_the_same_rows_with_the_same_numbers_and_commands(both):
    english, korean = ([line for line in path.read_text().splitlines() if line.startswith("|")] for path in both)
    assert len(english) == len(korean) > 25
    for ours, theirs in zip(english, korean, strict=True):
        assert sorted(re.findall(r"\d+\.\d+", ours)) == sorted(re.findall(r"\d+\.\d+", theirs))
        codes = [sorted(part for part in re.findall(r"`[^`]+`", line) if part.isascii()) for line in (ours, theirs)]
        assert codes[0] == codes[1]


def test_the_headings_are_as_many(both):
    english, korean = ([len(mark) for mark in re.findall(r"^(#+) ", path.read_text(), re.M)] for path in both)
    assert english[0] == korean[0] == 1
    assert english.count(2) == korean.count(2)

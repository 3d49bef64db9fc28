"""The tables of keys, refusals and commands are those of the code, and complete."""

import ast
import importlib
import shutil
import sys
from pathlib import Path

import pytest

from landscape_mpi.job import SweepJob, TrainJob, checks
from support.launch import launch


@pytest.fixture
def tool(checkout, monkeypatch):
    """A function that imports a module of tools/."""
    monkeypatch.syspath_prepend(checkout / "tools")
    return importlib.import_module


@pytest.fixture
def program(checkout):
    """The command that writes the tables."""
    return (sys.executable, checkout / "tools" / "reference.py")


@pytest.mark.slow
def test_the_tables_are_current(program):
    run = launch("--check", program=program)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.slow
def test_a_default_or_a_help_that_changed_is_seen_and_written_again(program, checkout, tmp_path):
    for name, true, false in (("job.md", "`0.0005`", "`0.0001`"), ("commands.md", "| no progress |", "| progress |")):
        text = (checkout / "docs" / name).read_text()
        assert true in text
        (tmp_path / name).write_text(text.replace(true, false))
    stale = launch("--check", "--docs", tmp_path, program=program)
    assert (stale.returncode, stale.stdout.count("not current")) == (1, 2)
    assert launch("--docs", tmp_path, program=program).returncode == 0
    for name in ("job.md", "commands.md"):
        assert (tmp_path / name).read_text() == (checkout / "docs" / name).read_text()


def test_a_page_without_a_place_for_a_table_is_an_error(tool, checkout, tmp_path):
    for name in ("job.md", "commands.md"):
        shutil.copy(checkout / "docs" / name, tmp_path)
    page = tmp_path / "job.md"
    page.write_text(page.read_text().replace("<!-- generated: evaluate -->", ""))
    with pytest.raises(ValueError, match="no place for evaluate"):
        tool("reference").pages(tmp_path)


@pytest.mark.parametrize("kind", [SweepJob, TrainJob])
def test_every_key_has_a_row_with_its_default_and_a_meaning(tool, kind):
    tables = tool("reference_keys").tables()
    for name in kind.__struct_fields__:
        assert f"| [`{name}`](#{name}) |" in tables["sections"]
    rows = [line for table in tables.values() for line in table.splitlines()[2:]]
    assert len(rows) > 60
    assert all(len(cell.strip()) > 1 for row in rows for cell in row.strip("|").split(" | "))
    assert "| `lr` | number > 0 | `0.1` | the learning rate at the start |" in tables["train"]
    assert "| `only` | list of text, at least one | none |" in tables["plane pca"]


def test_a_key_of_which_nothing_is_said_is_an_error(tool):
    class Silent(SweepJob, frozen=True, kw_only=True):
        more: int = 0

    with pytest.raises(KeyError, match="more"):
        tool("reference_keys").meanings(Silent)


@pytest.mark.slow
def test_every_refusal_of_pairs_and_ranges_is_shown(tool):
    refused = tool("reference_refused")
    source = checks.__file__
    seen = set()

    def trace(frame, event, _):
        if frame.f_code.co_filename != source:
            return None
        if event == "line":
            seen.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        answers = [refused.answer(mistake) for mistake in refused.MISTAKES]
    finally:
        sys.settrace(before)
    assert len(set(answers)) == len(answers)
    yields = [node for node in ast.walk(ast.parse(Path(source).read_text())) if isinstance(node, ast.Yield)]
    assert [node.lineno for node in yields if not seen & set(range(node.lineno, node.end_lineno + 1))] == []


def test_every_command_and_flag_is_in_the_page(checkout):
    text = (checkout / "docs" / "commands.md").read_text()
    for command in ("sweep", "check", "init", "train", "merge", "info", "export", "fetch"):
        assert f"### {command}\n" in text
    for flag in ("--shard I/N", "--on-failure ON_FAILURE", "--levels FIRST:LAST:STEP", "--root ROOT"):
        assert f"`{flag}`" in text

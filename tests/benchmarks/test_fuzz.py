"""The fuzzing program: every input is counted once, and what ends a process is seen."""

import sys

import pytest


@pytest.fixture
def fuzz(benchmark_named):
    benchmark_named("mutants")
    return benchmark_named("fuzz")


@pytest.mark.slow
def test_every_input_is_counted_once_and_the_same_again(fuzz):
    row = fuzz.fuzz("job", 60, seed=1)
    assert (row.inputs, row.refused + row.accepted, row.others, row.crashes) == (60, 60, {}, {})
    assert 0 < row.refused < 60
    assert fuzz.fuzz("job", 60, seed=1).refused == row.refused


def worker(tmp_path, monkeypatch, fuzz, text):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/bash\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return fuzz.fuzz("job", 6, seed=0)


def test_a_crash_is_counted_and_the_next_input_is_read_by_a_new_process(tmp_path, monkeypatch, fuzz):
    row = worker(tmp_path, monkeypatch, fuzz, "echo refused; echo accepted; kill -SEGV $$")
    assert (row.refused, row.accepted, row.crashes) == (2, 2, {"2": "SIGSEGV", "5": "SIGSEGV"})
    assert "| job | 6 | 2 | 0 | 2 | 0 | 2 | 0 |" in "\n".join(fuzz.table([row]))
    assert "job: input 5: SIGSEGV" in "\n".join(fuzz.table([row]))


def test_other_exceptions_are_named(tmp_path, monkeypatch, fuzz):
    row = worker(tmp_path, monkeypatch, fuzz, "for i in 1 2 3 4 5 6; do echo 'KeyError: 3'; done")
    assert row.others == {"KeyError: 3": 6}
    assert "job: 6 x KeyError: 3" in "\n".join(fuzz.table([row]))


def test_a_program_that_cannot_start_is_no_result(tmp_path, monkeypatch, fuzz):
    with pytest.raises(RuntimeError, match="ended with 3 before it read anything"):
        worker(tmp_path, monkeypatch, fuzz, "exit 3")

"""The benchmark of large networks: what processes take together, and its tables."""

import os
import sys

import pytest

ROW = {
    "ranks": 2,
    "pss": 2.5e9,
    "anonymous": 1.25e9,
    "point": 3.0,
    "file": 27_573,
    "sha256": "28be8238ff",
    "centre": 9.1,
}
TAKES = "import time\nheld = bytearray(range(256)) * (80 << 12)\ntime.sleep(0.5)\n"


@pytest.fixture
def large(benchmark_named):
    return benchmark_named("large")


@pytest.mark.slow
def test_memory_of_a_command_and_of_what_it_starts(benchmark_named, tmp_path):
    watch = benchmark_named("watch_memory")
    alone, _ = watch.watched([sys.executable, "-c", TAKES], tmp_path, os.environ, kinds=True)
    assert 80 << 20 < alone.anonymous <= alone.pss < 160 << 20
    assert sum(alone.kinds.values()) == pytest.approx(alone.pss, rel=0.1)
    assert alone.kinds["anonymous"] > 80 << 20
    starts = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {TAKES!r}])\n"
    below, _ = watch.watched([sys.executable, "-c", starts], tmp_path, os.environ)
    assert below.anonymous > 80 << 20


def test_a_command_that_fails_says_why(benchmark_named, tmp_path):
    watch = benchmark_named("watch_memory")
    with pytest.raises(RuntimeError, match=r"(?s)ended with code 3:.*no room"):
        watch.watched([sys.executable, "-c", "print('no room'); raise SystemExit(3)"], tmp_path, os.environ)


def test_tables(large):
    found = {
        "memory": [{**ROW, "weights": "streamed"}],
        "only": [],
        "smollm2": [{**ROW, "ranks": 1, "difference": 2.3e-8}],
    }
    text = "\n".join(large.tables(found))
    assert "| 2 | streamed | 2.50 | 6.93 | 1.25 | 3.00 | 28 | `28be8238` |" in text
    assert "| 1 | 2.50 | 3.29 | 1.25 | 3.00 | 28 | 2e-08 | `28be8238` |" in text
    assert "LoRA" not in text


def test_what_is_measured_again_replaces_what_was(large):
    old = [{"weights": "resident", "ranks": ranks, "pss": 1} for ranks in (1, 4)]
    new = [{"weights": "resident", "ranks": ranks, "pss": 2} for ranks in (4, 2)]
    assert [(row["ranks"], row["pss"]) for row in large.merged(old, new)] == [(1, 1), (2, 2), (4, 2)]


def test_the_page_has_a_place_for_them(large):
    page = large.written(large.PAGE.read_text(), {"memory": [{**ROW, "weights": "streamed"}]})
    assert page.count("| 2 | streamed |") == 1
    with pytest.raises(ValueError, match="put the two lines back"):
        large.written("# A page", {})

"""Runs what is in tests/worlds on two and on three ranks, within one mpirun each."""

from pathlib import Path

import pytest

from support.launch import PYTEST, finish, start

WORLDS = Path(__file__).resolve().parents[1] / "worlds"
QUIETLY = ("-q", "-p", "no:cacheprovider")


@pytest.mark.slow(45)
@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_what_holds_on_every_rank_of_a_world(tmp_path, ranks):
    run = start(WORLDS, ranks=ranks, program=(*PYTEST, *QUIETLY), env={"WORLD_REPORTS": str(tmp_path)})
    try:
        ended = finish(run, 300)
        how = f"exit code {ended.returncode}" + ended.stdout[-5000:] * (ended.returncode != 0)
    except TimeoutError:
        how = "no end within 300 s"
    reports = {path.stem: path.read_text() for path in sorted(tmp_path.glob("rank-*.txt"))}
    wrong = [f"{rank}: {text[text.index('failed ') :]}" for rank, text in reports.items() if "\nfailed " in text]
    last = [f"{rank}: {text.splitlines()[-1]}" for rank, text in reports.items()]
    assert how == "exit code 0", "\n".join([how, *(wrong or last)])
    assert len(reports) == ranks
    assert len({text.count("passed ") for text in reports.values()}) == 1
    assert "passed " in reports["rank-0"]

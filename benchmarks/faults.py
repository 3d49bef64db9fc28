"""Sweeps and merges killed at random moments and run again: what is lost, what is corrupt, what hangs.

    python benchmarks/faults.py [--trials 200] [--single] [--log FILE] [--json FILE]

A point counts as written once a reader has seen its status in the file, or its record in a journal. Right before the
kill all of them are read; right after it, and again at the end of the next run, on another number of ranks, each has
to be there to the bit (estimates of a sampled sweep move: there the records have to). The file has to open with h5py
and h5dump, and the end result to have the hash of an undisturbed run. With --log it goes on where it stopped. With
--single each kill is of one rank, or of the process above it, at a random moment from launch to exit.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from disk import cost
from killing import ONE
from trials import WAYS, Range

COLUMNS = ("trials", "seen", "lost", "corrupt", "hung")


def run(trials: int, log: Path, folder: Path, single: bool = False) -> list[dict[str, Any]]:
    """Run the trials that the log does not hold yet, and return all of them; `single` as in `Range.trial`."""
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if len(done) < trials:
        targets = Range(folder)
        with log.open("a") as lines:
            for number in range(len(done), trials):
                done.append(asdict(targets.trial(number, single)))
                lines.write(json.dumps(done[-1]) + "\n")
                lines.flush()
    return done[:trials]


def table(trials: Sequence[dict[str, Any]], disk: Sequence[dict[str, float]]) -> str:
    """Return the figures as a page of text."""
    return "\n".join([*_kills(trials), "", *_disk(disk)]) + "\n"


def _kills(trials: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"{'way':14}{'killed':14}{'phase':16}" + "".join(f"{name:>9}" for name in COLUMNS)
    keys = sorted({(WAYS.index(trial["way"]), trial["kind"], trial["phase"]) for trial in trials})
    for way, kind, phase in keys:
        mine = [
            trial for trial in trials if (WAYS.index(trial["way"]), trial["kind"], trial["phase"]) == (way, kind, phase)
        ]
        yield f"{WAYS[way]:14}{kind:14}{phase:16}" + _sums(mine)
    yield f"{'together':44}" + _sums(trials)
    ours = [trial for trial in trials if trial["kind"] == ONE and trial["phase"] != "after its end"]
    struck = sorted(trial["ended"] for trial in ours if "ended" in trial)
    if struck:
        median, worst = struck[len(struck) // 2], struck[-1]
        yield f"after the kill of one rank all is over in {median:.1f} s (median), {worst:.1f} s (worst)"


def _sums(trials: Sequence[dict[str, Any]]) -> str:
    sums = _count(trials, "seen"), _count(trials, "lost"), _count(trials, "wrong", bool), _count(trials, "hung")
    return "".join(f"{value:9}" for value in (len(trials), *sums))


def _count(trials: Iterable[dict[str, Any]], name: str, of: type = int) -> int:
    return sum(int(of(trial[name])) for trial in trials)


def _disk(figures: Sequence[dict[str, float]]) -> Iterator[str]:
    yield "handing over to the disk, at most every 30 s per rank:"
    for row in figures:
        yield (
            f"{row['writes']:6.0f} points since the last time: {1e3 * row['median']:6.2f} ms (median), "
            f"{1e3 * row['worst']:6.2f} ms (worst of {row['calls']:.0f}), {row['share']:.3%} of the time"
        )


def main() -> int:
    """Run the trials, print a table, and write the figures where --json asks for them; 1 where a trial went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--single", action="store_true", help="kill one rank alone, anywhere from launch to exit")
    parser.add_argument("--log", type=Path, metavar="FILE", help="a line a trial; what it holds is not run again")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if shutil.which("mpirun") is None:
        parser.error("there is no mpirun on PATH; `make setup` brings one, and tools/run.sh finds it.")
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        trials, disk = run(options.trials, options.log or folder / "log", folder, options.single), cost(folder)
    sys.stdout.write(table(trials, disk))
    if options.json:
        options.json.write_text(json.dumps({"trials": trials, "disk": disk}, indent=1) + "\n")
    return int(any(trial["lost"] or trial["wrong"] or trial["hung"] for trial in trials))


if __name__ == "__main__":
    sys.exit(main())

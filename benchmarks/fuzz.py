"""What readers do with damaged files: refuse them with a sentence, and nothing else; inputs by the thousand.

    python benchmarks/fuzz.py [NAME ...] [--inputs 20000] [--seed 0] [--json FILE]

Inputs are read in processes of their own, so that a crash of a C library, a reader without an end (a minute of it)
and one that wants more than 16 GiB are seen and counted. Input n of a reader is the same for the same seed.
"""

import argparse
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mutants import SUBJECTS, random_edits

from landscape_mpi.errors import UserError

CHUNK = 2000
"""Inputs of one process."""
SECONDS, MEMORY = 60, 16 << 30
CRASHED = "reading it (crashed HDF5|found no end)"
REFUSED, CAUGHT, ACCEPTED = "refused", "caught", "accepted"
HEAD = (
    "| reader | inputs | refused | of these HDF5 crashed on | accepted | other exceptions | crashes | seconds |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass
class Row:
    """What became of a reader's inputs; `others` by exception, `crashes` by input."""

    reader: str
    inputs: int
    refused: int = 0
    caught: int = 0
    accepted: int = 0
    others: dict[str, int] = field(default_factory=dict)
    crashes: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = (self.inputs, self.refused, self.caught, self.accepted, sum(self.others.values()), len(self.crashes))
        return f"| {self.reader} | {' | '.join(f'{count:,}' for count in counts)} | {self.seconds:.0f} |"


def fuzz(reader: str, inputs: int, seed: int) -> Row:
    """Return what became of so many inputs."""
    row, begun, number = Row(reader, inputs), time.monotonic(), 0
    found: Counter[str] = Counter()
    while number < inputs:
        said, code = _worker(reader, seed, number, min(number + CHUNK, inputs))
        number += len(said)
        if code:
            row.crashes[str(number - 1)] = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        found.update(said if not code else said[:-1])
    row.refused, row.caught = found.pop(REFUSED, 0) + found[CAUGHT], found.pop(CAUGHT, 0)
    row.accepted, row.others = found.pop(ACCEPTED, 0), dict(found)
    row.seconds = time.monotonic() - begun
    return row


def _worker(reader: str, seed: int, first: int, end: int) -> tuple[list[str], int]:
    """Run a process over some inputs; return a line for each that it began, and its exit code.

    Raises:
        RuntimeError: it ended before its first input.
    """
    program = [sys.executable, str(Path(__file__).resolve())]
    command = [*program, reader, "--seed", str(seed), "--worker", str(first), str(end)]
    with TemporaryDirectory(prefix="fuzz-") as folder:
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=folder)
    said = run.stdout.split("\n")
    lines = said if run.returncode else said[:-1]
    if not any(lines) and run.returncode > 0:
        raise RuntimeError(f"{' '.join(command)} ended with {run.returncode} before it read anything.")
    return lines, run.returncode


def _work(reader: str, seed: int, numbers: range) -> None:
    """Read inputs in the working directory; a line each says how it went, except for what is not survived."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    subject, folder = SUBJECTS[reader], Path.cwd()
    subject.make(folder)
    valid = (folder / subject.file).read_bytes()
    for number in numbers:
        edits = random_edits(random.Random(f"{reader} {seed} {number}"))
        (folder / subject.file).write_bytes(subject.damaged(valid, edits))
        signal.alarm(SECONDS)
        sys.stdout.write(f"{_outcome(reader, folder)}\n")
        sys.stdout.flush()


def _outcome(reader: str, folder: Path) -> str:
    try:
        SUBJECTS[reader].read(folder)
    except UserError as error:
        return CAUGHT if re.search(CRASHED, str(error)) else REFUSED
    except BaseException as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    return ACCEPTED


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table, and what was neither refused nor accepted."""
    yield HEAD
    yield from map(str, rows)
    for row in rows:
        for what, count in row.others.items():
            yield f"\n{row.reader}: {count} x {what}"
        for number, what in row.crashes.items():
            yield f"\n{row.reader}: input {number}: {what}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the inputs of the named readers, by default of all; return 1 where anything but a sentence came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", choices=[[], *SUBJECTS], metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument("--inputs", type=int, default=20_000, help="for each reader; default: 20000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        _work(options.readers[0], options.seed, range(*options.worker))
        sys.stdout.flush()
        os._exit(0)
    rows = []
    for reader in options.readers or SUBJECTS:
        rows.append(fuzz(reader, options.inputs, options.seed))
        sys.stderr.write(f"{rows[-1]}\n")
    sys.stdout.write("\n".join(table(rows)) + "\n")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return int(any(row.others or row.crashes for row in rows))


if __name__ == "__main__":
    sys.exit(main())

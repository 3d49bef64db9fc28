"""All benchmarks in turn; their figures to results/MACHINE.json and their tables into docs/performance.md.

    python benchmarks/report.py [NAME ...]

Each runs as a command of its own, so that none inherits another's memory, threads or imports.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
BENCHMARKS = {
    "evaluate": "Engines",
    "live": "Networks of today",
    "scaling": "Many ranks",
    "startup": "Start-up and memory",
    "plotting": "Figures",
    "gpu": "CUDA",
}
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, all by default, and write down what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args(arguments).names or list(BENCHMARKS)
    started = time.perf_counter()
    found = {name: run(name) for name in names}
    place = HERE / "results" / f"{machine_name()}.json"
    keep(place, {name: figures for name, (figures, _) in found.items()})
    if set(names) == set(BENCHMARKS):
        PAGE.write_text(with_tables(PAGE.read_text(), {name: text for name, (_, text) in found.items()}))
    sys.stdout.write(f"{time.perf_counter() - started:.0f} s in all; figures in {place}\n")
    return 0


def run(name: str) -> tuple[Any, str]:
    """Run a benchmark, show its table as it comes, and return its figures and the table.

    Raises:
        CalledProcessError: the benchmark failed; it has said why.
    """
    sys.stdout.write(f"== {BENCHMARKS[name]}: python benchmarks/{name}.py\n")
    sys.stdout.flush()
    with TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(figures)]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        sys.stdout.write(text + "\n")
        return json.loads(figures.read_text()) if figures.exists() else None, text


def keep(place: Path, figures: dict[str, Any]) -> None:
    """Write figures beside those of benchmarks that did not run now."""
    place.parent.mkdir(exist_ok=True)
    old = json.loads(place.read_text()) if place.exists() else {}
    place.write_text(json.dumps({**old, "machine": machine(), **figures}, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": datetime.now(UTC).date().isoformat(),
    }


def machine_name() -> str:
    """Return the processor and the number of cores as a file name."""
    words = re.findall(r"[a-z0-9]+", f"{cpu_model()} {os.cpu_count()} cores".lower().replace("(r)", ""))
    return "-".join(words)


def cpu_model() -> str:
    """Return the model of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def with_tables(page: str, texts: dict[str, str]) -> str:
    """Return the page with its measured part replaced. Raises as `with_measured`."""
    about = machine()
    head = f"{about['cpu']}, {about['cores']} cores, torch {about['torch']}, {about['date']}:\n"
    parts = [f"### {BENCHMARKS[name]}\n\n```text\n{text.strip()}\n```\n" for name, text in texts.items()]
    return with_measured(page, f"{head}\n" + "\n".join(parts))


def with_measured(page: str, text: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """Return a page of Markdown with a text, which ends with a line break, in place of what is between two marks.

    Raises:
        ValueError: the page has lost the marks.
    """
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        message = f"{page[:40]!r} ...: found no part between {marks[0]} and {marks[1]}; put the two lines back."
        raise ValueError(message)
    return f"{before}{begin}\n\n{text}\n{end}{after}"


if __name__ == "__main__":
    sys.exit(main())

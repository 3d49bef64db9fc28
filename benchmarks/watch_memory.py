"""Runs a command and says how much memory all of its processes took together, at the most and of which kind.

    python benchmarks/watch_memory.py COMMAND ...

PSS counts a page that n processes map as 1/n for each, so that a file that all ranks map counts once. Processes are
looked at every twentieth of a second, or less often where that takes more than a fifth of the time.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVERY, SHARE = 0.05, 0.2
"""Seconds between two looks, at the least, and which part of the time they may take."""
MORE = 1.02
"""The kinds of memory are looked at again where there is so much more of it: that takes longer than the sum."""
_ROLLUP = re.compile(r"^(Pss|Pss_Anon|Pss_File|Pss_Shmem): +(\d+) kB", re.MULTILINE)
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ (\d+) *(.*)$")


@dataclass
class Memory:
    """What the processes of a command took.

    Attributes:
        pss: bytes of all processes at one time, at the most.
        anonymous: those of them that are no part of a file, at the most; not at the same time, perhaps.
        kinds: bytes by what is mapped, when there was the most.
        seconds: from start to end.
    """

    pss: int = 0
    anonymous: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def watched(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str], *, kinds: bool = False
) -> tuple[Memory, str]:
    """Run a command to its end; return its memory and what it printed.

    Args:
        command: program and arguments.
        folder: where it runs.
        environment: its variables.
        kinds: whether to look at the kinds of memory, which takes time of the machine.

    Raises:
        RuntimeError: it failed.
    """
    found, begun, looked = Memory(), time.perf_counter(), 0
    output = folder / "output.txt"
    with output.open("w") as stream:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        while process.poll() is None:
            look = time.perf_counter()
            processes = list(_descendants(process.pid))
            sums = _sums(processes)
            found.pss = max(found.pss, sums["Pss"])
            found.anonymous = max(found.anonymous, sums["Pss_Anon"] + sums["Pss_Shmem"])
            if kinds and sums["Pss"] > MORE * looked:
                looked, found.kinds = sums["Pss"], dict(_kinds(processes))
            time.sleep(max(EVERY, (time.perf_counter() - look) / SHARE))
    found.seconds = time.perf_counter() - begun
    text = output.read_text(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with code {process.returncode}:\n{text}")
    return found, text


def _descendants(pid: int) -> Iterator[int]:
    """Yield a process and all that it and they have started."""
    yield pid
    try:
        tasks = [task.name for task in Path(f"/proc/{pid}/task").iterdir()]
        children = [Path(f"/proc/{pid}/task/{task}/children").read_text().split() for task in tasks]
    except OSError:  # it has ended
        return
    for child in (int(number) for numbers in children for number in numbers):
        yield from _descendants(child)


def parent_of(pid: int) -> int:
    """Return the process above a process; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _sums(processes: Sequence[int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for pid in processes:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        found.update({name: 1024 * int(kilobytes) for name, kilobytes in _ROLLUP.findall(text)})
    return found


def _kinds(processes: Sequence[int]) -> Counter[str]:
    """Return the bytes of processes by what is mapped: libraries, files of weights, shared memory, or none of these."""
    found: Counter[str] = Counter()
    for pid in processes:
        try:
            lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
        except OSError:
            continue
        kind = ""
        for line in lines:
            if mapping := _MAPPING.match(line):
                kind = _kind(mapping[2])
            elif line.startswith(("Pss_Anon:", "Pss:")):
                name, kilobytes, _ = line.split()
                if name == "Pss:":
                    whole = 1024 * int(kilobytes)
                    found[kind] += whole
                elif kind != "anonymous":  # pages of a file's mapping that were written to
                    found[kind] -= 1024 * int(kilobytes)
                    found["anonymous, of mapped files"] += 1024 * int(kilobytes)
    return found


def _kind(name: str) -> str:
    if not name or name.startswith(("[heap]", "[stack", "[anon")):
        return "anonymous"
    if name.startswith(("/dev/shm", "/memfd", "/SYSV", "/dev/zero")) or ".shm" in name:
        return "shared memory"
    if ".so" in name:
        return "libraries"
    return f"*{Path(name).suffix}" if Path(name).suffix else "other files"


def main() -> int:
    """Run the command of the arguments and print its memory."""
    found, text = watched(sys.argv[1:], Path.cwd(), os.environ, kinds=True)
    sys.stdout.write(f"{text}\n{found.pss / 1e9:.2f} GB at the most, {found.anonymous / 1e9:.2f} GB of it no file's\n")
    for name, size in sorted(found.kinds.items(), key=lambda pair: -pair[1]):
        sys.stdout.write(f"  {size / 1e6:8.0f} MB {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

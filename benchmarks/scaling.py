"""How many ranks one coordinator can keep busy: measured with points that sleep, and carried further by a model.

    python benchmarks/scaling.py [--ranks 2 16 64] [--json FILE]

The ranks are real: `mpirun`, the package's own messages and its own surface file; only the computation is a sleep, so
that far more ranks than cores can be tried. Writing and asking still need cores: where all ranks end their points at
once, a machine with few cores lets them queue, and the model, told of the cores, does the same.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from queueing import Costs, Naps, efficiency, most_ranks
from sleepers import Case, Stay

from landscape_mpi.mpi.world import FIRST_NAP, GROWTH, NAP

RANKS = (2, 16, 64)
CLAIMS = Case("claims", 0.02, 0.02, total=4000, asking=True, written=False)
CLAIMS_WRITTEN = Case("claims, rank 0 writes", 0.02, 0.02, total=2000, asking=True)
EFFICIENCIES = (
    Case("10 ms", 0.01, 0.01, each=200),
    Case("100 ms", 0.1, 0.1, each=40),
    Case("20 to 200 ms", 0.02, 0.2, each=40),
)
WAITING = Case("waiting", 1.0, 1.0, total=1)
SECONDS, LEAST, EACH = (0.001, 0.01, 0.1, 1.0), (0.9, 0.97), 60
# a rank bound to a core would share it with others while one is free
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


@dataclass(frozen=True)
class Launch:
    """What `mpirun` gave: the number of ranks, seconds until all were there, and every rank's view of every case."""

    ranks: int
    start: float
    stays: dict[str, list[Stay]]

    def wall(self, case: Case) -> float:
        """Return the seconds from the first question to the last answer."""
        stays = self.stays[case.name]
        return max(stay.ended for stay in stays) - min(stay.begun for stay in stays)

    def efficiency(self, case: Case) -> float:
        """Return the share of all ranks' time that the points should have taken."""
        return sum(stay.slept for stay in self.stays[case.name]) / (self.ranks * self.wall(case))

    def cores(self, case: Case) -> float:
        """Return how many cores all ranks together kept busy."""
        return sum(stay.cpu for stay in self.stays[case.name]) / self.wall(case)

    def claims(self, case: Case) -> int:
        """Return how many points rank 0 handed out by message."""
        return sum(stay.points for stay in self.stays[case.name][1:])

    def service(self, case: Case) -> float:
        """Return the seconds of a core that rank 0's coordinator takes for a claim."""
        root = self.stays[case.name][0]
        return (root.cpu - root.own) / self.claims(case)

    def costs(self, case: Case, service: float) -> Costs:
        """Return what a point costs its rank here, beside what it costs the coordinator."""
        others = self.stays[case.name][1:]
        points = sum(stay.points for stay in others)
        late, work = sum(stay.late for stay in others) / points, sum(stay.cpu for stay in others) / points
        return Costs(service, late, work, os.cpu_count(), Naps(FIRST_NAP, GROWTH, NAP))

    def waiting(self) -> float:
        """Return the share of a core that a rank takes which waits for the others."""
        return median(stay.idle_cpu / stay.idle for stay in self.stays[WAITING.name] if not stay.points)


def start(ranks: int, cases: Iterable[Case], settings: dict[str, str]) -> Launch:
    """Run the cases on that many ranks."""
    cases = list(cases)
    script = Path(__file__).with_name("sleepers.py")
    command = ["mpirun", "-n", str(ranks), sys.executable, str(script), json.dumps([asdict(case) for case in cases])]
    begun = time.time()
    run = subprocess.run(command, env=os.environ | SETTINGS | settings, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(run.stdout)
    stays = {case.name: [Stay(**one) for one in seen] for case, seen in zip(cases, found["stays"], strict=True)}
    return Launch(ranks, found["ready"] - begun, stays)


def efficiencies(worlds: list[Launch], service: float) -> list[dict[str, Any]]:
    """Return the measured efficiency of every case and world, and what the model says, told the costs of the first."""
    rows: list[dict[str, Any]] = []
    for case in EFFICIENCIES:
        costs = worlds[0].costs(case, service)
        for world in worlds:
            points = case.points(world.ranks)
            rows.append(
                {
                    "case": case.name,
                    "ranks": world.ranks,
                    "points": len(points),
                    "efficiency": world.efficiency(case),
                    "model": efficiency(world.ranks, points, costs),
                    "late": costs.late,
                    "work": costs.work,
                    "cores": world.cores(case),
                }
            )
    return rows


def measure(ranks: Sequence[int]) -> dict[str, Any]:
    """Return all figures: plain numbers, lists and strings, in seconds and shares of one."""
    load = os.getloadavg()[0]
    worlds = [start(count, [CLAIMS, *EFFICIENCIES, WAITING], {}) for count in ranks]
    written = start(min(8, max(ranks)), [CLAIMS_WRITTEN], {"LANDSCAPE_WRITER": "root"})
    fastest = max(worlds, key=lambda world: world.claims(CLAIMS) / world.wall(CLAIMS))
    services = {"every rank": fastest.service(CLAIMS), "rank 0": written.service(CLAIMS_WRITTEN)}
    naps = Naps(FIRST_NAP, GROWTH, NAP)
    return {
        "cores": os.cpu_count() or 1,
        "load": load,
        "start": {str(world.ranks): world.start for world in worlds},
        "efficiency": efficiencies(worlds, services["every rank"]),
        "claims_a_second": {str(world.ranks): world.claims(CLAIMS) / world.wall(CLAIMS) for world in worlds},
        "service": services,
        "service_seen": {str(world.ranks): world.service(CLAIMS) for world in worlds},
        "waiting": {str(world.ranks): world.waiting() for world in worlds if world.ranks > 1},
        "most_ranks": {
            writer: {str(seconds): most_ranks(seconds, LEAST, Costs(service, naps=naps), EACH) for seconds in SECONDS}
            for writer, service in services.items()
        },
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a page of text."""
    return (
        "\n".join([*_head(figures), "", *_efficiencies(figures), "", *_claims(figures), "", *_predictions(figures)])
        + "\n"
    )


def _head(figures: dict[str, Any]) -> Iterator[str]:
    yield f"{figures['cores']} cores, load {figures['load']:.1f} before the first rank was started"
    yield "seconds to start: " + ", ".join(f"{ranks} ranks {took:.1f}" for ranks, took in figures["start"].items())


def _efficiencies(figures: dict[str, Any]) -> Iterator[str]:
    yield "a point takes   ranks  points  efficiency   model  off by  busy cores"
    for row in figures["efficiency"]:
        off = row["efficiency"] - row["model"]
        yield (
            f"{row['case']:14} {row['ranks']:6} {row['points']:7} {row['efficiency']:11.1%} {row['model']:7.1%} "
            f"{100 * off:+7.1f} {row['cores']:11.2f}"
        )


def _claims(figures: dict[str, Any]) -> Iterator[str]:
    took = ", ".join(f"{ranks} ranks {service * 1e6:.0f} us" for ranks, service in figures["service_seen"].items())
    yield f"a claim takes rank 0 of a core, the looks between claims included: {took}"
    for writer, service in figures["service"].items():
        yield f"a claim takes rank 0 {service * 1e6:.0f} us where {writer} writes: {1 / service:,.0f} claims/s at most"
    seen = ", ".join(f"{ranks} ranks {rate:,.0f}" for ranks, rate in figures["claims_a_second"].items())
    yield f"claims/s seen, ranks and coordinator on the same cores: {seen}"
    shares = ", ".join(f"{ranks} ranks {share:.2%}" for ranks, share in figures["waiting"].items())
    yield f"a rank that waits for the others takes of a core: {shares}"


def _predictions(figures: dict[str, Any]) -> Iterator[str]:
    wanted = " and ".join(f"{least:.0%}" for least in LEAST)
    yield f"most ranks, a core each, of {wanted} efficiency, with {EACH} points per rank:"
    for writer, found in figures["most_ranks"].items():
        for seconds, counts in found.items():
            yield f"{float(seconds):6g} s per point, {writer} writes: {' and '.join(f'{count:,}' for count in counts)}"


def main() -> int:
    """Measure, print a table, and write the figures where --json asks for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ranks", type=int, nargs="+", default=RANKS, help="each at least 2; the model learns from the first"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if min(options.ranks) < 2:
        parser.error(
            f"--ranks: found {min(options.ranks)}; expected 2 or more, because rank 0 hands out points by message."
        )
    if shutil.which("mpirun") is None:
        parser.error("there is no mpirun on PATH; `make setup` brings one, and tools/run.sh finds it.")
    figures = measure(options.ranks)
    sys.stdout.write(table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

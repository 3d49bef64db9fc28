"""Random small networks, by every engine, compared with plain torch in float64: at the centre and at points of a plane.

    python benchmarks/networks.py [--seeds 2000] [--first 0] [--show] [--json FILE]

Seed n is always the same network. A mismatch is a loss of an example that is neither within rounding of float64's nor
what plain torch gives in float32, or one that is finite where plain torch's is not, or the other way round. Within
rounding is 1e-4 of the loss, ten times what plain float32 loses there, or ten times (Winograd: thirty times) what one
rounding of each weight and input changes there. Networks that call a two-dimensional convolution padded with zeros, and
that an engine refuses, are counted by the reason.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # the networks and trials of the tests

from support.engine_trials import ENGINES, Trial, trials


def table(found: Sequence[Trial]) -> Iterator[str]:
    """Yield a row for each engine, and what was refused and laid out how."""
    yield "| engine | networks | with Conv2d to fuse | fused | refused | mismatches |"
    yield "|---|---|---|---|---|---|"
    for engine in ENGINES:
        mine = [trial for trial in found if trial.engine == engine]
        having = [trial for trial in mine if trial.convolutions]
        refused = sum(bool(trial.refused) for trial in having)
        counts = len(mine), len(having), len(having) - refused, refused, sum(bool(trial.wrong) for trial in mine)
        yield f"| {engine} | {' | '.join(f'{count:,}' for count in counts)} |"
    reasons = Counter(
        trial.refused.partition(":")[0].partition(" (")[0] for trial in found if trial.convolutions and trial.refused
    )
    for reason, count in reasons.most_common():
        yield f"refused {count:,} times: {reason}"
    layouts = Counter(trial.layout for trial in found if trial.engine == ENGINES[0])
    yield f"layouts: {', '.join(f'{count:,} {layout}' for layout, count in layouts.most_common())}"


def main() -> int:
    """Try the networks and print what was found; return 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print every refusal with its network")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: list[Trial] = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for trial in trials(seed):
            found.append(trial)
            shown = arguments.show and trial.refused and trial.convolutions and trial.engine == "fused"
            if trial.wrong or shown:
                sys.stdout.write(f"{seed} {trial.engine} {trial.wrong or trial.refused} | {', '.join(trial.pieces)}\n")
                sys.stdout.flush()
    sys.stdout.write("\n".join(table(found)) + "\n")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(trial) for trial in found], indent=1) + "\n")
    return int(any(trial.wrong for trial in found))


if __name__ == "__main__":
    sys.exit(main())

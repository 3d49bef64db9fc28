"""Networks too large to copy, of 118 M to 7 B parameters: the memory of all ranks together, the time a point, the file.

    python benchmarks/large.py [PART ...] [--ranks 1 2 4] [--smollm2 FOLDER] [--folder FOLDER] [--kinds] [--keep]

Each row is a real sweep, by mpirun where it has several ranks; `memory` is the most that all of its processes had at
one time (PSS), `anonymous` the part of it that is no file's. `--kinds` says what that memory is. `--keep` writes what
was found into benchmarks/results/ and the tables into docs/large.md, beside those of parts that did not run.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import torch
import yaml
from killing import Victim, kill
from language_models import transformer
from report import HERE, keep, machine, machine_name, with_measured
from safetensors.torch import save_file
from scaling import SETTINGS
from startup import command, first_point
from torch import nn
from watch_memory import Memory, parent_of, watched

from landscape_mpi.evaluate.live import Resident
from landscape_mpi.networks.huggingface import without_broken_torchvision
from landscape_mpi.plane import Plane, RandomDirections

PAGE = HERE.parent / "docs" / "large.md"
LORA = 12
"""Rank of what is added: 0.5 % of the parameters."""
MOVES = 5
PATIENCE = 300.0
"""Seconds to the first point of a sweep whose rank is to be killed."""
WEIGHTS = ("resident", "streamed")
POOL = (1 << 24) - 3
"""Random numbers that the weights of 7 B parameters are cut from."""
TRANSFORMER = {
    "model": {"build": "language_models:transformer", "checkpoint": "net.safetensors"},
    "data": {"build": "language_models:tokens", "splits": ["train"]},
    "loss": "next_token",
    "metrics": ["loss"],
    "plane": {"kind": "random"},
    "grid": {"alpha": [-0.5, 0.5, 5], "beta": [-0.5, 0.5, 3]},
    "output": {"file": "surface.h5"},
}
GROUPED: Mapping[str, Any] = {
    **TRANSFORMER,
    "data": {
        "build": "language_models:tokens",
        "splits": ["train"],
        "options": {"windows": 4, "length": 8},
    },
    "grid": {"alpha": [-0.5, 0.5, 5]},
    "evaluate": {"batch": 1},
}
"""A batch for each rank of a group of four."""
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
"""The sizes of Llama 2 7B."""
Row = dict[str, Any]


class Sweeps:
    """Runs sweeps in a folder, one after the other.

    Attributes:
        folder: where jobs and checkpoints lie.
        ranks: numbers of ranks.
        weights: how a transformer's weights are held.
        smollm2: SmolLM2's own folder.
        kinds: whether to say what the memory is.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.ranks, self.weights = folder, options.ranks, options.weights
        self.smollm2, self.kinds = options.smollm2.absolute(), options.kinds

    def run(self, job: Mapping[str, Any], ranks: int, *flags: str, afresh: bool = True, **said: Any) -> Row:
        """Sweep a job on some ranks, from nothing or on from where it is; return what it took, after what is said."""
        surface = self.write(job, afresh=afresh)
        line = command(ranks, "-m", "landscape_mpi", "sweep", "job.yaml", "--quiet", *flags)
        memory, text = watched(line, self.folder, os.environ | SETTINGS | self.path, kinds=self.kinds)
        row = {**said, "ranks": ranks, **_taken(memory), **_found(surface)}
        row["told"] = [line for line in text.splitlines() if "weights are streamed" in line]
        sys.stdout.write(f"  {_words(row)}\n")
        for name, size in sorted(row.get("kinds", {}).items(), key=lambda pair: -pair[1]):
            sys.stdout.write(f"    {size / 1e6:8.0f} MB {name}\n")
        sys.stdout.flush()
        return row

    def killed(self, job: Mapping[str, Any], ranks: int, *flags: str) -> float:
        """Sweep a job from nothing, and kill -9 its last rank after the first point; return the seconds to its end."""
        surface = self.write(job)
        victim = Victim(self.folder, ["sweep", "job.yaml", "--quiet", *flags], ranks, self.path)
        first_point(surface, time.time() + PATIENCE)
        last = {pid for pid, rank in victim.members().items() if rank == ranks - 1}
        child = next(pid for pid in last if parent_of(pid) in last)  # the other is the process above the rank
        kill([child])
        begun = time.perf_counter()
        victim.process.wait()
        seconds = time.perf_counter() - begun
        if not victim.all_gone():
            raise RuntimeError(f"processes outlived the death of a rank:\n{victim.said()}")
        told = next(line for line in victim.said().splitlines() if "error: " in line)
        sys.stdout.write(f"  ended {seconds:.1f} s after kill -9: {told}\n")
        return seconds

    def write(self, job: Mapping[str, Any], *, afresh: bool = True) -> Path:
        """Write a job; return its surface file, of which nothing is left where it is swept afresh."""
        (self.folder / "job.yaml").write_text(yaml.safe_dump({**job}, sort_keys=False))
        surface = self.folder / "surface.h5"
        if afresh:
            surface.unlink(missing_ok=True)
        return surface

    @property
    def path(self) -> dict[str, str]:
        """The variable by which a job finds the modules beside this one."""
        return {"PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))}


def _taken(memory: Memory) -> Row:
    found = {"pss": memory.pss, "anonymous": memory.anonymous, "seconds": memory.seconds}
    return found | ({"kinds": memory.kinds} if memory.kinds else {})


def _found(surface: Path) -> Row:
    """Return seconds per point, the file's size, a hash of its results, and the loss at theta*."""
    with h5py.File(surface, "r", locking=False) as file:
        loss, status, seconds = file["train_loss"][()], file["status"][()], file["seconds"][()]
        if not (status == 1).all():
            raise RuntimeError(f"{surface}: {(status != 1).sum()} points are not done")
        centre = float(loss[tuple(size // 2 for size in loss.shape)])
        sha256 = hashlib.sha256(loss.tobytes() + file["train_loss_stderr"][()].tobytes()).hexdigest()
        streamed = "xdirection" not in file
    return {
        "point": float(np.median(seconds)),
        "file": surface.stat().st_size,
        "sha256": sha256,
        "centre": centre,
        "drawn": streamed,
    }


def _words(row: Row) -> str:
    fixed = {"pss", "anonymous", "seconds", "point", "file", "sha256", "centre", "drawn", "told", "kinds", "killed"}
    said = ", ".join(f"{name} {value}" for name, value in row.items() if name not in fixed)
    return (
        f"{said}: {row['pss'] / 1e9:.2f} GB, {row['anonymous'] / 1e9:.2f} anonymous, {row['point']:.2f} s per point, "
        f"file of {row['file'] / 1e3:.0f} KB, f(0, 0) {row['centre']:.9g}, results {row['sha256'][:8]}"
    )


def _save(network: nn.Module, path: Path) -> None:
    save_file({name: tensor.detach() for name, tensor in network.state_dict().items()}, path)


def memory(sweeps: Sweeps) -> list[Row]:
    """Return rows of a transformer of 118 M parameters, resident and streamed, on several numbers of ranks."""
    torch.manual_seed(0)
    _save(transformer(), sweeps.folder / "net.safetensors")
    return [
        sweeps.run({**TRANSFORMER, "evaluate": {"weights": weights}}, ranks, weights=weights)
        for weights in sweeps.weights
        for ranks in sweeps.ranks
    ]


def groups(sweeps: Sweeps) -> list[Row]:
    """Return rows of the same transformer on 4 ranks: 4 groups of one, 2 of two, one of four; few and short texts.

    The second goes on after the death of a rank.

    Raises:
        RuntimeError: a result of one is not that of another, to the last bit.
    """
    torch.manual_seed(0)
    _save(transformer(), sweeps.folder / "net.safetensors")
    rows = []
    for size in (1, 2, 4):
        flags, killed = ("--group", str(size)), None
        if size == 2:
            killed = sweeps.killed(GROUPED, 4, *flags)
        rows.append(sweeps.run(GROUPED, 4, *flags, afresh=killed is None, groups=f"{4 // size} x {size}"))
        if killed is not None:
            rows[-1]["killed"] = killed
    if len({row["sha256"] for row in rows}) > 1:
        raise RuntimeError("the results depend on the groups")
    return rows


def only(sweeps: Sweeps) -> list[Row]:
    """Return rows of the same transformer with LoRA: all weights moved, and the added 0.5 % alone."""
    torch.manual_seed(0)
    _save(transformer(lora=LORA), sweeps.folder / "net.safetensors")
    job = {**TRANSFORMER, "model": TRANSFORMER["model"] | {"options": {"lora": LORA}}}  # type: ignore[operator]
    rows = []
    for moved, chosen in (("all weights", {}), ("LoRA alone", {"only": ["*.a.weight", "*.b.weight"]})):
        line = [sys.executable, __file__, "--moves", json.dumps(chosen), "--folder", str(sweeps.folder)]
        measured = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
        plane = {"kind": "random", **chosen}
        rows.append({**sweeps.run({**job, "plane": plane}, 1, moved=moved), **measured})
        sys.stdout.write(
            f"    a move takes {measured['move']:.3f} s of CPU, scales {measured['scales'] / 1e6:.2f} MB\n"
        )
    return rows


def moves(folder: Path, chosen: Mapping[str, Any]) -> Row:
    """Return the CPU seconds of a move of the live network and the bytes of what a plane holds beside theta*."""
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    theta = load_file(folder / "net.safetensors")
    network = transformer(lora=LORA).eval()
    parameters = {name: theta[name] for name, _ in network.named_parameters()}
    recipe = RandomDirections(0, "filter", "biasbn", **chosen)
    drawn = [recipe.draw(parameters, axis) for axis in range(2)]
    plane, live, taken = Plane.along(parameters, drawn), Resident(network), []
    for turn in range(MOVES + 1):  # the first one warms up
        begun = time.process_time()
        live.move(plane, (0.1 * turn + 0.1, 0.2))
        taken.append(time.process_time() - begun)
    numbers = sum(parameters[name].numel() for name in drawn[0].moving)
    return {
        "move": min(taken[1:]),
        "scales": sum(tensor.nbytes for one in drawn for tensor in one.scales.values()),
        "share": numbers / sum(tensor.numel() for tensor in parameters.values()),
    }


def smollm2(sweeps: Sweeps) -> list[Row]:
    """Return rows of SmolLM2-135M from its own folder, on CPython's help; none where the folder is not there."""
    if not (sweeps.smollm2 / "config.json").exists():
        sys.stdout.write(f"  left out: there is no {sweeps.smollm2}/config.json (--smollm2 FOLDER)\n")
        return []
    from pydoc_data.topics import topics

    (sweeps.folder / "help.txt").write_text("\n\n".join(topics[name] for name in sorted(topics)), encoding="utf-8")
    data = {"build": "text", "root": "help.txt", "splits": ["train"], "limit": 2}
    job = {
        "model": {"build": "huggingface", "checkpoint": str(sweeps.smollm2)},
        "data": {**data, "options": {"tokenizer": str(sweeps.smollm2), "length": 256}},
        "loss": "next_token",
        "metrics": ["loss"],
        "plane": {"kind": "random"},
        "grid": {"alpha": [-0.1, 0.1, 21]},
        "output": {"file": "surface.h5"},
    }
    line = [
        sys.executable,
        __file__,
        "--transformers",
        "--smollm2",
        str(sweeps.smollm2),
        "--folder",
        str(sweeps.folder),
    ]
    theirs = float(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
    sys.stdout.write(f"  transformers' own logits give {theirs:.9g}\n")
    rows = [sweeps.run(job, ranks, theirs=theirs) for ranks in sweeps.ranks if ranks <= 2]
    for row in rows:
        row["difference"] = abs(row["centre"] - theirs) / theirs
    return rows


def by_transformers(folder: Path, smollm2: Path) -> float:
    """Return the loss that transformers' own logits give for the first 2 windows of 256 tokens, in float64."""
    from tokenizers import Tokenizer

    torch.set_num_threads(1)
    text = (folder / "help.txt").read_text(encoding="utf-8")
    ids = torch.tensor(Tokenizer.from_file(str(smollm2 / "tokenizer.json")).encode(text).ids[:512]).view(2, 256)
    with without_broken_torchvision():
        from transformers import AutoModelForCausalLM

        network = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = network(ids).logits.double()
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()


def seven(sweeps: Sweeps) -> list[Row]:
    """Return a row of a network of 7 B parameters in bfloat16, made on the spot as shards: 14 GB, streamed, 2 ranks."""
    made = sweeps.folder / "llama"
    parameters = make_llama(made)
    job = {
        **TRANSFORMER,
        "model": {"build": "huggingface", "checkpoint": "llama"},
        "data": {
            "build": "language_models:tokens",
            "splits": ["train"],
            "options": {"windows": 2, "length": 16, "vocabulary": 32000},
        },
        "grid": {"alpha": [-0.1, 0.1, 3], "beta": [-0.1, 0.1, 3]},
    }
    rows = [sweeps.run(job, 2, parameters=parameters)]
    shutil.rmtree(made)
    return rows


def make_llama(folder: Path) -> int:
    """Write a folder as transformers does, with random weights, a shard a layer; return the number of parameters."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    with without_broken_torchvision(), torch.device("meta"):
        from transformers import LlamaConfig, LlamaForCausalLM

        network = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in LLAMA.items() if k != "architectures"}))  # type: ignore[arg-type]
    # the same random numbers again and again, from another one on each time: to draw all of them takes minutes
    numbers = torch.empty(POOL, dtype=torch.bfloat16).normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    shards: dict[str, list[str]] = {}
    for name, _ in network.named_parameters():
        parts = name.split(".")
        shards.setdefault(f"layer-{parts[2]}" if parts[1:2] == ["layers"] else parts[-2], []).append(name)
    places, first = {}, 0
    for shard, names in shards.items():
        tensors = {}
        for name in names:
            shape, places[name] = network.get_parameter(name).shape, f"model-{shard}.safetensors"
            tensors[name] = torch.ones(shape, dtype=torch.bfloat16)
            if len(shape) > 1:
                first = (first + 7919) % POOL
                flat = tensors[name].view(-1)
                for place in range(0, flat.numel(), POOL - first):
                    piece = flat[place : place + POOL - first]
                    piece.copy_(numbers[first : first + piece.numel()])
        save_file(tensors, folder / f"model-{shard}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return sum(parameter.numel() for parameter in network.parameters())


PARTS: Mapping[str, tuple[str, Callable[[Sweeps], list[Row]]]] = {
    "memory": ("A transformer of 118 M parameters, 16 x 32 tokens, 5 x 3 points", memory),
    "groups": ("The same in groups of 1, 2 and 4 ranks (`--group`), 4 x 8 tokens, 5 points", groups),
    "smollm2": ("SmolLM2-135M from its own folder, 2 x 256 tokens, 21 points", smollm2),
    "only": ("The transformer with LoRA of rank 12, 0.5 % of its parameters; 1 rank", only),
    "seven": ("7 B parameters in bfloat16, 2 x 16 tokens, 3 x 3 points", seven),
}
FORMER = {
    ("memory", 1): 3.70e9,
    ("memory", 2): 6.93e9,
    ("memory", 4): 12.78e9,
    ("smollm2", 1): 3.29e9,
    ("smollm2", 2): 5.80e9,
}
"""Memory of the same jobs while each rank copied its network and its plane; SmolLM2's on a line of 5 points."""


def tables(found: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Yield a table of Markdown for each part."""
    for part, rows in found.items():
        if not rows:
            continue
        yield f"**{PARTS[part][0]}**\n"
        own = [name for name in ("weights", "groups", "moved") if name in rows[0]]
        former = (part, rows[0]["ranks"]) in FORMER
        heads = [
            "ranks",
            *own,
            "memory, GB",
            *(["before, GB"] if former else []),
            "anonymous, GB",
            "a point, s",
            "file, KB",
        ]
        heads += ["end after kill -9, s"] if part == "groups" else []
        heads += ["a move, CPU s"] if "move" in rows[0] else []
        heads += ["from transformers' loss"] if "difference" in rows[0] else []
        heads += ["results"]
        yield f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}"
        for row in rows:
            cells = [str(row["ranks"]), *(str(row[name]) for name in own), f"{row['pss'] / 1e9:.2f}"]
            cells += [f"{FORMER[part, row['ranks']] / 1e9:.2f}"] if former else []
            cells += [f"{row['anonymous'] / 1e9:.2f}", f"{row['point']:.2f}", f"{row['file'] / 1e3:.0f}"]
            cells += [f"{row['killed']:.1f}" if "killed" in row else ""] if part == "groups" else []
            cells += [f"{row['move']:.3f}"] if "move" in row else []
            cells += [f"{row['difference']:.0e}"] if "difference" in row else []
            yield f"| {' | '.join([*cells, '`' + row['sha256'][:8] + '`'])} |"
        yield ""


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Return the rows of a part, of which some have been measured again, in their order."""

    def case(row: Row) -> tuple[Any, ...]:
        return row.get("weights", ""), row.get("moved", ""), row.get("groups", ""), row["ranks"]

    return sorted({case(row): row for row in (*old, *new)}.values(), key=case)


def written(page: str, found: Mapping[str, Sequence[Row]]) -> str:
    """Return the page with its measured part replaced. Raises as `report.with_measured`."""
    about = machine()
    head = f"{about['cpu']}, {about['cores']} cores, torch {about['torch']}, {about['date']}, one thread per rank:"
    return with_measured(page, f"{head}\n\n" + "\n".join(tables(found)))


def main() -> int:
    """Measure the parts that are named, all by default but that of 7 B; print tables, and keep them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = [name for name in PARTS if name != "seven"]
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"{', '.join(PARTS)}")
    parser.add_argument("--ranks", type=int, nargs="+", default=(1, 2, 4))
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=WEIGHTS, help="of the first part")
    parser.add_argument("--smollm2", type=Path, default=Path("SmolLM2-135M-Instruct"), metavar="FOLDER")
    parser.add_argument("--folder", type=Path, help="where checkpoints are made; default: the system's own")
    parser.add_argument("--kinds", action="store_true", help="say what the memory is")
    parser.add_argument("--keep", action="store_true", help="write results and tables")
    parser.add_argument("--moves", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--transformers", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.moves is not None:
        sys.stdout.write(json.dumps(moves(options.folder, options.moves)) + "\n")
        return 0
    if options.transformers:
        sys.stdout.write(f"{by_transformers(options.folder, options.smollm2)!r}\n")
        return 0
    found: dict[str, list[Row]] = {}
    for part in options.parts or usual:
        sys.stdout.write(f"== {PARTS[part][0]}\n")
        sys.stdout.flush()
        with TemporaryDirectory(dir=options.folder) as name:
            found[part] = PARTS[part][1](Sweeps(Path(name), options))
    sys.stdout.write("\n".join(tables(found)) + "\n")
    if options.keep:
        place = HERE / "results" / f"{machine_name()}.json"
        old = json.loads(place.read_text()).get("large", {}) if place.exists() else {}
        found = {part: rows for part in PARTS if (rows := merged(old.get(part, []), found.get(part, [])))}
        keep(place, {"large": found})
        PAGE.write_text(written(PAGE.read_text(), found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

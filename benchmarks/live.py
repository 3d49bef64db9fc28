"""CPU time of a point of today's networks beside plain inference of the same batches, interleaved in one run.

    python benchmarks/live.py [--networks vit smollm2 convnext resnet18] [--folder FOLDER] [--batches N] [--json FILE]

One thread. A point is theta + alpha delta + beta eta of random directions that are drawn anew, and its examples: N
batches (1 without the option) of 512 tokens, or of 16 images of 224 x 224. `script` is plain inference as one writes it
by hand: an ordinary process of its own that calls the network and torch's cross entropy. `plain` is what a sweep does
with the batches of a network whose weights stay where they are: losses in float64, memory that is kept. `resident` sets
all weights in place at each point, `streamed` builds those of a layer just before it runs, along one direction (a line)
or two (a plane); `engine` is what a sweep takes where it fuses layers. Ratios are taken within a round, and the median
over the rounds is shown. The floor is what the operations that FlopCounterMode counts would take at the rate of a large
matrix product, measured in the same rounds.

SmolLM2's folder (config.json and model.safetensors of HuggingFaceTB/SmolLM2-135M) is given by --folder; without it, and
where transformers is missing, it is left out.
"""

import argparse
import gc
import json
import multiprocessing
import runpy
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from landscape_mpi.assemble import keep_memory
from landscape_mpi.data import Split
from landscape_mpi.engines import CannotFuseError, build_engine, candidates
from landscape_mpi.evaluate import EagerEvaluator, Point, Task, build_loss
from landscape_mpi.evaluate.live import Resident, Streaming
from landscape_mpi.evaluate.losses import following, logits_of
from landscape_mpi.networks.checkpoint import open_checkpoint
from landscape_mpi.networks.huggingface import build_huggingface
from landscape_mpi.networks.meta import materialise
from landscape_mpi.networks.state import duplicate
from landscape_mpi.plane import Parameters, Plane, RandomDirections

BESIDE = Path(__file__).parent.parent / "tests" / "support" / "beside_cpu_torch" / "sitecustomize.py"
"""Lets torchvision be imported beside a CPU build of torch."""
SMOLLM2, FOLDER = "smollm2", Path("smollm2")
SCRIPT = "script"
IMAGES, TOKENS = 16, 512
PRODUCT = 2048
"""Rows and columns of the matrices whose product is the floor's."""
CPU = torch.device("cpu")
Way = Callable[[Point], Any]
"""Evaluates all examples at a point."""
Times = tuple[float, float]
"""Seconds of CPU time, and of the clock."""


@dataclass(frozen=True)
class Subject:
    """A network in eval mode whose parameters have no memory, theta*, and the examples of a point.

    Attributes:
        network: its parameters on the meta device, its buffers real.
        theta: its parameters, of any dtype; those of a file are views of it.
        split: the examples.
        batch: examples in a batch.
        loss: of them.
    """

    network: nn.Module
    theta: Parameters
    split: Split
    batch: int
    loss: str

    @cached_property
    def task(self) -> Task:
        """The evaluation of all examples."""
        return Task({"test": self.split}, None, build_loss(self.loss, Path()))

    @cached_property
    def filled(self) -> nn.Module:
        """The network with weights of its own, at theta*, in float32."""
        network = materialise(duplicate(self.network), CPU, torch.float32)
        Resident(network).move(Plane(self.theta, ()), ())
        return network.eval()

    def plane(self, axes: int) -> Plane:
        """Return a line, or a plane."""
        draw = RandomDirections(0, "filter", "biasbn").draw
        return Plane(self.theta, tuple(draw(self.theta, axis) for axis in range(axes)))

    @property
    def flops(self) -> int:
        """Floating-point operations of a point's matrix products and convolutions."""
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            self.task.forward(self.filled, self.split.inputs)
        return int(counter.get_total_flops())

    def by_hand(self) -> float:
        """Return the mean loss of all examples at theta* as a script of one's own takes it, batch by batch."""
        losses = []
        batches = (torch.split(rows, self.batch) for rows in (self.split.inputs, self.split.targets))
        with torch.inference_mode():
            for inputs, targets in zip(*batches, strict=True):
                logits = logits_of(self.filled(inputs))
                if self.loss == "next_token":
                    logits, targets = logits[:, :-1].flatten(0, 1), following(targets).flatten()
                losses.append(functional.cross_entropy(logits, targets, reduction="none"))
        return float(torch.cat(losses).mean())

    def ways(self) -> dict[str, Way]:
        """Return the ways to evaluate a point."""
        batch = self.batch
        found: dict[str, Way] = {"plain": lambda _: self.task.evaluate(self.filled, "test", slice(None), batch)}
        for axes, name in ((1, "line"), (2, "plane")):
            plane = self.plane(axes)
            resident = Resident(duplicate(self.filled))
            streaming = Streaming(duplicate(self.network), Plane(self.theta, ()), CPU, torch.float32)
            found[f"resident, {name}"] = self._way(EagerEvaluator(resident, plane, self.task, batch), axes)
            found[f"streamed, {name}"] = self._way(EagerEvaluator(streaming, plane, self.task, batch), axes)
        for engine in candidates("auto", self.task, plane)[:-1]:
            try:
                evaluator = build_engine(engine, self.filled, plane, self.task, batch)
            except CannotFuseError:
                continue
            found["engine, plane"] = self._way(evaluator, axes)
            break
        return found

    @staticmethod
    def _way(evaluator: Any, axes: int) -> Way:
        return lambda point: evaluator.per_example(point[:axes], "test", slice(None))


def of_vit(_: Path, batches: int) -> Subject:
    """Return timm's vit_tiny_patch16_224."""
    return _of_images(_timm("vit_tiny_patch16_224"), batches)


def of_convnext(_: Path, batches: int) -> Subject:
    """Return timm's convnext_nano."""
    return _of_images(_timm("convnext_nano"), batches)


def of_resnet18(_: Path, batches: int) -> Subject:
    """Return timm's resnet18."""
    return _of_images(_timm("resnet18"), batches)


def _timm(name: str) -> nn.Module:
    runpy.run_path(str(BESIDE))
    import timm

    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name)
    return network.eval()


def _of_images(network: nn.Module, batches: int) -> Subject:
    inputs = torch.randn(batches * IMAGES, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    theta = {name: parameter.detach() for name, parameter in network.named_parameters()}
    empty = duplicate(network)
    for module in empty.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.to("meta"))
    return Subject(empty, theta, Split("test", inputs, torch.arange(len(inputs)) % 10), IMAGES, "cross_entropy")


def of_smollm2(folder: Path, batches: int) -> Subject:
    """Return SmolLM2 of a folder; theta* is its file, in bfloat16."""
    runpy.run_path(str(BESIDE))
    network = build_huggingface(folder, {}, empty=True)
    state = open_checkpoint(network, folder, "model.checkpoint", None, mapped=True).state
    theta = {name: state[name] for name, _ in network.named_parameters()}
    tokens = torch.randint(0, 40_000, (batches, TOKENS), generator=torch.Generator().manual_seed(0))
    return Subject(network, theta, Split("test", tokens, tokens), 1, "next_token")


SUBJECTS: Mapping[str, Callable[[Path, int], Subject]] = {
    "vit": of_vit,
    SMOLLM2: of_smollm2,
    "convnext": of_convnext,
    "resnet18": of_resnet18,
}


@contextmanager
def script(name: str, folder: Path, batches: int) -> Iterator[Callable[[], Times]]:
    """Start an ordinary process with a subject of its own; the function has it evaluate all examples by hand once."""
    spawn = multiprocessing.get_context("spawn")
    ours, its = spawn.Pipe()
    process = spawn.Process(target=_answer, args=(its, name, folder, batches), daemon=True)
    process.start()
    its.close()

    def times() -> Times:
        ours.send(None)
        cpu, wall = ours.recv()
        return cpu, wall

    yield times
    ours.close()  # which ends it
    process.join()


def _answer(connection: Connection, name: str, folder: Path, batches: int) -> None:
    torch.set_num_threads(1)
    subject = SUBJECTS[name](folder, batches)
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        connection.send(timed(subject.by_hand))


def timed(evaluate: Callable[[], object]) -> Times:
    """Return the times that a call takes."""
    began = time.process_time(), time.perf_counter()
    evaluate()
    return time.process_time() - began[0], time.perf_counter() - began[1]


def measure_network(subject: Subject, rounds: int, by_hand: Callable[[], Times]) -> dict[str, Any]:
    """Return the rows of all ways, and the floor of the machine's matrix product in the same rounds."""
    ways = subject.ways()
    a, b = (torch.randn(PRODUCT, PRODUCT, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    times: dict[str, list[Times]] = {name: [] for name in ("product", SCRIPT, *ways)}
    for number in range(rounds + 1):  # the first one warms up
        point = (0.02 * number, 0.01)
        found = {"product": timed(lambda: torch.mm(a, b)), SCRIPT: by_hand()}
        found |= {name: timed(partial(way, point)) for name, way in ways.items()}
        if number:
            for name, one in found.items():
                times[name].append(one)
    flops = subject.flops
    floors = [flops / (2 * PRODUCT**3) * cpu for cpu, _ in times.pop("product")]
    return {
        "parameters": sum(tensor.numel() for tensor in subject.theta.values()),
        "inputs": list(subject.split.inputs.shape),
        "gflop": flops / 1e9,
        "product_gflops": flops / median(floors) / 1e9,
        "rounds": rounds,
        "rows": [_row(name, times, floors) for name in times],
    }


def _row(name: str, times: Mapping[str, Sequence[Times]], floors: Sequence[float]) -> dict[str, Any]:
    cpu, wall = zip(*times[name], strict=True)
    plain = times["plain"]
    return {
        "way": name,
        "cpu_ms": median(cpu) * 1e3,
        "cpu_ms_range": (min(cpu) * 1e3, max(cpu) * 1e3),
        "wall_ms": median(wall) * 1e3,
        "of_script": median(one / other for one, (other, _) in zip(cpu, times[SCRIPT], strict=True)),
        "of_plain": median(one / other for one, (other, _) in zip(cpu, plain, strict=True)),
        "wall_of_plain": median(one / other for one, (_, other) in zip(wall, plain, strict=True)),
        "of_floor": median(one / other for one, other in zip(cpu, floors, strict=True)),
    }


def table(name: str, found: dict[str, Any]) -> Iterator[str]:
    """Yield the figures of a network as lines of text."""
    yield (
        f"{name}: {found['parameters'] / 1e6:.1f} M parameters, a point is {found['inputs']}, {found['gflop']:.1f} "
        f"GFLOP; matrix product {found['product_gflops']:.0f} GFLOP/s; 1 thread, {found['rounds']} rounds"
    )
    yield "                  CPU ms         range  wall ms  CPU of script  CPU of plain  wall of plain  CPU of floor"
    for row in found["rows"]:
        low, high = row["cpu_ms_range"]
        yield (
            f"{row['way']:16}{row['cpu_ms']:8.0f}{f'{low:.0f}-{high:.0f}':>14}{row['wall_ms']:9.0f}"
            f"{row['of_script']:15.3f}{row['of_plain']:14.3f}{row['wall_of_plain']:15.3f}{row['of_floor']:14.2f}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="CPU time of a point of today's networks, beside plain inference.")
    parser.add_argument("--networks", nargs="+", default=list(SUBJECTS), choices=SUBJECTS)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of SmolLM2")
    parser.add_argument("--batches", type=int, default=1, help="of a point")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_memory()
    report = {}
    for name in options.networks:
        if name == SMOLLM2 and not (options.folder / "config.json").exists():
            sys.stdout.write(f"{name}: left out, because there is no {options.folder / 'config.json'}.\n\n")
            continue
        with script(name, options.folder, options.batches) as by_hand:
            report[name] = measure_network(SUBJECTS[name](options.folder, options.batches), options.rounds, by_hand)
        sys.stdout.write("\n".join(table(name, report[name])) + "\n\n")
        sys.stdout.flush()
        gc.collect()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

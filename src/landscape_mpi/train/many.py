"""The `train` command: several jobs, each of them whole on one rank; knows no network."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from landscape_mpi.errors import Exit, UserError, from_here
from landscape_mpi.job import JobFile, TrainJob, load_job
from landscape_mpi.log import log, report, say
from landscape_mpi.mpi.node import choose_device
from landscape_mpi.mpi.shutdown import Interrupted, Stop, job_end, stop_time
from landscape_mpi.mpi.world import World, failure_text, on_root
from landscape_mpi.plugin import is_plugin
from landscape_mpi.train.run import train_job

WORST = (Exit.RUN_AGAIN, Exit.INTERNAL, Exit.USER, Exit.COMPLETE)
"""Which exit code says how all jobs together ended: the first that any of them ended with."""
GO_ON = "all complete epochs are kept: run the same command again to go on."


@dataclass(frozen=True)
class Options:
    """The operational flags of a training; none of them is part of a job."""

    device: str = "auto"
    overwrite: bool = False
    quiet: bool = False
    time_limit: float | None = None
    verbose: bool = False


def train_jobs(paths: Sequence[Path], options: Options, world: World) -> Exit:
    """Train the networks of all job files; of n ranks, rank r takes the jobs r, r + n, ...; collective.

    A job that fails keeps none of the others from being trained.
    """
    began, end = time.time(), on_root(world, job_end, os.environ)
    stop = Stop(stop_time(options.time_limit, end, began))
    with stop.listening():
        try:
            jobs = on_root(world, _load, paths)
        except UserError as error:
            log(world, f"error: {error}")
            world.barrier()
            return Exit.USER
        if world.size > len(jobs):
            log(world, f"note: {len(jobs)} jobs for {world.size} ranks: a job is trained by one rank, the rest wait.")
        codes = [_Training(job, options, world, stop, len(jobs) > 1).run() for job in jobs[world.rank :: world.size]]
        everyone = [code for found in world.allgather(codes) for code in found]
    return next(code for code in WORST if code in everyone)


def _load(paths: Sequence[Path]) -> list[JobFile[TrainJob]]:
    """Read all job files and see that none of them is in the way of another."""
    jobs = [load_job(path, TrainJob) for path in paths]
    _check_folders(jobs)
    _check_modules(jobs)
    return jobs


def _check_folders(jobs: Sequence[JobFile[TrainJob]]) -> None:
    folders: dict[Path, Path] = {}
    for job in jobs:
        folder = job.resolve(job.values.train.output)
        if folder in folders:
            raise UserError(
                "train.output", f"{folders[folder]} and {job.path} both write into {folder}", expected="a folder each"
            )
        folders[folder] = job.path


def _check_modules(jobs: Sequence[JobFile[TrainJob]]) -> None:
    """Refuse modules of one name beside different job files: a process imports the first of them only."""
    places: dict[str, Path] = {}
    for job in jobs:
        folder = job.path.parent.resolve()
        for name in filter(is_plugin, (job.values.model.build, job.values.data.build, job.values.loss)):
            module = name.partition(":")[0].partition(".")[0]
            beside = any((folder / f"{module}{suffix}").exists() for suffix in ("", ".py"))
            if beside and places.setdefault(module, folder) != folder:
                raise UserError(
                    job.path,
                    (
                        f"the module {module} beside it is another one than in {places[module]}, and a process imports "
                        "one of a name"
                    ),
                    remedy="train these jobs one command each",
                )


@dataclass(frozen=True)
class _Training:
    """One job on this rank."""

    job: JobFile[TrainJob]
    options: Options
    world: World
    stop: Stop
    named: bool
    """Whether what is printed says which job it is about."""

    def run(self) -> Exit:
        """Train it, print how that ended, and return the exit code."""
        try:
            self.stop.check()
            place = self._train()
        except Interrupted as reason:
            return self._say(f"stopped by {reason}; {GO_ON}", Exit.RUN_AGAIN)
        except UserError as error:
            return self._say(error.told(self.options.verbose), Exit.USER)
        except BaseException:
            return self._say(f"error: {failure_text(self.world)}", Exit.INTERNAL)
        report(str(place))
        return Exit.COMPLETE

    def _train(self) -> Path:
        device = choose_device(self.options.device, self.world.local_rank, torch.cuda.device_count())
        report: Callable[[str], None] = _ignore if self.options.quiet else self._note
        return train_job(self.job, device, report, stop=self.stop, overwrite=self.options.overwrite)

    def _say(self, text: str, code: Exit) -> Exit:
        self._note(text)
        return code

    def _note(self, text: str) -> None:
        # in one piece: other ranks write too
        say(from_here(f"{self.job.path}: {text}" if self.named else text))


def _ignore(text: str) -> None:
    pass

"""A job file -> its checked, frozen values; every mistake is one sentence that names the key."""

from pathlib import Path

import msgspec

from landscape_mpi.errors import UserError
from landscape_mpi.job.checks import mistakes
from landscape_mpi.job.explain import explain
from landscape_mpi.job.text import parse, read_text
from landscape_mpi.job.values import AnyJob, JobFile


def load_job(path: Path, kind: type[AnyJob]) -> JobFile[AnyJob]:
    """Return the job file at `path`, read as a `SweepJob` or a `TrainJob`.

    Raises:
        UserError: the file cannot be read, or a key is unknown, missing or has a value that does not fit.
    """
    return read_job(read_text(path), path, kind)


def read_job(text: str, path: Path, kind: type[AnyJob]) -> JobFile[AnyJob]:
    """Return the job that `text` holds; `path` is named in messages and is where relative paths start.

    Raises:
        UserError: as `load_job`.
    """
    document = parse(text, path)
    try:
        values = msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {explain(error, document, kind)}") from None
    for sentence in mistakes(values):
        raise UserError(f"{path}: {sentence}")
    return JobFile(path=_absolute(path), text=text, values=values)


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()  # a job that is a link has its paths start where the link lies
    except OSError:
        raise UserError(path, "the working directory is gone", remedy="change to one that is there") from None

"""Reads a job file, which is untrusted YAML, into checked, frozen values; holds the job that `init` writes."""

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from landscape_mpi.errors import UserError
from landscape_mpi.files.paths import check_input
from landscape_mpi.job.checks import mistakes
from landscape_mpi.job.explain import explain
from landscape_mpi.job.schema import AnyJob, JobFile

LARGEST = 1_000_000
MOST = 20_000
"""Values and keys in one file: PyYAML, which is written in Python, takes half a second for so many."""
DIGITS = 100
"""Characters of a number: to read one of a million, such as 1:1:1:... to the base 60, takes minutes."""
SHOWN = 200
"""Characters of what PyYAML says that a message repeats."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_HALF = re.compile("[\ud800-\udfff]")
_MERGE = "tag:yaml.org,2002:merge"


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
    values = read_values(parse(text, path), str(path), kind)
    try:
        return JobFile(path.absolute(), text, values)  # a job that is a link has its paths start where the link lies
    except OSError:
        raise UserError(path, "the working directory is gone", remedy="change to one that is there") from None


def read_values(document: object, place: str, kind: type[AnyJob]) -> AnyJob:
    """Return the values that mappings, lists and plain values say; `place` is what messages begin with.

    Raises:
        UserError: a key is unknown, missing or has a value that does not fit.
    """
    mistake: UserError | None
    try:
        values = msgspec.convert(document, kind)
    except msgspec.ValidationError:
        mistake = explain(document, kind)
    else:
        mistake = next(mistakes(values), None)
        if mistake is None:
            return values
    mistake.place = place
    raise mistake


def read_text(path: Path) -> str:
    """Return the text of a job file.

    Raises:
        UserError: the file is missing, unreadable, larger than 1 MB or not UTF-8.
    """
    check_input(path, "", "a job file, such as `python -m landscape_mpi init job.yaml` writes")
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise UserError(
                path, f"the job file is larger than {LARGEST:,} bytes", remedy="a job file is a page of YAML"
            )
        return raw.decode("utf-8")
    except OSError as error:
        raise UserError(path, f"the job file cannot be read ({error.strerror})", expected="a YAML file") from None
    except UnicodeDecodeError:
        raise UserError(path, "the job file is not UTF-8 text", expected="a YAML file") from None


def parse(text: str, path: Path) -> dict[str, Any]:
    """Return the mapping that the YAML text holds.

    Raises:
        UserError: the text is not plain YAML (tags, aliases, repeated keys) or not a mapping.
    """
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}", f"not readable as plain YAML: {_short(str(error.problem))}") from None
    except RecursionError:
        raise UserError(path, "not readable as plain YAML: it is nested too deeply") from None
    except Exception as error:  # PyYAML lets through what Python says of characters, dates and numbers beyond its own
        raise UserError(path, f"not readable as plain YAML: {_short(' '.join(str(error).split()))}") from None
    if not isinstance(document, dict):
        raise UserError(
            path,
            f"found {'nothing' if document is None else f'a {type(document).__name__}'} at the top",
            expected=(
                "keys such as `model:`, `data:`, `plane:`; `python -m landscape_mpi init job.yaml` writes an example"
            ),
        )
    return document


class _Loader(yaml.SafeLoader):
    """SafeLoader of mappings, lists and plain values alone.

    Refused are tags, aliases (a few lines of them expand to gigabytes), merge keys, keys that are no plain values,
    repeated keys, numbers of more than 100 characters, and more than 20,000 values.
    """

    _nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _problem("an alias (*name) is not read here: write the value out", event)
        if event.tag is not None:
            raise _problem(f"a tag ({_short(event.tag)}) is not read here: write the value without it", event)
        self._nodes += 1
        if self._nodes > MOST:
            raise _problem(f"there are more than {MOST:,} values; a job file is a page of YAML", event)
        node = super().compose_node(parent, index)
        if node is not None and node.tag in _NUMBERS and len(node.value) > DIGITS:
            raise _problem(f"a number of {len(node.value):,} characters; expected at most {DIGITS}", event)
        if isinstance(node, yaml.ScalarNode) and _HALF.search(node.value):
            raise _problem("half a character (an escape from \\ud800 to \\udfff) is not read here", event)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem("a list or a mapping for a key is not read here", key)
            if key.tag == _MERGE:
                raise _problem("the merge key << is not read here: write the keys out", key)
            if key.tag == "tag:yaml.org,2002:value":  # a bare =, which is text like any other
                key.tag = "tag:yaml.org,2002:str"
            names = {str(key.value), self.construct_object(key)}
            if seen & names:
                raise _problem(f"the key `{_short(key.value)}` stands twice: keep one", key)
            seen |= names
        return super().construct_mapping(node, deep)


def _problem(text: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=place.start_mark)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


TEMPLATE = """\
# A loss landscape: f(alpha, beta) = L(theta* + alpha delta + beta eta).
# Check it:   python -m landscape_mpi check job.yaml
# Compute it: mpirun -n 4 python -m landscape_mpi sweep job.yaml     (again to go on where it stopped)
# Draw it:    landscape-plot surface.h5
# Every key is explained in docs/job.md. Relative paths start at this file's folder.

model:
  build: resnet20                   # resnet20/32/44/56/110, huggingface, or "package.module:callable" (runs your code)
  options: {shortcut: projection}   # keyword arguments; the ResNets' shortcut: projection, pad or none
  checkpoint: nets/resnet20.pt      # theta*: .safetensors, a Hugging Face folder, or what torch.save wrote

data:
  build: cifar10                    # cifar10, shapes10 (needs no download), text, or "package.module:callable"
  root: data                        # the folder of cifar-10-batches-py; `fetch cifar10 --root data` fills it
  # normalize: {mean: [0.4914, 0.4824, 0.4467], std: [0.2471, 0.2435, 0.2616]}   # as in training
  splits: [train, test]             # each is evaluated at every point
  limit: 1000                       # the first n examples of each split; leave it out for all

loss: cross_entropy                 # or mse, next_token, or "package.module:callable"

plane:
  kind: random                      # or interpolate (with `to:`, `via:`), pca (`trajectory:`), hessian, file (`path:`)
  seed: 0
  normalize: filter                 # filter, layer, weight or none
  ignore: biasbn                    # leave biases and batch norm alone; or none, or name patterns

grid:
  alpha: [-1, 1, 25]                # first, last, number of points
  beta: [-1, 1, 25]                 # leave it out for a line

metrics: [loss, accuracy]           # and hessian: the extreme eigenvalues at every point (docs/curvature.md)
evaluate: {batch: auto, dtype: float32, batchnorm: keep, engine: auto}
# sampling: {error: 0.02}           # some examples a point, for 95 % error bars of 2 % (docs/sampling.md)
output: {file: surface.h5}
"""

"""Writes the job of `init --model`: a line through the language model of a Hugging Face folder, which runs as it is."""

import os
import shlex
from pathlib import Path
from typing import Any

import yaml

from landscape_mpi.data.text import TextOptions, read_text
from landscape_mpi.errors import Flag, UserError
from landscape_mpi.files.paths import FILE, FOLDER, found
from landscape_mpi.networks.huggingface import read_config

CAUSAL = ("ForCausalLM", "LMHeadModel")
"""How the names of classes that predict the next token end."""
CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
"""Keys of a config.json that say how many tokens a model takes."""
LONGEST, SHORTEST = 512, 8
"""Tokens of a window: the number that models are usually compared with, where text and context allow it; the fewest."""
WINDOWS = 64
"""Windows of a text that a first job evaluates."""
ENOUGH = 16
"""Windows that a text must have; where it has fewer, they are cut shorter."""
OWN = "README.md"
"""The text that folders come with."""
TO_FILL_IN = "my-text.txt"
JOB = """\
# A loss landscape of {name}: f(alpha) = L(theta* + alpha delta).
# Check it:   python -m landscape_mpi check {job}
# Compute it: mpirun -n 4 python -m landscape_mpi sweep {job}     (again to go on where it stopped)
# Draw it:    landscape-plot {draw}
# docs/job.md and docs/language.md of the sources explain every key. Relative paths start at this file's folder.

model:
  build: huggingface                # {kind} of transformers
  checkpoint: {folder}

data:
  build: text
  root: {text}    # {about}
  options: {options}    # tokens of a window, which is one example
  splits: [train]                   # one text; a second one: root "texts/{{split}}.txt" and splits [train, test]
  limit: {windows}                         # the first n windows; leave it out for all

loss: next_token                    # the mean over a window of -log p, in nats; exp of it is the perplexity
metrics: [loss]

plane:
  kind: random
  seed: 0
  normalize: filter

grid:
  alpha: auto                       # as far as the loss rises by 1 nat, on both sides; add `beta: auto` for a plane

evaluate: {{dtype: {dtype}}}          # {precision}
# sampling: {{error: 0.02}}           # some windows per point, for 95 % error bars of 2 % (docs/sampling.md)
output: {{file: {output}}}
"""


def first_job(folder: Path, data: Path | None, target: Path) -> tuple[str, tuple[str, ...]]:
    """Return the text of a job on a model and a text, and notes on what is to be filled in.

    Args:
        folder: As `save_pretrained` writes it: config.json, weights and tokenizer.json.
        data: A text file, or a pattern of names; None for the one that lies in the folder, if any.
        target: Where the job file is to lie; its relative paths start at its folder.

    Raises:
        UserError: There is no such folder, it holds no language model or no tokenizer, or the text is none.
    """
    if found(folder) != FOLDER:
        raise UserError(Flag("model"), f"{folder} is no folder", expected="a Hugging Face folder, with its config.json")
    config = read_config(folder / "config.json")
    kind = str(next(iter(config.get("architectures") or ["a model without a class"])))
    if not kind.endswith(CAUSAL):
        raise UserError(
            Flag("model"),
            f"{folder} holds {kind}",
            expected="a language model, whose class is called ...ForCausalLM",
            remedy="For another model start from init alone, with build: huggingface and data of your own",
        )
    own = folder / OWN
    text = data or (own if found(own) == FILE else None)
    sections = [config, *(part for part in config.values() if isinstance(part, dict))]
    known = (part.get(key) for part in sections for key in CONTEXT)
    longest = min([LONGEST, *(tokens for tokens in known if isinstance(tokens, int) and tokens >= SHORTEST)])
    options, windows = _cut(folder, text, longest)
    about = "UTF-8: a file, or a pattern such as texts/*.txt"
    if data is None:
        about = f"the text of the folder; any other: {about}" if text else f"FILL IN a text of your own, {about}"
    notes = () if text else (f"{target}: fill in data.root, the text to evaluate",)
    where, output = _from(folder, target), f"{target.stem}.h5"
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    words = JOB.format(
        name=folder.resolve().name,
        job=shlex.quote(target.name),
        draw=shlex.quote(output),
        kind=kind,
        folder=_in_yaml(where),
        text=_in_yaml(_from(text, target) if text else TO_FILL_IN),
        about=about,
        options=_in_yaml({"tokenizer": where, **options}),
        windows=windows,
        dtype="float64" if stored == "float64" else "float32",
        precision=f"the weights are {stored}, which it holds exactly",
        output=_in_yaml(output),
    )
    return words, notes


def _cut(folder: Path, text: Path | None, longest: int) -> tuple[dict[str, Any], int]:
    """Return how a text is cut into windows, and how many of them are taken.

    The windows are halved until there are enough. Special tokens are put around each window where the tokenizer puts
    any around a text.

    Raises:
        UserError: There is no tokenizer, or not one window.
    """
    if text is None:
        return {"length": longest}, WINDOWS
    root, tokenizer, length = text.absolute(), str(folder.absolute()), longest
    least = TextOptions(tokenizer, SHORTEST)
    tokens = SHORTEST * len(read_text(root, "train", least, WINDOWS * longest // SHORTEST)[0])
    while tokens < ENOUGH * length and length // 2 >= SHORTEST:
        length //= 2
    plain, around = (
        read_text(root, "train", TextOptions(tokenizer, length, special=special), WINDOWS)[0]
        for special in (False, True)
    )
    return {"length": length, **({"special": True} if (around[0] != plain[0]).any() else {})}, len(around)


def _from(path: Path, target: Path) -> str:
    """Return a path as a job at `target` names it: absolute where it was given so, or relative to the job's folder."""
    return str(path) if path.is_absolute() else os.path.relpath(path, target.parent)


def _in_yaml(value: object) -> str:
    """Return a value on one line, as it may stand anywhere in a job."""
    listed: str = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return listed.strip()[1:-1]

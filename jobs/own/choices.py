"""Multiple-choice questions from a file of JSON lines, answered by a language model as lm-eval does, by log-likelihood.

The score of a choice is the sum of log p over its tokens after the question's; the highest one is the answer.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor


def data(root: str, split: str, tokenizer: str, length: int = 1024) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG001
    """Return the tokens of each question with its right choice [n, L], and all that scores its choices.

    Args:
        root: The file: on each line `{"context": ..., "choices": [...], "answer": 0}`, or what `lm_eval --log_samples`
            writes of a multiple-choice task.
        split: Not used: a file is one split.
        tokenizer: The folder of the model, from the file's folder on.
        length: Tokens of a question with a choice; longer ones lose their beginning.
    """
    tokens = Tokenizer.from_file(str(Path(root).parent / tokenizer / "tokenizer.json"))
    tokens.no_truncation()
    tokens.no_padding()
    with Path(root).open(encoding="utf-8") as lines:
        questions = [question(json.loads(line)) for line in lines if line.strip()]
    coded = [[code(tokens, *pair, length) for pair in pairs] for pairs, _ in questions]
    most, longest = max(map(len, coded)), max(len(ids) for pairs in coded for ids, _ in pairs)
    choices = torch.zeros(len(coded), most, longest, dtype=torch.int64)
    counted = torch.zeros(len(coded), most, longest, dtype=torch.bool)
    characters = torch.ones(len(coded), most)
    for row, (pairs, (texts, _)) in enumerate(zip(coded, questions, strict=True)):
        for column, ((ids, start), (_, choice)) in enumerate(zip(pairs, texts, strict=True)):
            choices[row, column, : len(ids)] = torch.tensor(ids)
            counted[row, column, start : len(ids)] = True
            characters[row, column] = len(choice.removeprefix(" "))
    answers = torch.tensor([answer for _, answer in questions])
    every = torch.arange(len(answers))
    scores = {"choices": choices, "counted": counted, "characters": characters, "answer": answers}
    return choices[every, answers], {"right": counted[every, answers], "tokens": choices[every, answers], **scores}


def question(row: Mapping[str, Any]) -> tuple[list[tuple[str, str]], int]:
    """Return pairs of a context and a choice, and the number of the right one."""
    if "arguments" in row:  # of lm-eval's samples
        return [(pair["arg_0"], pair["arg_1"]) for pair in row["arguments"].values()], int(row["target"])
    return [(row["context"], f" {choice}") for choice in row["choices"]], int(row["answer"])


def code(tokenizer: Tokenizer, context: str, choice: str, length: int) -> tuple[list[int], int]:
    """Return the tokens of both together, and the place of the choice's first; spaces between them are the choice's."""
    end = len(context.rstrip())
    whole = tokenizer.encode(context + choice, add_special_tokens=False).ids
    start = len(tokenizer.encode(context[:end], add_special_tokens=False).ids)
    cut = max(0, len(whole) - length)
    return whole[cut:], max(1, start - cut)


def scores(outputs: Any, ids: Tensor, counted: Tensor) -> Tensor:
    """Return the sum of log p over the tokens that count, float64 [n], from logits [n, L, vocabulary]."""
    logits = outputs.logits[:, :-1].double()
    found = logits.gather(-1, ids[:, 1:, None]).squeeze(-1) - logits.logsumexp(-1)
    return (found * counted[:, 1:]).sum(1)


def loss(outputs: Any, targets: Mapping[str, Tensor]) -> Tensor:
    """Return -log p of the right choice, in nats [n]."""
    return -scores(outputs, targets["tokens"], targets["right"])


def answers(outputs: Any, targets: Mapping[str, Tensor], network: Callable[[Tensor], Any]) -> dict[str, Tensor]:  # noqa: ARG001
    """Return whether the likeliest choice is right [n]: acc of lm-eval, and acc_norm, by log p a character."""
    choices, counted = targets["choices"], targets["counted"]
    columns = [scores(network(choices[:, c]), choices[:, c], counted[:, c]) for c in range(choices.shape[1])]
    found = torch.stack(columns, 1).masked_fill(~counted.any(2), -torch.inf)
    by_character = found / targets["characters"]
    return {
        name: by.argmax(1) == targets["answer"] for name, by in (("correct", found), ("correct_norm", by_character))
    }

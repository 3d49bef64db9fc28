"""English text of any length, tokenizers that were trained on some of it, and a tiny causal transformer."""

from pydoc_data.topics import topics

import torch
from torch import nn

VOCABULARY = 400
TEXT = "\n\n".join(topics[name] for name in sorted(topics))
"""What CPython's help says of its topics: 440,000 characters of English, the same for one version of Python."""


def tokenizer(kind="bytes"):
    """A tokenizer of `VOCABULARY` tokens, as GPT-2's (bytes), Llama's (prepended) or T5's (unigram) are made."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False
        )
    elif kind == "prepended":
        made = Tokenizer(models.BPE(unk_token="<unk>"))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<unk>"], show_progress=False)
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    else:
        made = Tokenizer(models.Unigram())
        made.normalizer = normalizers.NFKC()
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=VOCABULARY, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
        )
    made.train_from_iterator([TEXT[:20_000]], trainer)
    if kind == "prepended":
        made.pre_tokenizer = None
    return made


def surrounded():
    """The tokenizer of bytes, which puts <s> before a text and </s> after it."""
    from tokenizers import processors

    made = tokenizer()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return made


class Transformer(nn.Module):
    """Embeddings of tokens and places, a causal layer of torch's own, and logits of the next token."""

    def __init__(self, width=16, length=32):
        super().__init__()
        self.embedding, self.place = nn.Embedding(VOCABULARY, width), nn.Embedding(length, width)
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, input_ids):
        length = input_ids.shape[1]
        x = self.embedding(input_ids) + self.place(torch.arange(length, device=input_ids.device))
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=x.device, dtype=x.dtype)
        return {"logits": self.head(self.layer(x, src_mask=mask, is_causal=True))}


def network():
    """The transformer, with the weights of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Transformer()


def language_job(folder, name="job.yaml", **changes):
    """Write a job on 12 + 8 windows of text, its tokenizer and its network; changes are dotted keys with `__`."""
    from support.jobs import changed, write_job

    (folder / "tok").mkdir(exist_ok=True)
    tokenizer().save(str(folder / "tok/tokenizer.json"))
    (folder / "train.txt").write_text(TEXT[:1200], encoding="utf-8")
    (folder / "test.txt").write_text(TEXT[5000:5900], encoding="utf-8")
    torch.save(network().state_dict(), folder / "net.pt")
    job = {
        "model": {"build": "support.texts:network", "checkpoint": "net.pt"},
        "data": {"build": "text", "root": "{split}.txt", "options": {"tokenizer": "tok", "length": 32}},
        "loss": "next_token",
        "metrics": ["loss"],
        "plane": {"kind": "random", "seed": 3},
        "grid": {"alpha": [-1, 1, 5]},
        "output": {"file": "surface.h5"},
    }
    return write_job(folder / name, changed(job, {key.replace("__", "."): value for key, value in changes.items()}))

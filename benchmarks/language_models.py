"""Transformers and made-up tokens for the jobs of `large.py`, as a user's own module would hold them."""

from pathlib import Path

import torch
from torch import Tensor, nn

HEAD = 64
"""Width of a head of attention."""


class Adapted(nn.Linear):
    """A linear layer to which the product of two narrow matrices is added, as LoRA does: y = W x + B A x."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__(inputs, outputs)
        self.a, self.b = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs [..., outputs] of inputs [..., inputs]."""
        outputs: Tensor = super().forward(x) + self.b(self.a(x))
        return outputs


class Block(nn.Module):
    """Causal attention and two layers, each with a shortcut and a layer norm before it."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = Adapted(width, 3 * width, rank) if rank else nn.Linear(width, 3 * width)
        self.out = Adapted(width, width, rank) if rank else nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, length, width] of the same."""
        n, length, width = x.shape
        q, k, v = self.qkv(self.before(x)).view(n, length, 3, width // HEAD, HEAD).permute(2, 0, 3, 1, 4)
        heads = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(heads.transpose(1, 2).reshape(n, length, width))
        outputs: Tensor = x + self.down(nn.functional.gelu(self.up(self.between(x))))
        return outputs


class Transformer(nn.Module):
    """Tokens [n, length] -> logits of the token that follows each, [n, length, vocabulary]."""

    def __init__(self, layers: int, width: int, vocabulary: int, length: int, lora: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, lora) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the logits."""
        x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1], device=input_ids.device))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def transformer(
    layers: int = 8, width: int = 1024, vocabulary: int = 8192, length: int = 512, lora: int = 0
) -> Transformer:
    """Return the transformer, by default of 118 million parameters; `lora`: the rank of what is added to attention."""
    return Transformer(layers, width, vocabulary, length, lora)


def tokens(
    root: Path | None, split: str, windows: int = 16, length: int = 32, vocabulary: int = 8192
) -> tuple[Tensor, Tensor]:
    """Return windows of random tokens, int64 [windows, length], and the same as the targets of `next_token`."""
    del root, split
    made = torch.randint(vocabulary, (windows, length), generator=torch.Generator().manual_seed(0))
    return made, made.clone()

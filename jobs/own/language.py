"""A small transformer that learns to add, on batches of several named tensors, with a loss over tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional

SYMBOLS = "0123456789+= "


class Block(nn.Module):
    """Causal self-attention, then two linear layers, each normalised before and added after."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_linear = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.linear = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, length, width] to the same."""
        n, length, width = x.shape
        parts = self.queries_keys_values(self.before_attention(x)).view(n, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, width))
        return x + self.linear(self.before_linear(x))


class Transformer(nn.Module):
    """Embeddings, blocks, and logits of the next token."""

    def __init__(self, width: int, heads: int, blocks: int, length: int) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(len(SYMBOLS), width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(SYMBOLS))

    def forward(self, tokens: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """Map tokens [n, length] and their positions [n, length] to logits [n, length, symbols]."""
        x = self.blocks(self.embedding(tokens) + self.position(positions))
        return {"logits": self.head(self.norm(x))}


def network(width: int = 32, heads: int = 2, blocks: int = 2, length: int = 9) -> Transformer:
    """Return the transformer; a job's `model.options` are the arguments."""
    return Transformer(width, heads, blocks, length)


def sums(root: str | None, split: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:  # noqa: ARG001 - nothing on disk
    """Return additions of two numbers below 100: a tenth of them is the test split, chosen at random."""
    texts = [f"{a}+{b}={a + b}".ljust(10) for a in range(100) for b in range(100)]
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    chosen = order[:1000] if split == "test" else order[1000:]
    tokens = torch.tensor([[SYMBOLS.index(symbol) for symbol in texts[i]] for i in chosen.tolist()])
    # what comes after the equals sign is asked for
    asked = (tokens[:, :-1] == SYMBOLS.index("=")).cumsum(1)
    positions = torch.arange(tokens.shape[1] - 1).expand(len(tokens), -1).contiguous()
    return {"tokens": tokens[:, :-1], "positions": positions}, {"next": tokens[:, 1:], "asked": asked}


def token_loss(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Return the mean cross entropy over the tokens asked for of each example, [n]."""
    losses = functional.cross_entropy(outputs["logits"].transpose(1, 2), targets["next"], reduction="none")
    return (losses * targets["asked"]).sum(1) / targets["asked"].sum(1)

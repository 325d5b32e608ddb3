"""A language model of Llama's shape in plain torch, small enough for four processes on a laptop."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Block", "SmallLlama", "tokens"]


class Block(nn.Module):
    """Attention and a gated MLP, each added to what came in."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.RMSNorm(dim)
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.mlp_norm = nn.RMSNorm(dim)
        self.gate = nn.Linear(dim, 3 * dim, bias=False)
        self.up = nn.Linear(dim, 3 * dim, bias=False)
        self.down = nn.Linear(3 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes in and out: (batch, tokens, dim)."""
        h = self.attention_norm(x)
        # Under tensor parallelism q, k and v are the heads of this process.
        size = x.shape[-1] // self.num_heads
        q, k, v = (p(h).unflatten(-1, (-1, size)).transpose(1, 2) for p in (self.q, self.k, self.v))
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(heads.transpose(1, 2).flatten(-2))
        h = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class SmallLlama(nn.Module):
    """Embedding, blocks, norm, head."""

    def __init__(self, *, vocab: int = 97, dim: int = 48, num_heads: int = 4, depth: int = 4):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.blocks = nn.ModuleDict({str(i): Block(dim, num_heads) for i in range(depth)})
        self.norm = nn.RMSNorm(dim)
        self.head = nn.Linear(dim, vocab, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (batch, tokens) to logits; a stage that lacks a part does without it."""
        if self.embed is not None:
            x = self.embed(x)
        for block in self.blocks.values():
            x = block(x)
        return x if self.head is None else self.head(self.norm(x))

    def loss(self, tokens: Tensor) -> Tensor:
        """Cross entropy of each next token."""
        logits = self(tokens[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def tokens(*, seed: int = 0) -> Tensor:
    """Some text, the same on every process."""
    return torch.randint(97, (4, 17), generator=torch.Generator().manual_seed(seed))

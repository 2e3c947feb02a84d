"""A small decoder-only transformer over bytes, for training on a few CPU cores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GPT(nn.Module):
    """Next-byte logits: [rows, time] whole numbers below 256 -> [rows, time, 256].

    A transformer (Radford et al. 2019) with pre-norm, rotary positions (Su et al. 2021) and squared-ReLU (So et al.
    2021). What it takes for granted after so few steps comes from one short causal convolution over the embeddings: it
    shows each position its last `reach` bytes before attention has learnt to look for them.

    Args:
        layers, width, heads: of the transformer; `width` is a multiple of twice `heads`.
        reach: bytes that the convolution spans.
    """

    def __init__(self, layers: int = 3, width: int = 128, heads: int = 4, reach: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.near = nn.Conv1d(width, width, reach)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        x = self.embed(tokens)
        before = self.near.kernel_size[0] - 1
        x = x + self.near(F.pad(x.transpose(1, 2), (before, 0))).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    @torch.no_grad()
    def write(self, start: bytes, length: int, context: int, temperature: float = 0.6, seed: int = 0) -> bytes:
        """`start` and `length` bytes after it, drawn one by one from the model; it sees the last `context` of them."""
        draw = torch.Generator().manual_seed(seed)
        text = torch.tensor([list(start)], device=self.head.weight.device)
        for _ in range(length):
            odds = (self(text[:, -context:])[0, -1] / temperature).softmax(-1)
            text = torch.cat([text, torch.multinomial(odds.cpu(), 1, generator=draw).to(text.device)[None]], dim=1)
        return bytes(text[0].tolist())


class Block(nn.Module):
    """Causal self-attention, then a feed-forward layer; each adds to its input. Both begin as zero."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[rows, time, width] -> the same shape."""
        rows, time, width = x.shape
        parts = self.qkv(self.attention_norm(x)).view(rows, time, 3, self.heads, -1).transpose(1, 3)
        query, key, value = parts.unbind(2)  # each [rows, heads, time, width / heads]
        seen = F.scaled_dot_product_attention(rotate(query), rotate(key), value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(rows, time, width))
        return x + self.down(F.relu(self.up(self.forward_norm(x))).square())


def rotate(x: Tensor) -> Tensor:
    """Rotary positions: turns pairs of channels of [..., time, channels] by angles that grow with time."""
    time, channels = x.shape[-2:]
    speed = 1000.0 ** (-torch.arange(0, channels, 2, device=x.device) / channels)
    angle = torch.arange(time, device=x.device)[:, None] * speed
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * angle.cos() - right * angle.sin(), left * angle.sin() + right * angle.cos()], dim=-1)

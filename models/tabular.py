"""A network for rows of a table: embeddings of categories beside numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Tabular(nn.Module):
    """One number for each row: (categories [rows, c], numbers [rows, n]) -> [rows].

    Args:
        sizes: how many values each category has.
        numbers: how many numbers a row has.
        width: of the two hidden layers.
        embedding: channels for each category.
        unit: what an output of 1 stands for: about the spread of what is predicted.
    """

    def __init__(
        self, sizes: Sequence[int], numbers: int, width: int = 128, embedding: int = 8, dropout: float = 0.1,
        unit: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.unit = unit
        self.embeddings = nn.ModuleList(nn.Embedding(size, embedding) for size in sizes)
        self.layers = nn.Sequential(
            nn.Linear(embedding * len(sizes) + numbers, width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        """See the class."""
        embedded = [table(categories[:, i].long()) for i, table in enumerate(self.embeddings)]
        return self.layers(torch.cat([*embedded, numbers], dim=1))[:, 0] * self.unit

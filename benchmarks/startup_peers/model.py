"""The model and the step that every contestant runs, and the mark of the first step."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

BATCH, STEPS = 64, 20


def make_model() -> torch.nn.Module:
    """A small perceptron; the start is what counts."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))


def make_optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    """What most people write."""
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: Any, y: Any) -> torch.Tensor:
    """One training step; x [B, 16], y [B]."""
    loss = (model(x).squeeze(1) - y).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def mark_first_step(rank: int) -> None:
    """Rank 0 notes the time of its first finished step."""
    path = Path(os.environ["STARTUP_MARK"])
    if rank == 0 and not path.exists():
        path.write_text(repr(time.time()))


def plain_batches(path: str, rank: int, world_size: int) -> Any:
    """The shard as batches of tensors, the way a short script reads it."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    x = torch.from_numpy(table["x"].combine_chunks().flatten().to_numpy().reshape(-1, 16).copy())
    y = torch.from_numpy(table["y"].to_numpy().copy())
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[rank::world_size]
    for number in range(STEPS):
        index = order[number * BATCH : (number + 1) * BATCH]
        yield x[index], y[index]

"""What both contestants train, and the mark of the first step: an object in the lake that holds the time."""

from __future__ import annotations

import time
from typing import Any

BATCH, STEPS = 64, 20


def make_model() -> Any:
    """A small perceptron; the start is what counts."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))


def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
    """One training step; x [B, 16], y [B]."""
    loss = (model(x).squeeze(1) - y).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def mark(url: str, rank: int) -> None:
    """Rank 0 notes the time of its first finished step."""
    if rank == 0:
        import fsspec

        with fsspec.open(url, "w") as file:
            file.write(repr(time.time()))

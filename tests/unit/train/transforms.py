"""Transforms of batches for tests with real ranks, and train functions that write down what came of them."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.unit.train.jobs import note


def noisy(batch: Any, config: Any) -> dict[str, Any]:
    """Other columns than it was given, with random numbers of every global generator; takes longer for some batches."""
    ids = batch["id"]
    act(config, batch)
    time.sleep(0.001 * (int(ids[0]) % 5))
    noise = batch["x"] + np.float32(random.random()) + np.random.rand(*batch["x"].shape).astype(np.float32)
    return {"id": ids, "x": noise, "y": torch.from_numpy(batch["y"]) * torch.rand(()), "words": [str(i) for i in ids]}


class Noisy:
    """The same, made once per process."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def __call__(self, batch: Any) -> dict[str, Any]:
        """See `noisy`."""
        return noisy(batch, self.config)


def act(config: Any, batch: Any) -> None:
    """What goes wrong at a batch: `at_step` is the first id from which on it does."""
    first = int(batch["id"][0])
    if config.act == "raise" and first >= config.at_step:
        raise ValueError(f"batch of {first} is bad")
    if config.act == "die" and first >= config.at_step:
        mark = Path(config.path) / "died"
        if not mark.exists():  # one worker alone, once
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if config.act == "hang" and os.environ.get("CUT_AT") and batch.positions.max() >= 128:
        time.sleep(600)  # it is ahead of the rank, which is killed meanwhile
    if config.act == "poison" and first >= config.at_step:
        os.kill(os.getpid(), signal.SIGKILL)


def seen(ctx: Any, config: Any) -> None:
    """Write down each batch: positions, ids, and a digest of all of its values."""
    total = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.SGD([total], lr=0.1)
    ctx.track(optimizer=optimizer)
    for batch in ctx.batches("train", global_batch_size=config.batch, epochs=config.epochs):
        values = b"".join(batch[name].numpy().tobytes() for name in ("x", "y"))
        digest = hashlib.sha256(values + " ".join(batch["words"]).encode()).hexdigest()
        note(ctx, config, [batch.epoch, batch.positions.tolist(), batch["id"].tolist(), digest], "seen")
        ctx.step(loss=batch["x"].mean(), noise=random.random())
        if os.environ.get("CUT_AT") == str(ctx.step_number) and ctx.rank == ctx.world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
    with ctx.phase("validation"):
        for batch in ctx.batches("validation", global_batch_size=config.batch, tail="wrap"):
            note(ctx, config, [batch["id"].tolist(), batch["x"].sum().item()], "validated")

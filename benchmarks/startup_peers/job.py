"""The same as a job of runner; inline it is one rank with the same global batch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from startup_peers.model import BATCH, STEPS, make_model, make_optimizer, mark_first_step, step

from runner import Dataset, Job, Train


@dataclass(frozen=True)
class Config:
    """Nothing to configure."""


def train(ctx: Any, config: Config) -> None:
    """On each rank."""
    model = ctx.prepare(make_model())
    optimizer = make_optimizer(model)
    ctx.track(model=model, optimizer=optimizer)
    for batch in ctx.batches("train", batch_size=BATCH):
        loss = step(model, optimizer, batch["x"], batch["y"])
        ctx.step(loss=loss)
        mark_first_step(ctx.rank)
        if ctx.step_number == STEPS:
            break


job = Job(
    name="startup",
    config=Config(),
    stages=[Train("train", fn=train, data={"train": Dataset(url=os.environ.get("STARTUP_DATA", "x"))}, workers=2)],
)

"""The same as a job of runner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.kube_peers.train import BATCH, STEPS, make_model, mark, step
from runner import Dataset, Job, Train


@dataclass(frozen=True)
class Config:
    """Where the mark of the first step goes."""

    mark: str = ""


def train(ctx: Any, config: Config) -> None:
    """On each rank."""
    import torch

    model = ctx.prepare(make_model())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ctx.track(model=model, optimizer=optimizer)
    for batch in ctx.batches("train", batch_size=BATCH, steps=STEPS):
        loss = step(model, optimizer, batch["x"], batch["y"])
        ctx.step(loss=loss)
        if ctx.step_number == 1:
            mark(config.mark, ctx.rank)


data = {"train": Dataset(url="s3://lake/benchmark/data.parquet")}
job = Job(name="startup", config=Config(), stages=[Train("train", fn=train, data=data, workers=2)])

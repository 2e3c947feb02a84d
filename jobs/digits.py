"""Handwritten digits: 1,797 images of 8 x 8 pixels -> a small convolutional network that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runner import Job, Prep, Train

if TYPE_CHECKING:
    from torch import nn

    from runner import TrainContext


@dataclass(frozen=True)
class Config:
    held_out: int = 5  # one image in so many is kept for the evaluation
    epochs: int = 15
    batch_size: int = 16  # images of each rank in a step
    lr: float = 2e-3


def prepare(batch: dict[str, np.ndarray], config: Config) -> dict[str, Any]:
    """Pixels from 0 to 16 become numbers from -1 to 1; every `held_out`-th image goes to the evaluation."""
    images, labels = batch["image"].astype("float32") / 8 - 1, batch["label"]
    apart = batch["id"] % config.held_out == 0
    sides = {"train": ~apart, "validation": apart}
    return {side: {"image": images[rows], "label": labels[rows]} for side, rows in sides.items()}


def network(channels: int = 32) -> nn.Module:
    """Images [rows, 8, 8] -> logits [rows, 10]."""
    from torch import nn  # here, so that `runner submit` and the preparation load no torch

    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(8 * channels, 10),
    )  # fmt: skip


def train(ctx: TrainContext, config: Config) -> None:
    """An ordinary loop of PyTorch; `ctx` brings the batches, and keeps metrics and checkpoints."""
    import torch

    model = ctx.prepare(network())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.996)  # by step
    ctx.track(model=model, optimizer=optimizer, schedule=schedule)
    for batch in ctx.batches("train", batch_size=config.batch_size, epochs=config.epochs):
        loss = torch.nn.functional.cross_entropy(model(batch["image"]), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        ctx.step(loss=loss)
        if ctx.every(steps=200):
            evaluate(ctx, model)
    evaluate(ctx, model)


def evaluate(ctx: TrainContext, model: nn.Module) -> None:
    """The share of held-out images that it reads rightly; `mask` is False for rows that only fill up a batch."""
    import torch

    model.eval()
    with ctx.phase("validation"), torch.no_grad():
        for batch in ctx.batches("validation", batch_size=100, shuffle=False, tail="wrap"):
            right = (model(batch["image"]).argmax(dim=1) == batch["label"]) & batch.mask
            ctx.log(validation_accuracy=right.sum() / batch.mask.sum().clamp(min=1))
    model.train()


data = {"train": "digits-train", "validation": "digits-validation"}
prep = Prep("prepare", fn=prepare, source="digits", sink=data, batch_format="numpy", uses=("held_out",))
learn = Train("train", fn=train, data=data, workers=2, best=("validation_accuracy", "max"))
job = Job(name="digits", config=Config(), stages=[prep, learn])

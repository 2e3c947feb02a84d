"""A small GPT learns to write Python from the source files of the standard library.

    runner submit stdlib_gpt

Text -> windows of bytes, split by file into what is learnt from and what is held out -> 600 steps on two ranks -> bits
per byte of the held-out files, beside those of a bigram model, and a sample of what the network writes.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from runner import Job, Prep, Train

if TYPE_CHECKING:  # so that `runner submit` and the preparation load no torch
    from torch import Tensor, nn

    from runner import TrainContext


@dataclass(frozen=True)
class Config:
    context: int = 128  # bytes that the network sees
    held_out: int = 60  # one file in so many is held out
    layers: int = 3
    width: int = 128
    heads: int = 4
    steps: int = 600
    global_batch_size: int = 8  # windows of a step, of all ranks together
    lr: float = 3e-3
    warmup: int = 40  # steps
    validate_every: int = 300  # steps
    sample_bytes: int = 400


# -- preparation -----------------------------------------------------------------------------------------------------


def tokenize(batch: pa.RecordBatch, config: Config) -> dict[str, pa.Table | None]:
    """Files -> windows of `context` + 1 bytes. Which side a file is on depends on its path alone."""
    sides: dict[str, list[str]] = {"train": [], "validation": []}
    for path, text in zip(batch["path"].to_pylist(), batch["text"].to_pylist(), strict=True):
        sides["validation" if is_held_out(path, config.held_out) else "train"].append(text)
    return {side: windows("\0".join(texts).encode(), config.context) for side, texts in sides.items()}


def is_held_out(path: str, one_in: int) -> bool:
    """Whether the file's number, a hash of its path, falls on one in `one_in`."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8]) % one_in == 0


def windows(text: bytes, context: int) -> pa.Table | None:
    """Column tokens: `context` + 1 bytes a row. Rows overlap by one byte, so that every byte but the first is predicted
    exactly once. The rest that fills no window is left out; None if there is no window.
    """
    rows = (len(text) - 1) // context
    if rows < 1:
        return None
    tokens = np.lib.stride_tricks.sliding_window_view(np.frombuffer(text, np.uint8), context + 1)[::context]
    data = pa.py_buffer(np.ascontiguousarray(tokens[:rows]))
    return pa.table({"tokens": pa.FixedSizeBinaryArray.from_buffers(pa.binary(context + 1), rows, [None, data])})


# -- training --------------------------------------------------------------------------------------------------------


def train(ctx: TrainContext, config: Config) -> None:
    """Train, evaluate, compare with bigrams, write a sample."""
    import torch

    from models.gpt import GPT

    gpt = GPT(config.layers, config.width, config.heads)
    model = ctx.prepare(gpt)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.1)
    ctx.track(model=model, optimizer=optimizer)
    for batch in ctx.batches("train", global_batch_size=config.global_batch_size, steps=config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * pace(ctx.step_number, config.steps, config.warmup)
        loss = surprise(model, batch["tokens"]).mean()
        optimizer.zero_grad()
        (loss * batch.weight).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ctx.step(loss=loss)
        if ctx.every(steps=config.validate_every) and ctx.step_number < config.steps:
            evaluate(ctx, model)
    compare(ctx, evaluate(ctx, model), bigram_bits(ctx))
    if ctx.rank == 0:
        text = gpt.write(b"import os\n\n\ndef ", config.sample_bytes, config.context).decode(errors="replace")
        ctx.print(f"it writes:\n{text}")
        ctx.save("sample", text)


def pace(step: int, steps: int, warmup: int) -> float:
    """The learning rate's share: up in a line, then down to 5 % along a cosine."""
    return min(1.0, (step + 1) / warmup) * (0.525 + 0.475 * math.cos(math.pi * step / steps))


def surprise(model: nn.Module, tokens: Tensor) -> Tensor:
    """Windows [rows, context + 1] -> nats for each of their bytes but the first [rows, context]."""
    from torch.nn import functional as F

    tokens = tokens.long()
    return F.cross_entropy(model(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:], reduction="none")


# -- evaluation ------------------------------------------------------------------------------------------------------


def evaluate(ctx: TrainContext, model: nn.Module) -> float:
    """Bits per byte of the held-out files; each of their bytes counts once, whatever the number of ranks."""
    import torch

    with ctx.phase("validation"), torch.no_grad():
        seen = torch.zeros(2, dtype=torch.float64, device=ctx.device)  # nats, bytes
        for batch in ctx.batches("validation", batch_size=64, shuffle=False, tail="wrap"):
            nats = surprise(model, batch["tokens"])[batch.mask].double()
            seen += torch.stack([nats.sum(), torch.tensor(nats.numel(), device=ctx.device)])
        nats_sum, count = ctx.sum(seen).tolist()
        bits = nats_sum / count / math.log(2)
        ctx.log(validation_bits_per_byte=bits)
    return bits


def bigram_bits(ctx: TrainContext) -> float:
    """The same for a model that knows how often each byte follows each other one in all files that are learnt from."""
    import torch

    with ctx.phase("bigram"):
        pairs = {"train": torch.zeros(256 * 256, dtype=torch.int64), "validation": torch.zeros(256 * 256).long()}
        for side, counts in pairs.items():
            for batch in ctx.batches(side, batch_size=4096, shuffle=False, tail="wrap"):
                tokens = batch["tokens"][batch.mask].long()
                counts += torch.bincount((tokens[:, :-1] * 256 + tokens[:, 1:]).flatten().cpu(), minlength=256 * 256)
            pairs[side] = ctx.sum(counts.to(ctx.device)).double().view(256, 256)
        smoothed = pairs["train"] + 0.1  # better here than 1, and than 0.01
        bits = -(smoothed / smoothed.sum(dim=1, keepdim=True)).log2()
        mean = float((bits * pairs["validation"]).sum() / pairs["validation"].sum())
        ctx.log(bigram_bits_per_byte=mean)
    return mean


def compare(ctx: TrainContext, bits: float, bigram: float) -> None:
    """Print both, and by how much the network is better."""
    fewer = 1 - bits / bigram
    ctx.log(fewer_bits_than_bigram=fewer)
    ctx.print(f"held-out files: {bits:.3f} bits per byte, a bigram model {bigram:.3f}: {fewer:.1%} fewer")


data = {"train": "stdlib-train", "validation": "stdlib-validation"}
job = Job(
    name="stdlib-gpt",
    config=Config(),
    stages=[
        Prep("tokens", fn=tokenize, source="stdlib", sink=data, workers=2, uses=("context", "held_out")),
        Train("train", fn=train, data=data, workers=2, best=("validation_bits_per_byte", "min")),
    ],
)

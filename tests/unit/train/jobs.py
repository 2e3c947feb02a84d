"""Train functions for tests with real ranks; they are imported by name, so they stand in a file of their own."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Net(torch.nn.Module):
    """Several MB of parameters with a BatchNorm, so that DDP has more than one bucket; dropout draws random numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)
        self.first = torch.nn.Linear(4, width)
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(width, width) for _ in range(4)])
        self.last = torch.nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.norm(x)).relu()
        for block in reversed(self.blocks):  # not the order of definition: DDP would rebuild its buckets
            x = torch.nn.functional.dropout(block(x).relu(), 0.1, self.training)
        return self.last(x).squeeze(1)


def note(ctx: Any, config: Any, value: Any, name: str = "") -> None:
    """Append a line to this rank's notes."""
    with open(Path(config.path) / f"{name or 'notes'}-{ctx.rank}", "a") as file:
        file.write(json.dumps(value) + "\n")


def die_at_step(ctx: Any, config: Any) -> None:
    """Kill the last rank, as the kernel's memory killer does, after the step that the environment names."""
    if os.environ.get("CUT_AT") == str(ctx.step_number) and ctx.rank == ctx.world_size - 1:
        os.kill(os.getpid(), signal.SIGKILL)


def set_aside(ctx: Any, config: Any) -> None:
    """Reads data of which some units are damaged."""
    for batch in ctx.batches("train", global_batch_size=config.batch, epochs=config.epochs, max_quarantine=0.3):
        note(ctx, config, [ctx.step_number, batch.positions.tolist(), batch["id"].tolist()], "ids")
        ctx.step(loss=1.0)
        die_at_step(ctx, config)


def exact(ctx: Any, config: Any) -> None:
    """Everything whose bits must not change: several buckets, a BatchNorm, dropout, a schedule, random numbers."""
    model = ctx.prepare(Net(config.width), strategy=config.act or "ddp")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=200)
    ctx.track(model=model, optimizer=optimizer, schedule=schedule)
    for batch in ctx.batches("train", global_batch_size=config.batch, epochs=config.epochs):
        note(ctx, config, [ctx.step_number, batch.positions.tolist(), batch["id"].tolist()], "ids")
        loss = (model(batch["x"]) - batch["y"]).square().mean()
        optimizer.zero_grad()
        (loss * batch.weight).backward()
        optimizer.step()
        schedule.step()
        ctx.step(loss=loss, noise=random.random() + np.random.rand() + float(torch.rand(())))
        die_at_step(ctx, config)
    ctx.save("weights", model)


def gradient(ctx: Any, config: Any) -> None:
    """The gradient of one global batch, kept by rank 0."""
    torch.manual_seed(1)
    model = ctx.prepare(torch.nn.Linear(4, 1).double())
    batch = next(iter(ctx.batches("train", global_batch_size=config.batch)))
    loss = (model(batch["x"].double()).squeeze(1) - batch["y"].double()).square().mean()
    (loss * batch.weight).backward()
    ctx.step(loss=loss)
    grad = torch.cat([p.grad.flatten() for p in model.parameters()])
    ctx.save(
        "gradient", {"grad": grad, "rows": torch.tensor(len(batch.positions)), "weight": torch.tensor(batch.weight)}
    )


def accumulate(ctx: Any, config: Any) -> None:
    """Two batches in a step, on the wrapper that `config.act` names: a rank's gradients before and after they meet."""
    torch.manual_seed(1)
    model = ctx.prepare(torch.nn.Linear(4, 1), strategy=config.act)
    seen = []
    for i, batch in enumerate(ctx.batches("train", batch_size=8, shuffle=False)):
        with ctx.accumulate(model, last=i == 1):
            ((model(batch["x"]).squeeze(1) - batch["y"]).square().mean() / 2).backward()
        if config.act == "ddp" or i == 1:
            whole = [p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad for p in model.parameters()]
            seen.append([value for part in whole for value in part.flatten().tolist()])
        if i == 1:
            ctx.step()
            break
    note(ctx, config, [seen, os.environ["OMP_NUM_THREADS"], torch.get_num_threads(), type(ctx.unwrap(model)).__name__])


def misbehave(ctx: Any, config: Any) -> None:
    """Does `config.act` on the last rank at the second step."""
    model = ctx.prepare(torch.nn.Linear(4, 1), strategy=None if config.act == "skip" else "ddp")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    note(ctx, config, os.getpid(), "pid")
    for batch in ctx.batches("train", batch_size=2, epochs=50):
        if ctx.step_number == 2 and ctx.rank == ctx.world_size - 1:
            if config.act == "leave":
                break
            _act(ctx, config.act)
        loss = (model(batch["x"]).squeeze(1) - batch["y"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ctx.step(loss=loss)
    if config.act != "skip":
        note(ctx, config, "done")


def _act(ctx: Any, act: str) -> None:
    if act == "raise":
        raise ValueError(f"rank {ctx.rank} is unhappy")
    if act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "exit":
        os._exit(3)
    if act == "sys.exit":
        raise SystemExit("enough")
    if act == "skip":
        ctx.step(loss=1.0)
    if act == "sleep":
        time.sleep(600)
    if act == "stuck":
        with ctx.phase("validation", timeout_s=0.5):
            ctx.barrier()  # nobody else comes


def track_alone(ctx: Any, config: Any) -> None:
    """Only rank 0 tracks: after a resume the others would go on with weights of their own."""
    model = ctx.prepare(torch.nn.Linear(4, 1))
    if ctx.rank == 0:
        ctx.track(model=model)
    for batch in ctx.batches("train", batch_size=8):
        model(batch["x"]).sum().backward()
        ctx.step()


def other_batches(ctx: Any, config: Any) -> None:
    """The last rank takes its rows from batches of another size."""
    for _ in ctx.batches("train", batch_size=4 + ctx.rank, epochs=None):
        ctx.step()


def leave_a_thread(ctx: Any, config: Any) -> None:
    """Returns, while a thread that nobody ends goes on."""
    threading.Thread(target=threading.Event().wait, name="uploader").start()
    ctx.barrier()


def talk(ctx: Any, config: Any) -> None:
    """Logs, metrics, clock and places of the ranks."""
    note(
        ctx,
        config,
        [
            ctx.rank,
            ctx.local_rank,
            ctx.world_size,
            os.environ["RANK"],
            os.environ["WORLD_SIZE"],
            torch.get_num_threads(),
            os.environ.get("FROM_THE_DRIVER"),
        ],
    )
    print(f"hello from rank {ctx.rank}")
    ctx.print("only once")
    for batch in ctx.batches("train", batch_size=4):
        ctx.step(rank=float(ctx.rank), rows=len(batch.positions))
    with ctx.phase("validation"):
        for _ in ctx.batches("validation", global_batch_size=90, tail="wrap"):
            ctx.log(validation_rank=float(ctx.rank), only_second=1.0) if ctx.rank else ctx.log(validation_rank=0.0)
    note(ctx, config, float(torch.rand(())), "random")


def full(ctx: Any, config: Any) -> None:
    """From the second checkpoint on the store has no room."""
    import errno

    from runner.store import Store

    model = ctx.prepare(torch.nn.Linear(4, 1))
    ctx.track(model=model)
    put_file = Store.put_file

    def refuse(self: Any, key: str, path: Any) -> None:
        if ctx.step_number > 2 and key.endswith(".safetensors"):
            from runner.store.refusals import explained

            with explained(self, key):
                raise OSError(errno.ENOSPC, "No space left on device")
        put_file(self, key, path)

    Store.put_file = refuse  # type: ignore[method-assign]
    for _ in ctx.batches("train", batch_size=4):
        ctx.step()

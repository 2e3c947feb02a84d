"""The project `tiny`, and what tests of real runs need to look at processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil

from runner.backends.local import liveness
from runner.client.run import Run
from runner.worker import processes

NUMBERS = """
import pyarrow as pa
from runner import Dataset

def make():
    for shard in range(4):
        ids = range(shard * 100, shard * 100 + 100)
        yield pa.table({"i": pa.array(ids, pa.int64()), "x": pa.array([float(i % 7) for i in ids], pa.float32())})

dataset = Dataset(make=make)
"""

JOB = """
import enum, os, subprocess, time
from dataclasses import dataclass
from pathlib import Path
from runner import Job, Prep, Train

class Mode(enum.Enum):
    FAST = "fast"

@dataclass(frozen=True)
class Opt:
    lr: float = 0.1

@dataclass(frozen=True)
class Sgd(Opt):
    betas: tuple = (0.5, {2: frozenset({3})}, float("nan"), Path("a"))

@dataclass(frozen=True)
class Config:
    kinds: Opt = Sgd(0.2)     # every backend must bring it as it is
    mode: Mode = Mode.FAST
    scale: float = 2.0
    steps: int = 20
    block_prep: str = ""      # a file to make before the transform blocks for good
    block_train: str = ""     # the same in the training loop, after a few steps
    fail_prep: int = -1       # the row id at which the transform raises
    fail_rank: int = -1       # the rank that raises

def block(mark):
    # a process with a session, an environment and a dead parent of its own
    started = subprocess.run(["setsid", "sh", "-c", "sleep 600 >&- 2>&- & echo $!"], env={"PATH": os.environ["PATH"]},
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    part = Path(f"{mark}.{os.getpid()}")
    part.write_text(started.stdout)
    part.rename(f"{mark}-{os.getpid()}")
    Path(mark).touch()
    time.sleep(600)

def double(batch, config):
    import pyarrow.compute as pc
    assert repr((config.kinds, config.mode)) == repr((Sgd(0.2), Mode.FAST))
    if config.block_prep:
        block(config.block_prep)
    if config.fail_prep >= 0 and config.fail_prep in batch.column("i").to_pylist():
        raise ValueError(f"bad row {config.fail_prep}")
    return batch.set_column(1, "x", pc.multiply(batch.column("x"), config.scale))

def train(ctx, config):
    import torch
    assert repr((config.kinds, config.mode)) == repr((Sgd(0.2), Mode.FAST))
    torch.manual_seed(0)
    model = ctx.prepare(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    ctx.track(model=model, optimizer=optimizer)
    steps = 0
    while steps < config.steps:
        for batch in ctx.batches("train", batch_size=10):
            x = batch["x"].float()[:, None]
            loss = (model(x) - 3 * x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ctx.step(loss=loss)
            steps = ctx.step_number
            if steps == 3 and config.fail_rank == ctx.rank:
                raise ValueError(f"rank {ctx.rank} is unhappy")
            if steps == 5 and config.block_train:
                block(config.block_train)
            if steps >= config.steps:
                break
    if ctx.rank == 0:
        print("the end")

job = Job("tiny", config=Config(), stages=[
    Prep("double", fn=double, source="numbers", sink="doubled", workers=2, uses=("scale", "block_prep", "fail_prep")),
    Train("train", fn=train, data={"train": "doubled"}, workers=2, checkpoint_every_steps=4, checkpoint_every_s=None),
])
"""


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll until `condition` holds; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


def _naming(run_id: str) -> Iterator[psutil.Process]:
    """Processes whose command names the run, as those of its Ray do; found without relying on the mark."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(f"/{processes.scratch_path(run_id).name}/" in word for word in process.cmdline()):
                yield process


def _shown(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):  # it may end right now
        return f"process {process.pid} {' '.join(process.cmdline()[:4])}"
    return f"process {process.pid}"


def remains(run: Run) -> list[str]:
    """What is left of a run on this machine: processes, its scratch folder."""
    left = [_shown(p) for p in {*processes.find(run.id), *_naming(run.id)}]
    who = run.view().supervisor
    if who is not None and liveness.is_alive(who):
        left.append(f"supervisor {who.pid}")
    folder = processes.scratch_path(run.id)
    return left + ([str(folder)] if folder.exists() else [])


def rank_processes() -> list[int]:
    """Processes of this test that were forked from the gang's server: ranks, and what transforms batches for them."""
    alive = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    (server,) = [p for p in alive if "runner.train.gang.preload" in " ".join(p.cmdline())]
    return [child.pid for child in server.children() if child.status() != psutil.STATUS_ZOMBIE]


def kill(pid: int) -> None:
    """As the kernel's memory killer does it."""
    os.kill(pid, signal.SIGKILL)


def driver_pid(run: Run) -> int:
    """The driver of a run that is working."""
    for process in processes.find(run.id):
        if any("runner.driver.main" in word for word in process.cmdline()):
            return process.pid
    raise AssertionError("no driver")

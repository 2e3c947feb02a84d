"""Hooks around the steps of a training: which events they hear of, in which order, and what they can tell."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from runner.train import context
from runner.train.gang.inline import InlineGang
from runner.train.hooks import StepHook, overriding
from runner.train.loop import Loop
from runner.train.metrics import Exchanged, Metrics
from runner.train.metrics_rows import Item
from runner.train.peers import Peers
from runner.train.stage import run_train
from runner.train.timers import Timers
from tests.unit.train.kit import Config, make_scope


class Recorder(Timers):
    """A hook, in the place of the timers, that writes down what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    def begin(self, loaded: Any) -> None:
        self.heard.append(("begin", loaded and loaded.manifest["recorded"]))

    def before_batch(self) -> None:
        self.heard.append("batch")

    def after_step(self, step: Item) -> None:
        self.heard.append(("step", step.step, step.values["loss"]))

    def paused(self, what: str, started: float) -> None:
        self.heard.append(("paused", what))

    def after_phase(self, name: str, seconds: float) -> None:
        self.heard.append(("phase", name))

    def state(self) -> dict[str, Any]:
        return {"recorded": sum(event[0] == "step" for event in self.heard)}

    def end(self) -> None:
        self.heard.append("end")

    def close(self) -> None:
        self.heard.append("close")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What takes part in the trainings of a test."""
    made = Recorder()
    monkeypatch.setattr(context, "Timers", lambda: made)
    return made


def train(ctx: Any, config: Config) -> None:
    """One batch, a validation and a checkpoint; then what is left of the second batch."""
    for _ in ctx.batches("train", batch_size=48):
        ctx.step(loss=ctx.step_number / 2)
        if ctx.step_number == 1:
            with ctx.phase("validation"):
                ctx.log(error=1.0)
            ctx.checkpoint()
        if ctx.step_number == config.at_step:
            raise InterruptedError


def test_a_hook_hears_of_all_that_a_function_does(tmp_path: Path, recorder: Recorder) -> None:
    """Its events come in the order of the function's calls, and around them begin, end and close."""
    run_train(*make_scope(tmp_path, train), InlineGang())
    assert recorder.heard == [
        ("begin", None),
        *("batch", ("step", 1, 0.0)),
        *(("paused", "phase 'validation'"), ("phase", "validation"), ("paused", "a checkpoint")),
        *("batch", ("step", 2, 0.5)),
        *("batch", ("paused", "a checkpoint"), "end", "close"),
    ]


def test_what_a_hook_keeps_in_a_checkpoint_comes_back(tmp_path: Path, recorder: Recorder) -> None:
    """Its fields of the manifest are there when the training goes on; it is closed, not ended, where that fails."""
    with pytest.raises(InterruptedError):
        run_train(*make_scope(tmp_path, train, Config(at_step=2)), InlineGang())
    assert recorder.heard[-2:] == [("step", 2, 0.5), "close"]
    recorder.heard.clear()
    run_train(*make_scope(tmp_path, train, attempt=2), InlineGang())
    assert recorder.heard[:3] == [("begin", 1), "batch", ("step", 2, 0.5)]


def test_events_that_a_hook_does_not_override_cost_nothing() -> None:
    """They are not called at all, and those that it does override are called in the order of the hooks."""
    first, second = Recorder(), Recorder()
    assert overriding([StepHook(), Timers(), first, second], "after_step") == [first.after_step, second.after_step]


class Announcer(StepHook):
    """Rank 0 announces where it is; all ranks hear it."""

    def __init__(self, loop: Loop, heard: list[Any]) -> None:
        self.loop, self.heard = loop, heard

    def announce(self) -> dict[str, Any]:
        return {"by": self.loop.metrics.peers.rank}

    def exchanged(self, told: Exchanged) -> None:
        self.heard.append((told.step, dict(told.announced)))


def on_ranks(number: int, call: Callable[[Peers], None]) -> None:
    """Call it on ranks that are threads."""
    store = dist.HashStore()

    def run(rank: int) -> None:
        peers = Peers(rank, number, store)
        call(peers)
        peers.leave()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_all_ranks_hear_what_a_hook_of_rank_0_announces() -> None:
    """At the next exchange, which is at one step; what the hooks of other ranks announce counts for nothing."""
    heard: dict[int, list[Any]] = {0: [], 1: []}

    def loop_of(peers: Peers) -> None:
        loop = Loop(Metrics(peers, None))
        loop.begin([peers, loop.metrics, Announcer(loop, heard[peers.rank])], None)
        loop.make_step({"loss": 1.0})
        loop.make_step({"loss": 1.0})
        loop.exchange("the end")

    on_ranks(2, loop_of)
    assert heard[0] == heard[1]
    assert heard[0][-1] == (2, {"by": 0})

"""When a training makes checkpoints, and what goes into them. One of these on every rank."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch

from runner.record.entries import CheckpointPublished
from runner.spec import Train
from runner.train.checkpoint import state as checkpoint_state
from runner.train.checkpoint.writer import RANDOM, Writer
from runner.train.hooks import StepHook
from runner.train.rank_status import RETURNED
from runner.train.streams import check_places

if TYPE_CHECKING:
    from runner.train.checkpoint.published import Checkpoints, Loaded
    from runner.train.checkpoint.tracked import TrackedObjects
    from runner.train.loop import Loop
    from runner.train.metrics import Exchanged
    from runner.train.metrics_rows import Item
    from runner.train.randomness import Randomness

#: What rank 0 announces when its clock asks for a checkpoint.
_DUE = "checkpoint"


class Saver(StepHook):
    """The checkpoints of one training, from one rank.

    One that falls due in a step or a phase is pending until the function asks for its next batch, so that what it does
    after the step belongs to the checkpoint. What is pending is the same on every rank.
    """

    def __init__(
        self, stage: Train, checkpoints: Checkpoints, objects: TrackedObjects, randomness: Randomness, loop: Loop
    ) -> None:
        self._stage, self._checkpoints, self._objects = stage, checkpoints, objects
        self._randomness, self._loop = randomness, loop
        self._last: CheckpointPublished | None = None  # the last one made or loaded
        self._last_at = time.monotonic()
        self._best: dict[str, Any] | None = None  # its "value" and "step"
        self._pending = False

    # -- when ----------------------------------------------------------------------------------------------------

    def begin(self, loaded: Loaded | None) -> None:
        """The checkpoint that the training goes on from is its last."""
        if loaded is not None:
            self._last, self._best = loaded.entry, loaded.manifest["best"]

    def before_batch(self) -> None:
        """The pending one is made now."""
        if self._pending:
            self.make("the next batch, with a checkpoint before it")

    def after_step(self, step: Item) -> None:
        """A step whose number asks for one; also, one is still pending where no batch was asked for since."""
        if self._pending:  # the function does not read its data by `batches`
            self.make("ctx.step() with a checkpoint")
        every = self._stage.checkpoint_every_steps
        if every is not None and step.step % every == 0:
            self._pending = True

    def announce(self) -> dict[str, Any]:
        """Whether rank 0's clock asks for one."""
        every = self._stage.checkpoint_every_s
        due = every is not None and not self._pending and time.monotonic() - self._last_at >= every
        return {_DUE: True} if due else {}

    def exchanged(self, told: Exchanged) -> None:
        """All ranks know whether it does."""
        if _DUE in told.announced:
            self._pending = True

    def after_phase(self, name: str, seconds: float) -> None:
        """A value that is the best so far makes a checkpoint of this step."""
        if self._is_best(self._loop.metrics.latest):
            self._pending = True

    def end(self) -> None:
        """What the function ended with."""
        is_made = not self._pending and self._last is not None and self._last.step == self._loop.step
        self.make(RETURNED, if_changed=is_made)

    def _is_best(self, latest: dict[str, float]) -> bool:
        if self._stage.best is None or self._stage.best[0] not in latest:
            return False
        name, direction = self._stage.best
        value = latest[name]
        if self._best is None:
            return not math.isnan(value)
        return value < self._best["value"] if direction == "min" else value > self._best["value"]

    # -- what ----------------------------------------------------------------------------------------------------

    def make(self, where: str, *, if_changed: bool = False) -> None:
        """Write and publish a checkpoint of this step. Every rank must come, and every rank raises what rank 0 does.

        Args:
            where: in the training this is, for words about ranks that are elsewhere.
            if_changed: only if a tracked object is not as the last checkpoint has it, byte for byte, or the metrics
                are the best so far.

        Raises:
            RunFailed: ranks are at different places in the data.
        """
        self._loop.exchange(where)
        started = time.monotonic()
        self._pending = False
        self._save(if_changed)
        self._last_at = time.monotonic()
        self._loop.paused("a checkpoint", started)

    def _save(self, if_changed: bool) -> None:
        step, metrics, content = self._loop.step, self._loop.metrics.latest, self._loop.state()
        peers, best = self._loop.metrics.peers, self._is_best(metrics)
        writer = Writer(self._checkpoints, step) if peers.rank == 0 else None
        objects: dict[str, dict[str, str]] = {}
        for item, state in self._objects.states():
            if writer is not None:
                objects[item.name] = {"kind": item.kind, "file": writer.write(item.name, item.kind, state)}

        def publish(theirs: list[Any]) -> tuple[Any, Any]:
            assert writer is not None
            check_places([places for _, places in theirs])
            randoms = [states for states, _ in theirs]
            if if_changed and not best and self._last is not None and writer.is_same(self._last):
                return self._last, self._best
            writer.write(RANDOM, checkpoint_state.STATE, dict(enumerate(randoms)))
            if best:
                assert self._stage.best is not None
                self._best = {"value": metrics[self._stage.best[0]], "step": step}
            fields = {
                **content,
                "objects": objects,
                "world_size": peers.world_size,
                "metrics": metrics,
                "best": self._best,
                "torch": str(torch.__version__),
            }
            return writer.publish(fields, metrics, best), self._best

        outcome, self._best = peers.meet("a checkpoint", (self._randomness.take(), content["streams"]), publish)
        if isinstance(outcome, BaseException):
            raise outcome
        self._last = outcome

    def result(self) -> dict[str, Any]:
        """What the stage's result says of checkpoints."""
        best = next((each.key for each in self._checkpoints.published() if each.best), None)
        return {
            "checkpoint": self._last.key if self._last is not None else None,
            "best": best,
            "resumed_from": self._loop.loaded.entry.step if self._loop.loaded is not None else None,
        }

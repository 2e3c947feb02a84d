"""The training loop from inside: how far it is, and the hooks around each of its steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runner.train.aside import AsideUnits
from runner.train.hooks import StepHook, overriding
from runner.train.metrics_rows import Item
from runner.train.streams import Streams

if TYPE_CHECKING:
    from runner.train.checkpoint.published import Loaded
    from runner.train.metrics import Metrics


class Loop:
    """The loop of one rank.

    Attributes:
        step: steps made, earlier attempts included.
        loaded: the checkpoint that it goes on from.
        streams: the data that its steps consume.
        metrics: what its steps have given.
        aside: the units of its data that cannot be read.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.step = 0
        self.loaded: Loaded | None = None
        self.streams = Streams(self._before_batch)
        self.metrics = metrics
        self.aside = AsideUnits(self)
        self._arrange(())

    def _arrange(self, hooks: Sequence[StepHook]) -> None:
        self._hooks = hooks
        self._before = overriding(hooks, "before_batch")
        self._after = overriding(hooks, "after_step")

    @property
    def epoch(self) -> int:
        """The epoch of the last batch, from 0."""
        return self.streams.epoch

    def begin(self, hooks: Sequence[StepHook], loaded: Loaded | None) -> None:
        """To be called once, before the function is.

        Args:
            hooks: in the order in which they hear of each event.
        """
        self._arrange(hooks)
        self.loaded = loaded
        if loaded is not None:
            self.step = loaded.manifest["step"]
        for hook in hooks:
            hook.begin(loaded)

    def _before_batch(self) -> None:
        for hook in self._before:
            hook()

    def make_step(self, values: dict[str, Any]) -> None:
        """The function has made a step, with these values."""
        self.step = step = self.step + 1
        streams = self.streams
        rows, left = streams.mark(), streams.steps_left
        item = Item(step, streams.epoch, time.time(), rows, values, None if left is None else step + left)
        for hook in self._after:
            hook(item)
        if self.metrics.due(step):
            self.exchange("ctx.step()")

    def exchange(self, where: str) -> None:
        """Meet the other ranks: metrics are reduced, and what rank 0 announces and each rank tells is known to all."""
        self.metrics.pace.wait_s += self.streams.take_wait_s()
        announced: dict[str, Any] = {}
        tells: dict[str, Any] = {}
        for hook in self._hooks:
            announced.update(hook.announce())
            tells.update(hook.tell())
        told = self.metrics.exchange(self.step, announced, where, tells)
        for hook in self._hooks:
            hook.exchanged(told)

    def paused(self, what: str, started: float) -> None:
        """There were no steps since `started` (of time.monotonic), for a checkpoint or a phase."""
        for hook in self._hooks:
            hook.paused(what, started)

    def after_phase(self, name: str, seconds: float) -> None:
        """A phase is over."""
        self.metrics.event(step=self.step, epoch=self.epoch, phase=name, seconds=seconds)
        for hook in self._hooks:
            hook.after_phase(name, seconds)

    def state(self) -> dict[str, Any]:
        """What hooks want to find in the manifest of a checkpoint."""
        return {name: value for hook in self._hooks for name, value in hook.state().items()}

    def end(self) -> None:
        """The function has returned."""
        if self.step == 0 and self.streams.batches:
            self.say(
                f"{self.streams.batches:,} batches were taken and no step was made, so there are no metrics and "
                "nothing to go on from; to do: call ctx.step(loss=loss) after optimizer.step()"
            )
        for hook in self._hooks:
            hook.end()

    def close(self) -> None:
        """The training is over, however it ended."""
        for hook in self._hooks:
            hook.close()

    def say(self, words: str) -> None:
        """A line for the log of rank 0."""
        if self.metrics.peers.rank == 0:
            print(f"runner: {words}", flush=True)

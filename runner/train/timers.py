"""What `ctx.every(seconds=)` answers: the same on every rank, by the clock of rank 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.train.hooks import StepHook

if TYPE_CHECKING:
    from runner.train.metrics import Exchanged


class Timers(StepHook):
    """A timer for each number of seconds that was asked for."""

    def __init__(self) -> None:
        self._clock = 0.0  # of rank 0 at the last exchange
        self._began: dict[float, float] = {}  # seconds -> when its timer last began
        self._fired: dict[float, int] = {}  # seconds -> the step at which it last fired

    def fired(self, seconds: float, step: int) -> bool:
        """Whether the timer has fired at this step; the first question begins it."""
        self._began.setdefault(seconds, self._clock)
        return self._fired.get(seconds) == step

    def exchanged(self, told: Exchanged) -> None:
        """Ranks have heard rank 0's clock."""
        self._clock = told.clock
        for seconds, began in self._began.items():
            if self._clock - began >= seconds:
                self._began[seconds], self._fired[seconds] = self._clock, told.step

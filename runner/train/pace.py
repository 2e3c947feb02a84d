"""How fast steps are made, and so at which one ranks had best exchange metrics next."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

#: Seconds between exchanges that rank 0 aims at, and the most steps between two of them.
EXCHANGE_S, MOST_STEPS = 0.5, 1000
#: By how much the number of steps between two exchanges may grow at once: the first steps may be quicker than the rest.
MOST_GROWTH = 10


@dataclass
class Pace:
    """The time of one rank since the last exchange.

    Attributes:
        since: when that was (of time.monotonic).
        idle_s: of the time since then, what was not spent on steps (phases, checkpoints).
        wait_s: and what was spent waiting for data.
    """

    since: float = field(default_factory=time.monotonic)
    idle_s: float = 0.0
    wait_s: float = 0.0
    _started: float = field(default_factory=time.monotonic)
    _step_s: float = EXCHANGE_S  # of the last steps

    @property
    def clock(self) -> float:
        """Seconds that this rank has been training."""
        return time.monotonic() - self._started

    def idle_from(self, started: float) -> None:
        """The time since `started` (of time.monotonic) was not spent on steps."""
        self.idle_s += time.monotonic() - max(started, self.since)

    def active_s(self) -> float:
        """Seconds spent on steps."""
        return max(time.monotonic() - self.since - self.idle_s, 1e-9)

    def next_exchange(self, step: int, made: int, active_s: float) -> int:
        """The step to exchange at next.

        Args:
            step: of this exchange.
            made: steps since the last one; active_s: that they took.
        """
        if made:
            self._step_s = max(active_s, 1e-6) / made
        return step + max(1, min(MOST_STEPS, MOST_GROWTH * max(made, 1), int(EXCHANGE_S / self._step_s)))

    def begin(self) -> None:
        """Ranks have exchanged."""
        self.since, self.idle_s, self.wait_s = time.monotonic(), 0.0, 0.0

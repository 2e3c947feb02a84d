"""A clock of which waiting takes no time, for what tries again."""

from __future__ import annotations

import threading
import time

import pytest


class Clock:
    """Where pauses go.

    Attributes:
        pauses: in seconds, in order.
    """

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._start = time.monotonic()

    @property
    def waited(self) -> float:
        """Seconds in all."""
        return sum(self.pauses)

    def now(self) -> float:
        """In place of `time.monotonic`."""
        return self._start + self.waited

    def wait(self, seconds: float | None) -> bool:
        """In place of an event's: nobody sets it."""
        self.pauses.append(seconds or 0.0)
        return False


def fake_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that this test's waits move, and nothing else."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.now)
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds=None: clock.wait(seconds))
    return clock

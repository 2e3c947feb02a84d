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
    """A clock that the waits of this thread move, and nothing else: other threads have their own."""
    clock, here = Clock(), threading.get_ident()
    now, wait = time.monotonic, threading.Event.wait

    def waited(event: threading.Event, seconds: float | None = None) -> bool:
        return clock.wait(seconds) if threading.get_ident() == here else wait(event, seconds)

    monkeypatch.setattr(time, "monotonic", lambda: clock.now() if threading.get_ident() == here else now())
    monkeypatch.setattr(threading.Event, "wait", waited)
    return clock

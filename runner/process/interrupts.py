"""Ctrl-C, from a command's first instruction on: it counts, and never comes between steps that belong together."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

#: Seconds within which a second signal is the same press: a terminal, or `timeout`, may send it to a process twice.
BOUNCE_S = 0.1
#: Of a command that was interrupted (128 + SIGINT).
EXIT_CODE = 130


class Presses:
    """How often Ctrl-C was pressed, where this process listens for it."""

    def __init__(self) -> None:
        self.listening = False
        self.number = 0
        self.told = False  # somebody else than the console script says what an interruption means
        self._last = 0.0

    @property
    def any(self) -> bool:
        """Whether there was one, in a process that listens from its beginning on."""
        return self.listening and self.number > 0

    def count(self) -> bool:
        """Take in a signal. Returns whether it is a press of its own."""
        now = time.monotonic()
        fresh = now - self._last > BOUNCE_S
        self._last = now
        self.number += fresh
        return fresh


#: Of this process.
presses = Presses()


def listen() -> None:
    """From now on a press is counted and raises KeyboardInterrupt, as Python's own handler does."""
    presses.listening = True
    signal.signal(signal.SIGINT, _press)


def _press(number: int, frame: FrameType | None) -> None:
    if presses.count():
        raise KeyboardInterrupt


def check() -> None:
    """Before anything is spent: raise KeyboardInterrupt if a press was swallowed, as an import may do it."""
    if presses.any:
        raise KeyboardInterrupt


def by_user() -> bool:
    """Whether a KeyboardInterrupt can be the person's; one that only the user's code raised is an error like others."""
    return presses.any or not presses.listening


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A press during the block raises KeyboardInterrupt at its end: what belongs together is done whole."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    pressed: list[bool] = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(presses.count())

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed and before not in (signal.SIG_IGN, signal.SIG_DFL):
        raise KeyboardInterrupt


def say_nothing_started() -> None:
    """That a command was interrupted before it had made anything."""
    print("interrupted: nothing was started", file=sys.stderr, flush=True)

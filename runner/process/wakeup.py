"""A wait that a signal handler, or another thread, ends: no lock is taken, which a handler might find held."""

from __future__ import annotations

import contextlib
import os
import select


class Wakeup:
    """One waits, others wake."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or when `wake` is called (or was, since the last wait)."""
        for readable in select.select([self._read], [], [], seconds)[0]:
            os.read(readable, 1024)

    def wake(self) -> None:
        """End the wait."""
        with contextlib.suppress(BlockingIOError):  # it has been woken thousands of times
            os.write(self._write, b"x")

    def close(self) -> None:
        """Nobody waits any more."""
        os.close(self._read)
        os.close(self._write)

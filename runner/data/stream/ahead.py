"""The reading of one stream in one process: a reader, and a thread that is ahead of the consumer."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from runner.data.stream import memory
from runner.data.stream.mixing.order import MixedOrder
from runner.data.stream.mixing.reader import MixedReader
from runner.data.stream.order import Order
from runner.data.stream.passes import Place
from runner.data.stream.prefetch import Prefetch
from runner.data.stream.reader import Reader
from runner.data.stream.steps import Cut, Ready, batches

Changed: TypeAlias = Callable[[Iterator[tuple[Ready, int]]], Iterator[tuple[Ready, int]]]


class Through(Protocol):
    """What batches are given to on their way, besides what a stream does itself."""

    def transformed(self, steps: Iterator[tuple[Ready, int]]) -> Iterator[tuple[Ready, int]]:
        """The batches with other columns, each with its size in bytes; runs in the thread that is ahead."""
        ...

    def stop(self) -> None:
        """Have `transformed` wait for nothing any more; from any thread."""
        ...


class ReadAhead:
    """Reads rows in their order, some bytes ahead of the consumer.

    Args:
        opens: a reader; it knows nothing of the stream.
        ready_bytes: that may be ready.
        changed: what is done to the batches on their way, in the thread that is ahead.
        waited_s: that the consumer has waited before; spent_s: from the beginnings of passes to their last batches.

    Attributes:
        running: the batches that are being made.
    """

    def __init__(
        self,
        opens: Callable[[], Reader | MixedReader],
        order: Order | MixedOrder,
        ready_bytes: int,
        changed: Changed | None = None,
        waited_s: float = 0.0,
        spent_s: float = 0.0,
    ) -> None:
        self._opens, self._order, self._ready_bytes, self._waited_s = opens, order, ready_bytes, waited_s
        self._spent_s, self._started, self._last = spent_s, 0.0, 0.0
        self._changed = changed
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self.reader = self._opens()
        self.running: Prefetch[list[Ready]] | None = None
        self._taken: deque[Ready] = deque()

    def arrive(self) -> bool:
        """Whether this process was forked since the last call: the parent's thread is gone here, and its reader as it
        stood at that moment is of no use."""
        if self._process == os.getpid():
            return False
        self._begin()
        return True

    def next(self) -> Ready:
        """The next batch, once `start` was called. Raises StopIteration at the end, and what went wrong."""
        if not self._taken:
            assert self.running is not None
            self._taken.extend(next(self.running))
        self._last = time.perf_counter()
        return self._taken.popleft()

    def start(self, cut: Cut, at: Place, end: int | None, share: tuple[int, int]) -> None:
        """Start to read at a place. The thread knows the reader but not this, so that a forgotten stream is collected.

        Args:
            end, share: see `batches`.
        """
        memory.keep_freed_memory()
        self._started = self._last = time.perf_counter()
        self.reader.end = end
        groups = batches(self.reader, self._order, cut, at, end, share)
        if self._changed is not None:
            groups = (([ready], size) for ready, size in self._changed(_one_by_one(groups)))
        self.running = Prefetch(groups, self._ready_bytes)
        weakref.finalize(self, _end, self.running, self.reader)

    def stop(self) -> None:
        """Read no more, and let go of what is open."""
        running, self.running = self.running, None
        self._taken.clear()
        if running is not None:
            _end(running, self.reader)
            self._waited_s += running.wait_s
            self._spent_s += self._last - self._started

    @property
    def wait_s(self) -> float:
        """Seconds that the consumer waited for data."""
        return self._waited_s + (self.running.wait_s if self.running is not None else 0.0)

    @property
    def spent_s(self) -> float:
        """Seconds from the beginnings of passes to the last batches of them that were handed out."""
        return self._spent_s + (self._last - self._started if self.running is not None else 0.0)


def _one_by_one(groups: Iterator[tuple[list[Ready], int]]) -> Iterator[tuple[Ready, int]]:
    for steps, size in groups:
        for ready in steps:
            yield ready, size // len(steps)


def _end(running: Prefetch[list[Ready]], reader: Reader | MixedReader) -> None:
    """Nothing in a forked process, which has none of the threads."""
    if running.alive:
        reader.stop()  # the thread may be waiting for what it decodes
        running.close()
        reader.rest()

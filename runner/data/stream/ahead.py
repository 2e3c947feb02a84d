"""The reading of one stream in one process: a reader, and a thread that is ahead of the consumer."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

from runner.data.stream import memory
from runner.data.stream.mixing.order import MixedOrder
from runner.data.stream.mixing.reader import MixedReader
from runner.data.stream.order import Order
from runner.data.stream.passes import Place
from runner.data.stream.prefetch import Prefetch
from runner.data.stream.reader import Reader
from runner.data.stream.stats import NOTHING, Stats
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
        before: what was read before, by another one of the same stream.

    Attributes:
        running: the batches that are being made.
        taking: of the consumer who takes one; threads that share a stream take turns.
    """

    def __init__(
        self,
        opens: Callable[[], Reader | MixedReader],
        order: Order | MixedOrder,
        ready_bytes: int,
        changed: Changed | None = None,
        before: Stats = NOTHING,
    ) -> None:
        self._opens, self._order, self._ready_bytes = opens, order, ready_bytes
        self._before, self._waited_s, self._spent_s, self._started, self._last = before, 0.0, 0.0, 0.0, 0.0
        self._changed = changed
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self.taking = threading.Lock()
        self._starting = threading.RLock()  # of the consumer, and of whoever closes the stream meanwhile
        self.reader = self._opens()
        self.running: Prefetch[list[Ready]] | None = None
        self._ending: Prefetch[list[Ready]] | None = None  # what `stop` was interrupted at
        self._taken: deque[Ready] = deque()

    def arrive(self) -> bool:
        """Whether this process was forked since the last call: the parent's thread is gone here, and its reader as it
        stood at that moment is of no use."""
        if self._process == os.getpid():
            return False
        self._begin()
        return True

    def next(self) -> Ready | None:
        """The next batch, once `start` was called; None where another thread has called `stop` since. Raises
        StopIteration at the end, and what went wrong."""
        running, taken = self.running, self._taken  # `stop` may take them away
        if not taken:
            if running is None:
                return None
            try:
                taken.extend(next(running))
            except StopIteration:
                if running.closed:
                    return None
                raise
        self._last = time.perf_counter()
        return taken.popleft()

    def start(self, cut: Cut, at: Place, end: int | None, share: tuple[int, int]) -> None:
        """Start to read at a place. The thread knows the reader but not this, so that a forgotten stream is collected.

        Args:
            end, share: see `batches`.
        """
        memory.keep_freed_memory()
        with self._starting:
            self._end()
            self._started = self._last = time.perf_counter()
            self.reader.end = end
            groups = batches(self.reader, self._order, cut, at, end, share)
            if self._changed is not None:
                groups = (([ready], size) for ready, size in self._changed(_one_by_one(groups)))
            self.running = running = Prefetch(groups, self._ready_bytes)
            weakref.finalize(self, _end, running, self.reader)
            running.start()  # last: when Ctrl-C interrupts it there may be a thread, which `stop` must know

    def stop(self, through: Sequence[Through] = ()) -> None:
        """Read no more, and let go of what is open; from any thread.

        Args:
            through: what batches are given to on their way; it is stopped too.
        """
        with self._starting:
            running = self.running
            if running is not None:
                self._ending = running
            self.running, self._taken = None, deque()
            if running is not None and running.alive:
                running.cancel()  # first: who waits for a batch is not told of what was interrupted
            for one in through:
                one.stop()
            self._end()
            if running is not None:
                self._waited_s += running.wait_s
                self._spent_s += self._last - self._started

    def _end(self) -> None:
        """Wait for a thread that was told to stop: the reader is not another one's before."""
        if self._ending is not None:
            _end(self._ending, self.reader)
            self._ending = None

    @property
    def wait_s(self) -> float:
        """Seconds that the consumer waited for data."""
        now = self.running
        return self._before.wait_s + self._waited_s + (now.wait_s if now is not None else 0.0)

    @property
    def stats(self) -> Stats:
        """What was read, and before."""
        fetched = self.reader.fetched
        return self._before + Stats(
            self.reader.rows_read,
            self.reader.bytes_read,
            self._spent_s + (self._last - self._started if self.running is not None else 0.0),
            self.wait_s - self._before.wait_s,
            fetched.requests,
            fetched.retries,
            fetched.hedges,
            fetched.bytes,
            fetched.kept,
        )


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

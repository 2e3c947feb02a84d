"""Runs a generator in a thread, a bounded number of items and bytes ahead of its consumer."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: Items that may be ready, however small: each costs more than the bytes of its values.
MOST_ITEMS = 128


class Prefetch(Generic[T]):
    """An iterator over the items of `source`, which yields (item, bytes) and runs in a thread of its own.

    The thread begins with `start`. It stops when `source` ends or raises (the consumer gets the exception, after the
    items before it), and when `close` is called; it then closes `source`. It waits while items of more than
    `most_bytes` are ready, or `MOST_ITEMS` of them, but one item is always made ahead.

    Ctrl-C may interrupt any of these in the consumer's thread, `start` and `close` too: once a later `close` has
    returned, the source is not touched any more.

    A process that is forked has no thread of its parent's, and perhaps a lock that nobody will release: see `alive`.

    Attributes:
        wait_s: seconds that the consumer waited for items.
    """

    def __init__(self, source: Iterator[tuple[T, int]], most_bytes: int) -> None:
        self._source, self._most = source, most_bytes
        self._ready: deque[tuple[T, int]] = deque()
        self._bytes = 0
        # The lock is used itself: to enter a condition is Python, which Ctrl-C leaves with the lock held.
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        self._closed = self._ended = self._busy = False
        self._error: BaseException | None = None
        self.wait_s = 0.0
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="runner-prefetch", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether this process is the one that the thread runs in; in a forked one nothing else may be called."""
        return self._process == os.getpid()

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            if not self._ready and not self._ended:
                begin = time.perf_counter()
                self._change.wait_for(lambda: self._ready or self._ended)
                self.wait_s += time.perf_counter() - begin
            if self._ready:
                item, size = self._ready.popleft()
                self._bytes -= size
                self._change.notify_all()
                return item
            error, self._error = None if self._closed else self._error, None  # what ends by being closed is no error
        if error is not None:
            raise error
        raise StopIteration

    @property
    def closed(self) -> bool:
        """Whether it has ended, or will, because it was told to."""
        return self._closed

    def cancel(self) -> None:
        """Has the iterator end here, whatever comes of the source from now on; `close` waits for the thread."""
        with self._lock:
            self._closed = self._ended = True
            self._ready.clear()
            self._change.notify_all()

    def close(self) -> None:
        """Stops the thread and waits for it: at most the time that one item takes. Nothing in a forked process."""
        if not self.alive:
            return
        self.cancel()
        if self._thread is threading.current_thread():
            return
        with self._lock:
            self._change.wait_for(lambda: not self._busy)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._busy = True
        try:
            for item, size in self._source:
                if not self._put(item, size):
                    break
        except BaseException as error:  # handed to the consumer, whatever it is
            self._error = error
        finally:
            close = getattr(self._source, "close", None)
            if close is not None:
                close()
            with self._lock:
                self._ended, self._busy = True, False
                self._change.notify_all()

    def _put(self, item: T, size: int) -> bool:
        with self._lock:
            self._change.wait_for(lambda: self._closed or self._has_room(size))
            if self._closed:
                return False
            self._ready.append((item, size))
            self._bytes += size
            self._change.notify_all()
            return True

    def _has_room(self, size: int) -> bool:
        return not self._ready or (len(self._ready) < MOST_ITEMS and self._bytes + size <= self._most)

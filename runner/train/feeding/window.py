"""Batches on their way through helpers: a bounded number at a time, put back in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import Any

from runner.data.stream import Batch
from runner.data.stream.batch import make_batch
from runner.data.stream.steps import Ready, size_of

#: Batches under way for each helper: one that it works on, and one that waits for it.
PER_HELPER = 2


class Window:
    """The batches of one stream that helpers are at work on.

    Args:
        submit: has a batch transformed.
        most: batches under way at a time. Batches that are done besides are counted in bytes, by the stream.
    """

    def __init__(self, submit: Callable[[Batch], Future[dict[str, Any]]], most: int) -> None:
        self._submit, self._most = submit, most
        self._lock = threading.Lock()
        self._begun: deque[tuple[Ready, Future[dict[str, Any]]]] = deque()
        self._stopped = False

    def transformed(self, steps: Iterator[tuple[Ready, int]]) -> Iterator[tuple[Ready, int]]:
        """The same batches with the columns that the transform has made, in their order, each with its size in bytes.

        An error, of the transform or of reading, comes behind the batches before it.
        """
        self._stopped = False
        failed: BaseException | None = None
        try:
            while failed is None or self._begun:
                while failed is None and len(self._begun) < self._most:
                    try:
                        self._begin(next(steps)[0])
                    except (Exception, CancelledError) as error:
                        failed = error
                if self._begun:
                    ready, future = self._begun[0]
                    columns = future.result()
                    self._begun.popleft()
                    yield replace(ready, columns=columns), size_of(columns)
            if not isinstance(failed, StopIteration):
                raise failed
        finally:
            self.stop()
            self._begun.clear()
            close = getattr(steps, "close", None)
            if close is not None:
                close()

    def _begin(self, ready: Ready) -> None:
        batch = make_batch(
            ready.columns, ready.positions, ready.mask, ready.weight, ready.epoch, "numpy", ready.sources
        )
        with self._lock:
            if self._stopped:
                raise CancelledError
            self._begun.append((ready, self._submit(batch)))

    def stop(self) -> None:
        """Wait for none of them any more; from any thread. A helper may still be at work on one."""
        with self._lock:
            self._stopped = True
            left = [future for _, future in self._begun]
        for future in left:
            future.cancel()

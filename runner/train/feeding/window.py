"""Batches on their way through helpers: a bounded number at a time, put back in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from runner.data.stream.steps import Ready, size_of
from runner.errors import DataError

if TYPE_CHECKING:
    from runner.data.stream.media.steps import Decoding

#: Batches under way for each helper: one that it works on, and one that waits for it.
PER_HELPER = 2

Submit: TypeAlias = "Callable[[Ready, Decoding | None], Future[dict[str, Any]]]"


class Window:
    """The batches of one stream that helpers are at work on.

    Args:
        submit: has a batch transformed, and what is declared of it decoded before.
        most: batches under way at a time. Batches that are done besides are counted in bytes, by the stream.
        decoding: that is done by whom the batches are given to.
    """

    def __init__(self, submit: Submit, most: int, decoding: Decoding | None = None) -> None:
        self._submit, self._most, self._decoding = submit, most, decoding
        self._sent = None if decoding is None else replace(decoding, threads=1, place=_in_words)
        self._lock = threading.Lock()
        self._begun: deque[tuple[Ready, Future[dict[str, Any]]]] = deque()
        self._stopped = False

    def transformed(self, steps: Iterator[tuple[Ready, int]]) -> Iterator[tuple[Ready, int]]:
        """The same batches with the columns that the transform has made, in their order, each with its size in bytes.

        An error, of the transform or of reading, comes behind the batches before it.
        """
        self._stopped = False  # here, and not in the thread that is ahead: `stop` may come before that begins
        return self._in_order(steps)

    def _in_order(self, steps: Iterator[tuple[Ready, int]]) -> Iterator[tuple[Ready, int]]:
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
                    columns = self._result(ready, future)
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

    def _result(self, ready: Ready, future: Future[dict[str, Any]]) -> dict[str, Any]:
        """The columns. Where it may be a picture that is none, it is tried here, where its file is known."""
        try:
            return future.result()
        except DataError:
            if self._decoding is not None:
                self._decoding.columns_of(ready)
            raise

    def _begin(self, ready: Ready) -> None:
        with self._lock:
            if self._stopped:
                raise CancelledError
            self._begun.append((ready, self._submit(ready, self._sent)))

    def stop(self) -> None:
        """Wait for none of them any more; from any thread. A helper may still be at work on one."""
        with self._lock:
            self._stopped = True
            left = [future for _, future in self._begun]
        for future in left:
            future.cancel()


def _in_words(epoch: int, position: int) -> str:
    return f"position {position} of epoch {epoch}"

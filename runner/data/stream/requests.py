"""Units of remote files are asked for before anybody decodes them, within a budget of bytes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from typing import TYPE_CHECKING

from runner.data.stream.workers import Chain, Workers

if TYPE_CHECKING:
    from runner.data.files.fetch.promise import Promise

#: Units that are asked for and not begun, however small: whoever is in a hurry is looked for among them.
MOST_UNITS = 1024
#: Threads that ask: whoever asks for a unit may have to wait for its file's footer.
_THREADS = 8


class Requests:
    """What is on its way of the units that come next. Asked by one thread, begun by any.

    Args:
        ask: begins to fetch a unit; None where it lies on this machine.
        most_bytes: in the files, of units that are asked for and not begun.
        wait_s: seconds that an answer may take.
        patience_s: seconds that the threads get to end.
    """

    def __init__(self, ask: Callable[[int], Promise | None], most_bytes: int, wait_s: float, patience_s: float) -> None:
        self._ask, self._most, self._wait_s, self._patience_s = ask, most_bytes, wait_s, patience_s
        self._lock = threading.Lock()
        self._asked: dict[int, tuple[Future[Promise | None], int]] = {}
        self._bytes = 0
        self._workers: Workers | None = None

    @property
    def has_room(self) -> bool:
        """Whether more may be asked for; one unit always may."""
        return not self._asked or (self._bytes < self._most and len(self._asked) < MOST_UNITS)

    def ask(self, unit: int, size: int) -> None:
        """Have a unit of so many bytes in its file fetched, if nobody has asked for it."""
        with self._lock:
            if unit in self._asked:
                return
            if self._workers is None:
                self._workers = Workers(_THREADS, "runner-ask", self._patience_s)
            self._asked[unit] = self._workers.submit(Chain(), lambda: self._ask(unit)), size
            self._bytes += size

    def begin(self, unit: int) -> bool:
        """The unit is about to be read. Whether it was asked for; what was promised is then there to be claimed."""
        with self._lock:
            found = self._asked.pop(unit, None)
            if found is None:
                return False
            self._bytes -= found[1]
        if found[0].cancel():  # to ask for it now is as quick
            return False
        wait([found[0]], self._wait_s)
        return True

    def drop(self, unit: int) -> None:
        """Nobody will read the unit."""
        with self._lock:
            found = self._asked.pop(unit, None)
            if found is None:
                return
            self._bytes -= found[1]
        found[0].cancel()
        found[0].add_done_callback(_let_go)

    def forget(self) -> None:
        """Let go of all that is asked for."""
        with self._lock:
            asked, self._asked, self._bytes = self._asked, {}, 0
            workers, self._workers = self._workers, None
        for result, _ in asked.values():
            result.cancel()
        if workers is not None:
            workers.close()
        for result, _ in asked.values():
            with contextlib.suppress(CancelledError, OSError, ValueError):  # whoever reads the unit is told
                promise = result.result(0) if result.done() else None
                if promise is not None:
                    promise.drop()


def _let_go(asked: Future[Promise | None]) -> None:
    promise = None if asked.cancelled() or asked.exception() is not None else asked.result()
    if promise is not None:
        promise.drop()

"""Units of remote files are asked for before anybody decodes them, within a budget of bytes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.data.stream.workers import Chain, Workers

if TYPE_CHECKING:
    from runner.data.files.fetch.promise import Promise

#: Units that are asked for and not begun, however small: whoever is in a hurry is looked for among them.
MOST_UNITS = 1024
#: Threads that ask: whoever asks for a unit may have to wait for its file's footer.
_THREADS = 8
#: Share of a unit by which more is fetched than its rows should need: they are not all of one length.
_MARGIN = 1.05


@dataclass(eq=False)
class _Asked:
    """A unit that is asked for.

    Args:
        size: bytes in its file.
        until: the share of its rows up to which it is asked for.
        read: the share that is being decoded, or was.
        later: what was asked for, up to which share and how urgently, and not sent for yet.
        result: of asking.
        promise: once it is known to be of a unit that is read as it comes.
    """

    size: int
    until: float
    read: float = 0.0
    later: list[tuple[float, int]] = field(default_factory=list)
    result: Future[Promise | None] | None = None
    promise: Promise | None = None

    @property
    def bytes(self) -> int:
        """Those that are asked for, and nobody has begun to decode, about."""
        return int(self.size * max(0.0, self.until - self.read))


class Requests:
    """What is on its way of the units that come next. Asked by one thread, begun by any.

    Args:
        ask: begins to fetch a unit, but for one that is read as it comes: that is sent for here; None where it lies on
            this machine.
        most_bytes: in the files, that are asked for and of rows that nobody has begun to decode.
        wait_s: seconds that an answer may take.
        patience_s: seconds that the threads get to end.
    """

    def __init__(self, ask: Callable[[int], Promise | None], most_bytes: int, wait_s: float, patience_s: float) -> None:
        self._ask, self._most, self._wait_s, self._patience_s = ask, most_bytes, wait_s, patience_s
        self._lock = threading.Lock()
        self._asked: dict[int, _Asked] = {}
        self._begun: dict[int, _Asked] = {}  # those that are read as they come
        self._bytes = 0
        self._workers: Workers | None = None

    @property
    def has_room(self) -> bool:
        """Whether more may be asked for; one unit always may."""
        is_none = not self._asked and not self._bytes
        return is_none or (self._bytes < self._most and len(self._asked) < MOST_UNITS)

    def ask(self, unit: int, size: int, until: float = 1.0, urgency: int = 0) -> None:
        """Have a unit of so many bytes in its file fetched, up to a share of its rows, if nobody has asked for it; for
        whoever begins to read it next.

        Args:
            urgency: the lowest goes first, of what is read as it comes.
        """
        with self._lock:
            if unit in self._asked:
                return
            if self._workers is None:
                self._workers = Workers(_THREADS, "runner-ask", self._patience_s)
            one = self._asked[unit] = _Asked(size, until, later=[(until, urgency)])
            self._bytes += one.bytes
            one.result = self._workers.submit(Chain(), lambda: self._answer(unit, one))

    def ask_on(self, unit: int, until: float, urgency: int = 0) -> None:
        """Have more fetched of a unit that was asked for. One that was not is fetched by whoever reads it."""
        with self._lock:
            one = self._begun.get(unit) or self._asked.get(unit)
            if one is None or until <= one.until:
                return
            self._change(one, until=until)
            one.later.append((until, urgency))
        self._send(one)

    def _answer(self, unit: int, one: _Asked) -> Promise | None:
        promise = self._ask(unit)
        with self._lock:
            if promise is not None and promise.is_staged:
                one.promise = promise
            elif one.read < 1:  # all of it is on its way
                self._change(one, until=1.0)
        self._send(one)
        return promise

    def _send(self, one: _Asked) -> None:
        """Have fetched what was asked for meanwhile."""
        with self._lock:
            if one.promise is None:
                return
            promise, later, one.later = one.promise, one.later, []
        for until, urgency in later:
            promise.send(until * _MARGIN, urgency)

    def _change(self, one: _Asked, until: float | None = None, read: float | None = None) -> None:
        before = one.bytes
        one.until = one.until if until is None else until
        one.read = one.read if read is None else max(one.read, read)
        self._bytes += one.bytes - before

    def begin(self, unit: int) -> bool:
        """The unit is about to be read. Whether it was asked for; what was promised is then there to be claimed."""
        with self._lock:
            one = self._asked.pop(unit, None)
            if one is None or one.result is None:
                return False
            self._end(self._begun.pop(unit, None))
            self._begun[unit] = one
        is_late = one.result.cancel()  # to ask for it now is as quick
        if not is_late:
            wait([one.result], self._wait_s)
        if one.promise is None:
            self.went_to(unit, 1.0)
        return not is_late

    def went_to(self, unit: int, read: float) -> None:
        """A share of the rows of a unit that was begun is decoded."""
        with self._lock:
            one = self._begun.get(unit)
            if one is not None and read >= 1:
                self._end(self._begun.pop(unit))
            elif one is not None:
                self._change(one, read=read)

    def _end(self, one: _Asked | None) -> None:
        if one is not None:
            self._change(one, read=1.0)

    def drop(self, unit: int) -> None:
        """Nobody will read the unit."""
        with self._lock:
            one = self._asked.pop(unit, None)
            if one is None:
                return
            self._end(one)
        if one.result is not None:
            one.result.cancel()
            one.result.add_done_callback(_let_go)

    def forget(self) -> None:
        """Let go of all that is asked for."""
        with self._lock:
            all_of_them = [*self._asked.values(), *self._begun.values()]
            self._asked, self._begun, self._bytes = {}, {}, 0
            workers, self._workers = self._workers, None
            for one in all_of_them:
                one.read = 1.0
        results = [one.result for one in all_of_them if one.result is not None]
        for result in results:
            result.cancel()
        if workers is not None:
            workers.close()
        for result in results:
            with contextlib.suppress(CancelledError, OSError, ValueError):  # whoever reads the unit is told
                promise = result.result(0) if result.done() else None
                if promise is not None:
                    promise.drop()


def _let_go(asked: Future[Promise | None]) -> None:
    promise = None if asked.cancelled() or asked.exception() is not None else asked.result()
    if promise is not None:
        promise.drop()

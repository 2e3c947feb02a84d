"""The requests of a process: so many at a time, within a budget of bytes, in threads that end when nothing is asked.

What a reader waits for comes first, budget or not: what others have read ahead and do not take never blocks it.
"""

from __future__ import annotations

import bisect
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from runner.data.files.engines.base import Attempt, Data
from runner.data.files.fetch import patience
from runner.data.files.fetch.counters import Fetched
from runner.errors import DataAway

if TYPE_CHECKING:
    from runner.data.files.fetch.source import Source

#: Requests under way at a time, and those for what is late besides. Measured: docs/streaming.md, Fetching.
AT_ONCE, SECOND_AT_ONCE = 24, 8
#: Bytes that are asked for, or there and not taken.
BUDGET_BYTES = 128 << 20
#: Urgency of what somebody will wait for soon, and of what somebody waits for; the lowest goes first.
SOON, _NOW = -1, -2
#: Seconds after which a thread without work ends.
_IDLE_S = 10.0


class Part:
    """A range that is being fetched, or will be once it is sent for, or waited for.

    Attributes:
        over: set when nobody needs to fetch it any more.
        is_sent: whether it was sent for.
        turn: which of those that are sent for goes first.
    """

    def __init__(self, pool: Pool, source: Source, start: int, end: int) -> None:
        self._pool, self._source, self.start, self.end = pool, source, start, end
        self.over = threading.Event()
        self.begun: float | None = None
        self.turn = (SOON, 0)
        self.is_sent = self.is_held = self.is_awaited = self.is_hedged = False
        self._attempts: list[Attempt] = []
        self._data: Data | None = None
        self._error: BaseException | None = None

    def take(self) -> Data:
        """The bytes, once they are there.

        Raises:
            DataAway: they do not come in time.
            FileChanged, FileNotFoundError, PermissionError, OSError: see `Source.read`.
        """
        begin = time.monotonic()
        if not self.over.is_set():
            self._pool.hurry(self)
            self._wait(begin + patience.READ_S)
            self._source.count(Fetched(waited_s=time.monotonic() - begin))
        self._pool.release(self)
        if self._error is not None:
            raise self._error
        assert self._data is not None
        data, self._data = self._data, None
        return data

    def drop(self) -> None:
        """Nobody wants it any more. Nothing in a forked process: request and connection are the parent's."""
        if not self._pool.is_here:
            return
        self.finish(error=DataAway("given up", where=self._source.url))
        self._pool.release(self)
        self._data = None

    def _wait(self, deadline: float) -> None:
        while not self.over.wait(self._next_look(deadline)):
            now = time.monotonic()
            if now >= deadline:
                self.finish(error=self._source.too_late(self.start, self.end, patience.READ_S))
            elif self._is_late(now) and self._source.may_hedge():
                self.is_hedged = True
                self._source.count(Fetched(hedges=1))
                self._pool.ask_twice(self)

    def _next_look(self, deadline: float) -> float:
        """Seconds until something may have to be done besides waiting."""
        now, late = time.monotonic(), _LOOK_S
        if not self.is_hedged and self.begun is not None:
            late = max(0.001, self.begun + self._source.late_after(self.end - self.start) - now)
        return max(0.0, min(late, _LOOK_S, deadline - now))

    def _is_late(self, now: float) -> bool:
        late = self._source.late_after(self.end - self.start)
        return not self.is_hedged and self.begun is not None and now - self.begun >= late

    def begin(self) -> Attempt:
        """Another request for it begins."""
        attempt = Attempt()
        self._attempts.append(attempt)
        if self.over.is_set():
            attempt.break_off()
        self.begun = time.monotonic()
        return attempt

    def finish(self, data: Data | None = None, error: BaseException | None = None) -> None:
        """The first to finish it has the word; whatever else is under way for it is broken off."""
        with self._pool.lock:
            if self.over.is_set():
                return
            self._data, self._error = data, error
            self.over.set()
        if data is not None:
            self._source.count(Fetched(bytes=len(data)))
        for attempt in self._attempts:
            attempt.break_off()

    def run(self, second: bool) -> None:
        """Fetch it, in a thread of the pool."""
        if self.over.is_set():
            return
        try:
            if second:
                self.finish(self._source.once(self.start, self.end, self.begin()))
            else:
                self.finish(self._source.read(self.start, self.end, self))
        except BaseException as error:  # handed to the reader, whatever it is
            if not second:  # the first goes on trying
                self.finish(error=error)


#: Seconds after which a reader looks again whether what it waits for is late.
_LOOK_S = 0.25


class Pool:
    """The threads of a process, and what they are to fetch."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self.lock = threading.RLock()
        self._work = threading.Condition(self.lock)
        self._waiting: list[Part] = []  # by their turns
        self._numbers = itertools.count()
        self._seconds: deque[Part] = deque()
        self._threads = self._idle = self._running = self._held = 0

    @property
    def is_here(self) -> bool:
        """Whether this is the process of its threads; in a forked one somebody may hold the lock for ever."""
        return self._process == os.getpid()

    def ask(self, source: Source, spans: Iterable[tuple[int, int]]) -> list[Part]:
        """Begin to fetch the spans [start, end) of a file."""
        parts = self.plan(source, spans)
        self.send(parts)
        return parts

    def plan(self, source: Source, spans: Iterable[tuple[int, int]]) -> list[Part]:
        """The spans [start, end) of a file, to be fetched later."""
        return [Part(self, source, start, end) for start, end in spans]

    def send(self, parts: Iterable[Part], urgency: int = SOON) -> None:
        """Begin to fetch those that nobody has sent for, or let go of."""
        with self.lock:
            new = [part for part in parts if not part.is_sent and not part.over.is_set()]
            for part in new:
                self._line_up(part, urgency)
            self._wake(len(new))

    def ask_twice(self, part: Part) -> None:
        """Send a second request for a part."""
        with self.lock:
            self._seconds.append(part)
            self._wake(1)

    def hurry(self, part: Part) -> None:
        """A reader waits for it."""
        with self.lock:
            part.is_awaited = True
            if part.is_sent:
                if part.is_held or part not in self._waiting:
                    return
                self._waiting.remove(part)
            self._line_up(part, _NOW)
            self._wake(1)

    def _line_up(self, part: Part, urgency: int) -> None:
        """Behind all that are as urgent; who is waited for since last goes first."""
        number = next(self._numbers)
        part.is_sent, part.turn = True, (urgency, number if urgency > _NOW else -number)
        bisect.insort(self._waiting, part, key=lambda one: one.turn)

    def release(self, part: Part) -> None:
        """Its bytes are the reader's now, or nobody's."""
        with self.lock:
            if part.is_held:
                part.is_held = False
                self._held -= part.end - part.start
            elif part in self._waiting:
                self._waiting.remove(part)
            self._wake(1)

    def _wake(self, count: int) -> None:
        """Have so many threads look for work, new ones if those that rest are too few."""
        asked = min(len(self._waiting), AT_ONCE - self._running) + len(self._seconds)
        new = min(asked - self._idle, AT_ONCE + SECOND_AT_ONCE - self._threads)
        self._work.notify(count)
        for _ in range(new):
            self._threads += 1
            threading.Thread(target=self._run, name="runner-fetch", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self.lock:
                found = self._next()
                if found is None:
                    self._idle += 1
                    came = self._work.wait(_IDLE_S)
                    self._idle -= 1
                    found = self._next()
                    if found is None and not came:
                        self._threads -= 1
                        return
                    if found is None:
                        continue
                if self._waiting:
                    self._work.notify()
            part, second = found
            try:
                part.run(second)
            finally:
                with self.lock:
                    self._running -= not second

    def _next(self) -> tuple[Part, bool] | None:
        """What to fetch now, and whether it is a second request."""
        if self._seconds:
            return self._seconds.popleft(), True
        if not self._waiting or self._running >= AT_ONCE:
            return None
        part = self._waiting[0]
        size = part.end - part.start
        if self._held and not part.is_awaited and self._held + size > BUDGET_BYTES:
            return None
        self._waiting.pop(0)
        part.is_held = True
        self._held += size
        self._running += 1
        return part, False


_pool: Pool | None = None
_making = threading.Lock()


def _anew() -> None:
    """In a forked process: the threads are the parent's."""
    global _making, _pool
    _making, _pool = threading.Lock(), None


os.register_at_fork(after_in_child=_anew)


def pool() -> Pool:
    """That of this process."""
    global _pool
    with _making:
        if _pool is None:
            _pool = Pool()
        return _pool

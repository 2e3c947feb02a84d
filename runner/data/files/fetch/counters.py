"""What a process has fetched, and for whom."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Fetched:
    """Sums of a process since it began, or between two moments (``after - before``).

    Args:
        requests: sent, second ones and those that failed included.
        retries: of them those that followed a failure.
        hedges: of them those that were sent because the first was late.
        bytes: that came with answers and were used.
        kept: bytes that came from a cache on this machine.
        seconds: that requests took, all added up.
        waited_s: for which readers waited.
    """

    requests: int = 0
    retries: int = 0
    hedges: int = 0
    bytes: int = 0
    kept: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0

    def __sub__(self, before: Fetched) -> Fetched:
        return Fetched(*(getattr(self, one.name) - getattr(before, one.name) for one in fields(self)))

    def __add__(self, more: Fetched) -> Fetched:
        return Fetched(*(getattr(self, one.name) + getattr(more, one.name) for one in fields(self)))


_now = Fetched()
_lock = threading.Lock()


def _anew() -> None:
    """In a forked process: it has fetched nothing yet."""
    global _lock, _now
    _lock, _now = threading.Lock(), Fetched()


os.register_at_fork(after_in_child=_anew)


def fetched() -> Fetched:
    """What this process has fetched so far."""
    return _now


class Tally:
    """What was fetched for one reader.

    Attributes:
        now: so far.
    """

    def __init__(self) -> None:
        self.now = Fetched()


_reader: ContextVar[Tally | None] = ContextVar("reader", default=None)


@contextlib.contextmanager
def on(tally: Tally) -> Iterator[None]:
    """Files that are opened by this thread meanwhile are read for this reader, by whatever thread it is done."""
    token = _reader.set(tally)
    try:
        yield
    finally:
        _reader.reset(token)


def reader() -> Tally | None:
    """For whom this thread opens files, if anybody has said so."""
    return _reader.get()


def count(more: Fetched, tally: Tally | None = None) -> None:
    """Add to what the process has fetched, and to what it has for one of its readers."""
    global _now
    with _lock:
        _now += more
        if tally is not None:
            tally.now += more

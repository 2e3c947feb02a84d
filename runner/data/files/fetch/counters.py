"""What a process has fetched."""

from __future__ import annotations

import os
import threading
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


def count(more: Fetched) -> None:
    """Add to it."""
    global _now
    with _lock:
        _now += more

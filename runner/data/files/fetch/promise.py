"""Ranges that are fetched before the file is opened by who will ask for them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from runner.data.files.engines.base import Data

#: A file, by URL, size and etag; and one of its ranges.
Key = tuple[str, int, str]


class Part(Protocol):
    """A range of a file that is here, or on its way."""

    start: int
    end: int

    def take(self) -> Data:
        """The bytes, once they are here."""
        ...

    def drop(self) -> None:
        """Nobody wants it."""
        ...


#: What is promised, by file and start: of one range also several, as for two epochs.
_parts: dict[tuple[Key, int], list[Part]] = {}
_lock = threading.Lock()


def _anew() -> None:
    """In a forked process: the parts are the parent's."""
    global _lock, _parts
    _lock, _parts = threading.Lock(), {}


os.register_at_fork(after_in_child=_anew)


class Promise:
    """Parts that are on their way; who asks for just these ranges of the file is given them.

    Args:
        key: the file.
        send: where they are not all needed at once: sends for those that are needed up to a share of the whole.

    Attributes:
        bytes: of all of them.
        is_staged: whether they are not all needed at once.
    """

    def __init__(self, key: Key, parts: Sequence[Part], send: Callable[[float, int], None] | None = None) -> None:
        self._process, self._key = os.getpid(), key
        self._parts, self._send, self.is_staged = list(parts), send, send is not None
        self.bytes = sum(part.end - part.start for part in parts)
        with _lock:
            for part in parts:
                _parts.setdefault((key, part.start), []).append(part)

    def send(self, until: float, urgency: int = 0) -> None:
        """Have those fetched that are needed up to a share (0 to 1) of the whole, whoever has them by now.

        Args:
            urgency: the lowest goes first.
        """
        if self._send is not None and self._process == os.getpid():
            self._send(until, urgency)

    def drop(self) -> None:
        """Let go of those that nobody has asked for."""
        if self._process != os.getpid():
            return
        for part in self._parts:
            if claim(self._key, part.start, part.end, part) is not None:
                part.drop()
        self._parts.clear()


def claim(key: Key, start: int, end: int, one: Part | None = None) -> Part | None:
    """The part of a range that was promised, which is then the caller's; None if there is none.

    Args:
        one: no other than this.
    """
    with _lock:
        for part in _parts.get((key, start), ()):
            if part.end == end and one in (None, part):
                return _pop(key, part)
    return None


def is_promised(key: Key, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether all of these ranges [start, end) were promised."""
    with _lock:
        return all(any(part.end == end for part in _parts.get((key, start), ())) for start, end in spans)


def chain(key: Key, start: int) -> list[Part]:
    """What was promised from `start` on without a gap, which is then the caller's."""
    found: list[Part] = []
    with _lock:
        while parts := _parts.get((key, start)):
            found.append(_pop(key, parts[0]))
            start = found[-1].end
    return found


def _pop(key: Key, part: Part) -> Part:
    parts = _parts[key, part.start]
    parts.remove(part)
    if not parts:
        del _parts[key, part.start]
    return part

"""What files say of themselves, kept by those that were looked at last: of threads that want the same one looks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
#: A file: its URL and tag.
Key = tuple[str, str]
_MOST, _MOST_BYTES = 4096, 64 << 20
#: Files that may be looked at at the same time.
_TURNS = 64


class Kept(Generic[T]):
    """What is known of files.

    Args:
        size_of: bytes that one takes.
    """

    def __init__(self, size_of: Callable[[T], int]) -> None:
        self._size_of = size_of
        self._lock = threading.Lock()
        self._turns = [threading.Lock() for _ in range(_TURNS)]
        self._found: OrderedDict[Key, T] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key, read: Callable[[], T]) -> T:
        """What is known of a file; it is read where it is not kept."""
        found = self._find(key)
        if found is not None:
            return found
        with self._turns[hash(key) % _TURNS]:
            found = self._find(key)
            if found is None:
                found = read()
                self._keep(key, found)
        return found

    def drop(self, key: Key) -> None:
        """Keep it no longer."""
        with self._lock:
            found = self._found.pop(key, None)
            self._bytes -= self._size_of(found) if found is not None else 0

    def _find(self, key: Key) -> T | None:
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def _keep(self, key: Key, found: T) -> None:
        with self._lock:
            self._found[key] = found
            self._bytes += self._size_of(found)
            while len(self._found) > _MOST or (len(self._found) > 1 and self._bytes > _MOST_BYTES):
                self._bytes -= self._size_of(self._found.popitem(last=False)[1])

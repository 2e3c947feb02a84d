"""A file of which some ranges are in memory: fetched beforehand, or with other bytes than the file has."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from runner.data.files.engines.base import Data
from runner.data.files.ranges import RangeFile
from runner.data.files.readable import lend, lent
from runner.data.files.seekable import Seekable


class Overlay(Seekable):
    """Reads `source`, except where a range is kept. Not for several threads at once.

    Args:
        source: which is closed with it.
    """

    def __init__(self, source: pa.NativeFile) -> None:
        super().__init__(source.size())
        self._source = source
        self._starts: list[int] = []
        self._kept: list[Data] = []

    def keep(self, start: int, data: Data) -> None:
        """Gives `data` for the bytes from `start` on."""
        place = bisect.bisect(self._starts, start)
        self._starts.insert(place, start)
        self._kept.insert(place, data)

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Keeps the ranges (start, length) as they are in the file; of a remote one they are fetched side by side."""
        missing = [one for one in ranges if not self._has(*one)]
        remote = lent(self._source)
        if isinstance(remote, RangeFile):
            self.keep_all(remote.fetch(missing))
            return
        for start, length in missing:
            self._add(start, self._source.read_at(min(length, self._size - start), start))

    def keep_all(self, pieces: Iterable[tuple[int, Data]]) -> None:
        """Keeps pieces of the file, of which it is told where each begins."""
        for start, data in pieces:
            self._add(start, data)

    def _has(self, start: int, length: int) -> bool:
        """Whether all of a range is kept."""
        at, end = start, min(start + length, self._size)
        while at < end:
            place = bisect.bisect(self._starts, at) - 1
            stop = self._starts[place] + len(self._kept[place]) if place >= 0 else at
            if stop <= at:
                return False
            at = stop
        return True

    def _add(self, start: int, data: Data) -> None:
        """Keeps bytes of the file, but where others are kept already: those have the last word."""
        at, end, view = start, start + len(data), memoryview(data)
        kept = [(begin, begin + len(one)) for begin, one in zip(self._starts, self._kept, strict=True)]
        for begin, stop in [*kept, (end, end)]:
            if at < min(begin, end):
                self.keep(at, view[at - start : min(begin, end) - start])
            at = max(at, stop)

    def forget(self) -> None:
        """Lets go of all kept ranges."""
        self._starts.clear()
        self._kept.clear()

    def read(self, count: int | None = -1) -> Any:
        """The next `count` bytes, fewer at the end; all if it is negative. Nothing is copied that lies in one piece."""
        data = self._view(self._size - self._at if count is None or count < 0 else count, self._at)
        self._at += len(data)
        return data

    def read_at(self, count: int, start: int) -> bytes:
        """`count` bytes from `start` on, fewer at the end."""
        return bytes(self._view(count, start))

    def _view(self, count: int, start: int) -> Data:
        parts: list[Data] = []
        end = min(start + max(count, 0), self._size)
        while start < end:
            place = bisect.bisect(self._starts, start) - 1
            if place >= 0 and start - self._starts[place] < len(self._kept[place]):
                offset = start - self._starts[place]
                part = memoryview(self._kept[place])[offset : offset + end - start]
            else:
                following = self._starts[place + 1] if place + 1 < len(self._starts) else end
                part = memoryview(self._source.read_at(min(end, following) - start, start))
                if not part:
                    break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Closes the other file."""
        super().close()
        self._source.close()

    def native(self) -> pa.NativeFile:
        """The file as pyarrow takes it."""
        return lend(self)

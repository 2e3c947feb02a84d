"""A file of which some ranges are in memory: fetched beforehand, or with other bytes than the file has."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

import pyarrow as pa

from runner.data.files.readable import lend
from runner.data.files.seekable import Seekable

#: Ranges that are closer than this are fetched as one.
_HOLE_BYTES = 8 << 10


class Overlay(Seekable):
    """Reads `source`, except where a range is kept. Not for several threads at once.

    Args:
        source: which is closed with it.
    """

    def __init__(self, source: pa.NativeFile) -> None:
        super().__init__(source.size())
        self._source = source
        self._starts: list[int] = []
        self._kept: list[bytes] = []

    def keep(self, start: int, data: bytes) -> None:
        """Gives `data` for the bytes from `start` on."""
        place = bisect.bisect(self._starts, start)
        self._starts.insert(place, start)
        self._kept.insert(place, data)

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Keeps the ranges (start, length) as they are in the file; near ones are fetched together."""
        joined: list[list[int]] = []
        for start, length in sorted(ranges):
            end = min(start + length, self._size)
            if joined and start - joined[-1][1] <= _HOLE_BYTES:
                joined[-1][1] = max(joined[-1][1], end)
            elif start < end:
                joined.append([start, end])
        for start, end in joined:
            self.keep(start, self.read_at(end - start, start))  # what is kept already has the last word

    def forget(self) -> None:
        """Lets go of all kept ranges."""
        self._starts.clear()
        self._kept.clear()

    def read_at(self, count: int, start: int) -> bytes:
        """`count` bytes from `start` on, fewer at the end."""
        parts: list[bytes] = []
        end = min(start + max(count, 0), self._size)
        while start < end:
            place = bisect.bisect(self._starts, start) - 1
            if place >= 0 and start - self._starts[place] < len(self._kept[place]):
                offset = start - self._starts[place]
                part = self._kept[place][offset : offset + end - start]
            else:
                following = self._starts[place + 1] if place + 1 < len(self._starts) else end
                part = bytes(self._source.read_at(min(end, following) - start, start))
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

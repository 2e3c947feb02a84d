"""Remote files by ranges: at any place, many ranges at once, and ahead of who reads from start to end."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from runner.data.files.engines import wholes
from runner.data.files.engines.base import Data
from runner.data.files.fetch.promise import Part
from runner.data.files.fetch.source import Source
from runner.data.files.seekable import Seekable

#: Bytes read one after the other from which on a reader is taken for one that goes on so, and how far it is then ahead.
_SEQUENTIAL_BYTES, _AHEAD_BYTES = 256 << 10, 16 << 20


class RangeFile(Seekable):
    """A read-only file on ranged requests of a remote file system.

    Who reads from some place on without a jump has the next `_AHEAD_BYTES` on their way. A server that answers a range
    with the whole file is asked for it once.

    Args:
        size: bytes of the file.
        etag: as in `SourceFile.etag`; '' where it is not known.
        until: where who reads from start to end will stop; None: at the end of the file.
    """

    def __init__(self, fs: Any, path: str, size: int, etag: str = "", until: int | None = None) -> None:
        super().__init__(size)
        self._path, self._etag = path, etag
        self._source = Source(fs, path, size, etag)
        self._until, self._is_told = size if until is None else min(until, size), until is not None
        self._ahead = _Ahead(self._source)
        self._begun = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position; returns it."""
        before = self._at
        if super().seek(offset, whence) != before:
            self._begun = self._at
        return self._at

    def read(self, count: int | None = -1) -> Any:
        """The next `count` bytes, fewer at the end; all if it is negative."""
        start = self._at
        end = self._size if count is None or count < 0 else min(start + count, self._size)
        if end <= start:
            return b""
        goes_on = self._is_told or start > self._begun
        long = goes_on and end - self._begun >= _SEQUENTIAL_BYTES
        if end <= self._until and (long or self._ahead.finds(start)):
            data = self._ahead.read(start, end, self._until)
        else:
            data = self.read_at(end - start, start)
        self._at = end
        return data

    def read_at(self, count: int, start: int) -> Any:
        """`count` bytes from `start` on, fewer at the end. Raises what `Source.read` does, and ValueError for a place
        before the beginning."""
        if start < 0:
            raise ValueError(f"{count} bytes from byte {start} on")
        end = min(start + count, self._size)
        if end <= start:
            return b""
        return wholes.kept(self._path, self._size, self._etag, start, end) or _joined(
            self._source.take(self._source.ask_all(start, end))
        )

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, Data]]:
        """Where each piece begins, and its bytes, for pieces that cover the ranges (start, length)."""
        return self._source.take(self._source.ask(ranges))

    @property
    def source(self) -> Source:
        """What the ranges are asked of."""
        return self._source

    def close(self) -> None:
        """Lets go of what was read ahead."""
        if not self.closed:
            self._ahead.close()
        super().close()


class _Ahead:
    """What follows the place where a file is read, on its way."""

    def __init__(self, source: Source) -> None:
        self._source, self._process = source, os.getpid()
        self._parts: deque[Part] = deque()
        self._at = self._end = 0
        self._rest: memoryview | None = None

    def finds(self, start: int) -> bool:
        """Whether somebody has asked for what begins at `start`; it is then read from there on."""
        if self._process == os.getpid() and start == self._at and self._end > start:
            return True
        promised = self._source.chain(start)
        if promised:
            self.close()
            self._process, self._at, self._end = os.getpid(), start, promised[-1].end
            self._parts.extend(promised)
        return bool(promised)

    def read(self, start: int, end: int, until: int) -> Data:
        """The bytes [start, end); what follows is asked for before they are waited for."""
        if self._process != os.getpid() or start != self._at:
            self.close()
            self._process, self._at, self._end = os.getpid(), start, start
        follows = min(until, max(end, start + _AHEAD_BYTES))
        if self._end < end or follows - self._end >= _AHEAD_BYTES // 2 or (follows == until and self._end < until):
            self._parts.extend(self._source.ask_all(self._end, follows))
            self._end = follows
        pieces: list[Data] = []
        while self._at < end:
            if self._rest is None:
                self._rest = memoryview(self._parts.popleft().take())
            piece = self._rest[: end - self._at]
            self._rest = self._rest[len(piece) :] if len(piece) < len(self._rest) else None
            self._at += len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Nobody reads on."""
        if self._process == os.getpid():
            for part in self._parts:
                part.drop()
        self._parts.clear()
        self._rest = None


def _joined(pieces: Iterator[tuple[int, Data]]) -> Data:
    found = [data for _, data in pieces]
    return found[0] if len(found) == 1 else b"".join(found)

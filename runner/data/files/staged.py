"""A remote file of which some ranges are read side by side, each from its start to its end, as their pieces come."""

from __future__ import annotations

import bisect
import os
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from runner.data.files.engines.base import Data
from runner.data.files.fetch.promise import Part
from runner.data.files.fetch.stages import Piece
from runner.data.files.ranges import RangeFile
from runner.data.files.readable import lend
from runner.data.files.seekable import Seekable

#: Bytes that are on their way ahead of who reads, where nobody has promised them.
AHEAD_BYTES = 16 << 20
#: Is told of bytes [start, end) before they are given, and may raise.
Look = Callable[[int, int], None]


class Staged(Seekable):
    """Gives the pieces of a file, each as soon as it is there, and lets go of one when its range goes on behind it.

    What lies elsewhere is read as it is asked for. Not for several threads at once.

    Args:
        file: closed by whoever has opened it.
        pieces: in the order in which they are needed.

    Attributes:
        look: what is told of bytes before they are given; `peek` tells it nothing.
    """

    def __init__(self, file: RangeFile, pieces: Sequence[Piece]) -> None:
        super().__init__(file.size())
        self._file = file
        self.look: Look = lambda start, end: None
        order = sorted(range(len(pieces)), key=lambda i: pieces[i].start)  # in the file -> as they are needed
        self._pieces = [pieces[i] for i in order]
        self._starts = [piece.start for piece in self._pieces]
        self._held: dict[int, Data] = {}
        self._plan(sorted(range(len(pieces)), key=order.__getitem__))

    def _plan(self, places: Sequence[int]) -> None:
        """Have pieces ready to be sent for.

        Args:
            places: theirs in the file, in the order in which they are needed.
        """
        self._process, self._sent = os.getpid(), 0
        pieces = [self._pieces[place] for place in places]
        parts, self._send = self._file.source.plan(pieces)
        self._left: dict[int, Part] = dict(zip(places, parts, strict=True))
        self._numbers = {place: number for number, place in enumerate(places)}
        self._sizes = [piece.end - piece.start for piece in pieces]

    def read(self, count: int | None = -1) -> Any:
        """The next `count` bytes, fewer at the end; all if it is negative. Nothing is copied that lies in one piece."""
        data = self._given(self._size - self._at if count is None or count < 0 else count, self._at)
        self._at += len(data)
        return data

    def read_at(self, count: int, start: int) -> bytes:
        """`count` bytes from `start` on, fewer at the end."""
        return bytes(self._given(count, start))

    def _given(self, count: int, start: int) -> Data:
        self.look(start, start + count)
        return self._view(count, start, lets_go=True)

    def peek(self, count: int, start: int) -> Data:
        """The same for who looks at what will be read later: nothing is let go of."""
        return self._view(count, start)

    def _view(self, count: int, start: int, lets_go: bool = False) -> Data:
        found: list[Data] = []
        end = min(start + max(count, 0), self._size)
        while start < end:
            place = bisect.bisect(self._starts, start) - 1
            data = self._data(place) if place >= 0 else None
            if data is not None and start < self._pieces[place].end:
                if lets_go:
                    self._let_go(place)
                low = start - self._pieces[place].start
                part: Data = memoryview(data)[low : low + end - start]
            else:
                following = self._starts[place + 1] if place + 1 < len(self._starts) else end
                if place >= 0 and start < self._pieces[place].end:  # it was let go of
                    following = min(following, self._pieces[place].end)
                part = memoryview(self._file.read_at(min(end, following) - start, start))
                if not part:
                    break
            found.append(part)
            start += len(part)
        return found[0] if len(found) == 1 else b"".join(found)

    def _data(self, place: int) -> Data | None:
        """The bytes of a piece, waited for; None once it was let go of."""
        if place not in self._held and place in self._left:
            if self._process != os.getpid():  # it was forked: those parts are the parent's
                self._plan([one for one in self._numbers if one in self._left])
            self._send_ahead(self._numbers[place])
            self._held[place] = self._left.pop(place).take()
        return self._held.get(place)

    def _send_ahead(self, number: int) -> None:
        """Have a piece fetched, and those that are needed after it."""
        if self._send is None:
            return
        stop, size = max(number + 1, self._sent), sum(self._sizes[number + 1 : self._sent])
        while stop < len(self._sizes) and size + self._sizes[stop] <= AHEAD_BYTES:
            size += self._sizes[stop]
            stop += 1
        if stop > self._sent:
            self._send(self._sent, stop)
            self._sent = stop

    def _let_go(self, place: int) -> None:
        """Whoever reads in a piece of one range alone wants none before it any more."""
        number = self._pieces[place].range
        while number is not None and place > 0 and self._pieces[place - 1].range == number:
            place -= 1
            if self._held.pop(place, None) is None:
                if place in self._left:
                    self._left.pop(place).drop()
                    continue
                break

    def close(self) -> None:
        """Lets go of all pieces."""
        super().close()
        for part in self._left.values():
            part.drop()
        self._left.clear()
        self._held.clear()

    def native(self) -> pa.NativeFile:
        """The file as pyarrow takes it."""
        return lend(self)

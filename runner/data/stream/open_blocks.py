"""The blocks of lanes that are open: what is held of each, and where each of its rows is."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from runner.data.stream.blocks import Cursor, Piece, Planned
from runner.data.stream.order import Ints, Segment

#: A block of a lane: epoch, number, and the index behind its last row.
Place: TypeAlias = tuple[int, int, int]


@dataclass(eq=False)
class Open:
    """The block of a lane that is being consumed.

    Args:
        held: the numbers of its pieces.
        size, in_files: bytes of its rows that are here, and those of its units in their files.
        segments, pieces: of small data that is not here yet as a whole.
        ordered: whether it is held as one piece whose rows are in the order in which they come.
        counts: the rows of its pieces, of another; int64 [pieces].
    """

    epoch: int
    number: int
    start: int
    stop: int
    held: list[int]
    size: int
    in_files: int
    segments: tuple[Segment, ...] = ()
    pieces: list[Piece | None] = field(default_factory=list)
    ordered: bool = False
    counts: Ints = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(eq=False, slots=True)
class Awaited:
    """A piece that may not be here yet.

    Args:
        result, place: of the task that decodes it, and which of its pieces it is.
        segment: of which it is the rows; number: which of the block's that is.
    """

    block: Open
    result: Future[list[Piece]]
    place: int
    segment: Segment
    number: int


@dataclass(eq=False)
class Lane:
    """A lane that this rank reads.

    Attributes:
        open: the block under consumption.
        ahead: the blocks behind it that are being decoded.
        cursors: by unit, where a unit goes on in a later block.
        asked: the last block whose units are asked for.
    """

    open: Open | None = None
    ahead: deque[Planned] = field(default_factory=deque)
    cursors: dict[int, Cursor] = field(default_factory=dict)
    asked: Place | None = None

    @property
    def last(self) -> Place | None:
        """The last block that is open, or being decoded."""
        one: Open | Planned | None = self.ahead[-1] if self.ahead else self.open
        return None if one is None else (one.epoch, one.number, one.stop)


class Table:
    """Where the rows of all open blocks are, to be looked up for the rows of many steps at once.

    Args:
        lanes: how many.

    Attributes:
        at: behind the last row that was taken, int64 [lanes].
        used: the last call of `take` that touched it, int64 [lanes].
    """

    def __init__(self, lanes: int) -> None:
        self.at, self.used = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
        self._start, self._stop = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
        self._room = 0  # rows that the table has for each lane
        self._pieces = self._rows = np.zeros(1, np.int32)

    def missing(self, lanes: Ints, indexes: Ints) -> Ints:
        """Which of the rows are in no open block."""
        return np.flatnonzero((indexes < self._start[lanes]) | (indexes >= self._stop[lanes]))

    def find(self, lanes: Ints, indexes: Ints) -> tuple[Ints, Ints]:
        """Piece and row in the piece of each row; anything where it is missing."""
        slots = (indexes + (lanes * self._room - self._start[lanes])).reshape(-1)
        return tuple(table.take(slots, mode="clip").astype(np.int64) for table in (self._pieces, self._rows))  # type: ignore[return-value]

    def went_to(self, lanes: Ints, indexes: Ints, clock: int) -> None:
        """These rows were taken by the call of this number; of a lane the last counts."""
        self.at[lanes] = (indexes if indexes.ndim == 1 else indexes[-1]) + 1
        self.used[lanes] = clock

    def open(self, lane: int, one: Open, sequence: Ints) -> None:
        """The block of a lane from now on.

        Args:
            sequence: row i of the block is row ``sequence[i]`` of its pieces put together.
        """
        if one.ordered:
            self._open_in_order(lane, one)
            return
        counts = one.counts
        if len(sequence) > self._room:
            self._grow(len(sequence) + len(sequence) // 8)
        here = slice(lane * self._room, lane * self._room + len(sequence))
        which = np.repeat(np.arange(len(counts)), counts).take(sequence)
        np.take(np.array(one.held, np.int32), which, out=self._pieces[here], mode="clip")
        self._rows[here] = sequence - (np.cumsum(counts) - counts).take(which)
        self._start[lane], self._stop[lane] = one.start, one.stop

    def _open_in_order(self, lane: int, one: Open) -> None:
        rows = one.stop - one.start
        if rows > self._room:
            self._grow(rows + rows // 8)
        here = slice(lane * self._room, lane * self._room + rows)
        self._pieces[here], self._rows[here] = one.held[0], np.arange(rows, dtype=np.int32)
        self._start[lane], self._stop[lane] = one.start, one.stop

    def bounds(self, lane: int) -> tuple[int, int]:
        """The indexes of a lane's open block: the first, and the one behind its last."""
        return int(self._start[lane]), int(self._stop[lane])

    def absent(self, lanes: Ints, low: Ints, high: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Of which lanes the open block has not all of the rows [low, high)."""
        return (low < self._start[lanes]) | (high > self._stop[lanes])

    def first_absent(self, lane: int, low: int) -> int:
        """The first row of a lane from `low` on that its open block has not."""
        start, stop = self.bounds(lane)
        return stop if start <= low < stop else low

    def close(self, lane: int) -> None:
        """The lane has none."""
        self._start[lane] = self._stop[lane] = 0

    def close_all(self) -> None:
        """No lane has one."""
        self._start[:] = self._stop[:] = 0

    def _grow(self, room: int) -> None:
        tables = []
        for old in (self._pieces, self._rows):
            new = np.zeros((len(self._start), room), np.int32)
            if self._room:
                new[:, : self._room] = old.reshape(len(self._start), self._room)
            tables.append(new.reshape(-1))
        (self._pieces, self._rows), self._room = tables, room


class Numbers:
    """Small numbers, used again once they are given back."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        self._free.append(number)

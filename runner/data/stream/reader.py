"""Reads the blocks of the order: units are decoded in sequence, and only the rows of open blocks are kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.formats.explain import explained
from runner.data.lanes import BLOCK_BYTES, SMALL_BYTES
from runner.data.limits import beyond, limits, shown_bytes
from runner.data.manifest import Manifest
from runner.data.stream import dense
from runner.data.stream.order import Block, Ints, Order, Segment
from runner.data.stream.spill import Spill
from runner.data.values.types import size_of
from runner.errors import DataError

Columns = dict[str, dense.Column]

#: Decoded at a time of a unit that is larger than a block.
_PIECE_BYTES = 2 << 20
#: From here on it is faster to copy each stretch by itself than all through a temporary array.
_STRETCH_BYTES = 4096


@dataclass
class _Open:
    """The block of a lane that is being consumed, and the call of `take` that touched it last.

    `size` are the bytes of its rows, `in_files` those of the units that they are of.
    """

    number: int
    block: Block
    columns: Columns
    used: int
    size: int
    in_files: int


class Reader:
    """Rows of a dataset by (lane, index), for one rank. Not for several threads at once.

    Memory: for each lane that this rank touches an open block, and either the decoded rest of a unit that is not
    larger than a block or the compressed bytes of one that is. Units that are cut over several lanes are decoded
    once, into a nameless temporary file. Data of up to SMALL_BYTES stays in memory from epoch to epoch.

    Args:
        columns: names, in the order wanted.

    Attributes:
        rows_read, bytes_read: decoded so far; more than was handed out where rows are skipped on the way to a resume.
    """

    def __init__(self, manifest: Manifest, order: Order, columns: Sequence[str]) -> None:
        self._manifest, self._order, self._names = manifest, order, list(columns)
        self._places = [(shard, place) for shard, one in enumerate(manifest.shards) for place in range(len(one.units))]
        self._open: dict[int, _Open] = {}
        self._cursors: dict[int, dict[int, _Cursor]] = {}
        self._spills: dict[int, Spill] = {}
        self._cut = np.bincount(order.runs[0], minlength=len(self._places)) > 1
        self._small = int(order.unit_bytes.sum()) <= SMALL_BYTES
        self._last: tuple[tuple[Segment, ...], Columns] | None = None
        self._epoch, self._clock = -1, 0
        self.rows_read = self.bytes_read = 0

    def take(self, epoch: int, lanes: Ints, indexes: Ints) -> dict[str, Any]:
        """Rows by lane and index in the lane.

        Args:
            lanes, indexes: int64 [n], in any order; from call to call each lane goes forward.

        Returns:
            column -> numpy [n, ...], or a list of n values for columns whose rows differ in size.

        Raises:
            DataError: a unit cannot be read; URL and unit are named.
        """
        if epoch != self._epoch:
            self.rest()
            self._epoch = epoch
        self._clock += 1
        out: dict[str, Any] = {}
        for lane in np.unique(lanes).tolist():
            places = np.flatnonzero(lanes == lane)
            numbers = self._order.epoch(epoch).block_of(lane, indexes[places])
            for number in np.unique(numbers).tolist():
                here = places[numbers == number]
                one = self._opened(lane, number)
                rows = one.block.sequence[indexes[here] - one.block.start]
                cuts = _stretches(here)
                for name in self._names:  # at once, for the lane's next block overwrites this one
                    try:
                        out[name] = _put(out.get(name), one.columns[name], rows, here, cuts, len(lanes))
                    except (ValueError, OverflowError, pa.ArrowException, DataError) as error:
                        raise self._at_fault(name, one.columns[name], one.block.segments, error) from error
        return {name: out[name] for name in self._names}

    def forget(self, age: int) -> None:
        """Closes the blocks that the last `age` calls of `take` did not touch."""
        for lane in [lane for lane, one in self._open.items() if self._clock - one.used >= age]:
            del self._open[lane]
            self._cursors.pop(lane, None)

    def rest(self) -> None:
        """Lets go of open blocks and files. The next call of `take` may be for any place."""
        self._open.clear()
        self._cursors.clear()
        self._epoch = -1

    def _opened(self, lane: int, number: int) -> _Open:
        one = self._open.get(lane)
        if one is None or one.number != number:
            block = self._order.epoch(self._epoch).block(lane, number)
            overwritten = {} if one is None else one.columns
            self._open.pop(lane, None)
            room = self._room(block.segments)
            columns = self._block(lane, block.segments, overwritten, room)
            one = self._open[lane] = _Open(number, block, columns, self._clock, room.used, room.in_files)
        one.used = self._clock
        return one

    def _block(self, lane: int, segments: tuple[Segment, ...], overwritten: Columns, room: _Room) -> Columns:
        """The columns of a block; those of the lane's last one are overwritten."""
        if self._last is not None and self._last[0] == segments:
            return self._last[1]
        batches = self._batches(lane, segments, room)
        columns = {name: self._column(batches, name, segments, overwritten.get(name)) for name in self._names}
        if self._small:
            self._last = segments, columns
        return columns

    def _batches(self, lane: int, segments: tuple[Segment, ...], room: _Room) -> list[pa.RecordBatch]:
        """The rows of the segments; cursors that stand inside a unit are kept for the lane's next block."""
        before, after = self._cursors.pop(lane, {}), {}
        batches: list[pa.RecordBatch] = []
        for segment in segments:
            if self._cut[segment.unit]:
                batches += self._spilled(segment.unit).rows(segment.start, segment.stop)
                continue
            cursor = before.get(segment.unit)
            if cursor is None or cursor.row > segment.start:
                cursor = _Cursor(self._unit(segment.unit))
            with explained(*self._place(segment.unit)):
                batches += room.filled(cursor.rows(segment.start, segment.stop))
            if segment.stop < self._order.unit_rows[segment.unit]:
                after[segment.unit] = cursor
        self._cursors[lane] = after
        return batches

    def _room(self, segments: tuple[Segment, ...]) -> _Room:
        """The memory that the rows of segments may take, beside the blocks that are open."""
        in_files = 0
        for unit in {segment.unit for segment in segments}:
            shard, place = self._places[unit]
            one = self._manifest.shards[shard]
            in_files += one.units[place].within(one.size)
        others = self._open.values()
        most = limits().at_once(in_files + sum(other.in_files for other in others))
        return _Room(in_files, most - sum(other.size for other in others))

    def _place(self, unit: int) -> tuple[str, int]:
        """URL and number of a unit in its file, for errors."""
        shard, place = self._places[unit]
        one = self._manifest.shards[shard]
        return self._manifest.url(one), one.units[place].index

    def _spilled(self, unit: int) -> Spill:
        if unit not in self._spills:
            self._spills[unit] = Spill(self._unit(unit))
        return self._spills[unit]

    def _unit(self, unit: int) -> Iterator[pa.RecordBatch]:
        shard, place = self._places[unit]
        one = self._manifest.shards[shard].units[place]
        rows = max(1, one.rows * _PIECE_BYTES // one.bytes) if one.bytes > BLOCK_BYTES else None
        for batch in self._manifest.read(shard, [place], self._names, rows):
            self.rows_read += batch.num_rows
            self.bytes_read += size_of(batch)
            yield batch

    def _column(
        self,
        batches: Sequence[pa.RecordBatch],
        name: str,
        segments: Sequence[Segment],
        room: dense.Column | None,
    ) -> dense.Column:
        kind = self._manifest.schema.field(name).type
        try:
            return dense.join([batch.column(name) for batch in batches], kind, room)
        except (ValueError, OverflowError, pa.ArrowException, DataError) as error:
            whole = pa.chunked_array([batch.column(name) for batch in batches], kind)
            raise self._at_fault(name, whole, segments, error) from error

    def _at_fault(self, name: str, column: Any, segments: Sequence[Segment], error: Exception) -> DataError:
        """The error with its column, and with the first unit whose values cannot be had by themselves either."""
        start, found = 0, segments[0]
        for segment in segments:
            part = column[start : start + segment.stop - segment.start]
            start += segment.stop - segment.start
            if _fails(part, self._manifest.schema.field(name).type):
                found = segment
                break
        where = "{} (unit {})".format(*self._place(found.unit))
        if isinstance(error, DataError):
            return DataError(f"column '{name}': {error.found}", allowed=error.allowed, todo=error.todo, where=where)
        return DataError(
            f"column '{name}': a value that Python cannot hold ({' '.join(str(error).split())})",
            allowed="text in UTF-8, and times of the years 1 to 9999, where they are not whole columns of times",
            todo="convert the column in a Prep with batch_format='arrow', or leave it out with columns=",
            where=where,
        )


def _fails(part: Any, kind: pa.DataType) -> bool:
    """Whether the rows of a column cannot be had."""
    chunks = part.chunks if isinstance(part, pa.ChunkedArray) else [part]
    try:
        dense.take(dense.join(chunks, kind) if isinstance(part, pa.ChunkedArray) else part, np.arange(len(part)))
    except (ValueError, OverflowError, pa.ArrowException, DataError):
        return True
    return False


class _Room:
    """The memory that a block may take: its rows may be far more bytes than their units are estimated to be.

    Args:
        in_files: bytes of its units in the files.
        most: bytes that its rows may take.
    """

    def __init__(self, in_files: int, most: int) -> None:
        self.in_files, self.used, self._most = in_files, 0, most

    def filled(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches, as long as there is room. Raises DataError if there is not."""
        for batch in batches:
            self.used += size_of(batch)
            if self.used > self._most:
                raise beyond("at_once_bytes", f"a block of {shown_bytes(self.used)} or more")
            yield batch


class _Cursor:
    """Goes forward through the record batches of one unit."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches, self._rest = batches, None
        self.row = 0

    def rows(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Rows [start, stop), `start` at or after `row`."""
        while self.row < stop:
            batch = self._rest if self._rest is not None else next(self._batches)
            low, high = max(start - self.row, 0), min(stop - self.row, batch.num_rows)
            self._rest = batch.slice(high) if high < batch.num_rows else None
            self.row += high
            if low < high:
                yield batch.slice(low, high - low)


def _stretches(places: Ints) -> list[int]:
    """Where the stretches without a gap begin, and the end."""
    return [0, *(np.flatnonzero(places[1:] - places[:-1] != 1) + 1).tolist(), len(places)]


def _put(out: Any, column: dense.Column, rows: Ints, places: Ints, cuts: list[int], count: int) -> Any:
    """Puts rows of a column at their places in `out`, which has `count` of them and is made if it is None."""
    if not isinstance(column, np.ndarray):
        values: list[Any] = [None] * count if out is None else out
        for place, value in zip(places.tolist(), dense.take(column, rows), strict=True):
            values[place] = value
        return values
    if out is None:
        out = np.empty((count, *column.shape[1:]), column.dtype)
    if len(places) * out[0].nbytes < _STRETCH_BYTES * (len(cuts) - 1):
        out[places] = column[rows]
        return out
    for low, high in itertools.pairwise(cuts):
        place = int(places[low])  # "clip" because the other modes take through a buffer
        np.take(column, rows[low:high], axis=0, out=out[place : place + high - low], mode="clip")
    return out

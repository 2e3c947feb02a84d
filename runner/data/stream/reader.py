"""Reads the rows of the order: blocks are decoded ahead, and only the rows of open blocks are kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import numpy as np

from runner.data.files.fetch import Fetched
from runner.data.lanes import SMALL_BYTES
from runner.data.manifest import Manifest
from runner.data.stream.blocks import VALUE_ERRORS, Decoders, Piece, Planned
from runner.data.stream.columns import Fixed, Stretch, column_of
from runner.data.stream.open_blocks import Awaited, Lane, Numbers, Open, Place, Table
from runner.data.stream.order import Ints, Order, Segment
from runner.data.stream.quarantine import Quarantine
from runner.data.stream.reading import Reading
from runner.data.stream.turns import Turns, first_rows, groups_of, stretches_of, turns_of
from runner.errors import DataError

#: Segments of a block from which on it is opened before all of them are decoded: its first rows need a few of them.
_MANY = 64
#: Bytes of a row up to which a block is put in order as a whole.
_NARROW = 128
#: Rows that should be taken at once, and of narrow ones: it spreads the cost of a call.
_MOST_ROWS, _MOST_NARROW_ROWS = 16_384, 65_536


class Reader:
    """Rows of a dataset by (lane, index), for one rank. Not for several threads at once.

    Memory: for each lane that this rank touches an open block and what a decoder holds of a unit, and the blocks that
    come next. Units that are cut over several lanes are decoded once, into a nameless temporary file.
    Data of up to SMALL_BYTES stays in memory from epoch to epoch.

    Args:
        quarantine: what is set aside; None: a unit that cannot be read is an error.

    Attributes:
        end: the epoch at which what is decoded ahead ends; None: there is none.
        row_bytes: of a row of the columns that are read, about.
        most_rows: that should be taken at once.
    """

    def __init__(
        self, manifest: Manifest, order: Order, reading: Reading, quarantine: Quarantine | None = None
    ) -> None:
        self._order, self._timeout_s = order, reading.timeout_s
        self._columns = {name: column_of(manifest.schema.field(name), reading.as_) for name in reading.columns}
        self._narrow = _narrow(self._columns) if order.shuffle else None
        self._decoders = Decoders(manifest, order, self._columns, reading, quarantine)
        self.row_bytes = max(1, int(order.row_bytes * self._decoders.share))
        self.most_rows = _MOST_ROWS if self._narrow is None else _MOST_NARROW_ROWS
        self._most_ahead = max(1, reading.ahead_bytes // order.block_bytes)
        if self._decoders.cache is not None:
            self._decoders.cache.due = self._due
        self._lanes: dict[int, Lane] = {}
        self._table = Table(order.lanes)
        self._ahead, self._has_more = 0, True
        self._numbers = Numbers()
        self._units: dict[int, int] = {}
        self._awaited: dict[int, Awaited] = {}
        self._retired: list[Open] = []
        self._small = int(order.unit_bytes.sum()) <= SMALL_BYTES
        self._kept: tuple[tuple[Segment, ...], list[Piece]] | None = None
        self._epoch, self._clock = -1, 0
        self.end: int | None = None

    @property
    def rows_read(self) -> int:
        """Rows decoded so far; more than was handed out where rows are skipped on the way to a resume."""
        return self._decoders.rows_read

    @property
    def bytes_read(self) -> int:
        """Bytes decoded so far."""
        return self._decoders.bytes_read

    @property
    def fetched(self) -> Fetched:
        """Of remote files so far."""
        return self._decoders.fetched.now

    def take(self, epoch: int, lanes: Ints, indexes: Ints) -> dict[str, Any]:
        """Rows by lane and index in the lane.

        Args:
            lanes, indexes: int64 [n], in any order; or [rows] and [steps, rows], where each step has the same lanes, of
                which then n = steps * rows are taken. From call to call each lane goes forward.

        Returns:
            column -> [n, ...]: numpy for rows of one size, else a Ragged, a list of values, or an Arrow array.

        Raises:
            DataError: a unit cannot be read, or does not come in time; URL and unit are named.
        """
        if epoch != self._epoch:
            self._epoch = epoch
            self._table.close_all()  # the blocks of the epoch before are held until the lane's next one is there
        self._clock += 1
        turns = None if self._narrow is None else turns_of(lanes, indexes)
        found = self._found(lanes, indexes) if turns is None else self._in_turns(turns)
        self._let_go()
        self._look_ahead()
        return found

    def _found(self, lanes: Ints, indexes: Ints) -> dict[str, Any]:
        """Rows wherever they are, see `take`."""
        missing = self._table.missing(lanes, indexes)
        pieces, rows = self._table.find(lanes, indexes)
        if len(missing):
            every = np.broadcast_to(lanes, indexes.shape).reshape(-1)
            self._find_in_next(missing, every, indexes.reshape(-1), pieces, rows)
        if self._awaited:
            for number in np.unique(pieces).tolist():
                self._settle(number)
        self._table.went_to(lanes, indexes, self._clock)
        together = None if self._order.shuffle else stretches_of(pieces, rows)
        return {name: self._rows(name, pieces, rows, together) for name in self._columns}

    def _in_turns(self, turns: Turns) -> dict[str, Any]:
        """Rows of lanes that take turns, of narrow columns: whole stretches of each lane, put beside each other."""
        assert self._narrow is not None
        table, steps = self._table, turns.steps
        numbers, lows, highs = turns.lanes.tolist(), turns.low.tolist(), turns.high.tolist()
        absent = np.flatnonzero(table.absent(turns.lanes, turns.low, turns.high)).tolist()
        for i in absent:  # what all lanes need first is decoded side by side
            self._begin(numbers[i], table.first_absent(numbers[i], lows[i]))
        if absent:
            self._look_ahead()
        found = {name: column.empty(steps, len(numbers), turns.rows) for name, column in self._narrow.items()}
        made = list(found.values())
        for i, (number, low, high) in enumerate(zip(numbers, lows, highs, strict=True)):
            for column, values in zip(made, self._stretch(number, low, high), strict=True):
                column[:, i] = values.reshape(steps, turns.rows, *values.shape[1:])
        table.at[turns.lanes], table.used[turns.lanes] = turns.high, self._clock
        return {name: values.reshape(-1, *values.shape[3:]) for name, values in found.items()}

    def _stretch(self, number: int, low: int, high: int) -> list[Any]:
        """Rows [low, high) of a lane, of each narrow column; what comes later of the lane is opened on the way."""
        assert self._narrow is not None
        columns, parts = list(self._narrow.values()), []
        while low < high:
            start, stop = self._table.bounds(number)
            if not start <= low < stop:
                self._opened(number, self._block_at(number, low))
                start, stop = self._table.bounds(number)
            one, stop = self._lanes[number].open, min(high, stop)
            if one is not None and one.ordered:
                parts.append([column.held(one.held[0], low - start, stop - start) for column in columns])
            else:
                pieces, rows = self._table.find(np.full(stop - low, number), np.arange(low, stop))
                for piece in np.unique(pieces).tolist() if self._awaited else ():
                    self._settle(piece)
                parts.append([column.rows(pieces, rows) for column in columns])
            low = stop
        return parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]

    def forget(self, age: int) -> None:
        """Closes the blocks that the last `age` calls of `take` did not touch."""
        old = [number for number in self._lanes if self._clock - self._table.used[number] >= age]
        for number in old:
            lane = self._lanes.pop(number)
            self._drop_ahead(lane)
            self._table.close(number)
            if lane.open is not None:
                self._retired.append(lane.open)
        if old:
            self._decoders.requests.forget()
            self._let_go()

    def stop(self) -> None:
        """Decodes no more; a `take` in another thread ends with CancelledError."""
        self._decoders.stop()

    def rest(self) -> None:
        """Lets go of open blocks and files. The next call of `take` may be for any place."""
        self._decoders.stop()
        for lane in self._lanes.values():
            if lane.open is not None:
                self._release(lane.open)
        for one in self._retired:
            self._release(one)
        self._lanes.clear()
        self._table.close_all()
        self._ahead, self._has_more = 0, True
        self._retired.clear()
        self._decoders.rest()
        self._epoch = -1

    @property
    def open_rows(self) -> int:
        """Rows of all open blocks."""
        return sum(lane.open.stop - lane.open.start for lane in list(self._lanes.values()) if lane.open is not None)

    # -- rows ----------------------------------------------------------------------------------------------------

    def _find_in_next(self, missing: Ints, lanes: Ints, indexes: Ints, pieces: Ints, rows: Ints) -> None:
        """Find what no open block has, in the blocks that come next.

        Args:
            missing: which of the rows these are.
            pieces, rows: of all rows; those of the missing ones are filled in.
        """
        by_lane = missing[np.argsort(lanes[missing], kind="stable")]
        cuts = (np.flatnonzero(np.diff(lanes[by_lane])) + 1).tolist()
        parts = [by_lane[low:high] for low, high in itertools.pairwise([0, *cuts, len(by_lane)])]
        for part in parts:  # what all lanes need first is decoded side by side
            self._begin(int(lanes[part[0]]), int(indexes[part[0]]))
        self._look_ahead()
        for part in parts:
            number, wanted = int(lanes[part[0]]), indexes[part]
            blocks = self._order.epoch(self._epoch).block_of(number, wanted)
            turns = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(blocks)]
            for low, high in itertools.pairwise(turns):
                self._opened(number, int(blocks[low]))
                here = part[low:high]
                pieces[here], rows[here] = self._table.find(lanes[here], wanted[low:high])

    def _rows(self, name: str, pieces: Ints, rows: Ints, together: Sequence[Stretch] | None = None) -> Any:
        try:
            column = self._columns[name]
            return column.rows(pieces, rows) if together is None else column.stretches(together)
        except VALUE_ERRORS as error:
            for piece in dict.fromkeys(pieces.tolist()):  # whose is it?
                mine = np.unique(rows[pieces == piece])
                if not self._can(name, np.full(len(mine), piece), mine):
                    raise self._decoders.at_fault(name, error, self._units[piece]) from error
            raise

    def _can(self, name: str, pieces: Ints, rows: Ints) -> bool:
        try:
            self._columns[name].rows(pieces, rows)
        except VALUE_ERRORS:
            return False
        return True

    def _due(self, name: str) -> float | None:
        """When the entry of a cache is needed next, in epochs; None of one that is of other data."""
        file, _, rest = name.partition("-")
        unit = self._decoders.units_of_files.get(file, {}).get(rest.partition("-")[0])
        if unit is None:
            return None
        now, epoch = self._order.epoch(self._epoch), self._epoch
        done = float((self._table.at / np.maximum(now.lengths, 1)).max())
        if now.turns[unit] >= done:
            return epoch + float(now.turns[unit])
        if self.end is not None and epoch + 1 >= self.end:
            return None
        return epoch + 1 + float(self._order.epoch(epoch + 1).turns[unit])

    # -- blocks --------------------------------------------------------------------------------------------------

    def _begin(self, number: int, index: int) -> None:
        """Have the block decoded in which a lane goes on, if nobody has begun with it."""
        self._planned(self._lanes.setdefault(number, Lane()), number, self._block_at(number, index), index)

    def _block_at(self, number: int, index: int) -> int:
        """The block of a lane in which an index lies."""
        return int(self._order.epoch(self._epoch).block_of(number, np.array([index]))[0])

    def _planned(self, lane: Lane, number: int, block: int, index: int = 0) -> Planned:
        """The first of the blocks ahead, made to be this one, which is read from an index in the lane on."""
        if lane.ahead and (lane.ahead[0].epoch, lane.ahead[0].number) == (self._epoch, block):
            return lane.ahead[0]
        one = lane.open
        if lane.ahead or one is None or (self._epoch, block) not in ((one.epoch, one.number + 1), (one.epoch + 1, 0)):
            has_jumped = bool(lane.ahead) or one is not None  # one that begins leaves what the others ask for
            self._drop_ahead(lane)
            lane.cursors.clear()
            if has_jumped:
                self._decoders.requests.forget()
                for other in self._lanes.values():
                    other.asked = None
        return self._plan(lane, number, self._epoch, block, index)

    def _plan(self, lane: Lane, number: int, epoch: int, block: int, index: int = 0) -> Planned:
        self._keep_small()
        start, stop, segments = self._order.epoch(epoch).stretch(number, block)
        in_files = self._decoders.in_files(segments)
        self._decoders.room.enter(in_files)
        kept = self._kept[1] if self._kept is not None and self._kept[0] == segments else None
        planned = Planned(epoch, block, start, stop, segments, [], kept, in_files)
        needed = epoch * self._order.rows + start
        if kept is None and len(segments) >= _MANY:
            sequence = self._order.epoch(epoch).sequence(number, block)
            self._plan_many(lane, planned, needed, first_rows(segments, sequence, max(0, index - start)))
        elif kept is None:
            planned.results += [self._decoders.decode(lane.cursors, segment, needed) for segment in segments]
        lane.ahead.append(planned)
        self._ahead += 1
        return planned

    def _plan_many(self, lane: Lane, planned: Planned, needed: int, first: Ints) -> None:
        """Have very many segments decoded in the order in which they are needed, some together where they are small.

        Args:
            needed: the row at which the block begins; first: see `first_rows`.
        """
        small = self._decoders.are_small(planned.segments)
        planned.groups = [[i] for i in np.flatnonzero(~small).tolist()]
        for (i,) in planned.groups:
            urgency = needed + int(first[i])
            planned.results.append(self._decoders.decode(lane.cursors, planned.segments[i], urgency, together=True))
        for group in groups_of(np.flatnonzero(small), first):
            some = [planned.segments[i] for i in group]
            planned.results.append(self._decoders.decode_some(some, needed + int(first[group[0]])))
            planned.groups.append(group)

    def _opened(self, number: int, block: int) -> None:
        """Let a block of a lane take the place of the lane's open one."""
        lane, sequence = self._lanes[number], self._order.epoch(self._epoch).sequence(number, block)
        if lane.open is not None and (lane.open.epoch, lane.open.number) == (self._epoch, block):
            self._table.open(number, lane.open, sequence)  # it was closed if another epoch was asked for meanwhile
            return
        self._has_more = True
        planned = self._planned(lane, number, block)
        pieces = self._pieces(planned) if planned.groups is None else []
        lane.ahead.popleft()
        self._ahead -= 1
        if lane.open is not None:
            self._retired.append(lane.open)  # rows of it may have been found, and not been taken yet
        one = lane.open = Open(planned.epoch, block, planned.start, planned.stop, [], 0, planned.in_files)
        if planned.groups is not None:
            self._expect(one, planned, planned.groups)
            one.counts = np.array([segment.stop - segment.start for segment in planned.segments], np.int64)
        elif self._narrow is not None:
            one.ordered, one.held = True, [self._keep(_in_order(pieces, sequence))]
        else:
            one.held = [self._keep(piece) for piece in pieces]
            one.counts = np.array([piece.rows for piece in pieces], np.int64)
        if planned.kept is None:
            one.size = sum(piece.size for piece in pieces)
        self._table.open(number, one, sequence)

    def _expect(self, one: Open, planned: Planned, groups: Sequence[Sequence[int]]) -> None:
        """Open a block whose pieces come later, one for each of its segments."""
        one.held = [self._numbers.take() for _ in planned.segments]
        for result, group in zip(planned.results, groups, strict=True):
            for place, i in enumerate(group):
                self._awaited[one.held[i]] = Awaited(one, result, place, planned.segments[i], i)
        if self._small:
            one.segments, one.pieces = planned.segments, [None] * len(planned.segments)

    def _settle(self, number: int) -> None:
        """Wait for a piece, if it is one that may not be here yet."""
        found = self._awaited.get(number)
        if found is None:
            return
        piece = self._result(found.result, found.segment)[found.place]
        del self._awaited[number]
        self._hold(number, piece)
        found.block.size += piece.size
        if found.block.pieces:
            found.block.pieces[found.number] = piece

    def _keep_small(self) -> None:
        """Small data is kept from epoch to epoch, once all of it is here."""
        if not self._small or self._kept is not None:
            return
        for lane in self._lanes.values():
            one = lane.open
            if one is not None and one.pieces:
                for number in one.held:
                    self._settle(number)
                self._kept = one.segments, [piece for piece in one.pieces if piece is not None]

    def _pieces(self, planned: Planned) -> list[Piece]:
        if planned.kept is not None:
            return planned.kept
        found: list[Piece] = []
        for segment, result in zip(planned.segments, planned.results, strict=True):
            found += self._result(result, segment)
        if self._small:
            self._kept = planned.segments, found
        return found

    def _result(self, result: Future[list[Piece]], segment: Segment) -> list[Piece]:
        """What comes of a task that decodes a segment."""
        if not result.done():
            wait([result], self._timeout_s)
        if not result.done():
            url, unit = self._decoders.place(segment.unit)
            raise DataError(
                f"no data after {self._timeout_s:g} s",
                allowed="files that can be read",
                todo="look whether the store or the disk answers, then resume",
                where=f"{url} (unit {unit})",
            )
        return result.result()

    # -- what is held --------------------------------------------------------------------------------------------

    def _keep(self, piece: Piece) -> int:
        number = self._numbers.take()
        self._hold(number, piece)
        return number

    def _hold(self, number: int, piece: Piece) -> None:
        self._units[number] = piece.unit
        for one, part in zip(self._columns.values(), piece.parts, strict=True):
            one.keep(number, part)

    def _let_go(self) -> None:
        for one in self._retired:
            self._release(one)
        self._retired.clear()

    def _release(self, one: Open) -> None:
        for number in one.held:
            found = self._awaited.pop(number, None)
            if found is not None:
                found.result.cancel()
                found.result.add_done_callback(partial(self._decoders.leave, place=found.place))
            else:
                for each in self._columns.values():
                    each.drop(number)
            self._numbers.give_back(number)
        self._decoders.room.leave(one.in_files, one.size)

    def _drop_ahead(self, lane: Lane) -> None:
        for planned in lane.ahead:
            for result in planned.results:
                result.cancel()
                result.add_done_callback(self._decoders.leave)
            self._decoders.room.leave(planned.in_files, 0)
        self._ahead -= len(lane.ahead)
        lane.ahead.clear()

    # -- ahead ---------------------------------------------------------------------------------------------------

    def _look_ahead(self) -> None:
        """Have the blocks decoded that are needed next, and those fetched that come after them."""
        if self._small and self._kept is None:
            return  # what comes next may be the same once more
        while self._ahead < self._most_ahead and self._has_more:
            nearest = self._nearest({number: lane.last for number, lane in self._lanes.items()})
            if nearest is None:
                self._has_more = False
            else:
                number, epoch, block = nearest
                self._plan(self._lanes[number], number, epoch, block)
        if self._decoders.is_remote:
            self._ask_ahead()

    def _ask_ahead(self) -> None:
        requests, decoders = self._decoders.requests, self._decoders
        while requests.has_room:
            for lane in self._lanes.values():
                lane.asked = max((place for place in (lane.asked, lane.last) if place is not None), default=None)
            nearest = self._nearest({number: lane.asked for number, lane in self._lanes.items()})
            if nearest is None:
                return
            number, epoch, block = nearest
            start, stop, segments = self._order.epoch(epoch).stretch(number, block)
            self._lanes[number].asked = epoch, block, stop
            for segment in segments:
                is_open = segment.unit in self._lanes[number].cursors
                decoders.ask(segment, epoch * self._order.rows + start, is_open)

    def _nearest(self, places: dict[int, Place | None]) -> tuple[int, int, int] | None:
        """Lane, epoch and block of what is needed first behind these places; None where there is no more."""
        following = ((self._after(number, place), number) for number, place in places.items() if place is not None)
        nearest = min(((after, number) for after, number in following if after is not None), default=None)
        if nearest is None:
            return None
        (_, epoch, block), number = nearest
        return number, epoch, block

    def _after(self, number: int, place: Place) -> tuple[int, int, int] | None:
        """Behind a block of a lane: rows up to there, epoch, and block; None where there is none."""
        epoch, block, stop = place
        rows = stop - int(self._table.at[number])
        if epoch > self._epoch:
            rows += int(self._order.epoch(self._epoch).lengths[number])
        if stop < self._order.epoch(epoch).lengths[number]:
            return rows, epoch, block + 1
        if epoch > self._epoch or (self.end is not None and epoch + 1 >= self.end):
            return None  # one epoch further is far enough
        if not self._order.epoch(epoch + 1).lengths[number]:
            return None
        return rows, epoch + 1, 0


def _narrow(columns: dict[str, Any]) -> dict[str, Fixed] | None:
    """The columns, if all have rows of one size that are so small together that to look each up costs more than to put
    a block in order as a whole; else None."""
    fixed = {name: column for name, column in columns.items() if isinstance(column, Fixed)}
    return fixed if 0 < len(fixed) == len(columns) and sum(one.width for one in fixed.values()) <= _NARROW else None


def _in_order(pieces: Sequence[Piece], sequence: Ints) -> Piece:
    """The rows of pieces, one behind the other, put in an order."""
    parts = zip(*(piece.parts for piece in pieces), strict=True)
    whole = [one[0] if len(one) == 1 else np.concatenate(one) for one in parts]
    return Piece(pieces[0].unit, len(sequence), tuple(part.take(sequence, axis=0) for part in whole), 0)

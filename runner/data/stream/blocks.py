"""Blocks of the order, decoded ahead by several threads: which rows of which units, and what came out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from runner.data.files.fetch.cache import Cache, file_name
from runner.data.files.fetch.counters import Tally, on
from runner.data.files.opening import is_remote
from runner.data.formats.explain import explained
from runner.data.limits import beyond, limits, shown_bytes
from runner.data.manifest import Manifest
from runner.data.stream.columns import Column
from runner.data.stream.dense import share_of
from runner.data.stream.order import Order, Segment
from runner.data.stream.quarantine import Quarantine, repeated
from runner.data.stream.reading import Reading
from runner.data.stream.requests import Requests
from runner.data.stream.spill import PIECE_BYTES, Spill
from runner.data.stream.workers import Chain, Workers
from runner.data.values.types import has_union, size_of
from runner.errors import DataDamaged, DataError

if TYPE_CHECKING:
    from runner.data.files.fetch.promise import Promise

#: Seconds that a thread gets to end.
_PATIENCE_S = 10.0
#: What a value may be the cause of.
VALUE_ERRORS = (ValueError, OverflowError, pa.ArrowException, DataError)


@dataclass(frozen=True)
class Piece:
    """A decoded stretch of a unit.

    Args:
        parts: what each column keeps of it.
        size: bytes.
    """

    unit: int
    rows: int
    parts: tuple[Any, ...]
    size: int


@dataclass
class Cursor:
    """Goes forward through the record batches of one unit, in one chain of tasks.

    Args:
        batches: opens the unit.
        total: rows of the unit.

    Attributes:
        planned: the row up to which tasks have been given.
    """

    batches: Callable[[], Iterator[pa.RecordBatch]]
    total: int
    chain: Chain = field(default_factory=Chain)
    planned: int = 0
    _row: int = 0
    _opened: Iterator[pa.RecordBatch] | None = None
    _rest: pa.RecordBatch | None = None

    def rows(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Rows [start, stop), `start` at or after those of the call before."""
        while self._row < stop:
            batch = self._rest if self._rest is not None else self._next()
            low, high = max(start - self._row, 0), min(stop - self._row, batch.num_rows)
            self._rest = batch.slice(high) if high < batch.num_rows else None
            self._row += high
            if low < high:
                yield batch.slice(low, high - low)

    def _next(self) -> pa.RecordBatch:
        if self._opened is None:
            self._opened = self.batches()
        batch = next(self._opened)
        if self._row + batch.num_rows >= self.total:
            for _ in self._opened:  # there is nothing more, and the decoder lets go of its pages
                pass
        return batch


def _one(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """All of them as one."""
    found = list(batches)
    yield found[0] if len(found) == 1 else pa.concat_batches(found)


class Room:
    """The memory that blocks may take together: their rows may be far more bytes than their units seem to be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_files = self._used = 0

    def enter(self, in_files: int) -> None:
        """A block is begun whose units have so many bytes in their files."""
        with self._lock:
            self._in_files += in_files

    def add(self, size: int) -> None:
        """So many bytes are decoded. Raises DataError where that is more than may be."""
        with self._lock:
            self._used += size
            if self._used > limits().at_once(self._in_files):
                raise beyond("at_once_bytes", f"blocks of {shown_bytes(self._used)} or more")

    def leave(self, in_files: int, size: int) -> None:
        """A block is let go of."""
        with self._lock:
            self._in_files, self._used = self._in_files - in_files, self._used - size


@dataclass
class Planned:
    """A block whose rows are being decoded.

    Args:
        epoch, number: which block of its lane.
        start, stop: its indexes in the lane.
        segments, results: where its rows lie, and what comes of each.
        kept: what came of it before; then there are no results.
        in_files: bytes of its units in their files.
        groups: where there are very many segments: which of them each result is of, a piece for each.
    """

    epoch: int
    number: int
    start: int
    stop: int
    segments: tuple[Segment, ...]
    results: list[Future[list[Piece]]]
    kept: list[Piece] | None
    in_files: int
    groups: list[list[int]] | None = None


class Decoders:
    """Decodes segments of units in threads of its own.

    Args:
        columns: by name, in the order wanted.
        quarantine: what is set aside; None: a unit that cannot be read is an error.

    Attributes:
        share: of a row's bytes, those of the columns.
        is_remote: whether files are fetched from another machine.
        requests: what is asked for of remote files.
        cache: where remote units are kept.
        rows_read, bytes_read: decoded so far.
        fetched: of remote files, by these threads and those that ask ahead.
    """

    def __init__(
        self,
        manifest: Manifest,
        order: Order,
        columns: dict[str, Column],
        reading: Reading,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._quarantine = quarantine
        self._manifest, self._order, self._columns, self._reading = manifest, order, columns, reading
        counts = [len(one.units) for one in manifest.shards]
        self._first = np.cumsum([0, *counts])  # unit of each shard
        self._cut = np.bincount(order.runs[0], minlength=int(self._first[-1])) > 1
        lengths = manifest.units.numbers("length")
        self._in_files = np.minimum(lengths, np.repeat([one.size for one in manifest.shards], counts))
        self._large = lengths > reading.held_bytes
        self.share = share_of(manifest.schema, list(columns))
        self._spills: dict[int, tuple[Chain, list[Spill]]] = {}
        self._lock = threading.Lock()
        self._verified: dict[int, threading.Lock | None] = {}  # of each file a lock, until it is found whole
        self._unlike: dict[int, list[DataDamaged]] = {}  # of each file, what was found wrong with it
        self._workers: Workers | None = None
        self._stopped = threading.Event()
        self.room = Room()
        self.is_remote = is_remote(manifest.base, manifest.options)
        self.requests = Requests(self._ask, reading.fetch_bytes, reading.timeout_s, min(_PATIENCE_S, reading.timeout_s))
        self.cache = Cache(*reading.cache) if reading.cache is not None and self.is_remote else None
        self.rows_read = self.bytes_read = 0
        self.fetched = Tally()

    # -- from outside --------------------------------------------------------------------------------------------

    def decode(
        self, cursors: dict[int, Cursor], segment: Segment, urgency: int = 0, together: bool = False
    ) -> Future[list[Piece]]:
        """Begin with a segment of a lane.

        Args:
            cursors: of the lane, by unit; they are kept up to date.
            urgency: the row at which it is needed; the lowest goes first.
            together: make one piece of it.
        """
        workers = self._running()
        if self._cut[segment.unit]:
            chain, spilled = self._spills.setdefault(segment.unit, (Chain(), []))
            return workers.submit(chain, lambda: self._from_spill(spilled, segment, together), urgency)
        cursor = cursors.get(segment.unit)
        if self.is_remote and self.requests.has_room:  # it may be a while until its turn comes
            self.ask(segment, urgency, is_open=cursor is not None)
        if cursor is None or cursor.planned > segment.start:
            through_file = self._large[segment.unit] and self._quarantine is None
            opens = self._through_file if through_file else self._sound
            cursor = cursors[segment.unit] = Cursor(
                lambda: opens(segment.unit), int(self._order.unit_rows[segment.unit])
            )
        cursor.planned = segment.stop
        if segment.stop >= self._order.unit_rows[segment.unit]:
            del cursors[segment.unit]
        return workers.submit(cursor.chain, lambda: self._from_file(cursor, segment, together), urgency)

    def are_small(self, segments: Sequence[Segment]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which are all of a unit that is held while it is read: nobody need remember where to go on."""
        units, starts, stops = np.array(segments, np.int64).T
        return (starts == 0) & (stops >= self._order.unit_rows[units]) & ~self._cut[units] & ~self._large[units]

    def decode_some(self, segments: Sequence[Segment], urgency: int) -> Future[list[Piece]]:
        """Begin with small segments, in this order: one piece of each."""
        for segment in segments:
            if self.is_remote and self.requests.has_room:
                self.ask(segment, urgency)
        return self._running().submit(Chain(), lambda: [self._at_once(segment) for segment in segments], urgency)

    def _running(self) -> Workers:
        if self._workers is None:
            self._stopped.clear()
            self._workers = Workers(self._reading.threads, "runner-decode", min(_PATIENCE_S, self._reading.timeout_s))
        return self._workers

    def ask(self, segment: Segment, urgency: int, is_open: bool = False) -> None:
        """Have the unit of a segment fetched, which will be read soon; where it is read as it comes, up to its end.

        Args:
            urgency: see `decode`.
            is_open: whether the unit is being read already.
        """
        unit = segment.unit
        if unit in self._spills or (self._quarantine is not None and unit in self._quarantine):
            return
        until = 1.0 if self._cut[unit] else self._share_before(segment)
        if is_open:
            self.requests.ask_on(unit, until, urgency)
        else:
            self.requests.ask(unit, self.in_files([segment]), until, urgency)

    def _share_before(self, segment: Segment) -> float:
        """The share of a unit's rows that ends with a segment."""
        return segment.stop / int(self._order.unit_rows[segment.unit])

    def stop(self) -> None:
        """Decode no more, until `decode` is called again; whoever waits for a segment gets CancelledError."""
        self._stopped.set()
        workers = self._workers
        if workers is not None:
            workers.close()
        self.requests.forget()

    def rest(self) -> None:
        """Forget the threads that `stop` ended."""
        self.stop()
        self._workers = None
        self.room = Room()
        self._unlike.clear()

    def leave(self, result: Future[list[Piece]], place: int | None = None) -> None:
        """Nobody will ask for a result, or for the piece at this place of it."""
        if not result.cancelled() and result.exception() is None:
            pieces = result.result() if place is None else [result.result()[place]]
            self.room.leave(0, sum(piece.size for piece in pieces))

    @cached_property
    def units_of_files(self) -> dict[str, dict[str, int]]:
        """Units by what the names of their entries in a cache begin with: of the file, and of the unit in it."""
        found: dict[str, dict[str, int]] = {}
        unit = 0
        for one in self._manifest.shards:
            own = found.setdefault(file_name(self._manifest.url(one), one.size, one.etag), {})
            own.update((str(part.index), unit + place) for place, part in enumerate(one.units))
            unit += len(one.units)
        return found

    def place(self, unit: int) -> tuple[str, int]:
        """URL and number of a unit in its file, or of the one that stands in for it; for errors."""
        if self._quarantine is not None:
            unit = self._quarantine.standing_in(unit)
        shard, place = self._at(unit)
        one = self._manifest.shards[shard]
        return self._manifest.url(one), one.units[place].index

    def _at(self, unit: int) -> tuple[int, int]:
        """Shard, and place in it, of a unit."""
        shard = int(np.searchsorted(self._first, unit, side="right")) - 1
        return shard, unit - int(self._first[shard])

    def in_files(self, segments: Sequence[Segment]) -> int:
        """Bytes of the units of segments in their files."""
        if len(segments) == 1:
            return int(self._in_files[segments[0].unit])
        return int(self._in_files[list({segment.unit for segment in segments})].sum())

    def at_fault(self, name: str, error: Exception, unit: int) -> DataError:
        """The error of a value, with its column and unit."""
        where = "{} (unit {})".format(*self.place(unit))
        if isinstance(error, DataError):
            return DataError(f"column '{name}': {error.found}", allowed=error.allowed, todo=error.todo, where=where)
        return DataError(
            f"column '{name}': a value that Python cannot hold ({' '.join(str(error).split())})",
            allowed="text in UTF-8, and times of the years 1 to 9999, where they are not whole columns of times",
            todo="convert the column in a Prep with batch_format='arrow', or leave it out with columns=",
            where=where,
        )

    # -- in the threads ------------------------------------------------------------------------------------------

    def _from_file(self, cursor: Cursor, segment: Segment, together: bool = False) -> list[Piece]:
        """What comes of a segment, or all of it `together` as one piece."""
        found = []
        with on(self.fetched), explained(*self.place(segment.unit)):
            batches = cursor.rows(segment.start, segment.stop)
            for batch in _one(batches) if together else batches:
                size = size_of(batch)
                self.room.add(size)
                found.append(self._piece(segment.unit, batch, size))
        if self.is_remote:
            self.requests.went_to(segment.unit, self._share_before(segment))
        return found

    def _at_once(self, segment: Segment) -> Piece:
        cursor = Cursor(lambda: self._sound(segment.unit), int(self._order.unit_rows[segment.unit]))
        return self._from_file(cursor, segment, together=True)[0]

    def _from_spill(self, spilled: list[Spill], segment: Segment, together: bool = False) -> list[Piece]:
        if not spilled:
            with on(self.fetched):
                spilled.append(Spill(self._sound(segment.unit)))
        rows: Iterable[pa.RecordBatch] = spilled[0].rows(segment.start, segment.stop)
        return [self._piece(segment.unit, batch, 0) for batch in (_one(rows) if together else rows)]

    def _piece(self, unit: int, batch: pa.RecordBatch, size: int) -> Piece:
        parts = []
        for (name, column), array in zip(self._columns.items(), batch.columns, strict=True):
            try:
                parts.append(column.part(array))
            except VALUE_ERRORS as error:
                raise self.at_fault(name, error, unit) from error
        return Piece(unit, batch.num_rows, tuple(parts), size)

    def _through_file(self, unit: int) -> Iterator[pa.RecordBatch]:
        """A unit that is too large to be held while it is read: decoded at once, and read from a temporary file; but
        where a remote one can be read as it comes."""
        streams, held = self.is_remote and self.cache is None, self._reading.held_bytes
        if streams and self._manifest.streams(*self._at(unit), list(self._columns), held):
            return self._unit(unit)
        return Spill(self._unit(unit)).batches()

    def _ask(self, unit: int) -> Promise | None:
        shard, place = self._at(unit)
        with on(self.fetched):
            return self._manifest.ahead(shard, place, list(self._columns), self.cache, until=0.0)

    def _sound(self, unit: int) -> Iterator[pa.RecordBatch]:
        """The batches of a unit; where damaged ones are set aside, of one that can be read to its end."""
        if self._quarantine is None:
            return self._unit(unit)
        if unit in self._quarantine:
            self.requests.drop(unit)  # it was asked for before others said that it cannot be read
        for one in self._quarantine.candidates(unit):
            try:
                return repeated(self._whole(one), int(self._order.unit_rows[unit]))
            except DataDamaged as error:
                self._quarantine.add(one, error)
        raise AssertionError  # `candidates` raises

    def _whole(self, unit: int) -> Callable[[], Iterator[pa.RecordBatch]]:
        """All of a unit, decoded and looked at before a row of it is given. Raises DataDamaged."""
        shard, place = self._at(unit)
        if self._manifest.shards[shard].units[place].bytes > 2 * PIECE_BYTES:
            return Spill(self._validated(unit)).batches
        batches = list(self._validated(unit))
        return lambda: iter(batches)

    def _validated(self, unit: int) -> Iterator[pa.RecordBatch]:
        """Text in every depth is looked at, so that what is set aside does not depend on the form of batches."""
        shard, place = self._at(unit)
        one = self._manifest.shards[shard]
        for batch in self._unit(unit):
            with explained(self._manifest.url(one), one.units[place].index, DataDamaged):
                for column in batch.columns:
                    if not has_union(column.type):
                        column.validate(full=True)
            yield batch

    def _unit(self, unit: int) -> Iterator[pa.RecordBatch]:
        """The batches of a unit. One that cannot be read is fetched once more, past all that is kept of it."""
        given = 0
        try:
            for batch in self._decoded(unit):
                given += batch.num_rows
                yield batch
            return
        except DataDamaged:
            self._manifest.forget(*self._at(unit), list(self._columns), self.cache)
        for batch in self._decoded(unit):
            known = min(given, batch.num_rows)
            given -= known
            if known < batch.num_rows:
                yield batch.slice(known)

    def _verify(self, shard: int) -> None:
        """Once for each file, by the first thread that comes; one that is not as it was listed is read once more."""
        with self._lock:
            lock = self._verified.setdefault(shard, threading.Lock())
        if lock is not None:
            with lock:
                if self._verified[shard] is None:
                    return
                unlike = self._unlike.setdefault(shard, [])
                if len(unlike) > 1:
                    raise unlike[-1].with_traceback(None)
                try:
                    self._manifest.verify(shard)
                except DataDamaged as error:
                    unlike.append(error)
                    raise
                self._verified[shard] = None

    def _decoded(self, unit: int) -> Iterator[pa.RecordBatch]:
        if self._reading.verify:
            self._verify(self._at(unit)[0])
        if not self.requests.begin(unit) and self.cache is not None:
            self._ask(unit)
        shard, place = self._at(unit)
        one = self._manifest.shards[shard].units[place]
        size = max(1, int(one.bytes * self.share))
        rows = max(1, one.rows * PIECE_BYTES // size) if one.bytes > 2 * PIECE_BYTES else None
        for batch in self._manifest.read(shard, [place], list(self._columns), rows):
            if self._stopped.is_set():
                raise CancelledError
            with self._lock:
                self.rows_read += batch.num_rows
                self.bytes_read += size_of(batch)
            yield batch

"""The order of samples: a pure function of manifest, seed and epoch (docs/streaming.md tells it in words).

An epoch permutes the units and deals them to lanes. A lane is cut into blocks, and the rows of a block are
permuted. Position p is served by the lanes in turn, round after round, each for as long as it has rows; so
(lane, index in the lane) follows from p in closed form. World size, batch size and memory have no part in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.data.manifest import UNCOUNTED, Manifest
from runner.errors import DataError

#: Raised whenever the same manifest, seed and epoch would give another sequence than before.
ORDER_VERSION = 1

Ints = NDArray[np.int64]
_UNITS, _ROWS = 0, 1  # what a stream of random numbers is for
#: Orders of up to so many units have more epochs at hand: a mixture goes through many of a small source's at once.
_FEW = 64


def permutation(n: int, key: tuple[int, int], counter: Sequence[int] = (0, 0, 0)) -> Ints:
    """A permutation of range(n) that is the same on every machine and with every numpy.

    Random 64-bit keys from Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) are
    sorted; the index stands in their low bits, so that no two are equal and any sort gives the same result.
    numpy promises the stream of the bit generator, but not that of `Generator.permutation`.
    """
    if n < 2:
        return np.zeros(n, np.int64)
    generator = np.random.Philox(key=np.array(key, np.uint64), counter=np.array([0, *counter], np.uint64))
    low = np.uint64((1 << (n - 1).bit_length()) - 1)
    keys = (generator.random_raw(n) & ~low) | np.arange(n, dtype=np.uint64)
    keys.sort()
    return (keys & low).astype(np.int64)


class Segment(NamedTuple):
    """Rows [start, stop) of a unit; `unit` counts through the whole manifest."""

    unit: int
    start: int
    stop: int


@dataclass(frozen=True)
class Block:
    """A stretch of a lane whose rows are permuted among themselves and read together.

    Args:
        start: index in the lane of its first row.
        rows: how many rows.
        segments: where they lie, in file order.
        sequence: row i of the block is row ``sequence[i]`` of the segments put together.
    """

    start: int
    rows: int
    segments: tuple[Segment, ...]
    sequence: Ints


class Order:
    """The order of all epochs of one dataset.

    Args:
        manifest: with counted rows.
        seed: any whole number from 0 up.
        shuffle: False keeps the file order.

    Raises:
        DataError: the manifest has no rows, or they are not counted.
    """

    def __init__(self, manifest: Manifest, seed: int = 0, shuffle: bool = True) -> None:
        if manifest.rows == UNCOUNTED or not manifest.rows:
            raise DataError(
                "no rows" if not manifest.rows else "rows that are not counted",
                allowed="data with at least one row",
                todo="check the data" if not manifest.rows else "build the manifest with count=True",
                where=manifest.base,
            )
        self.seed, self.shuffle, self.rows = seed, shuffle, manifest.rows
        self.lanes = manifest.lanes if shuffle else 1
        self.block_bytes = manifest.block_bytes
        units = manifest.units
        self.unit_rows, self.unit_bytes = units.numbers("rows"), units.numbers("bytes")
        self.runs = _runs(self.unit_rows, self.unit_bytes, self.lanes, self.block_bytes)
        self.epoch = lru_cache(maxsize=2 if len(units) > _FEW else 2 * _FEW)(self._epoch)

    @property
    def shape(self) -> dict[str, Any]:
        """Everything besides manifest, seed and epoch that the sequence depends on; small and JSON."""
        digest = hashlib.sha256(self.unit_rows.tobytes() + self.unit_bytes.tobytes()).hexdigest()[:16]
        return {
            "order_version": ORDER_VERSION,
            "shuffle": self.shuffle,
            "lanes": self.lanes,
            "block_bytes": self.block_bytes,
            "units": digest,
        }

    @property
    def row_bytes(self) -> int:
        """Of a row once decoded, about."""
        return max(1, int(self.unit_bytes.sum()) // self.rows)

    def listed(self, lanes: Ints, low: int, high: int) -> Ints:
        """Of the rows of each step, int64 [steps, rows] by lane, those that stand at [low, high) lane by lane."""
        return np.argsort(lanes, axis=1, kind="stable")[:, low:high]

    def _epoch(self, number: int) -> Epoch:
        return Epoch(self, number)


class Epoch:
    """The order of one epoch. `Order.epoch(number)` makes it.

    Attributes:
        lengths: rows of each lane, int64 [lanes].
    """

    def __init__(self, order: Order, number: int) -> None:
        self._order = order
        text = f"runner order {ORDER_VERSION}: seed {order.seed}, epoch {number}"
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._key = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little"))
        units, starts, rows, sizes = order.runs
        turn = permutation(len(units), self._key, (0, 0, _UNITS)) if order.shuffle else np.arange(len(units))
        before = np.cumsum(rows[turn]) - rows[turn]
        # a run goes to the lane in whose equal share of the rows its middle lies
        lane_of = (2 * before + rows[turn]) * order.lanes // (2 * order.rows)
        self._lanes = [
            _Lane(*(part[turn[lane_of == lane]] for part in (units, starts, rows, sizes)))
            for lane in range(order.lanes)
        ]
        self.lengths = np.array([lane.rows for lane in self._lanes], np.int64)
        self._bounds = [self._cut(i, lane) for i, lane in enumerate(self._lanes)]
        self._turns = _Turns(self.lengths)

    def locate(self, positions: Ints) -> tuple[Ints, Ints]:
        """Lane and index in the lane of each position (from 0, below the number of rows); same shape as
        given."""
        return self._turns.locate(positions)

    def turn(self, first: int, last: int) -> int:
        """After how many positions the same lanes come again, from `first` to `last`; 0 where that changes between."""
        return self._turns.turn(first, last)

    def block_of(self, lane: int, index: Ints) -> Ints:
        """The number of the block of a lane in which each index lies."""
        return np.searchsorted(self._bounds[lane], index, side="right") - 1

    def block(self, lane: int, number: int) -> Block:
        """A block with its rows' permutation."""
        start, stop, segments = self.stretch(lane, number)
        return Block(start, stop - start, segments, self.sequence(lane, number))

    @cached_property
    def turns(self) -> NDArray[np.float64]:
        """When each unit is needed first: the share of its lane's rows that come before it, [units]."""
        found = np.full(len(self._order.unit_rows), np.inf)
        for lane in self._lanes:
            lane.first_turns(found)
        return found

    def stretch(self, lane: int, number: int) -> tuple[int, int, tuple[Segment, ...]]:
        """Of a block: its first index in the lane, the one behind its last, and where its rows lie."""
        start, stop = (int(bound) for bound in self._bounds[lane][number : number + 2])
        return start, stop, self._lanes[lane].segments(start, stop)

    def sequence(self, lane: int, number: int) -> Ints:
        """Of a block: which of its rows, in the order of its segments, comes when."""
        start, stop = (int(bound) for bound in self._bounds[lane][number : number + 2])
        if self._order.shuffle:
            return permutation(stop - start, self._key, (number, lane, _ROWS))
        return np.arange(stop - start)

    def rows(self, positions: Ints) -> tuple[Ints, Ints]:
        """Unit (counted through the manifest) and row in the unit of each position; the order written out."""
        return self.written_out(*self.locate(positions))

    def written_out(self, lanes: Ints, indexes: Ints) -> tuple[Ints, Ints]:
        """Unit and row in the unit by lane and index in the lane."""
        units, rows = np.empty_like(lanes), np.empty_like(lanes)
        for lane in np.unique(lanes):
            here = np.flatnonzero(lanes == lane)
            numbers = self.block_of(lane, indexes[here])
            for number in np.unique(numbers):
                inside = here[numbers == number]
                block = self.block(int(lane), int(number))
                unit, row = _written_out(block.segments)
                at = block.sequence[indexes[inside] - block.start]
                units[inside], rows[inside] = unit[at], row[at]
        return units, rows

    def _cut(self, number: int, lane: _Lane) -> Ints:
        """The indexes at which blocks begin, and the end.

        The first block of each lane has another size, so that the lanes do not all need their next block at
        once.
        """
        size = self._order.block_bytes
        shift = size * number // self._order.lanes
        targets = np.arange(size - shift, lane.size, size, dtype=np.int64)
        bounds = np.concatenate([[0], lane.rows_at(targets), [lane.rows]])  # none is below the one before
        return bounds[np.diff(bounds, prepend=-1) > 0]


class _Lane:
    """Runs of rows one after the other."""

    def __init__(self, units: Ints, starts: Ints, rows: Ints, sizes: Ints) -> None:
        self._units, self._starts, self._rows, self._sizes = units, starts, rows, sizes
        self._ends, self._size_ends = np.cumsum(rows), np.cumsum(sizes)
        self.rows, self.size = int(rows.sum()), int(sizes.sum())

    def first_turns(self, found: NDArray[np.float64]) -> None:
        """Put down where each unit begins in the lane, unless another lane has it sooner."""
        np.minimum.at(found, self._units, (self._ends - self._rows) / max(self.rows, 1))

    def rows_at(self, sizes: Ints) -> Ints:
        """The number of rows that are complete within so many bytes, rounded up; all rows of a run are taken
        as equal."""
        run = np.searchsorted(self._size_ends, sizes, side="right")
        inside = sizes - (self._size_ends[run] - self._sizes[run])
        return self._ends[run] - self._rows[run] - (-inside * self._rows[run] // self._sizes[run])

    def segments(self, start: int, stop: int) -> tuple[Segment, ...]:
        """Where the rows [start, stop) of the lane lie, in file order."""
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        found = []
        parts = (part[first : last + 1].tolist() for part in (self._units, self._starts, self._rows, self._ends))
        for unit, offset, rows, end in zip(*parts, strict=True):
            begin = end - rows
            low, high = max(start, begin) - begin, min(stop, end) - begin
            found.append(Segment(unit, offset + low, offset + high))
        return tuple(sorted(found))


class _Turns:
    """Lanes in turn, round after round, exhausted ones left out.

    With lane lengths sorted, a stage is the stretch of rounds in which the same lanes are active; stage j
    begins once the j shortest lanes are exhausted.
    """

    def __init__(self, lengths: Ints) -> None:
        by_length = np.argsort(lengths, kind="stable")
        ordered, count = lengths[by_length], len(lengths)
        self._round = np.concatenate([[0], ordered[:-1]])
        self._active = count - np.arange(count)
        self._begin = np.cumsum(ordered) - ordered + self._active * self._round
        self._lanes = np.zeros((count, count), np.int64)
        for stage in range(count):
            self._lanes[stage, : count - stage] = np.sort(by_length[stage:])

    def turn(self, first: int, last: int) -> int:
        one, other = np.searchsorted(self._begin, [first, last], side="right") - 1
        return int(self._active[one]) if one == other else 0

    def locate(self, positions: Ints) -> tuple[Ints, Ints]:
        stage = np.searchsorted(self._begin, positions, side="right") - 1
        rounds, turn = np.divmod(positions - self._begin[stage], self._active[stage])
        return self._lanes[stage, turn], self._round[stage] + rounds


def _runs(rows: Ints, sizes: Ints, lanes: int, block_bytes: int) -> tuple[Ints, Ints, Ints, Ints]:
    """What is dealt to lanes: (unit, first row, rows, bytes). Units, cut into equal runs where they are fewer
    than lanes."""
    parts = np.ones(len(rows), np.int64)
    if len(rows) < lanes:
        parts = np.clip(np.minimum(-(-lanes // len(rows)), sizes // block_bytes), 1, np.maximum(rows, 1))
    units = np.repeat(np.arange(len(rows)), parts)
    part = np.arange(len(units)) - np.repeat(np.cumsum(parts) - parts, parts)
    of = parts[units]
    starts = rows[units] * part // of
    stops = rows[units] * (part + 1) // of
    return units, starts, stops - starts, sizes[units] * (part + 1) // of - sizes[units] * part // of


def _written_out(segments: Sequence[Segment]) -> tuple[Ints, Ints]:
    units = [np.full(s.stop - s.start, s.unit, np.int64) for s in segments]
    return np.concatenate(units), np.concatenate([np.arange(s.start, s.stop) for s in segments])

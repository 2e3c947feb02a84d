"""From the order to batches: which positions each step of a rank has, gathered several steps at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.data.stream.mixing.order import MixedOrder
from runner.data.stream.mixing.reader import MixedReader
from runner.data.stream.order import Ints, Order
from runner.data.stream.reader import Reader

#: Bytes and steps of one rank that are gathered at once, to spread the cost of a call over small batches.
_GATHER_BYTES, _GATHER_STEPS = 4 << 20, 256
#: What a batch, and a Python value in it, takes besides its content.
_READY_BYTES, _OBJECT_BYTES = 2048, 64


@dataclass(slots=True)
class Ready:
    """A batch made ahead, and the place in the order behind it."""

    columns: dict[str, Any]
    positions: Ints
    mask: np.ndarray[Any, np.dtype[np.bool_]]
    weight: float
    epoch: int
    after: tuple[int, int]
    sources: Ints | None = None


@dataclass(frozen=True)
class Cut:
    """How a global batch is cut: this rank has its rows [low, high) once they are listed lane by lane."""

    global_batch: int
    rank: int
    world_size: int
    tail: str

    @property
    def low(self) -> int:
        return self.global_batch * self.rank // self.world_size

    @property
    def high(self) -> int:
        return self.global_batch * (self.rank + 1) // self.world_size


def steps_in(rows: int, global_batch: int, tail: str) -> int:
    """Steps that so many rows give."""
    return max(rows // global_batch if tail == "drop" else -(-rows // global_batch), 0)


def batches(
    reader: Reader | MixedReader,
    order: Order | MixedOrder,
    cut: Cut,
    at: tuple[int, int],
    end: int | None,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[list[Ready], int]]:
    """Batches from a place in the order on: those that are gathered together, with their size in bytes.

    Args:
        share: (number, of how many): only each so manieth step from there on.
    """
    epoch, seen = at
    number, parts = share
    own = cut.high - cut.low
    together = max(1, min(_GATHER_STEPS, reader.most_rows // own, _GATHER_BYTES // (own * reader.row_bytes)))
    passed, many = 0, 1
    while end is None or epoch < end:
        left = steps_in(order.rows - seen, cut.global_batch, cut.tail)
        mine = seen + np.arange((number - passed) % parts, left, parts, dtype=np.int64) * cut.global_batch
        first = 0
        while first < len(mine):
            starts = mine[first : first + many]
            first, many = first + many, min(2 * many, together)  # the first batches wait for no others
            yield _gathered(reader, order, cut, epoch, starts)
            reader.forget(2 + 2 * order.lanes // (len(starts) * cut.global_batch))
        passed += left
        epoch, seen = epoch + 1, 0


def _gathered(
    reader: Reader | MixedReader, order: Order | MixedOrder, cut: Cut, epoch: int, starts: Ints
) -> tuple[list[Ready], int]:
    """The steps whose global batches begin at these positions of the epoch."""
    placed = _in_turn(order, cut, epoch, starts) if isinstance(order, Order) else None
    positions, lanes, indexes = placed or _anywhere(order, cut, epoch, starts)
    columns = reader.take(epoch, lanes, indexes)
    mask = positions < order.rows if placed is None else np.ones(positions.shape, bool)
    valid = np.minimum(order.rows - starts, cut.global_batch)
    weights = (np.count_nonzero(mask, axis=1) * cut.world_size / valid).tolist()
    sources = order.source_of(lanes).reshape(mask.shape) if isinstance(order, MixedOrder) else None
    shown = epoch * order.rows + (positions % order.rows if placed is None else positions)
    size = _READY_BYTES * len(starts) + sum(map(_size, columns.values()))
    count, names = len(starts), tuple(columns)
    split = [_cut_up(values, count, cut.high - cut.low) for values in columns.values()]
    parts = zip(*split, strict=True) if split else [()] * count
    afters = [(epoch, seen) for seen in np.minimum(starts + cut.global_batch, order.rows).tolist()]
    each = zip(parts, shown, mask, weights, afters, [None] * count if sources is None else sources, strict=True)
    steps = [
        Ready(dict(zip(names, row, strict=True)), at, kept, weight, epoch, after, of)
        for row, at, kept, weight, after, of in each
    ]
    return steps, size


def _cut_up(values: Any, steps: int, rows: int) -> Iterable[Any]:
    """The rows of each step."""
    if isinstance(values, np.ndarray):
        return values.reshape(steps, rows, *values.shape[1:])  # quicker than a slice for each
    return [values[low : low + rows] for low in range(0, steps * rows, rows)]


def _in_turn(order: Order, cut: Cut, epoch: int, starts: Ints) -> tuple[Ints, Ints, Ints] | None:
    """Positions [steps, rows], lanes [rows] and indexes [steps, rows], where all steps have the same lanes in the same
    places; None where they have not."""
    if len(starts) < 2 or starts[-1] + cut.global_batch > order.rows:
        return None
    one, apart = order.epoch(epoch), int(starts[1] - starts[0])
    turn = one.turn(int(starts[0]), int(starts[-1]) + cut.global_batch - 1)
    if not turn or apart % turn:
        return None
    lanes, indexes = one.locate(starts[0] + np.arange(cut.global_batch))
    mine = order.listed(lanes[None], cut.low, cut.high)[0]
    later = np.arange(len(starts))[:, None] * (apart // turn)
    return starts[:, None] + mine, lanes[mine], indexes[mine] + later


def _anywhere(order: Order | MixedOrder, cut: Cut, epoch: int, starts: Ints) -> tuple[Ints, Ints, Ints]:
    """Positions [steps, rows], and lanes and indexes [steps * rows]."""
    positions = starts[:, None] + np.arange(cut.global_batch)
    lanes, indexes = order.epoch(epoch).locate(positions % order.rows)
    mine = order.listed(lanes, cut.low, cut.high)
    positions, lanes, indexes = (np.take_along_axis(a, mine, axis=1) for a in (positions, lanes, indexes))
    return positions, lanes.ravel(), indexes.ravel()


def size_of(columns: dict[str, Any]) -> int:
    """Bytes of a batch that has these columns."""
    return _READY_BYTES + sum(map(_size, columns.values()))


def _size(values: Any) -> int:
    """Bytes of a column of a batch, those of Python's objects included."""
    if isinstance(values, list):
        return sum(map(_size_of, values))
    return _bytes_of(values) or _size_of(values)


def _size_of(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value) + _OBJECT_BYTES
    if isinstance(value, dict):
        return _OBJECT_BYTES + sum(map(_size_of, value.values())) + 2 * _OBJECT_BYTES * len(value)
    if isinstance(value, list | tuple):
        return _OBJECT_BYTES + sum(map(_size_of, value)) + 8 * len(value)
    return _OBJECT_BYTES + _bytes_of(value)


def _bytes_of(value: Any) -> int:
    """Of an array or a tensor; of a sparse one as many as it would be dense."""
    try:
        return int(getattr(value, "nbytes", 0))
    except RuntimeError:
        return int(value.numel() * value.element_size())

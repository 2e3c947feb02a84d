"""From the order to batches: which positions each step of a rank has, gathered several steps at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.data.order import Ints, Order
from runner.data.reader import Reader

#: Rows, bytes and steps of one rank that are gathered at once, to spread the cost of a call over small
#: batches.
_GATHER_ROWS, _GATHER_BYTES, _GATHER_STEPS = 4096, 8 << 20, 64


@dataclass
class Ready:
    """A batch made ahead, and the place in the order behind it."""

    columns: dict[str, Any]
    positions: Ints
    mask: np.ndarray[Any, np.dtype[np.bool_]]
    weight: float
    epoch: int
    after: tuple[int, int]


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
    reader: Reader, order: Order, cut: Cut, at: tuple[int, int], end: int | None
) -> Iterator[tuple[Ready, int]]:
    """Batches from a place in the order on, each with its size in bytes."""
    epoch, seen = at
    row_bytes = max(1, int(order.unit_bytes.sum()) // order.rows)
    own = cut.high - cut.low
    together = min(_GATHER_STEPS, _GATHER_ROWS // own, _GATHER_BYTES // (own * row_bytes))
    while end is None or epoch < end:
        left = steps_in(order.rows - seen, cut.global_batch, cut.tail)
        while left:
            steps = max(1, min(together, left))
            yield from _gathered(reader, order, cut, epoch, seen, steps)
            seen, left = seen + steps * cut.global_batch, left - steps
            reader.forget(2 + 2 * order.lanes // (steps * cut.global_batch))
        epoch, seen = epoch + 1, 0


def _gathered(reader: Reader, order: Order, cut: Cut, epoch: int, seen: int, steps: int) -> Iterator[tuple[Ready, int]]:
    positions = seen + np.arange(steps * cut.global_batch).reshape(steps, cut.global_batch)
    valid = np.count_nonzero(positions < order.rows, axis=1)
    lanes, indexes = order.epoch(epoch).locate(positions % order.rows)
    by_lane = np.argsort(lanes, axis=1, kind="stable")[:, cut.low : cut.high]
    positions, lanes, indexes = (np.take_along_axis(a, by_lane, axis=1) for a in (positions, lanes, indexes))
    columns = reader.take(epoch, lanes.ravel(), indexes.ravel())
    mask = positions < order.rows
    own = cut.high - cut.low
    for step in range(steps):
        part = {name: values[step * own : (step + 1) * own] for name, values in columns.items()}
        ready = Ready(
            part,
            epoch * order.rows + positions[step] % order.rows,
            mask[step],
            float(np.count_nonzero(mask[step]) * cut.world_size / valid[step]),
            epoch,
            (epoch, min(seen + (step + 1) * cut.global_batch, order.rows)),
        )
        yield ready, sum(_size(values) for values in part.values())


def _size(values: Any) -> int:
    """Bytes of a column of a batch; of Python values a guess."""
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(len(value) if isinstance(value, str | bytes) else getattr(value, "nbytes", 64) for value in values)

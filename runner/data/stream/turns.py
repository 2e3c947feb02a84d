"""Which rows of a step go together: stretches of pieces, lanes that take turns, small segments for one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runner.data.stream.columns import Stretch
from runner.data.stream.order import Ints, Segment

#: Rows of a stretch on average, from where it is quicker to copy by stretches.
_SHORTEST = 4
#: Of those, how many are decoded by one task: it grows so far with the rows from the first on that is needed.
_MOST_TOGETHER = 16


def first_rows(segments: Sequence[Segment], sequence: Ints, begin: int) -> Ints:
    """When each segment of a block is needed first: the place in its sequence, from `begin` on; those that are needed
    no more come last.

    Args:
        sequence: see `Block`.
    """
    ends = np.cumsum([segment.stop - segment.start for segment in segments])
    first = np.full(len(segments), len(sequence), np.int64)
    places = np.arange(len(sequence) - 1, begin - 1, -1)
    first[np.searchsorted(ends, sequence[places], side="right")] = places  # of several the last, which is the first
    return first


def groups_of(some: Ints, first: Ints) -> list[list[int]]:
    """Of some segments those that are decoded by one task: in the order in which they are needed, few of the first."""
    order, groups, start = some[np.argsort(first[some], kind="stable")].tolist(), [], 0
    while start < len(order):
        stop = start + min(_MOST_TOGETHER, start + 1)
        groups.append(order[start:stop])
        start = stop
    return groups


def stretches_of(pieces: Ints, rows: Ints) -> list[Stretch] | None:
    """The rows as stretches of pieces; None where most would be short."""
    cuts = np.flatnonzero((pieces[1:] != pieces[:-1]) | (rows[1:] != rows[:-1] + 1)) + 1
    if not len(rows) or len(cuts) > len(rows) // _SHORTEST:
        return None
    starts, stops = [0, *cuts.tolist()], [*cuts.tolist(), len(rows)]
    return [
        (int(pieces[low]), int(rows[low]), int(rows[high - 1]) + 1) for low, high in zip(starts, stops, strict=True)
    ]


@dataclass(frozen=True)
class Turns:
    """Rows of lanes that take turns: each has as many in each step, and they follow those of the step before.

    Args:
        lanes: int64 [lanes], in the order in which they stand in a step.
        low, high: the rows [low, high) of each lane, of all steps together, int64 [lanes].
        steps, rows: how many steps, and rows of each lane in one.
    """

    lanes: Ints
    low: Ints
    high: Ints
    steps: int
    rows: int


def turns_of(lanes: Ints, indexes: Ints) -> Turns | None:
    """The rows of `Reader.take` as turns; None where they are none.

    Args:
        lanes, indexes: int64 [rows] and [steps, rows], each lane's rows side by side and going up one by one.
    """
    if indexes.ndim == 1 or not indexes.size:
        return None
    first = np.flatnonzero(np.diff(lanes, prepend=-1))
    rows, rest = divmod(len(lanes), len(first))
    if rest or not np.array_equal(first, np.arange(len(first)) * rows):
        return None
    low, high = indexes[0, first], indexes[-1, first + rows - 1] + 1
    if not (high - low == len(indexes) * rows).all():
        return None
    return Turns(lanes[first], low, high, len(indexes), rows)

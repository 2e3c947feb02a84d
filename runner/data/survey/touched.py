"""A consumer of batches that reads every byte of them, as a training would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.stream.batch import Batch
from runner.data.stream.dense import numbers
from runner.data.stream.ragged import Ragged
from runner.data.values.types import types


def touch(batch: Batch) -> int:
    """Reads all values of a batch of arrays, or of Arrow's; gives a number that depends on them."""
    return sum(_touched(batch[name]) for name in batch)


def _touched(column: Any) -> int:
    if isinstance(column, Ragged):
        column = column.values
    if isinstance(column, np.ndarray):
        return len(column) if column.dtype == object else _sum(np.ascontiguousarray(column).reshape(-1).view(np.uint8))
    if isinstance(column, pa.ChunkedArray):
        return sum(map(_arrow, column.chunks))
    return _arrow(column) if isinstance(column, pa.Array) else len(column)


def _arrow(array: pa.Array) -> int:
    """The values that are the array's own: its buffers may hold those of many others."""
    kind = array.type
    if types.is_struct(kind):
        return sum(map(_arrow, array.flatten()))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _arrow(array.flatten())
    if not len(array) or len(array.buffers()) < 2 or array.buffers()[1] is None:
        return len(array)
    data = array.buffers()[-1]
    if types.is_string(kind) or types.is_binary(kind):
        ends = numbers(array.buffers()[1], np.int32, array.offset, len(array) + 1)
        return _sum(np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]])
    try:
        width = kind.bit_width // 8
    except ValueError:  # maps and others that are rare
        return len(array)
    return _sum(np.frombuffer(data, np.uint8)[array.offset * width : (array.offset + len(array)) * width])


def _sum(data: np.ndarray[Any, Any]) -> int:
    """Eight bytes at a time, so that it costs little beside what is measured."""
    whole = len(data) // 8 * 8
    return int(np.bitwise_xor.reduce(data[:whole].view(np.uint64))) if whole else len(data)

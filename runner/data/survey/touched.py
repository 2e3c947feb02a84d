"""A consumer of batches that reads every byte of them, as a training would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.stream.batch import Batch
from runner.data.stream.ragged import Ragged


def touch(batch: Batch) -> int:
    """Reads all values of a batch of arrays, or of Arrow's; gives a number that depends on them."""
    return sum(_touched(batch[name]) for name in batch)


def _touched(column: Any) -> int:
    if isinstance(column, Ragged):
        column = column.values
    if isinstance(column, np.ndarray):
        flat = (
            np.ascontiguousarray(column).reshape(-1).view(np.uint8) if column.dtype != object else np.empty(0, np.uint8)
        )
        return _sum(flat)
    if isinstance(column, pa.Array | pa.ChunkedArray):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        buffers = [buffer for chunk in chunks for buffer in chunk.buffers() if buffer is not None]
        return sum(_sum(np.frombuffer(buffer, np.uint8)) for buffer in buffers)
    return len(column)


def _sum(data: np.ndarray[Any, Any]) -> int:
    """Eight bytes at a time, so that it costs little beside what is measured."""
    whole = len(data) // 8 * 8
    return int(np.bitwise_xor.reduce(data[:whole].view(np.uint64))) if whole else len(data)

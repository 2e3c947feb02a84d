"""Reads every byte that a contestant delivers: the one consumer of all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Tally:
    """Counts what was delivered.

    Attributes:
        payload: bytes of values.
        checksum: all values as 32-bit words, xor-ed: the same for any order and any cut into batches, as long as each
            row is a multiple of four bytes long.
        ids: an array for each batch.
    """

    def __init__(self) -> None:
        self.payload = 0
        self.checksum = 0
        self.ids: list[Array] = []

    def add(self, ids: Any, values: Iterable[Any]) -> None:
        """Touches a batch: the ids, and for each column whatever holds its values."""
        self.ids.append(np.array(as_array(ids), dtype=np.int64))
        for value in values:
            self._touch(value)

    def merge(self, other: Tally) -> None:
        """Adds what another thread counted."""
        self.payload += other.payload
        self.checksum ^= other.checksum
        self.ids += other.ids

    def check(self, rows: int) -> tuple[int, int]:
        """(ids of 0 to rows - 1 that are missing, ids delivered more than once or unknown)."""
        ids = np.concatenate(self.ids) if self.ids else np.empty(0, np.int64)
        known = ids[(ids >= 0) & (ids < rows)]
        counts = np.bincount(known, minlength=rows)
        return int((counts == 0).sum()), len(ids) - len(known) + int((counts[counts > 1] - 1).sum())

    def _touch(self, value: Any) -> None:
        for flat in flat_bytes(value):
            self.payload += flat.nbytes
            words = flat.nbytes // 8
            if words:
                folded = int(np.bitwise_xor.reduce(flat[: words * 8].view(np.uint64)))
                self.checksum ^= (folded >> 32) ^ (folded & 0xFFFFFFFF)
            if rest := bytes(flat[words * 8 :]):
                padded = int.from_bytes(rest, "little")
                self.checksum ^= (padded >> 32) ^ (padded & 0xFFFFFFFF)


def flat_bytes(value: Any) -> Iterable[Array]:
    """uint8 arrays that together are the bytes of a value; without a copy where it is contiguous.

    numpy's arrays, torch's tensors, bytes, Arrow's arrays (binary, lists, numbers), a pair of values and offsets with
    the attributes `values` and `offsets`, and lists of all these.

    Raises:
        TypeError: anything else, such as Python's numbers, which are no form to train on.
    """
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            for one in value:
                yield from flat_bytes(one)
        else:
            yield np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        yield np.frombuffer(value, np.uint8)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from flat_bytes(one)
    elif _is_of(value, "torch", "Tensor"):
        yield value.contiguous().numpy().reshape(-1).view(np.uint8)
    elif _is_of(value, "pyarrow", "ChunkedArray"):
        for chunk in value.chunks:
            yield from _arrow_bytes(chunk)
    elif _is_of(value, "pyarrow", "Array"):
        yield from _arrow_bytes(value)
    elif hasattr(value, "values") and hasattr(value, "offsets"):
        offsets = as_array(value.offsets)
        values = as_array(value.values)
        yield values[int(offsets[0]) : int(offsets[-1])].reshape(-1).view(np.uint8)
    else:
        raise TypeError(f"values of type {type(value)}")


def as_array(value: Any) -> Array:
    """Whole numbers as a numpy array."""
    if _is_of(value, "torch", "Tensor"):
        return value.numpy()
    if _is_of(value, "pyarrow", "Array"):  # `to_numpy` would import pandas, which takes longer than a small pass
        kind = str(value.type)
        return np.concatenate([np.empty(0, kind), *(flat.view(kind) for flat in _arrow_bytes(value))])
    if _is_of(value, "pyarrow", "ChunkedArray"):
        return np.concatenate([as_array(chunk) for chunk in value.chunks])
    return np.asarray(value)


def _is_of(value: Any, module: str, name: str) -> bool:
    """Whether it is an instance of a class of a module that may not have been imported."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _arrow_bytes(array: Any) -> Iterable[Array]:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _arrow_bytes(array.flatten())
        return
    buffer = array.buffers()[-1]
    if buffer is None or not len(array):
        return
    whole = np.frombuffer(buffer, np.uint8)
    if pa.types.is_binary(kind) or pa.types.is_string(kind) or pa.types.is_large_binary(kind):
        wide = np.int64 if pa.types.is_large_binary(kind) else np.int32
        offsets = np.frombuffer(array.buffers()[1], wide)[array.offset : array.offset + len(array) + 1]
        yield whole[int(offsets[0]) : int(offsets[-1])]
    else:
        width = kind.byte_width if pa.types.is_fixed_size_binary(kind) else kind.bit_width // 8
        yield whole[array.offset * width : (array.offset + len(array)) * width]

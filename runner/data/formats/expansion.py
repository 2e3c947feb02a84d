"""How many bytes each row has once its values stand by themselves: known before they are written out.

Few bytes in memory can stand for many values: the entries of a dictionary, runs, and views are shared by rows, and a
column that is absent, or of nulls, becomes one of another type. Written out by `recast` each row has its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runner.data.values.arrays import filled, numpy_of
from runner.data.values.recast import fixed_values
from runner.data.values.types import fields_of, types

Sizes = np.ndarray[Any, np.dtype[np.int64]]

_OFFSET = 4
_LEAST, _WIDEST = 1, 1 << 40  # even a null counts; and sums must not overflow


def row_sizes(batch: pa.RecordBatch, wanted: pa.Schema, enough: int = 0) -> Sizes | int:
    """Bytes of each row of a batch as the wanted columns.

    Args:
        enough: where what grows cannot become more bytes than that, it does not count.

    Returns:
        int64 [rows]; or one number, for each row, where the batch has nothing that grows.
    """
    added, growing = 0, []
    for field in wanted:
        index = batch.schema.get_field_index(field.name)
        if index < 0 or types.is_null(batch.schema.field(index).type):
            added += width(field.type)
        elif grows(batch.schema.field(index).type):
            growing.append(batch.column(index))
    if not growing or sum(map(_at_most, growing)) <= enough or sum(map(_most, growing)) <= enough:
        return added
    total = np.full(batch.num_rows, added, np.int64)
    for column in growing:
        total += _sizes(column)
    return total


def _at_most(array: pa.Array) -> int:
    """No less than `_most`, known without a look at the values where these are the usual texts of a dictionary."""
    if types.is_dictionary(array.type) and _has_length(array.type.value_type):
        return len(array) * (int(array.dictionary.nbytes) + _OFFSET)
    return _WIDEST


def _most(array: pa.Array) -> int:
    """Bytes that an array can become at most."""
    if types.is_dictionary(array.type) or types.is_run_end_encoded(array.type):
        values = array.dictionary if types.is_dictionary(array.type) else array.values
        return len(array) * int(_sizes(values).max(initial=_LEAST))
    return int(_sizes(array).sum())


def cuts(sizes: Sizes, most: int) -> Iterable[int]:
    """Where rows of these sizes are cut into pieces of at most `most` bytes, or one row; the end included."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        start = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield start


@lru_cache(4096)
def grows(kind: pa.DataType) -> bool:
    """Whether rows share values somewhere in it."""
    if isinstance(kind, pa.BaseExtensionType):
        return grows(kind.storage_type)
    if types.is_union(kind):  # read as it is
        return False
    shared = (
        types.is_dictionary,
        types.is_run_end_encoded,
        types.is_string_view,
        types.is_binary_view,
        types.is_list_view,
        types.is_large_list_view,
    )
    if any(is_shared(kind) for is_shared in shared):
        return True
    if types.is_fixed_size_list(kind) and types.is_null(kind.value_type):
        return True
    return types.is_nested(kind) and any(grows(field.type) for field in fields_of(kind))


def width(kind: pa.DataType) -> int:
    """Bytes that a null of this type takes."""
    if types.is_fixed_size_list(kind):
        return min(int(kind.list_size) * width(kind.value_type), _WIDEST)
    if types.is_struct(kind):
        return sum(width(field.type) for field in fields_of(kind))
    try:
        return max(_LEAST, kind.bit_width // 8)
    except ValueError:  # strings and lists
        return _OFFSET


def _sizes(array: pa.Array) -> Sizes:
    """Bytes of each row, those of nulls roughly."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _sizes(array.storage)
    if types.is_dictionary(kind):
        entries = _sizes(array.dictionary)
        places = _numbers(array.indices)
        return entries[places] if len(entries) else np.full(len(array), _LEAST, np.int64)
    if types.is_run_end_encoded(kind):
        rows = np.arange(array.offset, array.offset + len(array))
        return _sizes(array.values)[np.searchsorted(numpy_of(array.run_ends), rows, side="right")]
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        counts = _numbers(pc.list_value_length(array))
        starts = np.where(counts > 0, _numbers(array.offsets), 0)
        return _between(_sizes(array.values), starts, starts + counts)
    if types.is_fixed_size_list(kind):
        return _fixed(array)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
        if not len(array):
            return np.zeros(0, np.int64)
        offsets = _numbers(array.offsets)
        first, last = int(offsets[0]), int(offsets[-1])
        values = array.values.slice(first, last - first)
        return _between(_sizes(values), offsets[:-1] - first, offsets[1:] - first)
    if types.is_struct(kind) and kind.num_fields:
        return np.sum([_sizes(array.field(i)) for i in range(kind.num_fields)], axis=0, dtype=np.int64)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        views = np.frombuffer(array.buffers()[1] or b"", np.int32).reshape(-1, 4)
        lengths = views[array.offset : array.offset + len(array), 0].astype(np.int64)
        return np.where(numpy_of(array.is_valid()), lengths, 0) + _OFFSET
    if _has_length(kind):
        return _numbers(pc.binary_length(array)) + _OFFSET
    return np.full(len(array), width(kind), np.int64)


def _fixed(array: pa.Array) -> Sizes:
    kind = array.type
    if not grows(kind.value_type) or types.is_null(kind.value_type):
        return np.full(len(array), width(kind), np.int64)
    inner = _sizes(fixed_values(array)).reshape(len(array), kind.list_size)
    return np.sum(inner, axis=1, dtype=np.int64)


def _between(sizes: Sizes, starts: Sizes, stops: Sizes) -> Sizes:
    ends = np.concatenate([[0], np.cumsum(sizes)])
    found: Sizes = ends[stops] - ends[starts] + _OFFSET
    return found


def _numbers(array: pa.Array) -> Sizes:
    return filled(array, 0).astype(np.int64)


def _has_length(kind: pa.DataType) -> bool:
    text = types.is_string(kind) or types.is_large_string(kind)
    return bool(text or types.is_binary(kind) or types.is_large_binary(kind))

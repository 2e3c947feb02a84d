"""Arrow columns as training takes them: numpy where rows are of one size, Arrow where they are not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from runner.data.values.python import to_python
from runner.errors import DataError

Dense = np.ndarray[Any, Any]
Column: TypeAlias = Dense | pa.Array


def is_dense(kind: pa.DataType) -> bool:
    """Whether rows of this type become one array: numbers, times, fixed-size binary and fixed lists of such."""
    kind = _storage(kind)
    if pa.types.is_fixed_size_list(kind):
        return is_dense(kind.value_type)
    time = pa.types.is_temporal(kind) and not pa.types.is_interval(kind)
    return _is_number(kind) or time or pa.types.is_fixed_size_binary(kind)


def join(parts: Sequence[pa.Array], kind: pa.DataType, room: Column | None = None) -> Column:
    """One column of the parts' rows.

    Args:
        room: an array that is no longer needed; several dense parts are put together in it if it is large enough
            (writing into memory that is mapped already is several times faster than into new memory).

    Returns:
        numpy [rows, ...] for dense types: whole numbers and fractions as they are, booleans as bool, dates
        and times as whole numbers of their unit, fixed-size binary of width w as uint8 [rows, w], fixed-size
        lists of n as [rows, n]. An Arrow array for all others.

    Raises:
        DataError: a dense column holds nulls; only in fractions they have a value of their own, NaN.
    """
    if not is_dense(kind):
        whole = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
        return whole.storage if isinstance(whole, pa.ExtensionArray) else whole
    arrays = [dense(part) for part in parts]
    if len(arrays) == 1:
        return arrays[0]
    rows = sum(len(array) for array in arrays)
    whole = room.base if isinstance(room, np.ndarray) else None  # `room` may be the part of it that was used
    shape, kind = (rows, *arrays[0].shape[1:]), arrays[0].dtype
    if not isinstance(whole, np.ndarray) or not _fits(whole, shape, kind):
        whole = np.empty((rows + rows // 4, *shape[1:]), kind)  # untouched, the rest takes no memory
    return np.concatenate(arrays, out=whole[:rows])


def _fits(whole: Dense, shape: tuple[int, ...], kind: np.dtype[Any]) -> bool:
    return bool(
        whole.flags.writeable and whole.dtype == kind and whole.shape[1:] == shape[1:] and len(whole) >= shape[0]
    )


def dense(array: pa.Array) -> Dense:
    """The numpy view of an array of a dense type, without a copy except for booleans and nulls in
    fractions."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if array.null_count and not pa.types.is_floating(kind):
        raise DataError(
            f"{array.null_count} nulls in a column of {kind}",
            allowed="no nulls (in fractions they become NaN)",
            todo="fill them, or leave the rows out, in a Prep",
        )
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        values = array.values.slice(array.offset * size, len(array) * size)
        inner = dense(values)
        return inner.reshape(len(array), size, *inner.shape[1:])
    if pa.types.is_fixed_size_binary(kind):
        width = kind.byte_width
        flat = np.frombuffer(array.buffers()[1] or b"", np.uint8, len(array) * width, array.offset * width)
        return flat.reshape(len(array), width)
    if pa.types.is_temporal(kind):
        array = array.view({32: pa.int32(), 64: pa.int64()}[kind.bit_width])
    values_np: Dense = array.to_numpy(zero_copy_only=False)
    return values_np


def take(column: Column, rows: Dense) -> Any:
    """Rows of a column: numpy for dense ones; for others a list, of numpy arrays (lists of numbers) or of
    Python values."""
    if isinstance(column, np.ndarray):
        return np.take(column, rows, axis=0)
    picked = column.take(pa.array(rows))
    kind = picked.type
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and is_dense(kind.value_type):
        return _ragged(picked)
    return to_python(picked)


def _ragged(array: pa.Array) -> list[Dense]:
    if array.null_count:
        raise DataError(
            f"{array.null_count} nulls in a column of {array.type}",
            allowed="lists, if need be empty ones",
            todo="fill them in a Prep",
        )
    offsets = array.offsets.to_numpy()
    values = dense(array.values).copy()  # Arrow memory is read-only, tensors are not
    return [values[start:stop] for start, stop in itertools.pairwise(offsets)]


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))

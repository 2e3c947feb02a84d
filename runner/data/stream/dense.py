"""Arrow columns whose rows are of one size, as numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.values.arrays import filled, numpy_of
from runner.errors import DataError

Dense = np.ndarray[Any, Any]

#: What helps against nulls that have no form in a batch.
WITHOUT_NULLS = (
    "leave the column out with columns=, or its rows with filter=; read them by as_='arrow', or fill them in a Prep"
)
#: Bytes of a value whose size is not known.
_OF_OTHERS = 64


def is_dense(kind: pa.DataType) -> bool:
    """Whether rows of this type become one array: numbers, times, fixed-size binary and fixed lists of such."""
    kind = storage(kind)
    if pa.types.is_fixed_size_list(kind):
        return is_dense(kind.value_type)
    time = pa.types.is_temporal(kind) and not pa.types.is_interval(kind)
    return _is_number(kind) or time or pa.types.is_fixed_size_binary(kind)


def layout_of(kind: pa.DataType) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape of a row of a dense type, as `dense` gives it."""
    kind = storage(kind)
    if pa.types.is_fixed_size_list(kind):
        dtype, shape = layout_of(kind.value_type)
        return dtype, (kind.list_size, *shape)
    if pa.types.is_fixed_size_binary(kind):
        return np.dtype(np.uint8), (kind.byte_width,)
    if pa.types.is_temporal(kind):
        return np.dtype(f"i{kind.bit_width // 8}"), ()
    return np.dtype(kind.to_pandas_dtype()), ()


def dense(array: pa.Array) -> Dense:
    """The numpy view of an array of a dense type, without a copy except for booleans and nulls in
    fractions.

    Returns:
        numpy [rows, ...]: whole numbers and fractions as they are, booleans as bool, dates and times as whole numbers
        of their unit, fixed-size binary of width w as uint8 [rows, w], fixed-size lists of n as [rows, n].

    Raises:
        DataError: it holds nulls; only in fractions they have a value of their own, NaN.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if array.null_count and not pa.types.is_floating(kind):
        raise DataError(
            f"{array.null_count} nulls in a column of {kind}",
            allowed="no nulls (in fractions they become NaN)",
            todo=WITHOUT_NULLS,
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
    if pa.types.is_boolean(kind):
        return numpy_of(array)
    if array.null_count:
        return filled(array, float("nan"))
    return numbers(array.buffers()[1], layout_of(kind)[0], array.offset, len(array))


def numbers(buffer: pa.Buffer | None, dtype: Any, start: int, count: int) -> Dense:
    """Numbers of a buffer, from the one at `start` on. (pyarrow's own `to_numpy` imports pandas, for half a second.)"""
    return np.frombuffer(buffer or b"", dtype, count, start * np.dtype(dtype).itemsize) if count else np.empty(0, dtype)


def share_of(schema: pa.Schema, names: Sequence[str]) -> float:
    """About how much of the bytes of a row some of its columns have."""
    sizes = {field.name: _about(field.type) for field in schema}
    return sum(sizes[name] for name in names) / max(1, sum(sizes.values()))


def _about(kind: pa.DataType) -> int:
    if not is_dense(kind):
        return _OF_OTHERS
    dtype, shape = layout_of(kind)
    return dtype.itemsize * int(np.prod(shape, dtype=np.int64))


def storage(kind: pa.DataType) -> pa.DataType:
    """The type in which values of a type are stored."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))

"""Arrow arrays of plain Python values and of numpy's numbers, and numpy's of Arrow's, all without pandas.

`pyarrow.array` and `to_numpy` load pandas before they look at anything, which takes longer than all else that a submit
does, or a first batch.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def indices(values: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    """int64, without a copy."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def numpy_of(array: pa.Array) -> np.ndarray[Any, Any]:
    """The numbers, or booleans, of an array, anything for nulls; without a copy but for booleans."""
    kind, data = array.type, array.buffers()[1]
    if not len(array):
        return np.empty(0, kind.to_pandas_dtype())
    if pa.types.is_boolean(kind):
        bits = np.frombuffer(data, np.uint8)
        return np.unpackbits(bits, count=array.offset + len(array), bitorder="little")[array.offset :].view(bool)
    dtype = np.dtype(kind.to_pandas_dtype())
    return np.frombuffer(data, dtype, len(array), array.offset * dtype.itemsize)


def filled(array: pa.Array, value: float) -> np.ndarray[Any, Any]:
    """The numbers of an array, with a value for nulls."""
    if not array.null_count:
        return numpy_of(array)
    return np.where(numpy_of(array.is_valid()), numpy_of(array), np.array(value, array.type.to_pandas_dtype()))


def binaries(values: Sequence[bytes | None]) -> pa.Array:
    """binary, with nulls. Raises ArrowCapacityError for more than 2 GiB."""
    data = [b"" if value is None else value for value in values]
    valid = np.array([value is not None for value in values], bool)
    mask = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    try:
        offsets = _offsets(data)
    except OverflowError as error:
        raise pa.lib.ArrowCapacityError("more than 2 GiB in one column of a batch") from error
    return pa.Array.from_buffers(pa.binary(), len(data), [mask, pa.py_buffer(offsets), pa.py_buffer(b"".join(data))])


def numbers(values: Sequence[int]) -> pa.Array:
    """int64. Raises OverflowError for what does not fit."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(array("q", values))])


def texts(values: Sequence[str]) -> pa.Array:
    """string. Raises UnicodeEncodeError for a lone surrogate."""
    data = [value.encode() for value in values]
    return pa.Array.from_buffers(
        pa.string(), len(data), [None, pa.py_buffer(_offsets(data)), pa.py_buffer(b"".join(data))]
    )


def lists(values: pa.Array, parts: Sequence[Sequence[object]]) -> pa.Array:
    """A list for each part, as long as it; `values` are those of all of them, one after the other."""
    offsets = pa.Array.from_buffers(pa.int32(), len(parts) + 1, [None, pa.py_buffer(_offsets(parts))])
    return pa.ListArray.from_arrays(offsets, values)


def _offsets(parts: Sequence[Sequence[object] | bytes]) -> array[int]:
    return array("i", itertools.accumulate(map(len, parts), initial=0))

"""Arrow arrays of plain Python values, without nulls, made without pandas.

`pyarrow.array` loads pandas before it looks at a list, which takes longer than all else that a submit does.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence

import pyarrow as pa


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

"""Arrays in another type with the very same values, or an error: the one way in which a type changes here.

pyarrow's own casts refuse what is nested in some forms (lists of nulls, maps, run ends), compare the fields of lists by
name, and round fractions. Here lists, structs and maps are taken apart, and only what is inside them is cast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runner.data.values.arrays import filled, indices, numpy_of
from runner.data.values.types import fields_of, is_list, lists_nulls, plain_type, same, tensor_shape, types

_DAY_NS = 86_400 * 10**9
_MOST_OFFSET = 2**31 - 1


def recast(array: Any, kind: pa.DataType) -> Any:
    """`array` (an Array or a ChunkedArray) with the type `kind`, and equal values.

    Zero-copy where only names and nulls inside the type differ. Dictionaries, run ends and extension types are taken
    out of their form on the way.

    Raises:
        pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError: a value is not in `kind`, or no value can be.
    """
    if same(array.type, kind) and not lists_nulls(kind):
        return array
    if isinstance(array, pa.ChunkedArray):
        return pa.chunked_array([recast(chunk, kind) for chunk in array.chunks], kind)
    have = array.type
    if isinstance(have, pa.BaseExtensionType):
        return recast(array.storage, kind) if tensor_shape(have) is None else _tensor(array, kind)
    if types.is_dictionary(have):
        return recast(array.dictionary, kind).take(array.indices)
    if types.is_run_end_encoded(have):
        return recast(array.values, kind).take(_runs(array))
    if types.is_null(have):
        return pa.nulls(len(array), kind)
    if types.is_union(have) or not (types.is_nested(have) or types.is_nested(kind)):
        return _leaf(array, kind)
    return _nested(array, kind)


def plain(array: Any) -> Any:
    """`array` in its plain type (see `plain_type`)."""
    return recast(array, plain_type(array.type))


# -- what is nested --------------------------------------------------------------------------------------------------


def _nested(array: pa.Array, kind: pa.DataType) -> pa.Array:
    have = array.type
    if is_list(have) and types.is_list(kind):
        offsets, values = list_parts(array)
        return built(array, kind, [offsets], [recast(values, kind.value_type)])
    if types.is_fixed_size_list(have) and types.is_fixed_size_list(kind) and have.list_size == kind.list_size:
        return built(array, kind, [], [recast(fixed_values(array), kind.value_type)])
    if types.is_fixed_size_list(have) and have.list_size == 0 and types.is_list(kind):
        return built(array, kind, [np.zeros(len(array) + 1, np.int32)], [pa.nulls(0, kind.value_type)])
    if types.is_map(have) and types.is_map(kind):
        offsets, entries = list_parts(array)
        pairs = pa.struct([kind.key_field, kind.item_field])
        return built(array, kind, [offsets], [_struct(entries, pairs, in_order=True)])
    if types.is_struct(have) and types.is_struct(kind):
        return _struct(array, kind)
    if types.is_nested(kind) and array.null_count == len(array):
        return pa.nulls(len(array), kind)
    raise pa.ArrowInvalid(f"{have} cannot be {kind}")


def _struct(array: pa.Array, kind: pa.DataType, in_order: bool = False) -> pa.Array:
    have = [field.name for field in fields_of(array.type)]
    wanted = [field.name for field in fields_of(kind)]
    if in_order or have == wanted:
        places = list(range(len(wanted)))
    elif sorted(have) == sorted(wanted) and len(set(have)) == len(have):
        places = [have.index(name) for name in wanted]
    else:
        raise pa.ArrowInvalid(f"{array.type} has other fields than {kind}")
    inside = zip(places, fields_of(kind), strict=True)
    return built(array, kind, [], [recast(array.field(place), field.type) for place, field in inside])


def built(
    array: pa.Array, kind: pa.DataType, more: Sequence[np.ndarray[Any, Any]], children: list[pa.Array]
) -> pa.Array:
    """An array of `kind` with the nulls of `array`."""
    buffers = [validity(array), *(pa.py_buffer(part) for part in more)]
    return pa.Array.from_buffers(kind, len(array), buffers, array.null_count, children=children)


def validity(array: pa.Array) -> pa.Buffer | None:
    """The bitmap of the rows that are not null, from bit 0 on; None where all are."""
    if not array.null_count:
        return None
    bits = numpy_of(array.is_valid())
    return pa.py_buffer(np.packbits(bits, bitorder="little"))


def fixed_values(array: pa.Array) -> pa.Array:
    """The values in a fixed-size list, those behind nulls as well."""
    size = array.type.list_size
    return array.values.slice(array.offset * size, len(array) * size)


def list_parts(array: pa.Array) -> tuple[np.ndarray[Any, Any], pa.Array]:
    """(int32 offsets [rows + 1] from 0 on, the values that they are of) of any kind of list, or of a map."""
    if types.is_list_view(array.type) or types.is_large_list_view(array.type):
        lengths = filled(pc.list_value_length(array), 0)
        return _offsets(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])), array.flatten()
    if not len(array):
        return np.zeros(1, np.int32), array.values.slice(0, 0)
    offsets = numpy_of(array.offsets)
    first, last = int(offsets[0]), int(offsets[-1])
    if not types.is_map(array.type) and types.is_null(
        array.type.value_type
    ):  # pyarrow's reader of JSON makes these too short
        return _offsets(offsets - first), pa.nulls(last - first)
    return _offsets(offsets - first if first else offsets), array.values.slice(first, last - first)


def _offsets(offsets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if offsets[-1] > _MOST_OFFSET:
        raise pa.ArrowInvalid(f"{offsets[-1]} values in the lists of one batch; at most {_MOST_OFFSET} fit")
    return np.ascontiguousarray(offsets, np.int32)


def _tensor(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A tensor of a fixed shape as fixed-size lists of fixed-size lists."""
    levels, inner = [], kind
    for size in tensor_shape(array.type) or ():
        if not (types.is_fixed_size_list(inner) and inner.list_size == size):
            return recast(array.storage, kind)
        levels.append(inner)
        inner = inner.value_type
    storage = array.storage
    values = fixed_values(storage) if types.is_fixed_size_list(storage.type) else storage.flatten()
    counts = [len(array), *(len(array) * int(n) for n in np.cumprod([level.list_size for level in levels]))]
    if len(values) != counts[-1]:
        raise pa.ArrowInvalid(f"{len(values)} values in tensors that have {counts[-1]}")
    nested = recast(values, inner)
    for level, count in zip(levels[:0:-1], counts[-2:0:-1], strict=True):
        nested = pa.Array.from_buffers(level, count, [None], 0, children=[nested])
    return built(array, kind, [], [nested])


def _runs(array: pa.Array) -> pa.Array:
    """For each row of a run-end encoded array the place of its value."""
    rows = np.arange(array.offset, array.offset + len(array))
    return indices(np.searchsorted(numpy_of(array.run_ends), rows, side="right"))


# -- what is not -----------------------------------------------------------------------------------------------------


def _leaf(array: pa.Array, kind: pa.DataType) -> pa.Array:
    have = array.type
    if types.is_duration(have) and types.is_time64(kind) and have.unit == kind.unit == "ns":
        _within(array, 0, _DAY_NS - 1)
        return array.view(kind)
    if types.is_time64(have) and types.is_duration(kind) and have.unit == kind.unit == "ns":
        return array.view(kind)
    if types.is_date32(have) and types.is_timestamp(kind):
        raise pa.ArrowInvalid(f"{have} cannot be {kind}")
    out = array.cast(kind)
    if types.is_floating(have) and types.is_floating(kind) and kind.bit_width < have.bit_width:
        _unrounded(array, out)
    return out


def _within(array: pa.Array, low: int, high: int) -> None:
    found = pc.min_max(array.view(pa.int64())).as_py()
    if found["min"] is not None and (found["min"] < low or found["max"] > high):
        raise pa.ArrowInvalid(f"a value outside [{low}, {high}]")


def _unrounded(wide: pa.Array, narrow: pa.Array) -> None:
    """Raises if a fraction was rounded (no two NaNs are equal)."""
    back = narrow.cast(wide.type)
    if pc.any(pc.and_not(pc.not_equal(back, wide), pc.and_(pc.is_nan(back), pc.is_nan(wide)))).as_py():
        raise pa.ArrowInvalid(f"a fraction that {narrow.type} cannot hold exactly")

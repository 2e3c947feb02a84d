"""Random Arrow tables of every type, and what their values are, told without any code of runner's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa

types = pa.types
Random = np.random.Generator

NUMBERS: list[pa.DataType] = [
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
]
TIMES: list[pa.DataType] = [
    pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"),
    *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin")),
    *(pa.timestamp(unit, "+05:30") for unit in ("s", "ns")),
]  # fmt: skip
DECIMALS: list[pa.DataType] = [
    pa.decimal32(7, 2), pa.decimal64(15, 4), pa.decimal128(10, 2), pa.decimal128(38, 38), pa.decimal128(12, 0),
    pa.decimal256(60, 5), pa.decimal256(76, 0),
]  # fmt: skip
TEXTS: list[pa.DataType] = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.binary(3),
    pa.binary(0),
]
LEAVES = [*NUMBERS, *TIMES, *DECIMALS, *TEXTS, pa.null()]
NAMES = [
    "item",
    "element",
    "key_value",
    "key",
    "value",
    "list",
    "a.b",
    "",
    "größe",
    "数" * 40,
    "x y",
    "entries",
    "n" * 300,
]
_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_EXACT = Context(prec=100)
_LEAST, _MOST = -62_135_596_800, 253_402_300_799  # seconds of the years 1 and 9999


def any_type(random: Random, depth: int = 3) -> pa.DataType:
    """A type: a leaf, or one with others inside, or another form of one."""
    draw = random.random()
    if depth == 0 or draw < 0.4:
        return LEAVES[random.integers(len(LEAVES))]
    inner = any_type(random, depth - 1)
    if draw < 0.75:
        field = pa.field(NAMES[random.integers(4)], inner)
        size = int(random.integers(0, 4))
        lists = [
            pa.list_(field),
            pa.large_list(field),
            pa.list_view(field),
            pa.large_list_view(field),
            pa.list_(field, size),
        ]
        return lists[random.integers(len(lists))]
    if draw < 0.87:
        names = random.choice(len(NAMES), int(random.integers(1, 4)), replace=False)
        return pa.struct([pa.field(NAMES[i], any_type(random, depth - 1)) for i in names])
    if draw < 0.93:
        key = [pa.string(), pa.int32(), pa.date32(), pa.binary()][random.integers(4)]
        return pa.map_(key, inner, keys_sorted=bool(random.random() < 0.3))
    plain = LEAVES[random.integers(len(LEAVES) - 2)]
    if draw < 0.97:
        values = pa.string() if types.is_string_view(plain) or types.is_binary_view(plain) else plain
        return pa.dictionary(pa.int16(), values)
    return pa.run_end_encoded(pa.int32(), plain)


def any_array(random: Random, kind: pa.DataType, rows: int) -> pa.Array:
    """An array of `kind`, with nulls in some, which is often a part of a longer one."""
    before, after = (int(n) for n in random.integers(0, 3, 2)) if random.random() < 0.5 else (0, 0)
    return _array(random, kind, before + rows + after).slice(before, rows)


def _array(random: Random, kind: pa.DataType, rows: int) -> pa.Array:
    absent = random.random(rows) < (0.3 if random.random() < 0.6 else 0.0)
    if types.is_null(kind):
        return pa.nulls(rows)
    if types.is_dictionary(kind):
        words = any_array(random, kind.value_type, 4)
        places = pa.array(random.integers(0, 4, rows), kind.index_type, mask=absent)
        return pa.DictionaryArray.from_arrays(places, words)
    if types.is_run_end_encoded(kind):
        ends = (
            np.unique(np.append(random.integers(1, rows + 1, 3), rows)).astype(np.int32)
            if rows
            else np.zeros(0, np.int32)
        )
        return pa.RunEndEncodedArray.from_arrays(pa.array(ends), any_array(random, kind.value_type, len(ends)))
    if types.is_nested(kind):
        return _nested(random, kind, absent)
    if types.is_decimal(kind):
        most = min(10**kind.precision, 2**62)
        numbers = [int(n) for n in random.integers(-most + 1, most, rows)]
        values = [None if no else Decimal(n).scaleb(-kind.scale) for n, no in zip(numbers, absent, strict=True)]
        return pa.array(values, kind)
    if types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_temporal(kind):
        return _numbers(random, kind, absent)
    return _texts(random, kind, absent)


def _numbers(random: Random, kind: pa.DataType, absent: np.ndarray[Any, Any]) -> pa.Array:
    rows = len(absent)
    if types.is_boolean(kind):
        return pa.array(random.random(rows) < 0.5, mask=absent)
    if types.is_temporal(kind):
        return _times(random, kind, absent)
    name = kind.to_pandas_dtype()
    if types.is_floating(kind):
        some = np.array([np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf, 1.5, 0.1, 65504.0, 6e-8], name)
        values = np.where(random.random(rows) < 0.5, random.choice(some, rows), random.normal(size=rows).astype(name))
        if random.random() < 0.05:  # NaNs with bits of their own
            width = {2: np.uint16, 4: np.uint32, 8: np.uint64}[values.itemsize]
            odd = np.array([np.nan], name).view(width) | random.integers(0, 2**9, rows, dtype=width)
            values = np.where(random.random(rows) < 0.5, odd.view(name), values)
        return pa.array(values, kind, mask=absent)
    least, most = np.iinfo(name).min, np.iinfo(name).max
    values = random.integers(least, most, rows, dtype=name, endpoint=True)
    ends = random.random(rows)
    values = np.where(ends < 0.2, name(least), np.where(ends > 0.8, name(most), values))
    return pa.array(values, kind, mask=absent)


def _times(random: Random, kind: pa.DataType, absent: np.ndarray[Any, Any]) -> pa.Array:
    rows = len(absent)
    if types.is_date32(kind):
        return pa.array(random.integers(_LEAST // 86400, _MOST // 86400, rows), pa.int32(), mask=absent).view(kind)
    if types.is_date64(kind):
        return pa.array(random.integers(-10_000, 10_000, rows) * 86_400_000, pa.int64(), mask=absent).view(kind)
    per_second = 10**9 // _NS[kind.unit]
    if types.is_time(kind):
        width = pa.int32() if types.is_time32(kind) else pa.int64()
        return pa.array(random.integers(0, 86_400 * per_second, rows), width, mask=absent).view(kind)
    if random.random() < 0.05:  # what Python, pandas or Parquet may not know
        return pa.array(random.integers(-(2**63), 2**63 - 1, rows), pa.int64(), mask=absent).view(kind)
    low, high = max(_LEAST * per_second, -(2**63) + 1), min(_MOST * per_second, 2**63 - 1)
    values = random.integers(low + 86400, high - 86400, rows)
    if random.random() < 0.3:  # whole seconds around a change of the clocks
        values = (1_729_989_000 + 600 * random.integers(0, 12, rows)) * per_second
    return pa.array(values, pa.int64(), mask=absent).view(kind)


def _texts(random: Random, kind: pa.DataType, absent: np.ndarray[Any, Any]) -> pa.Array:
    words = ["", "a", "zürich", "数据", "nan", "None", "a\0b", "long " * 9, "1", "2020-01-01"]
    if types.is_fixed_size_binary(kind):
        values: list[Any] = [random.bytes(kind.byte_width) for _ in absent]
    elif types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        values = [words[i] for i in random.integers(0, len(words), len(absent))]
    else:
        values = [random.bytes(int(n)) for n in random.integers(0, 20, len(absent))]
    return pa.array([None if no else value for no, value in zip(absent, values, strict=True)], kind)


def _nested(random: Random, kind: pa.DataType, absent: np.ndarray[Any, Any]) -> pa.Array:
    rows = len(absent)
    bits = pa.py_buffer(np.packbits(~absent, bitorder="little")) if absent.any() else None
    if types.is_struct(kind):
        children = [any_array(random, kind.field(i).type, rows) for i in range(kind.num_fields)]
        return pa.Array.from_buffers(kind, rows, [bits], children=children)
    if types.is_fixed_size_list(kind):
        child = any_array(random, kind.value_type, rows * kind.list_size)
        return pa.Array.from_buffers(kind, rows, [bits], children=[child])
    lengths = random.integers(0, 4, rows)  # what is null may have some, too
    ends = np.concatenate([[0], np.cumsum(lengths)])
    wide = types.is_large_list(kind) or types.is_large_list_view(kind)
    offsets = ends.astype(np.int64 if wide else np.int32)
    if types.is_map(kind):
        keys = _array(random, kind.key_type, int(ends[-1]))
        keys = pa.Array.from_buffers(kind.key_type, len(keys), [None, *keys.buffers()[1:]])  # a key is never null
        pairs = pa.struct([kind.key_field, kind.item_field])
        items = any_array(random, kind.item_type, len(keys))
        child = pa.Array.from_buffers(pairs, len(keys), [None], children=[keys, items])
    else:
        child = any_array(random, kind.value_type, int(ends[-1]))
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        buffers = [bits, pa.py_buffer(offsets[:-1].copy()), pa.py_buffer(lengths.astype(offsets.dtype))]
    else:
        buffers = [bits, pa.py_buffer(offsets)]
    return pa.Array.from_buffers(kind, rows, buffers, children=[child])


# -- what the values are ---------------------------------------------------------------------------------------------


def values_of(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values in one notation, whatever the type: times as nanoseconds, fractions as bits (NaN as one), decimals
    without their trailing zeros, pairs of maps as lists, rows of structs as dicts."""
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in values_of(chunk)]
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return values_of(array.storage)
    if types.is_dictionary(kind):
        words = values_of(array.dictionary)
        return [None if i is None else words[i] for i in array.indices.to_pylist()]
    if types.is_run_end_encoded(kind):
        return _unfolded(array)
    there = array.is_valid().to_pylist()
    raw = _raw(array)
    return [value if ok else None for ok, value in zip(there, raw, strict=True)]


def _unfolded(array: pa.Array) -> list[Any]:
    words, ends = values_of(array.values), array.run_ends.to_pylist()
    return [
        words[next(j for j, end in enumerate(ends) if end > i)] for i in range(array.offset, array.offset + len(array))
    ]


def _raw(array: pa.Array) -> list[Any]:
    kind = array.type
    if types.is_struct(kind):
        columns = {kind.field(i).name: values_of(array.field(i)) for i in range(kind.num_fields)}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if types.is_nested(kind):
        return list(_lists(array))
    if types.is_floating(kind):
        bits = {16: np.uint16, 32: np.uint32, 64: np.uint64}[kind.bit_width]
        numbers = array.fill_null(pa.scalar(0.0).cast(kind)).to_numpy(zero_copy_only=False)
        return ["nan" if np.isnan(x) else int(b) for x, b in zip(numbers, numbers.view(bits), strict=True)]
    if types.is_temporal(kind) and not types.is_interval(kind):
        width = pa.int32() if types.is_date32(kind) or types.is_time32(kind) else pa.int64()
        unit = 86_400 * 10**9 if types.is_date32(kind) else _NS["ms" if types.is_date64(kind) else kind.unit]
        return [None if n is None else n * unit for n in array.view(width).to_pylist()]
    if types.is_decimal(kind):
        return [None if d is None else d.normalize(_EXACT) for d in array.to_pylist()]
    values: list[Any] = array.to_pylist()
    return values


def _lists(array: pa.Array) -> Iterator[list[Any]]:
    kind = array.type
    if types.is_fixed_size_list(kind):
        inside = values_of(array.values)
        for row in range(array.offset, array.offset + len(array)):
            yield inside[row * kind.list_size : (row + 1) * kind.list_size]
        return
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        inside = values_of(array.values)
        for start, size in zip(array.offsets.to_pylist(), array.sizes.to_pylist(), strict=True):
            yield inside[start : start + size]
        return
    if not len(array):
        return
    if types.is_map(kind):
        pairs = array.values
        inside = [list(pair.values()) for pair in values_of(pairs)]
    else:
        inside = values_of(array.values)
    for start, stop in itertools.pairwise(array.offsets.to_pylist()):
        yield inside[start:stop]

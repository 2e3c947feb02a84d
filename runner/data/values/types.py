"""Which Arrow types are one: the plain form in which data is read, the form in which it is written, and widening.

Several types hold the same values (a dictionary of strings, a view, a large string ...), and two files or batches of
one dataset may use different ones. Data is *plain* from the moment that it is read: what comes after the reader knows
numbers, times, strings, binary, lists, fixed-size lists, structs and maps, and nothing else. Extension types give way
to their storage, so that reading a value never runs code that a file asks for.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa

#: The digits that a decimal may have.
_DECIMAL128, _DECIMAL256 = 38, 76
_TENSORS_OF_RAY = ("ray.data.arrow_tensor", "ray.data.arrow_tensor_v2")
_PICKLED_BY_RAY = "extension<ray.data.arrow_pickled_object"
_UNITS = ("s", "ms", "us", "ns")

types = pa.types

#: The ids of types that are read and written as they are, and need no look inside.
SIMPLE = frozenset(
    kind.id
    for kind in (
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.date32()),
    )
)


def _pickled_list(kind: Any) -> tuple[Callable[..., pa.DataType], tuple[Any, ...]]:
    return pa.list_, (kind.value_field, kind.list_size)


def _pickled_map(kind: Any) -> tuple[Callable[..., pa.DataType], tuple[Any, ...]]:
    return pa.map_, (kind.key_field, kind.item_field, kind.keys_sorted)


# pyarrow's own pickles of these forget names and nulls inside, and whether keys are sorted: a copy in another process
# would be of other types, and its manifest have another id
copyreg.pickle(pa.FixedSizeListType, _pickled_list)
copyreg.pickle(pa.MapType, _pickled_map)


def fields_of(kind: pa.DataType) -> list[pa.Field]:
    """The fields inside a nested type, in order."""
    return [kind.field(i) for i in range(kind.num_fields)]


# -- one form for equal values ---------------------------------------------------------------------------------------


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type in which values of `kind` are read.

    Inside lists, structs and maps every field may be null, and the items of a list are called ``element`` (as Parquet
    does); the names of a struct's fields are its own, whatever they are.
    """
    shape = tensor_shape(kind)
    if shape is not None:
        inner = plain_type(kind.storage_type.value_type)
        for size in reversed(shape):
            inner = pa.list_(pa.field("element", inner), size)
        return inner
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    return _plain(kind)


def tensor_shape(kind: pa.DataType) -> tuple[int, ...] | None:
    """The shape of the rows of a tensor type, Arrow's own or Ray's; None for other types."""
    if isinstance(kind, pa.FixedShapeTensorType) or getattr(kind, "extension_name", "").startswith(_TENSORS_OF_RAY):
        return tuple(kind.shape)
    return None


@lru_cache(4096)
def _plain(kind: pa.DataType) -> pa.DataType:
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if types.is_string_view(kind) or types.is_large_string(kind):
        return pa.string()
    if types.is_binary_view(kind) or types.is_large_binary(kind):
        return pa.binary()
    return rebuilt(kind, plain_type)


def written_type(kind: pa.DataType) -> pa.DataType:
    """The type in which plain values of `kind` are written, for Parquet has no seconds, no days in milliseconds, and
    nothing that is 0 wide."""
    return _written(plain_type(kind))


@lru_cache(4096)
def _written(kind: pa.DataType) -> pa.DataType:
    if types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    if kind == pa.time32("s"):
        return pa.time32("ms")
    if types.is_date64(kind):
        return pa.date32()
    if types.is_fixed_size_binary(kind) and kind.byte_width == 0:
        return pa.binary()
    if types.is_decimal(kind) and kind.scale < 0 and kind.precision - kind.scale <= _DECIMAL256:
        return decimal(kind.precision - kind.scale, 0)
    if types.is_fixed_size_list(kind) and kind.list_size == 0:
        return pa.list_(pa.field("element", written_type(kind.value_type)))
    return rebuilt(kind, written_type)


def rebuilt(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """`kind` with the types inside it changed, its own form plain and all fields nullable; what has nothing inside
    stays."""
    if types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", change(kind.value_type)), kind.list_size)
    if is_list(kind):
        return pa.list_(pa.field("element", change(kind.value_type)))
    if types.is_map(kind):
        return pa.map_(change(kind.key_type), pa.field("value", change(kind.item_type)))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, change(field.type)) for field in fields_of(kind)])
    return kind


def is_list(kind: pa.DataType) -> bool:
    """Whether rows are lists of varying length (maps are not meant)."""
    return bool(
        types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind)
    )


@lru_cache(4096)
def lists_nulls(kind: pa.DataType) -> bool:
    """Whether there are lists of the null type in `kind`."""
    return any(is_list(one) and types.is_null(one.value_type) for one in _all(kind))


def same(left: pa.DataType, right: pa.DataType) -> bool:
    """Whether two types are equal in everything, also in the names and nulls inside them."""
    return bool(left.equals(right, check_metadata=True))


def decimal(precision: int, scale: int) -> pa.DataType:
    """The decimal type of so many digits. Raises ValueError above 76."""
    return pa.decimal128(precision, scale) if precision <= _DECIMAL128 else pa.decimal256(precision, scale)


# -- what cannot be --------------------------------------------------------------------------------------------------


def twice(fields: pa.Schema | list[pa.Field], path: str = "") -> str | None:
    """The first name that two columns share, or two fields of one struct ('a.b' names one inside another)."""
    seen: set[str] = set()
    for field in fields:
        if field.name in seen:
            return path + field.name
        seen.add(field.name)
    for field in fields:
        found = _twice_inside(field.type, f"{path}{field.name}")
        if found is not None:
            return found
    return None


def _twice_inside(kind: pa.DataType, path: str) -> str | None:
    if isinstance(kind, pa.BaseExtensionType):
        return _twice_inside(kind.storage_type, path)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _twice_inside(kind.value_type, path)
    if types.is_struct(kind):
        return twice(fields_of(kind), f"{path}.")
    if types.is_map(kind):
        return _twice_inside(kind.key_type, f"{path}.key") or _twice_inside(kind.item_type, f"{path}.value")
    if types.is_nested(kind) and not types.is_union(kind):
        return _twice_inside(kind.value_type, f"{path}[]")
    return None


def unwritable(kind: pa.DataType) -> str | None:
    """Why Parquet cannot hold `kind`, or None if it can (in the form of `written_type`)."""
    if _PICKLED_BY_RAY in str(kind):
        return "Python objects that only Ray can read"
    return _unwritable(written_type(kind))


@lru_cache(4096)
def _unwritable(kind: pa.DataType) -> str | None:
    for one in _all(kind):
        if types.is_struct(one) and not one.num_fields:
            return "a struct without fields"
        if types.is_interval(one) or types.is_union(one):
            return str(one)
        if types.is_decimal(one) and one.scale < 0:
            return f"{one}, whose scale is negative,"
    return None


def size_of(batch: pa.RecordBatch) -> int:
    """Bytes of a batch's values. Of unions without rows, at any depth, pyarrow cannot tell `nbytes`: it crashes."""
    global _without_union
    if not batch.schema.equals(_without_union):
        if any(has_union(field.type) for field in batch.schema):
            return int(batch.get_total_buffer_size())
        _without_union = batch.schema
    return int(batch.nbytes)


#: The last schema that was seen to have none: to look at each type of each batch takes longer than all else here.
_without_union = pa.schema([])


@lru_cache(4096)
def has_union(kind: pa.DataType) -> bool:
    """Whether a union is in it, at any depth."""
    if isinstance(kind, pa.BaseExtensionType):
        return has_union(kind.storage_type)
    if types.is_union(kind):
        return True
    return types.is_nested(kind) and any(has_union(field.type) for field in fields_of(kind))


def _all(kind: pa.DataType) -> Iterator[pa.DataType]:
    """The type and all types inside it."""
    yield kind
    for field in fields_of(kind) if types.is_nested(kind) else ():
        yield from _all(field.type)


# -- widening --------------------------------------------------------------------------------------------------------


def widened(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """The narrowest plain type that holds every value of both, or None if there is none.

    null gives way to anything, numbers to wider ones of their kind (whole numbers of one sign), decimals to more
    digits, times to finer units; the same inside lists, structs and maps. A cast to it fails where a time does not
    fit its finer unit, and never changes a value.
    """
    left, right = plain_type(left), plain_type(right)
    if same(left, right) or types.is_null(right):
        return left
    if types.is_null(left):
        return right
    for kind in (types.is_signed_integer, types.is_unsigned_integer, types.is_floating):
        if kind(left) and kind(right):
            return max(left, right, key=lambda one: int(one.bit_width))
    if types.is_decimal(left) and types.is_decimal(right):
        return _wider_decimal(left, right)
    return _finer(left, right) or _widened_inside(left, right)


def _wider_decimal(left: Any, right: Any) -> pa.DataType | None:
    scale = max(left.scale, right.scale)
    precision = max(left.precision - left.scale, right.precision - right.scale) + scale
    if precision > _DECIMAL256:
        return None
    widest = max(left.bit_width, right.bit_width)
    fitting = {32: pa.decimal32, 64: pa.decimal64, 128: pa.decimal128, 256: pa.decimal256}
    digits = {32: 9, 64: 18, 128: _DECIMAL128, 256: _DECIMAL256}
    bits = next(bits for bits in fitting if bits >= widest and digits[bits] >= precision)
    return fitting[bits](precision, scale)


def _finer(left: Any, right: Any) -> pa.DataType | None:
    if types.is_date(left) and types.is_date(right):
        return pa.date64()
    for kind in (types.is_timestamp, types.is_duration, types.is_time):
        if kind(left) and kind(right):
            unit = max(left.unit, right.unit, key=_UNITS.index)
            if kind is types.is_timestamp:
                return pa.timestamp(unit, left.tz) if left.tz == right.tz else None
            if kind is types.is_duration:
                return pa.duration(unit)
            return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    return None


def _widened_inside(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    if types.is_fixed_size_list(left) and types.is_fixed_size_list(right) and left.list_size == right.list_size:
        inner = widened(left.value_type, right.value_type)
        return None if inner is None else pa.list_(pa.field("element", inner), left.list_size)
    if types.is_list(left) and types.is_list(right):
        inner = widened(left.value_type, right.value_type)
        return None if inner is None else pa.list_(pa.field("element", inner))
    if types.is_map(left) and types.is_map(right):
        key, item = widened(left.key_type, right.key_type), widened(left.item_type, right.item_type)
        return None if key is None or item is None else pa.map_(key, pa.field("value", item))
    if not (types.is_struct(left) and types.is_struct(right)):
        return None
    others = {field.name: field.type for field in fields_of(right)}
    if {field.name for field in fields_of(left)} != set(others) or len(others) != left.num_fields:
        return None
    inside = {field.name: widened(field.type, others[field.name]) for field in fields_of(left)}
    if None in inside.values():
        return None
    return pa.struct([pa.field(name, kind) for name, kind in inside.items()])

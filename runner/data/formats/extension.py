"""Extension types of Arrow give way to their storage before pyarrow hears of them, so that no code of theirs runs.

Whoever has imported a package that registers an extension type (Ray, pandas and others do) has pyarrow call that code
to make the type of a column, and its values, wherever a file says so; one of Ray's unpickles. A file says so by a key
in the metadata of a field; it is renamed in the bytes of the schema. What remains is the storage, and the name in the
field's metadata, by which `marked_shape` finds tensors.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runner.data.values.recast import built, fixed_values, list_parts
from runner.data.values.types import fields_of, is_list, types
from runner.errors import DataError

#: The key by which a field says of which extension type it is, and what it is called instead; as long, so that
#: everything in the bytes of a schema stays where it is.
KEY, RENAMED = b"ARROW:extension:name", b"arrow:extension:name"
_SERIALIZED = b"ARROW:extension:metadata"
_TENSORS = (b"arrow.fixed_shape_tensor", b"ray.data.arrow_tensor", b"ray.data.arrow_tensor_v2")
_LONGEST, _MOST_DIMENSIONS = 10_000, 64  # of what a tensor says about its shape


def read_schema(data: bytes) -> pa.Schema:
    """A serialised schema, its extension types replaced by their storage.

    Raises:
        pyarrow.ArrowException, OSError: it is no schema.
        DataError: a column is called as the key is.
    """
    return plain_schema(pa.ipc.read_schema(pa.BufferReader(without_types(data))))


def without_types(data: bytes) -> bytes:
    """The bytes of a schema, or of a message or footer that has one, in which no field has an extension type."""
    return data.replace(KEY, RENAMED)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with nested fixed-size lists for tensors, and without the marks of other extension types.

    Raises:
        DataError: a column is called as the key is.
    """
    for name in schema.names:
        if RENAMED.decode() in name:
            raise DataError(
                f"a column called '{name}', which marks types in Arrow", allowed="other names", todo="rename it"
            )
    if not any(_is_marked(field) for field in schema):
        return schema
    return pa.schema([_plain_field(field) for field in schema], metadata=schema.metadata)


def plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch as `plain_schema` says; columns that are not marked stay as they are.

    Raises:
        pyarrow.ArrowInvalid: a tensor has another number of values than its shape says.
    """
    columns = [_plain_array(column, field) for column, field in zip(batch.columns, batch.schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def marked_shape(field: pa.Field) -> tuple[int, ...] | None:
    """The shape of each row of a field that is marked as a tensor of a fixed shape; None for others."""
    metadata = field.metadata or {}
    if metadata.get(RENAMED) not in _TENSORS or len(metadata.get(_SERIALIZED, b"")) > _LONGEST:
        return None
    try:
        told = json.loads(metadata.get(_SERIALIZED, b""))
    except (ValueError, RecursionError):  # a pickle of Ray 2.49 to 2.54
        return None
    shape = told.get("shape") if isinstance(told, dict) else told
    if not isinstance(shape, list) or not 0 < len(shape) <= _MOST_DIMENSIONS:
        return None
    if not all(type(size) is int and 0 < size < 2**31 for size in shape):
        return None
    storage = field.type
    fits = types.is_fixed_size_list(storage) and storage.list_size == math.prod(shape)
    return tuple(shape) if fits or is_list(storage) else None


def _is_marked(field: pa.Field) -> bool:
    return marked_shape(field) is not None or any(
        _is_marked(inner) for inner in (fields_of(field.type) if types.is_nested(field.type) else ())
    )


def _plain_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, _plain_type(field), field.nullable)


def _plain_type(field: pa.Field) -> pa.DataType:
    shape, kind = marked_shape(field), field.type
    if shape is not None:
        inner = _plain_type(kind.value_field)
        for size in reversed(shape):
            inner = pa.list_(pa.field("element", inner), size)
        return inner
    if not _is_marked(field):
        return kind
    if types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if types.is_map(kind):
        return pa.map_(_plain_type(kind.key_field), _plain_field(kind.item_field))
    if types.is_struct(kind):
        return pa.struct([_plain_field(inner) for inner in fields_of(kind)])
    return kind


def _plain_array(array: pa.Array, field: pa.Field) -> pa.Array:
    kind = _plain_type(field)
    shape = marked_shape(field)
    if shape is not None:
        return _tensor(array, kind, shape)
    have = array.type
    if not _is_marked(field) or not types.is_nested(have):
        return array
    if types.is_fixed_size_list(have):
        return built(array, kind, [], [_plain_array(fixed_values(array), have.value_field)])
    if types.is_map(have):
        offsets, entries = list_parts(array)
        inner = [_plain_array(entries.field(i), part) for i, part in enumerate((have.key_field, have.item_field))]
        pairs = pa.struct([kind.key_field, kind.item_field])
        return built(array, kind, [offsets], [built(entries, pairs, [], inner)])
    if is_list(have):
        offsets, values = list_parts(array)
        return built(array, kind, [offsets], [_plain_array(values, have.value_field)])
    if types.is_struct(have):
        return built(array, kind, [], [_plain_array(array.field(i), part) for i, part in enumerate(fields_of(have))])
    return array


def _tensor(array: pa.Array, kind: pa.DataType, shape: tuple[int, ...]) -> pa.Array:
    """Lists of a tensor's values as fixed-size lists of fixed-size lists."""
    levels = [kind]
    while len(levels) < len(shape):
        levels.append(levels[-1].value_type)
    values = _plain_array(_values(array, math.prod(shape)), array.type.value_field)
    for depth in range(len(shape) - 1, 0, -1):
        values = pa.Array.from_buffers(
            levels[depth], len(array) * math.prod(shape[:depth]), [None], 0, children=[values]
        )
    return built(array, kind, [], [values])


def _values(array: pa.Array, size: int) -> pa.Array:
    """The values of lists that all have one size, nulls for those of lists that are null."""
    if types.is_fixed_size_list(array.type):
        return fixed_values(array)
    lengths = pc.list_value_length(array)
    if pc.any(pc.not_equal(lengths, size)).as_py():
        raise pa.ArrowInvalid(f"a tensor that has not the {size} values of its shape")
    if not array.null_count:
        return array.flatten()
    there = array.is_valid().to_numpy(zero_copy_only=False)
    starts = (np.cumsum(there) - 1) * size
    places = (starts[:, None] + np.arange(size)).ravel()
    return array.flatten().take(pa.array(places, mask=np.repeat(~there, size)))

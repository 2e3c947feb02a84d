"""Schemas of a sink: what every batch is reduced to, and how the schemas of batches, files and tasks become one."""

from __future__ import annotations

import pyarrow as pa

from runner.data.values.recast import recast
from runner.data.values.types import SIMPLE, fields_of, plain_type, same, types, unwritable, widened, written_type


class Unwritable(Exception):
    """A column that Parquet cannot hold.

    Args:
        field: the column.
        kind: its type.
        why: what in it has no place.
    """

    def __init__(self, field: str, kind: str, why: str) -> None:
        super().__init__(field, kind, why)
        self.field, self.kind, self.why = field, kind, why


class Drift(Exception):
    """Two schemas that no harmless widening makes one.

    Args:
        field: the column.
        left, right: what it is in each: a type, or 'absent'.
    """

    def __init__(self, field: str, left: str, right: str) -> None:
        super().__init__(field, left, right)
        self.field, self.left, self.right = field, left, right


def plain(table: pa.Table) -> pa.Table:
    """`table` without metadata, in the types in which it is written: equal values then have one form in every batch.

    Raises:
        Unwritable: Parquet cannot hold a column, or not one of its values.
    """
    if table.schema.metadata is None and all(field.type.id in SIMPLE for field in table.schema):
        return table
    fields, columns = [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = written_type(field.type)
        if (why := unwritable(field.type)) is not None:
            raise Unwritable(field.name, str(field.type), why)
        try:
            columns.append(recast(column, kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Unwritable(field.name, str(field.type), f"as {kind}: {error}") from error
        fields.append(pa.field(field.name, kind))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def unify(left: pa.Schema, right: pa.Schema) -> pa.Schema:
    """The narrowest schema that holds the values of both, in the column order of `left`.

    null widens to anything; numbers, decimals and times as `widened` says; whole numbers to float64 where every value
    stays exact (the cast checks it); the same inside lists, structs and maps.

    Raises:
        Drift: a column is in one of them only, or its types do not fit.
    """
    for name in left.names:
        if name not in right.names:
            raise Drift(name, str(left.field(name).type), "absent")
    for name in right.names:
        if name not in left.names:
            raise Drift(name, "absent", str(right.field(name).type))
    return pa.schema([_unify_fields(field, right.field(field.name), field.name) for field in left])


def _unify_fields(left: pa.Field, right: pa.Field, path: str) -> pa.Field:
    kind = _unify_types(plain_type(left.type), plain_type(right.type), path)
    return pa.field(left.name, kind, left.nullable or right.nullable)


def _unify_types(left: pa.DataType, right: pa.DataType, path: str) -> pa.DataType:
    numbers = all(types.is_integer(kind) or types.is_floating(kind) for kind in (left, right))
    if numbers and types.is_integer(left) != types.is_integer(right):
        return pa.float64()
    kind = widened(left, right) or _unify_inside(left, right, path)
    if kind is None:
        raise Drift(path, str(left), str(right))
    return kind


def _unify_inside(left: pa.DataType, right: pa.DataType, path: str) -> pa.DataType | None:
    """As `_unify_types`, inside lists, structs and maps; raises Drift for the very field."""
    if types.is_fixed_size_list(left) and types.is_fixed_size_list(right) and left.list_size == right.list_size:
        return pa.list_(_unify_fields(left.value_field, right.value_field, f"{path}[]"), left.list_size)
    if types.is_list(left) and types.is_list(right):
        return pa.list_(_unify_fields(left.value_field, right.value_field, f"{path}[]"))
    if types.is_map(left) and types.is_map(right):
        key = _unify_types(left.key_type, right.key_type, f"{path}.key")
        return pa.map_(key, _unify_fields(left.item_field, right.item_field, f"{path}.value"))
    if types.is_struct(left) and types.is_struct(right):
        others = {field.name: field for field in fields_of(right)}
        if {field.name for field in fields_of(left)} == set(others):
            inside = [_unify_fields(field, others[field.name], f"{path}.{field.name}") for field in fields_of(left)]
            return pa.struct(inside)
    return None


def fits(schema: pa.Schema, target: pa.Schema) -> bool:
    """Whether data of `schema` can be read as `target` as it is: same columns and types, nulls aside."""
    return schema.names == target.names and all(
        same(plain_type(field.type), plain_type(target.field(field.name).type)) for field in schema
    )


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with the columns, order and types of `schema`.

    Raises:
        Drift: a value does not survive the cast.
    """
    columns = []
    for field in schema:
        column = table.column(field.name)
        try:
            columns.append(recast(column, plain_type(field.type)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise Drift(
                field.name, str(field.type), f"{column.type} with a value that {field.type} cannot hold"
            ) from None
    relaxed = pa.schema([pa.field(f.name, plain_type(f.type)) for f in schema])
    return pa.Table.from_arrays(columns, schema=relaxed)


def joined(tables: list[pa.Table]) -> pa.Table:
    """The rows of all `tables` under their unified schema. Raises Drift."""
    schema = tables[0].schema
    if all(table.schema.equals(schema, check_metadata=True) for table in tables):
        return pa.concat_tables(tables)
    for table in tables[1:]:
        schema = unify(schema, table.schema)
    return pa.concat_tables([conform(table, schema) for table in tables])

"""Schemas of a sink: what every batch is reduced to, and how the schemas of batches, files and tasks become one."""

from __future__ import annotations

import pyarrow as pa


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
    """`table` without metadata, dictionaries and views: the forms that differ from batch to batch for equal values."""
    fields = [pa.field(field.name, plain_type(field.type)) for field in table.schema]
    columns = [
        column if column.type.equals(field.type) else column.cast(field.type)
        for column, field in zip(table.columns, fields, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that values of `kind` are written as."""
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if kind in (pa.string_view(), pa.large_string()):
        return pa.string()
    if kind in (pa.binary_view(), pa.large_binary()):
        return pa.binary()
    if types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind):
        return pa.list_(_plain_field(kind.value_field))
    if types.is_struct(kind):
        return pa.struct([_plain_field(kind.field(i)) for i in range(kind.num_fields)])
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    name = "element" if field.name == "item" else field.name  # as Parquet names it
    return pa.field(name, plain_type(field.type))


def unify(left: pa.Schema, right: pa.Schema) -> pa.Schema:
    """The narrowest schema that holds the values of both, in the column order of `left`.

    null widens to anything; whole numbers to wider ones of the same sign, and to float64 where every value stays
    exact (the cast checks it); float32 to float64; times to finer units; the same inside lists and structs. A field
    may be null if it may be in either.

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
    return pa.field(left.name, _unify_types(left.type, right.type, path), left.nullable or right.nullable)


def _unify_types(left: pa.DataType, right: pa.DataType, path: str) -> pa.DataType:
    types = pa.types
    if left.equals(right) and not types.is_nested(left):
        return left
    if types.is_null(left):
        return right
    if types.is_null(right):
        return left
    for same in (types.is_signed_integer, types.is_unsigned_integer, types.is_floating):
        if same(left) and same(right):
            return max(left, right, key=lambda kind: int(kind.bit_width))
    if (types.is_integer(left) and types.is_floating(right)) or (types.is_floating(left) and types.is_integer(right)):
        return pa.float64()
    if types.is_timestamp(left) and types.is_timestamp(right) and left.tz == right.tz:
        finest = max(left.unit, right.unit, key=("s", "ms", "us", "ns").index)
        return pa.timestamp(finest, left.tz)
    nested = _unify_nested(left, right, path)
    if nested is None:
        raise Drift(path, str(left), str(right))
    return nested


def _unify_nested(left: pa.DataType, right: pa.DataType, path: str) -> pa.DataType | None:
    types = pa.types
    if types.is_fixed_size_list(left) and types.is_fixed_size_list(right) and left.list_size == right.list_size:
        return pa.list_(_unify_fields(left.value_field, right.value_field, f"{path}[]"), left.list_size)
    if types.is_list(left) and types.is_list(right):
        return pa.list_(_unify_fields(left.value_field, right.value_field, f"{path}[]"))
    if types.is_struct(left) and types.is_struct(right):
        fields = [left.field(i) for i in range(left.num_fields)]
        others = {right.field(i).name: right.field(i) for i in range(right.num_fields)}
        if [field.name for field in fields] != list(others):
            return None
        return pa.struct([_unify_fields(field, others[field.name], f"{path}.{field.name}") for field in fields])
    return left if left.equals(right) else None


def fits(schema: pa.Schema, target: pa.Schema) -> bool:
    """Whether data of `schema` can be read as `target` as it is: same columns and types, nulls aside."""
    return schema.names == target.names and all(
        nullable(schema.field(name).type).equals(nullable(target.field(name).type)) for name in schema.names
    )


def nullable(kind: pa.DataType) -> pa.DataType:
    """`kind` with every inner field allowed to be null."""
    types = pa.types
    if types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", nullable(kind.value_type)), kind.list_size)
    if types.is_list(kind):
        return pa.list_(pa.field("element", nullable(kind.value_type)))
    if types.is_struct(kind):
        return pa.struct([pa.field(kind.field(i).name, nullable(kind.field(i).type)) for i in range(kind.num_fields)])
    return kind


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with the columns, order and types of `schema`.

    Raises:
        Drift: a value does not survive the cast.
    """
    columns = []
    for field in schema:
        column = table.column(field.name)
        try:
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise Drift(
                field.name, str(field.type), f"{column.type} with a value that {field.type} cannot hold"
            ) from None
    relaxed = pa.schema([pa.field(f.name, f.type) for f in schema])
    return pa.Table.from_arrays(columns, schema=relaxed)


def joined(tables: list[pa.Table]) -> pa.Table:
    """The rows of all `tables` under their unified schema. Raises Drift."""
    schema = tables[0].schema
    if all(table.schema.equals(schema) for table in tables):
        return pa.concat_tables(tables)
    for table in tables[1:]:
        schema = unify(schema, table.schema)
    return pa.concat_tables([conform(table, schema) for table in tables])

"""Schemas of many files made one, hive partition columns, and columns asked for by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from runner.data.guess import wider
from runner.errors import DataError, listed, suggest

_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")
#: Formats whose types are guessed from values, so that a wider guess in another file is no contradiction.
_GUESSED = ("jsonl", "csv")


def unify(schemas: Sequence[tuple[str, pa.Schema]], format: str) -> pa.Schema:
    """One schema for files of one dataset.

    Names, types and (for CSV, Parquet and Arrow) the set of columns must agree. A column that is null
    throughout takes the other type; where types are guessed from values (JSON lines, CSV) whole numbers give
    way to fractions, and a column of JSON lines may be absent. The order of columns is the first file's.

    Args:
        schemas: (URL, schema) of each file.

    Raises:
        DataError: two files contradict each other; both and the field are named.
    """
    first_url = schemas[0][0]
    fields: dict[str, tuple[str, pa.Field]] = {f.name: (first_url, f) for f in plain(schemas[0][1])}
    seen = plain(schemas[0][1])
    for url, schema in schemas[1:]:
        other = plain(schema)
        if other.equals(seen):
            continue
        for field in other:
            if field.name not in fields and format == "jsonl":
                fields[field.name] = (url, field)
            elif field.name not in fields:
                raise _drift(field.name, url, str(field.type), first_url, "no such column")
            else:
                fields[field.name] = _merged(fields[field.name], url, field, format)
        for name in fields if format != "jsonl" else ():
            if name not in other.names:
                raise _drift(name, url, "no such column", *_said(fields[name]))
    return pa.schema([field for _, field in fields.values()])


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema without metadata of writers, which says nothing about values."""
    return pa.schema([field.remove_metadata() for field in schema])


def loose(kind: pa.DataType) -> pa.DataType:
    """The type with nulls allowed at every depth and the usual names inside lists: what two writers agree
    on."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(loose(kind.value_type), kind.list_size)
    if pa.types.is_large_list(kind):
        return pa.large_list(loose(kind.value_type))
    if pa.types.is_list(kind):
        return pa.list_(loose(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(f.name, loose(f.type)) for f in (kind.field(i) for i in range(kind.num_fields))])
    return kind


def add_partitions(schema: pa.Schema, partitions: Iterable[Mapping[str, str | None]]) -> pa.Schema:
    """The schema with a column for each hive partition key that the files do not hold themselves.

    A key whose values are all whole numbers is int64, any other is a string.
    """
    values: dict[str, set[str | None]] = {}
    for pairs in partitions:
        for key, value in pairs.items():
            values.setdefault(key, set()).add(value)
    for key, found in values.items():
        if key not in schema.names:
            whole = all(value is None or _WHOLE_NUMBER.fullmatch(value) for value in found)
            schema = schema.append(pa.field(key, pa.int64() if whole and found != {None} else pa.string()))
    return schema


def check_columns(columns: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raises DataError with a near miss if a column is not among the known ones, or given twice."""
    taken: set[str] = set()
    for name in columns:
        if name not in known:
            raise DataError(
                f"no column '{name}'",
                allowed=listed(known),
                todo=suggest(name, known) or "check columns=",
                where=where,
            )
        if name in taken:
            raise DataError(f"column '{name}' twice", allowed="each column once", todo="check columns=", where=where)
        taken.add(name)


def _merged(known: tuple[str, pa.Field], url: str, field: pa.Field, format: str) -> tuple[str, pa.Field]:
    at, before = known
    kind = _common(before.type, field.type, format)
    if kind is None:
        raise _drift(field.name, url, str(field.type), at, str(before.type))
    return at, pa.field(field.name, kind, before.nullable or field.nullable)


def _common(a: pa.DataType, b: pa.DataType, format: str) -> pa.DataType | None:
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if loose(a) == loose(b):
        return loose(a)
    return wider(a, b, format) if format in _GUESSED else None


def _said(known: tuple[str, pa.Field]) -> tuple[str, str]:
    return known[0], str(known[1].type)


def _drift(name: str, url: str, found: str, other_url: str, other: str) -> DataError:
    return DataError(
        f"schema drift in the column '{name}': {found} here, {other} in {other_url}",
        allowed="one schema for all files of a dataset",
        todo="rewrite one of the two files, or give a glob that leaves it out",
        where=url,
    )

"""Schemas of many files made one, hive partition columns, and columns asked for by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from runner.data.formats.expansion import cuts, row_sizes
from runner.data.formats.guess import wider
from runner.data.limits import beyond, limits, shown_bytes
from runner.data.values.recast import recast
from runner.data.values.types import plain_type, size_of, twice, widened
from runner.errors import DataError, listed, suggest

#: As Python writes it: two values that look different never become one number.
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")
#: Of a batch; strings and lists with 32-bit offsets address no more.
MOST_BYTES = 2**31 - 1
#: Of a batch whose values come to stand by themselves only here.
PIECE_BYTES = 64 << 20
#: Formats whose types are guessed from values, so that a wider guess in another file is no contradiction.
_GUESSED = ("jsonl", "csv")
#: Formats of which a row, and so a file, may lack a column.
SPARSE = ("jsonl", "tar")


def unify(schemas: Sequence[tuple[str, pa.Schema]], format: str, columns: Sequence[str] | None = None) -> pa.Schema:
    """One plain schema for files of one dataset.

    Names, types and (for CSV, Parquet and Arrow) the set of columns must agree. Types that hold the same values are
    one (see `plain_type`), and a narrower number, decimal or time gives way to a wider one; a column that is null
    throughout takes the other type. Where types are guessed from values (JSON lines, CSV) whole numbers also give
    way to fractions; a column of JSON lines, or of samples in tar, may be absent. The order of columns is the first
    file's.

    Args:
        schemas: (URL, schema) of each file.
        columns: the columns that are wanted, if not all: others that contradict each other are left out.

    Raises:
        DataError: two files contradict each other (both and the field are named), or a file has two columns of one
            name, or a struct two fields.
    """
    wanted = None if columns is None or format in SPARSE else set(columns)
    first_url, first = schemas[0]
    fields = {field.name: (first_url, field) for field in _checked(first, first_url, wanted)}
    dropped: set[str] = set()
    seen = first
    for url, schema in schemas[1:]:
        if schema.equals(seen, check_metadata=True):
            continue
        others = {field.name: field for field in _checked(schema, url, wanted)}
        for name in [*others, *(name for name in fields if name not in others)]:
            try:
                _join(fields, name, url, others.get(name), format, first_url)
            except DataError:
                if wanted is None or name in wanted:
                    raise
                dropped.add(name)
    return pa.schema([field for name, (_, field) in fields.items() if name not in dropped])


def _join(
    fields: dict[str, tuple[str, pa.Field]], name: str, url: str, field: pa.Field | None, format: str, first_url: str
) -> None:
    """Make a field of one more file one with that of the files before. Raises DataError if it cannot be."""
    if name in fields and field is not None:
        fields[name] = _merged(fields[name], url, field, format)
    elif format in SPARSE:
        if field is not None:
            fields[name] = (url, field)
    elif field is not None:
        raise _drift(name, url, str(field.type), first_url, "no such column")
    else:
        raise _drift(name, url, "no such column", *_said(fields[name]))


def plain(schema: pa.Schema) -> pa.Schema:
    """The schema in plain types, without metadata of writers, which says nothing about values."""
    return pa.schema([pa.field(field.name, plain_type(field.type), field.nullable) for field in schema])


def _checked(schema: pa.Schema, url: str, columns: set[str] | None) -> pa.Schema:
    """The schema in plain types. Raises DataError for a name that is there twice, unless it is not wanted."""
    kept = plain(schema)
    while (name := twice(kept)) is not None:
        column = name if name in kept.names else next(f.name for f in kept if twice([f]) is not None)
        if columns is None or column in columns:
            raise DataError(
                f"two columns named '{name}'" if name == column else f"two fields named '{name}' in a struct",
                allowed="each name once",
                todo="rename one of them in the file" + ("" if columns else ", or leave the column out with columns="),
                where=url,
            )
        kept = pa.schema([field for field in kept if field.name != column])
    return kept


def fill(batch: pa.RecordBatch, wanted: pa.Schema, partitions: Mapping[str, str | None]) -> Iterator[pa.RecordBatch]:
    """`batch` with exactly the wanted columns: partition values filled in, order and types as in `wanted`.

    One batch, or several where it is larger than plain types can address, or becomes much larger than it is.

    Raises:
        DataError: a value has no place in its column's type, a column of the file says something else than the folder,
            or a row takes more memory than it may; the column is named.
    """
    for piece in _pieces(batch, wanted):
        yield _filled(piece, wanted, partitions)


def _pieces(batch: pa.RecordBatch, wanted: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batch cut so that each piece can be addressed, and grows to PIECE_BYTES at most or is one row."""
    sizes = row_sizes(batch, wanted, PIECE_BYTES)
    if isinstance(sizes, int):
        yield from _halves(batch, sizes)
        return
    if len(sizes) and int(sizes.max()) > limits().at_once_bytes:
        raise beyond("at_once_bytes", f"a row of {shown_bytes(int(sizes.max()))}")
    start = 0
    for stop in cuts(sizes, PIECE_BYTES):
        yield from _halves(batch.slice(start, stop - start), 0)
        start = stop


def _halves(batch: pa.RecordBatch, added: int) -> Iterator[pa.RecordBatch]:
    """The batch, halved until it can be addressed; each row becomes larger by `added` bytes."""
    if (size_of(batch) <= MOST_BYTES and added * batch.num_rows <= PIECE_BYTES) or batch.num_rows <= 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _halves(batch.slice(0, half), added)
    yield from _halves(batch.slice(half), added)


def _filled(batch: pa.RecordBatch, wanted: pa.Schema, partitions: Mapping[str, str | None]) -> pa.RecordBatch:
    arrays = []
    for field in wanted:
        index = batch.schema.get_field_index(field.name)
        try:
            column = recast(batch.column(index), field.type) if index >= 0 else None
            if field.name in partitions:
                arrays.append(_key(field, column, partitions[field.name], batch.num_rows))
            elif column is not None:
                arrays.append(column)
            else:  # a field that some lines of JSON, or samples in tar, do not have
                arrays.append(pa.nulls(batch.num_rows, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            have = batch.schema.field(index).type if index >= 0 else "text"
            raise DataError(
                f"column '{field.name}', {have} as {field.type}: {error}",
                allowed="values that their column's type holds without a change",
                todo="declare another type with schema=, leave the column out with columns=, or replace the file",
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=wanted) if arrays else batch.select([])


def _key(field: pa.Field, column: pa.Array | None, value: str | None, rows: int) -> pa.Array:
    try:
        return _partition(field, column, value, rows)
    except pa.ArrowNotImplementedError as error:
        raise DataError(
            f"the column '{field.name}' is {field.type} in the file and {value!r} in the folder's name",
            allowed="for a column that is in both, a number, a text, a date or a time stamp",
            todo="rename the folder, or leave the column out with columns=",
        ) from error


def _partition(field: pa.Field, column: pa.Array | None, value: str | None, rows: int) -> pa.Array:
    """The column of a partition key: of the file, if it has one that agrees with the folder."""
    if column is None or column.null_count == rows:
        return pa.repeat(pa.scalar(value, pa.string()).cast(field.type), rows)
    agree = column.is_null() if value is None else _agree(column, value)
    if not pc.all(pc.fill_null(agree, False)).as_py():
        other = column.filter(pc.invert(pc.fill_null(agree, False)))[0].as_py()
        raise DataError(
            f"the column '{field.name}' is {other!r} in the file and {value!r} in the folder's name",
            allowed="for a column that is in both, the same value",
            todo="move the file to the folder of its value, or leave the column out with columns=",
        )
    return column


def _agree(column: pa.Array, value: str) -> pa.Array:
    try:
        return pc.equal(column, pa.scalar(value, pa.string()).cast(column.type))
    except pa.ArrowInvalid:
        return pa.repeat(False, len(column))


def add_partitions(
    schema: pa.Schema,
    partitions: Iterable[Mapping[str, str | None]],
    declared: Mapping[str, pa.DataType] | None = None,
) -> pa.Schema:
    """The schema with a column for each hive partition key that the files do not hold themselves.

    A key whose values are all whole numbers as they are usually written is int64, any other (``007``, ``+1``) is a
    string.

    Args:
        declared: the types of keys that need no guess.

    Raises:
        DataError: a value is not of its declared type.
    """
    values: dict[str, set[str | None]] = {}
    for pairs in partitions:
        for key, value in pairs.items():
            values.setdefault(key, set()).add(value)
    for key, found in values.items():
        if key in schema.names:
            continue
        if declared and key in declared:
            _check_values(key, found, declared[key])
            schema = schema.append(pa.field(key, plain_type(declared[key])))
        else:
            whole = all(value is None or _WHOLE_NUMBER.fullmatch(value) for value in found)
            schema = schema.append(pa.field(key, pa.int64() if whole and found != {None} else pa.string()))
    return schema


def _check_values(key: str, values: Iterable[str | None], kind: pa.DataType) -> None:
    for value in values:
        try:
            pa.scalar(value, pa.string()).cast(plain_type(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"the partition '{key}={value}', declared as {kind}",
                allowed="values of the declared type",
                todo="declare another type, or rename the folder",
            ) from error


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
    if format in _GUESSED:
        kind = wider(a, b, format)
        return None if kind is None else plain_type(kind)
    return widened(a, b)


def _said(known: tuple[str, pa.Field]) -> tuple[str, str]:
    return known[0], str(known[1].type)


def _drift(name: str, url: str, found: str, other_url: str, other: str) -> DataError:
    return DataError(
        f"schema drift in the column '{name}': {found} here, {other} in {other_url}",
        allowed="one schema for all files of a dataset",
        todo="declare the column's type with schema= (where a file has it not, it is null), leave the column out with "
        "columns=, or give a glob that leaves one of the files out",
        where=url,
    )

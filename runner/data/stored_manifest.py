"""A manifest in the bytes of a file, read as what it is: something that whoever may write to the store has written."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from runner.data.declared import reading_of
from runner.data.formats import parquet
from runner.data.formats.columns import plain
from runner.data.formats.extension import read_schema
from runner.data.limits import beyond, limits, shown_bytes
from runner.data.shards import MANY, UNCOUNTED, PackedUnits, Shard, Unit
from runner.data.values.arrays import numpy_of
from runner.data.values.schema_shape import check_shape
from runner.errors import DataError
from runner.spec.formats import FORMATS
from runner.untrusted.paths import check_inner, inner

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

KEY, VERSION = b"runner.manifest", 1
_COUNTS = {"index": 0, "rows": UNCOUNTED, "bytes": 0, "start": 0, "length": 0}  # the least of each
UNIT = pa.struct([(name, pa.int64()) for name in _COUNTS])
TABLE = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("etag", pa.string()),
        ("format", pa.string()),
        ("partitions", pa.string()),
        ("units", pa.list_(UNIT)),
    ]
)
#: Bytes of the table, where that is more than so many times its bytes in the file: numbers in a row compress well.
_MOST_BYTES, _RATIO = 64 << 20, 200
_MOST_ROWS = 1 << 53
_MOST_LANES, _MOST_BLOCK = 1 << 10, 1 << 30


class _Wrong(ValueError):
    """It is not what `Manifest.to_bytes` writes."""


@dataclass(frozen=True)
class Stored:
    """The fields of a `Manifest`."""

    base: str
    shards: tuple[Shard, ...]
    schema: pa.Schema
    options: Mapping[str, Any]
    lanes: int
    block_bytes: int


def read(data: bytes) -> Stored:
    """What `Manifest.to_bytes` wrote.

    Raises:
        DataError: it is something else, names files outside of its folder, or claims what no file can hold.
    """
    try:
        table = parquet.table(pa.BufferReader(data), max(_MOST_BYTES, _RATIO * len(data)))
        head = _json((table.schema.metadata or {})[KEY])
        if head["version"] != VERSION:
            raise DataError(
                f"a manifest of version {head['version']!r}", allowed=f"version {VERSION}", todo="build it again"
            )
        shards = at_once(table) or tuple(one_by_one(table))
        schema = _schema(head["schema"])
        lanes, block_bytes = (_whole(head, name, 1, most) for name, most in _SHAPE.items())
        base, options = head["base"], head["options"]
        if not isinstance(base, str) or not isinstance(options, dict):
            raise _Wrong("its base or its options")
    except DataError as error:
        raise DataError(error.found, allowed=error.allowed, todo=error.todo, where=error.where or "manifest") from error
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"no manifest ({' '.join(str(error).split())})"[:300],
            allowed="what Manifest.to_bytes wrote",
            todo="build it again",
        ) from error
    return Stored(base, shards, schema, options, lanes, block_bytes)


_SHAPE = {"lanes": _MOST_LANES, "block_bytes": _MOST_BLOCK}


def _json(text: bytes | str) -> Any:
    """JSON as it is defined: Python's also takes NaN and infinities."""

    def refused(name: str) -> Any:
        raise _Wrong(f"{name} is no JSON")

    return json.loads(text, parse_constant=refused)


def _schema(text: str) -> pa.Schema:
    schema = read_schema(base64.b64decode(text, validate=True))
    check_shape(schema)
    if not plain(schema).equals(schema):
        raise _Wrong("types that no reader gives")
    reading_of(schema)
    return schema


def one_by_one(table: pa.Table) -> Iterator[Shard]:
    """A manifest's rows, each looked at by itself. Raises what `read` does, and ValueError."""
    if not table.schema.equals(TABLE):
        raise _Wrong("other columns")
    most, total = limits(), 0
    for row in table.to_pylist():
        size, format, partitions = _whole(row, "size", 0), row["format"], _json(row["partitions"])
        path = inner(row["path"], "manifest")
        if format not in FORMATS or not isinstance(row["etag"], str):
            raise _Wrong(f"{path}: format {format!r}")
        if not _is_partitions(partitions):
            raise _Wrong(f"{path}: its partitions")
        units = tuple(Unit(*(_whole(unit, name, least) for name, least in _COUNTS.items())) for unit in row["units"])
        for unit in units:
            claimed = max(unit.rows, unit.bytes)
            if claimed > most.in_all(unit.within(size)):
                raise beyond(
                    "ratio", f"{shown_bytes(claimed)} out of {shown_bytes(unit.within(size))}", f"manifest: {path}"
                )
            total += max(unit.rows, 0)
        yield Shard(path, size, row["etag"], format, units, partitions)
    if total > _MOST_ROWS:
        raise _Wrong(f"{total} rows")


def at_once(table: pa.Table) -> tuple[Shard, ...] | None:
    """As `one_by_one`, of all rows at once; None where something may be wrong, or there is nothing."""
    if not table.schema.equals(TABLE) or not table.num_rows:
        return None
    columns = dict(zip(TABLE.names, table.combine_chunks().columns, strict=True))
    if any(column.num_chunks != 1 for column in columns.values()):
        return None
    columns = {name: column.chunk(0) for name, column in columns.items()}
    lists = columns.pop("units")
    units = lists.flatten()
    numbers = {name: units.field(i) for i, name in enumerate(_COUNTS)}
    if any(column.null_count for column in (*columns.values(), lists, units, *numbers.values())):
        return None
    size, counts = numpy_of(columns["size"]), np.diff(numpy_of(lists.offsets))
    told = {name: numpy_of(column) for name, column in numbers.items()}
    if size.min() < 0 or any(len(told[name]) and told[name].min() < least for name, least in _COUNTS.items()):
        return None
    if not _may_be(told, np.repeat(size, counts)):
        return None
    paths, formats = columns["path"].to_pylist(), columns["format"].to_pylist()
    texts = columns["partitions"].to_pylist()
    try:
        parts = {text: _json(text) for text in set(texts)}
    except (ValueError, RecursionError):
        return None
    if not all(map(_is_partitions, parts.values())) or not set(formats) <= set(FORMATS):
        return None
    check_inner(paths, "manifest")
    held = _held(np.stack(list(told.values()), axis=1), np.cumsum(counts).tolist())
    return tuple(
        map(Shard, paths, size.tolist(), columns["etag"].to_pylist(), formats, held, map(parts.__getitem__, texts))
    )


def _held(numbers: Ints, ends: Sequence[int]) -> list[Sequence[Unit]]:
    """The units of each shard, given the numbers of all, and how many there are up to the end of each."""
    held: list[Sequence[Unit]] = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        if end < start + MANY:
            held.append(tuple(Unit(*one) for one in numbers[start:end].tolist()))
        else:
            held.append(PackedUnits(array("q", numbers[start:end].tobytes())))
    return held


def _is_partitions(value: Any) -> bool:
    return isinstance(value, dict) and all(one is None or isinstance(one, str) for one in value.values())


def _may_be(told: Mapping[str, Ints], size: Ints) -> bool:
    """Whether no unit of files of these sizes claims more than it may, nor all of them."""
    most, rows = limits(), np.maximum(told["rows"], 0)
    if len(rows) and int(rows.max()) > _MOST_ROWS // len(rows):
        return False
    claimed, length = np.maximum(rows, told["bytes"]), np.minimum(told["length"], size)
    too_many = (claimed > most.at_once_bytes) & ((claimed - 1) // most.ratio >= length)
    return not too_many.any()


def _whole(values: Mapping[str, Any], name: str, least: int, most: int = 2**63 - 1) -> int:
    value = values[name]
    if type(value) is not int or not least <= value <= most:
        raise _Wrong(f"{name} is {str(value)[:40]}")
    return value

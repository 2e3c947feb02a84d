"""JSON lines, CSV and text: a unit is a byte range that ends at a line end; a compressed file is one unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from runner.data.shards import UNCOUNTED, Shard, Unit
from runner.data.source import SourceFile, compression_of, open_input

#: Longest byte range of a unit.
UNIT_BYTES = 64 << 20
#: Bytes parsed at a time; no line may be longer.
BLOCK_BYTES = 16 << 20
#: Bytes at the start of each unit from which types are inferred.
SAMPLE_BYTES = 4 << 20
_WINDOW = 1 << 16
_BOM = b"\xef\xbb\xbf"

TEXT_SCHEMA = pa.schema([("text", pa.string())])


def inspect(
    file: SourceFile, format: str, options: Mapping[str, Any] | None
) -> tuple[tuple[Unit, ...], list[pa.Schema]]:
    """Uncounted units, and the schema that the start of each of them shows."""
    if not file.size:
        return (), [TEXT_SCHEMA] if format == "text" else []
    with open_input(file.url, file.size, options) as source:
        units = _units(source, file, format)
        if format == "text":
            return units, [TEXT_SCHEMA]
        names = _csv_names(source, file) if format == "csv" else None
        return units, [_sample(source, file, unit, format, names) for unit in units]


def read(
    url: str, shard: Shard, unit: Unit, schema: pa.Schema, options: Mapping[str, Any] | None
) -> Iterator[pa.RecordBatch]:
    """Record batches of one unit; `schema` holds the columns of the file with their types."""
    with open_input(url, shard.size, options) as source:
        stream = _stream(source, shard.path, unit)
        if shard.format == "text":
            yield from _text(stream, first=unit.start == 0)
        elif shard.format == "jsonl":
            yield from pajson.open_json(
                stream,
                pajson.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
            )
        else:
            names = _csv_names(source, shard) if unit.start else None
            yield from pacsv.open_csv(
                stream,
                pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names),
                _csv_parse(shard.path),
                pacsv.ConvertOptions(column_types=schema, strings_can_be_null=False),
            )


def _units(source: pa.NativeFile, file: SourceFile, format: str) -> tuple[Unit, ...]:
    ends = [file.size]
    splittable = compression_of(file.path) is None and file.size > UNIT_BYTES
    if splittable and (format != "csv" or _no_quoted_newlines(source, file.size)):
        share = UNIT_BYTES * 15 // 16  # a range ends before its share does, so the next may be longer by a line
        ends = _line_ends(source, file.size, -(-file.size // share))
    starts = [0, *ends[:-1]]
    return tuple(
        Unit(i, UNCOUNTED, end - start, start, end - start)
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def _line_ends(source: pa.NativeFile, size: int, parts: int) -> list[int]:
    """About `parts` equal ranges; each ends after the first line end at or before its even share, if there is
    one."""
    ends: list[int] = []
    for part in range(1, parts):
        end = _line_end_before(source, size * part // parts, ends[-1] if ends else 0)
        if end is not None:
            ends.append(end)
    return [*ends, size]


def _line_end_before(source: pa.NativeFile, at: int, least: int) -> int | None:
    """The position after the last newline in [least, at), or None."""
    while at > least:
        start = max(least, at - _WINDOW)
        found = source.read_at(at - start, start).rfind(b"\n")
        if found >= 0 and start + found + 1 > least:
            return start + found + 1
        at = start
    return None


def _no_quoted_newlines(source: pa.NativeFile, size: int) -> bool:
    """Whether before every newline the number of double quotes is even, so that each newline ends a row."""
    quotes = 0
    for start in range(0, size, BLOCK_BYTES):
        block = np.frombuffer(source.read_at(min(BLOCK_BYTES, size - start), start), np.uint8)
        at_quotes = np.flatnonzero(block == ord('"'))
        before = quotes + np.searchsorted(at_quotes, np.flatnonzero(block == ord("\n")))
        if (before & 1).any():
            return False
        quotes += len(at_quotes)
    return True


def _stream(source: pa.NativeFile, path: str, unit: Unit) -> pa.NativeFile:
    compression = compression_of(path)
    if compression:
        return pa.CompressedInputStream(source, compression)
    return source.get_stream(unit.start, unit.length)


def _sample(source: pa.NativeFile, file: SourceFile, unit: Unit, format: str, names: list[str] | None) -> pa.Schema:
    data = _stream(source, file.path, unit).read(SAMPLE_BYTES)
    if len(data) == SAMPLE_BYTES < unit.length or compression_of(file.path):
        data = data[: data.rfind(b"\n") + 1] or data
    if not data.strip():
        return pa.schema([])
    if format == "jsonl":
        options = pajson.ReadOptions(use_threads=False, block_size=len(data) + 1)
        return pajson.read_json(pa.BufferReader(data), options).schema
    read_options = pacsv.ReadOptions(
        use_threads=False, block_size=len(data) + 1, column_names=names if unit.start else None
    )
    convert = pacsv.ConvertOptions(strings_can_be_null=False)
    return pacsv.read_csv(pa.BufferReader(data), read_options, _csv_parse(file.path), convert).schema


def _csv_names(source: pa.NativeFile, file: SourceFile | Shard) -> list[str]:
    """The header of a CSV file."""
    whole = Unit(0, UNCOUNTED, file.size, 0, file.size)
    data = _stream(source, file.path, whole).read(_WINDOW)
    reader = pacsv.open_csv(
        pa.BufferReader(data[: data.rfind(b"\n") + 1] or data),
        pacsv.ReadOptions(use_threads=False, block_size=len(data) + 1),
        _csv_parse(file.path),
    )
    return list(reader.schema.names)


def _csv_parse(path: str) -> pacsv.ParseOptions:
    tabs = ".tsv" in path.lower().rpartition("/")[2]
    return pacsv.ParseOptions(delimiter="\t" if tabs else ",", newlines_in_values=True)


def _text(stream: pa.NativeFile, first: bool) -> Iterator[pa.RecordBatch]:
    """One row a line, without its line end ('\\n' or '\\r\\n'); a last line needs none."""
    rest = b""
    while data := stream.read(BLOCK_BYTES):
        data = rest + (data.removeprefix(_BOM) if first else data)
        first = False
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            yield _lines(data[: end - 1])
    if rest:
        yield _lines(rest)


def _lines(data: bytes) -> pa.RecordBatch:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    if b"\r\n" in data or data.endswith(b"\r"):
        lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
        column = pa.array(lines, pa.binary()).cast(pa.string())
    else:  # no Python object a line: lines and line ends are cut from one buffer, the lines are taken
        offsets = np.empty(2 * len(ends) + 2, np.int32)
        offsets[0], offsets[-1] = 0, len(data)
        offsets[1:-1:2], offsets[2::2] = ends, ends + 1
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        pieces = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
        column = pieces.take(pa.array(np.arange(0, len(offsets) - 1, 2))).cast(pa.string())
    return pa.RecordBatch.from_arrays([column], schema=TEXT_SCHEMA)

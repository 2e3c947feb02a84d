"""JSON lines, CSV and text: a unit is a byte range that ends at a line end; a compressed file is one unit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa

from runner.data.declared import kinds
from runner.data.files.compression import Counted, compression_of, decompressed, refused_compression
from runner.data.files.listing import SourceFile
from runner.data.files.opening import open_input, remote
from runner.data.files.readable import Readable
from runner.data.formats import csv_rows, jsonl
from runner.data.formats.base import Inspected, Look, Request, Wanted
from runner.data.formats.blocks import blocks, cut, line_ends
from runner.data.formats.columns import unify
from runner.data.formats.csv_dialect import Dialect
from runner.data.formats.explain import explained
from runner.data.shards import UNCOUNTED, Shard, Unit
from runner.errors import DataError

#: Longest byte range of a unit.
UNIT_BYTES = 64 << 20
#: Bytes of text parsed at a time.
BLOCK_BYTES = 16 << 20
#: Bytes at the start of each unit from which types are guessed, where not all of it is looked at.
SAMPLE_BYTES = 4 << 20
#: A file of up to so many bytes is read once for all that is to be seen of it.
AT_ONCE_BYTES = 1 << 20
_WINDOW = 1 << 16

#: Lines of text that are taken apart at a time.
_LINES = 2 << 20

TEXT_SCHEMA = pa.schema([("text", pa.string())])


def inspect(format: str, asked: Look) -> Inspected:
    """The units of a file, and the schema that all of them fit; blank ones show none.

    If all of it is read, rows are counted and no later line contradicts the schema; otherwise the start of each unit is
    looked at.

    Args:
        format: 'jsonl', 'csv' or 'text'.
    """
    file = asked.file
    ending = refused_compression(file.path)
    if ending is not None:
        raise DataError(
            f"it is compressed or packed as '.{ending}'",
            allowed="gz, bz2, xz, zst, lz4 or br, or no compression",
            todo="compress it anew, or unpack it",
        )
    if not file.size:
        return (), None
    opens: _Opens = asked.opened
    if file.size <= AT_ONCE_BYTES and asked.data is None:
        with opens() as source:
            opens = partial(pa.BufferReader, source.read())
    with opens() as source:
        units = _units(source, file, Dialect.of(asked.reading.csv, file.path) if format == "csv" else None)
    look = {"text": _look_at_text, "jsonl": _look_at_jsonl, "csv": _look_at_csv}[format]
    seen: list[_Seen] = []
    with explained(file.url), _stream(opens, file.path, units[0]) as stream:
        _check_encoding(bytes(stream.read(2)))
    for unit in units:
        with explained(file.url, unit.index):
            seen.append(look(unit, partial(_stream, opens, file.path, unit), asked, opens))
    counted = tuple(unit for unit, schema in seen if schema is not None and unit.rows)
    shown = [(f"{file.url} (unit {unit.index})", schema) for unit, schema in seen if schema is not None]
    return counted, unify(shown, format, asked.wanted) if shown else None


def wants(request: Request) -> Wanted | None:
    """The bytes of the unit; None of a file of this machine."""
    shard, unit = request.shard, request.unit
    source = remote(request.url, shard.size, request.options, shard.etag)
    return None if source is None else Wanted(source, [(unit.start, unit.within(shard.size))])


def read(request: Request) -> Iterator[pa.RecordBatch]:
    """Record batches of one unit. A partition column that a CSV file does not hold is left out."""
    shard, unit, schema = request.shard, request.unit, request.wanted
    end = unit.start + unit.length
    opens = partial(open_input, request.url, shard.size, request.options, path=shard.path, etag=shard.etag, until=end)
    stream = partial(_stream, opens, shard.path, unit)
    if shard.format == "text":
        with stream() as source:
            yield from _text(source, first=unit.start == 0)
    elif shard.format == "jsonl":
        with stream() as source:
            for table in jsonl.read(source, schema, request.strict):
                yield from table.combine_chunks().to_batches()
    else:
        dialect = Dialect.of(request.reading.csv, shard.path)
        names = _known_header(request, opens, dialect)
        held = set(names)
        own = pa.schema([field for field in schema if field.name in held])
        yield from csv_rows.read(stream, dialect, names, unit.start == 0, own)


# -- what a unit shows -----------------------------------------------------------------------------------------------

_Opens = Callable[[], pa.NativeFile]
_Seen = tuple[Unit, pa.Schema | None]


def _look_at_text(unit: Unit, stream: _Opens, asked: Look, opens: _Opens) -> _Seen:
    if not asked.whole:
        return unit, TEXT_SCHEMA
    rows = size = 0
    with stream() as source:
        for batch in _text(source, first=unit.start == 0):
            rows, size = rows + batch.num_rows, size + batch.nbytes
    return replace(unit, rows=rows, bytes=max(unit.bytes, size)), TEXT_SCHEMA


def _look_at_jsonl(unit: Unit, stream: _Opens, asked: Look, opens: _Opens) -> _Seen:
    declared, whole = kinds(asked.reading), asked.whole
    guess, seen = jsonl.Guess(declared=declared, only=asked.wanted), 0
    with stream() as source:
        for block in blocks(source, None if whole else SAMPLE_BYTES):
            guess.add(block)
            seen += len(block)
            if not whole and guess.rows and seen > SAMPLE_BYTES // 2:
                return unit, guess.schema
    if not whole:
        return unit, guess.schema
    counted = replace(unit, rows=guess.rows, bytes=max(unit.bytes, guess.bytes))
    return counted, guess.schema if guess.rows else None


def _look_at_csv(unit: Unit, stream: _Opens, asked: Look, opens: _Opens) -> _Seen:
    dialect, first = Dialect.of(asked.reading.csv, asked.file.path), unit.start == 0
    with stream() as source:
        if csv_rows.is_blank(source, dialect.skip if first else 0):
            return replace(unit, rows=0), None
    names, declared = _header(opens, asked.file, dialect, asked.wanted), kinds(asked.reading)
    guess = csv_rows.guess(stream, dialect, names, first, None if asked.whole else SAMPLE_BYTES, declared)
    if not asked.whole:
        return unit, guess.schema
    return replace(unit, rows=guess.rows, bytes=max(unit.bytes, guess.bytes)), guess.schema


def _check_encoding(start: bytes) -> None:
    if start in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("text in UTF-16", allowed="text in UTF-8", todo="convert the file to UTF-8")


#: Headers of files that a process has read: each of their units asks again.
_headers: dict[tuple[str, str, Dialect, tuple[str, ...]], list[str]] = {}
_MOST_HEADERS = 4096


def _known_header(request: Request, opens: _Opens, dialect: Dialect) -> list[str]:
    key = request.url, request.shard.etag, dialect, tuple(request.wanted.names)
    if key not in _headers:
        if len(_headers) >= _MOST_HEADERS:
            _headers.clear()
        _headers[key] = _header(opens, request.shard, dialect, request.wanted.names)
    return _headers[key]


def _header(opens: _Opens, file: SourceFile | Shard, dialect: Dialect, wanted: Collection[str] | None) -> list[str]:
    """The names in a CSV file."""
    whole = Unit(0, UNCOUNTED, file.size, 0, file.size)
    return csv_rows.header(partial(_stream, opens, file.path, whole), dialect, wanted)


def _stream(opens: _Opens, path: str, unit: Unit) -> pa.NativeFile:
    """The bytes of a unit, decompressed. Whoever closes them closes the file."""
    source = opens()
    if compression_of(path):
        return Counted(decompressed(source, path), source.size()).native()
    if not unit.start and unit.length == source.size():
        return source
    return _Range(source, unit.start, unit.length).native()


class _Range(Readable):
    """A byte range of a file; closes the file with it."""

    def __init__(self, source: pa.NativeFile, start: int, length: int) -> None:
        super().__init__(source)
        self._left = length
        source.seek(start)

    def read(self, count: int = -1) -> bytes:
        data = super().read(self._left if count < 0 else min(count, self._left))
        self._left -= len(data)
        return data


# -- units -----------------------------------------------------------------------------------------------------------


def _units(source: pa.NativeFile, file: SourceFile, dialect: Dialect | None) -> tuple[Unit, ...]:
    """The byte ranges of a file; `dialect` is that of a CSV file."""
    ends = [file.size]
    splittable = compression_of(file.path) is None and file.size > UNIT_BYTES
    if splittable and (dialect is None or ends_rows(source, file.size, dialect)):
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


def ends_rows(source: pa.NativeFile, size: int, dialect: Dialect) -> bool:
    """Whether each newline surely ends a row: before it the number of quotes is even, and each that opens a value
    stands at its start (one in the middle of a value is a character as any other)."""
    if dialect.quote is None or dialect.escape is not None:
        return dialect.escape is None
    quote, delimiter = dialect.quote, dialect.delimiter
    quotes, last = 0, ord("\n")
    for start in range(0, size, BLOCK_BYTES):
        block = np.frombuffer(source.read_at(min(BLOCK_BYTES, size - start), start), np.uint8)
        at_quotes = np.flatnonzero(block == ord(quote))
        newlines = quotes + np.searchsorted(at_quotes, np.flatnonzero(block == ord("\n")))
        opening = at_quotes[quotes & 1 :: 2]
        before = np.where(opening > 0, block[opening - 1], last)
        if (newlines & 1).any() or not np.isin(before, list(f"{quote}\r\n{delimiter}".encode())).all():
            return False
        quotes, last = quotes + len(at_quotes), int(block[-1])
    return True


# -- text ------------------------------------------------------------------------------------------------------------


def _text(stream: pa.NativeFile, first: bool) -> Iterator[pa.RecordBatch]:
    """One row a line, without its line end ('\\n' or '\\r\\n'); a last line needs none."""
    for block in blocks(stream, BLOCK_BYTES, bom=first):
        for piece in cut(block, line_ends(block), _LINES):
            yield _lines(piece)


def _lines(data: bytes) -> pa.RecordBatch:
    ends = line_ends(data)
    size = len(data) - data.endswith(b"\n")
    if b"\r\n" in data or data.endswith(b"\r"):
        lines = [line.removesuffix(b"\r") for line in data[:size].split(b"\n")]
        column = pa.array(lines, pa.binary()).cast(pa.string())
    else:  # no Python object a line: lines and line ends are cut from one buffer, the lines are taken
        ends = ends[: len(ends) - (size < len(data))]
        offsets = np.empty(2 * len(ends) + 2, np.int32)
        offsets[0], offsets[-1] = 0, size
        offsets[1:-1:2], offsets[2::2] = ends, ends + 1
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        pieces = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
        column = pieces.take(pa.array(np.arange(0, len(offsets) - 1, 2))).cast(pa.string())
    return pa.RecordBatch.from_arrays([column], schema=TEXT_SCHEMA)

"""Small files of lines that are like one that was looked at: many are parsed at once, as if they were one file.

To parse a tiny file takes as long as to parse a thousand of its rows. So the rows of several are parsed together, in
the types of the first file, and each is then asked whether by itself it would have shown the same. What is not sure (a
column that is null throughout, fractions that are all whole) and what fails is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from runner.data.files.compression import compression_of, refused_compression
from runner.data.files.listing import SMALL_BYTES, SourceFile
from runner.data.formats import csv_types, jsonl
from runner.data.formats.base import Alike, Inspected, Look
from runner.data.formats.blocks import line_ends
from runner.data.formats.csv_dialect import Dialect
from runner.data.formats.json_shape import CELLS, UNKNOWN_CELLS, check_lines
from runner.data.formats.lines import ends_rows
from runner.data.formats.long_numbers import suspects
from runner.data.limits import limits
from runner.data.shards import UNCOUNTED, Unit
from runner.errors import DataError
from runner.spec.reading import USUAL

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Truths: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

#: Parsed together for nothing so often, they are no longer.
_MOST_FAILURES = 4
#: The shortest text that the parser of JSON takes for a time; it begins with a digit.
_SHORTEST_TIME = 10
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def alike(format: str, asked: Look, found: Inspected) -> Alike | None:
    """How to look at files that may be like one of which this was found; None where it shows too little.

    Args:
        format: 'jsonl', 'csv' or 'text'.
    """
    schema = found[1]
    if schema is None or _ending(asked.file.path) is None or len(set(schema.names)) < len(schema):
        return None
    if format == "text":
        return _Text(asked)
    if asked.reading != USUAL:
        return None
    if format == "csv":
        return _CSV(asked, schema) if all(field.type in _CSV_PROOFS for field in schema) else None
    missing = set(asked.wanted or ()) - set(schema.names)
    return None if missing or any(field.type not in _WIDTHS for field in schema) else _JSONL(asked, schema)


def _ending(path: str) -> str | None:
    """The last ending of a file of lines; None of one that is compressed, or may be."""
    if "?" in path or compression_of(path) or refused_compression(path):
        return None
    return path.rpartition(".")[2]


class _Lines:
    """What the formats have in common (see `base.Alike`)."""

    def __init__(self, asked: Look) -> None:
        self._ending, self._whole = asked.file.path.rpartition(".")[2], asked.whole
        self._failures = 0

    def look(self, files: Sequence[SourceFile], data: Sequence[bytes]) -> list[Inspected | None]:
        """Units and schema of each file that is surely like the first."""
        found: list[Inspected | None] = [None] * len(files)
        most = limits()
        if self._failures >= _MOST_FAILURES or most.line_bytes < SMALL_BYTES or most.fields < SMALL_BYTES:
            return found
        some = [i for i, file in enumerate(files) if self._is_plain(file.path) and self._may_be(data[i])]
        if some:
            seen = self._seen([data[i] for i in some])
            self._failures = 0 if any(one is not None for one in seen) else self._failures + 1
            for i, one in zip(some, seen, strict=True):
                found[i] = one
        return found

    def learn(self, data: bytes, found: Inspected) -> None:
        """Nothing: the first file has shown all."""

    def _is_plain(self, path: str) -> bool:
        return "?" not in path and path.rpartition(".")[2] == self._ending

    def _may_be(self, data: bytes) -> bool:
        raise NotImplementedError

    def _seen(self, data: Sequence[bytes]) -> list[Inspected | None]:
        raise NotImplementedError

    def _unit(self, size: int, rows: int, decoded: int) -> tuple[Unit, ...]:
        return (Unit(0, rows, max(size, decoded), 0, size) if self._whole else Unit(0, UNCOUNTED, size, 0, size),)


class _Text(_Lines):
    """Lines of text: nothing but their number is to be found out."""

    def __init__(self, asked: Look) -> None:
        super().__init__(asked)
        self._schema = pa.schema([("text", pa.string())])

    def _may_be(self, data: bytes) -> bool:
        return len(data) > 0 and data[:2] not in _UTF_16 and data[:1] != b"\xef" and b"\r" not in data

    def _seen(self, data: Sequence[bytes]) -> list[Inspected | None]:
        return [self._one(one) for one in data]

    def _one(self, data: bytes) -> Inspected | None:
        if self._whole and not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                return None
        ends, rest = data.count(b"\n"), not data.endswith(b"\n")
        rows = ends + rest
        # offsets, text, and which are not null; a last line without an end is a batch of its own
        decoded = 4 * rows + len(data) - ends + _bits(ends) + rest
        return self._unit(len(data), rows, decoded), self._schema


class _Rows:
    """The rows of several files, one behind the other.

    Args:
        counts: how many each file has, at least one.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = np.array(counts, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.counts)])

    def any(self, rows: Truths) -> Truths:
        """Of each file, whether one of its rows is."""
        return np.logical_or.reduceat(rows, self._starts[:-1])

    def lengths(self, offsets: Numbers) -> Numbers:
        """Of each file, the bytes of its values, given where each begins and the last ends."""
        return np.diff(offsets[self._starts])


class _JSONL(_Lines):
    def __init__(self, asked: Look, schema: pa.Schema) -> None:
        super().__init__(asked)
        self._schema = schema
        self._others = "error" if asked.wanted is None else "ignore"
        self._has_double = pa.float64() in schema.types

    def _may_be(self, data: bytes) -> bool:
        """Whether each line is an object or several, as far as it can be seen from its ends."""
        lines = data.count(b"\n")
        if lines * data.count(b":") > UNKNOWN_CELLS:  # it is parsed in pieces then
            return False
        return data[:1] == b"{" and data[-2:] == b"}\n" and data.count(b"}\n{") == lines - 1

    def _seen(self, data: Sequence[bytes]) -> list[Inspected | None]:
        nothing: list[Inspected | None] = [None] * len(data)
        block, rows = b"".join(data), _Rows([one.count(b"\n") for one in data])
        if int(rows.counts.sum()) * len(self._schema) > CELLS:
            return nothing
        try:
            check_lines(block, line_ends(block))
            table = jsonl.parsed(block, self._schema, self._others)
            for column in table.columns:
                column.validate(full=True)
        except (DataError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return nothing
        # as each line has an object at least, each has one where there are no more
        if table.num_rows != rows.counts.sum() or (self._has_double and len(suspects(block))):
            return nothing
        sure, decoded = np.ones(len(data), bool), np.zeros(len(data), np.int64)
        for column in table.combine_chunks().columns:
            is_sure, size = _json_column(column.chunk(0), rows)
            sure &= is_sure
            decoded += size
        told = zip(data, sure.tolist(), rows.counts.tolist(), decoded.tolist(), strict=True)
        return [(self._unit(len(one), count, size), self._schema) if ok else None for one, ok, count, size in told]


#: Bits of a value, of the types that JSON shows by itself; 0 of text.
_WIDTHS = {pa.int64(): 64, pa.float64(): 64, pa.bool_(): 1, pa.string(): 0}


def _json_column(column: pa.Array, rows: _Rows) -> tuple[Truths, Numbers]:
    """Of each file, whether its values by themselves show the column's type, and their bytes in memory."""
    there = column.is_valid().to_numpy(zero_copy_only=False)
    proof = there
    if pa.types.is_string(column.type):
        offsets = _offsets(column)
        size = 4 * rows.counts + rows.lengths(offsets)
        proof = there & ~((np.diff(offsets) >= _SHORTEST_TIME) & _is_digit(_first_bytes(column, offsets)))
    else:
        size = (rows.counts * _WIDTHS[column.type] + 7) // 8
        if pa.types.is_float64(column.type):
            values = column.to_numpy(zero_copy_only=False)
            proof = there & (values != np.floor(values))  # a whole one may be written as one
    return rows.any(proof), size + np.where(rows.any(~there), (rows.counts + 7) // 8, 0)


def _offsets(column: pa.Array) -> Numbers:
    data = np.frombuffer(column.buffers()[1], np.int32)
    return data[column.offset : column.offset + len(column) + 1].astype(np.int64)


def _first_bytes(column: pa.Array, offsets: Numbers) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The first byte of each text; 0 of an empty one."""
    buffer = column.buffers()[2]
    text = np.frombuffer(buffer, np.uint8) if buffer is not None and buffer.size else np.zeros(1, np.uint8)
    first = text[np.minimum(offsets[:-1], len(text) - 1)]
    return np.where(np.diff(offsets) > 0, first, 0).astype(np.uint8)


def _is_digit(byte: np.ndarray[Any, np.dtype[np.uint8]]) -> Truths:
    return (byte - ord("0")) < 10  # unsigned: what is smaller wraps round


class _CSV(_Lines):
    def __init__(self, asked: Look, schema: pa.Schema) -> None:
        super().__init__(asked)
        self._schema, self._dialect = schema, Dialect.of({}, asked.file.path)
        self._is_tabs = ".tsv" in asked.file.path.lower()
        self._header: bytes | None = None

    def learn(self, data: bytes, found: Inspected) -> None:
        """Takes the header of the first file."""
        if self._header is None:
            self._header = data[: data.find(b"\n") + 1]

    def _is_plain(self, path: str) -> bool:
        return super()._is_plain(path) and (".tsv" in path.lower()) == self._is_tabs

    def _may_be(self, data: bytes) -> bool:
        """Whether it has the first file's header, and each line behind it is surely a row."""
        if not self._header or not data.startswith(self._header) or len(data) == len(self._header):
            return False
        odd = b"\r" in data or b"\n\n" in data
        return data[-1:] == b"\n" and data[:1] not in (b"\n", b"\xef") and not odd

    def _seen(self, data: Sequence[bytes]) -> list[Inspected | None]:
        nothing: list[Inspected | None] = [None] * len(data)
        assert self._header is not None
        rows = _Rows([one.count(b"\n") - 1 for one in data])
        block = b"".join([self._header, *(one[len(self._header) :] for one in data)])
        if b'"' in block and not ends_rows(pa.BufferReader(block), len(block), self._dialect):
            return nothing
        names = self._schema.names
        convert = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False)
        options = self._dialect.start(len(block) + 1)
        try:
            table = pacsv.read_csv(pa.BufferReader(block), options, self._dialect.parse(), convert)
            if table.num_rows != rows.counts.sum() or table.schema.names != names:
                return nothing
            columns = [column.chunk(0).cast(pa.string()) for column in table.combine_chunks().columns]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return nothing
        sure, decoded = np.ones(len(data), bool), np.zeros(len(data), np.int64)
        for column, field in zip(columns, self._schema, strict=True):
            there = column.is_valid() if pa.types.is_string(field.type) else self._there(column)
            sure &= rows.any(_CSV_PROOFS[field.type](column, there))
            offsets = _offsets(column)
            text = 4 * rows.counts + rows.lengths(offsets)
            decoded += text if pa.types.is_string(field.type) else rows.counts * field.type.bit_width // 8
        told = zip(data, sure.tolist(), rows.counts.tolist(), decoded.tolist(), strict=True)
        return [(self._unit(len(one), count, size), self._schema) if ok else None for one, ok, count, size in told]

    def _there(self, column: pa.Array) -> pa.Array:
        return pc.invert(pc.is_in(column, self._dialect.nothing))


def _takes(column: pa.Array, there: pa.Array, kind: pa.DataType) -> Truths:
    """Which values show a type, if none of the others contradicts it."""
    values = column.filter(there)
    if not len(values) or not csv_types.takes(kind, values):
        return np.zeros(len(column), bool)
    shown: Truths = there.to_numpy(zero_copy_only=False)
    return shown


def _shows_fraction(column: pa.Array, there: pa.Array) -> Truths:
    """Which values are fractions, and no whole numbers or times: those with a point in them."""
    shown: Truths = pc.match_substring(column, ".").to_numpy(zero_copy_only=False)
    return _takes(column, there, pa.float64()) & shown


def _shows_text(column: pa.Array, there: pa.Array) -> Truths:
    """Which values are text, and surely nothing else: true, false, nan, null and inf begin with other letters."""
    first = _first_bytes(column, _offsets(column))
    shown: Truths = _IS_TEXT[first]
    return shown


_IS_TEXT = np.zeros(256, bool)
_IS_TEXT[list(b"abcdeghjklmopqrsuvwxyzABCDEGHJKLMOPQRSUVWXYZ")] = True

#: Of the types of a CSV column that a few values can show: which do.
_CSV_PROOFS: dict[pa.DataType, Callable[[pa.Array, pa.Array], Truths]] = {
    pa.int64(): lambda column, there: _takes(column, there, pa.int64()),
    pa.bool_(): lambda column, there: _takes(column, there, pa.bool_()),
    pa.date32(): lambda column, there: _takes(column, there, pa.date32()),
    pa.time32("s"): lambda column, there: _takes(column, there, pa.time32("s")),
    pa.float64(): _shows_fraction,
    pa.string(): _shows_text,
}


def _bits(count: int) -> int:
    return (count + 7) // 8

"""Footers of Parquet files that are like one that was looked at: told apart by their numbers, without decoding them.

The files of a dataset mostly come from one writer and have one schema, so that their footers are the same bytes but for
counts, sizes, offsets and statistics. A footer that pyarrow has taken is a template: what lies between such values must
be the very same in another, and the values must be such that pyarrow would take that one too. What fits no template is
decoded as every footer is when it is read.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa

from runner.data.files.listing import SourceFile
from runner.data.formats import thrift
from runner.data.formats.base import Inspected
from runner.data.formats.parquet_footer import SCHEMA, leaf_widths
from runner.data.limits import Limits, limits
from runner.data.shards import Unit

_MAGIC = b"PAR1"
#: Templates of a dataset; which statistics there are differs where a column may be null throughout.
_MOST_TEMPLATES = 32
#: Values of a footer that may differ; one of more of them is of a wide and large file, beside which decoding is little.
_MOST_VALUES = 20_000

#: What may differ: a number; bytes that are only looked at where they matter; a number that says what is in the file.
_NUMBER, _BYTES = "number", "bytes"
#: Field -> what may differ in it; a mapping stands for a struct, or a list of structs.
_Fields: TypeAlias = dict[int, Any]
_STATISTICS: _Fields = {1: _BYTES, 2: _BYTES, 3: _NUMBER, 4: _NUMBER, 5: _BYTES, 6: _BYTES}
_CHUNK: _Fields = {
    5: "values",
    6: "unpacked",
    7: "packed",
    9: "data",
    11: "dictionary",
    12: _STATISTICS,
    13: {3: _NUMBER},
    16: {1: _NUMBER, 2: _NUMBER, 3: _NUMBER},
}
_COLUMN: _Fields = {2: _NUMBER, 3: _CHUNK, 4: _NUMBER, 5: _NUMBER, 6: _NUMBER, 7: _NUMBER}
_GROUP: _Fields = {1: _COLUMN, 2: _NUMBER, 3: "rows", 5: _NUMBER, 6: _NUMBER}
_FOOTER: _Fields = {3: "all_rows", 4: _GROUP}


#: Numbers whose bytes are known.
_MOST_KNOWN = 1 << 16
#: The bytes of a number of up to 63 bit that is not negative.
_EVEN = b"[%s][\x80-\xff]{0,7}[\x00-\x7f]|[%s]" % tuple(
    b"".join(b"\\x%02x" % byte for byte in range(start, start + 128, 2)) for start in (128, 0)
)
_IGNORED = b"(?:" + _EVEN + b")"


class _Value(NamedTuple):
    """A value that may differ: where it lies in the template's footer, and what it is."""

    start: int
    end: int
    what: str


class _Chunk(NamedTuple):
    """Which of a footer's numbers a column chunk's are; dictionary is -1 where it has none."""

    values: int
    unpacked: int
    packed: int
    data: int
    dictionary: int


class _Template:
    """What all footers of a kind have in common.

    Args:
        stored: a footer that was decoded, all of it.
        schema: of its columns.

    Raises:
        thrift.Malformed, IndexError: it is none that this module knows.
    """

    def __init__(self, stored: bytes, schema: pa.Schema) -> None:
        self.schema, self._widths = schema, leaf_widths(schema)
        found: list[_Value] = []
        if _walk(stored, 0, _FOOTER, found) != len(stored) or len(found) > _MOST_VALUES:
            raise thrift.Malformed("bytes behind the footer, or too many values")
        # what is searched for in a footer when it is decoded must not stand among its statistics
        told = {pair.get(1): pair.get(2, b"") for pair in thrift.struct(stored)[0].get(5, [])}
        self._marks = [(text, stored.count(text)) for text in (SCHEMA, told.get(SCHEMA, b"")) if text]
        self._groups: list[tuple[int, list[_Chunk]]] = []
        self._all_rows = -1
        self._assign([one.what for one in found if one.what not in (_NUMBER, _BYTES)])
        self._parts = [re.compile(one, re.DOTALL) for one in _patterns(stored, found, self._widths)]
        self._known: dict[bytes, int] = {}

    def _assign(self, kinds: list[str]) -> None:
        """Which number is what: the chunks of a row group come before its rows."""
        chunks: list[_Chunk] = []
        one: dict[str, int] = {}
        for i, kind in enumerate(kinds):
            if kind == "all_rows":
                self._all_rows = i
            elif kind == "rows":
                self._groups.append((i, [*chunks, *_chunk(one)]))
                chunks, one = [], {}
            else:
                if kind == "values":
                    chunks, one = [*chunks, *_chunk(one)], {}
                one[kind] = i
        count = len(self._groups[0][1]) if self._groups else len(self._widths)
        if len(self._widths) != count:  # as where a footer is decoded
            self._widths = [None] * count
        if self._all_rows < 0 or not count or any(len(found) != count for _, found in self._groups):
            raise thrift.Malformed("columns without numbers")

    def numbers(self, stored: bytes) -> list[int] | None:
        """The numbers of a footer of this kind, none negative; None of another."""
        found: list[bytes] = []
        at = 0
        for part in self._parts:
            like = part.match(stored, at)
            if like is None:
                return None
            at = like.end()
            texts = like.groups()
            if like.lastgroup is None:
                found += texts
            else:  # bytes follow, of which the last number is the length
                found += texts[:-1]
                at += thrift.varint(texts[-1], 0)[0]
        if at != len(stored) or any(stored.count(text) != count for text, count in self._marks):
            return None
        return [self._known.get(text) or self._decoded(text) for text in found]

    def _decoded(self, text: bytes) -> int:
        """A number; most are in many of a dataset's footers."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        number = self._known[text] = thrift.varint(text, 0)[0] >> 1
        return number

    def units(self, numbers: Sequence[int], size: int, most: Limits) -> tuple[Unit, ...] | None:
        """The row groups of a file of `size` bytes, as `parquet.units_of` gives them; None where a claim is not as
        honest writers make it, so that it is to be looked at by itself."""
        units = []
        end = total = 0
        for i, (of_rows, chunks) in enumerate(self._groups):
            rows = numbers[of_rows]
            length, decoded, first = 0, 0.0, size
            for chunk, width in zip(chunks, self._widths, strict=True):
                stored, unpacked, values = numbers[chunk.packed], numbers[chunk.unpacked], numbers[chunk.values]
                start = numbers[chunk.data]
                if chunk.dictionary >= 0:
                    start = min(start, numbers[chunk.dictionary])
                if start < max(end, len(_MAGIC)) or not stored or not unpacked or values < rows:
                    return None
                end, first, length = start + stored, min(first, start), length + stored
                decoded += unpacked + 4 * values if width is None else values * width
            if not rows or end > size:
                return None
            unit = Unit(i, rows, int(decoded), first, length)
            if max(unit.bytes, rows) > most.in_all(length):
                return None
            units.append(unit)
            total += rows
        return tuple(units) if total == numbers[self._all_rows] else None


def _patterns(stored: bytes, values: Sequence[_Value], widths: Sequence[float | None]) -> Iterator[bytes]:
    """Patterns of what lies between bytes whose length may differ, each up to that, which is its last group.

    Args:
        widths: of the leaf columns; None of those whose statistics may have any length.
    """
    at, pattern, chunk = 0, b"", -1
    for one in values:
        pattern += re.escape(stored[at : one.start])
        at = one.end
        chunk += one.what == "values"
        if one.what != _BYTES:
            pattern += _IGNORED if one.what == _NUMBER else b"(" + _EVEN + b")"
        elif widths[chunk % len(widths)] is None:
            yield pattern + rb"(?P<length>[\x80-\xff]{0,4}[\x00-\x7f])"
            pattern = b""
        else:
            length, start = thrift.varint(stored, one.start)
            pattern += re.escape(stored[one.start : start]) + b".{%d}" % length
    yield pattern + re.escape(stored[at:])


def _walk(data: bytes, at: int, fields: _Fields, found: list[_Value]) -> int:
    """Finds what may differ in a struct. Returns the position behind it.

    Raises:
        thrift.Malformed, IndexError: a field is of another type than it should be, or the struct is damaged.
    """
    field = 0
    while head := data[at]:
        at += 1
        if head > 15:
            field += head >> 4
        else:
            field, at = thrift.number(data, at)
        at = _walk_value(data, at, head & 15, fields.get(field), found)
    return at + 1


def _walk_value(data: bytes, at: int, kind: int, what: Any, found: list[_Value]) -> int:
    if kind == thrift.LIST:
        head, at = data[at], at + 1
        count = head >> 4
        if count == 15:
            count, at = thrift.varint(data, at)
        for _ in range(count):
            # a truth value takes a byte here, and none as a field
            at = at + 1 if head & 15 in thrift.TRUTHS else _walk_value(data, at, head & 15, what, found)
        return at
    if kind == thrift.STRUCT:
        return _walk(data, at, what if isinstance(what, dict) else {}, found)
    start, (_, at) = at, thrift.value(data, at, kind)
    if what is not None:
        if (
            isinstance(what, dict)
            or (kind == thrift.BINARY) != (what == _BYTES)
            or kind not in (thrift.BINARY, *thrift.NUMBERS)
        ):
            raise thrift.Malformed(f"a field of type {kind}")
        found.append(_Value(start, at, what))
    return at


def _chunk(one: dict[str, int]) -> list[_Chunk]:
    """The column chunk that has these numbers, if there are any. Raises Malformed where one is missing."""
    if not one:
        return []
    try:
        return [_Chunk(one["values"], one["unpacked"], one["packed"], one["data"], one.get("dictionary", -1))]
    except KeyError as error:
        raise thrift.Malformed("a column chunk without a number") from error


class Likeness:
    """The templates of a dataset's footers (see `base.Alike`)."""

    def __init__(self) -> None:
        self._templates: list[_Template] = []

    def learn(self, data: bytes, found: Inspected) -> None:
        """Takes the footer of a file that was looked at for a template."""
        stored, (_, schema) = _stored(data, limits()), found
        if stored is None or schema is None or len(self._templates) >= _MOST_TEMPLATES:
            return
        with contextlib.suppress(thrift.Malformed, IndexError):  # then the next is decoded too
            self._templates.append(_Template(stored, schema))

    def look(self, files: Sequence[SourceFile], data: Sequence[bytes]) -> list[Inspected | None]:
        """Units and schema of each file of which the footer is like a template."""
        most = limits()
        return [self._one(one, most) for one in data]

    def _one(self, data: bytes, most: Limits) -> Inspected | None:
        stored = _stored(data, most)
        if stored is None:
            return None
        for template in self._templates:
            numbers = template.numbers(stored)
            if numbers is not None:
                units = template.units(numbers, len(data), most)
                return None if units is None else (units, template.schema)
        return None


def _stored(data: bytes, most: Limits) -> bytes | None:
    """The footer in all bytes of a file; None where it has none, or one that is larger than may be."""
    if data[-4:] != _MAGIC:
        return None
    length = int.from_bytes(data[-8:-4], "little")
    if length > len(data) - 12 or length > most.footer_bytes:
        return None
    return data[-8 - length : -8]

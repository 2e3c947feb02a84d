"""What the pages of a Parquet row group become when they are decoded, told by their headers before anything is.

The footer's numbers are only claims: pyarrow takes the memory that the header of a page asks for, and few bytes can
stand for many values (a dictionary's entry is named again and again; each value may share its beginning with the one
before).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from runner.data.formats import thrift
from runner.data.limits import beyond, limits, shown_bytes

_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3  # kinds of pages
_CHECKSUM = 4  # field of a page's header
_IN_DICTIONARY, _SHARED_PREFIX = (2, 8), 7  # encodings
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_LARGE_PAGE = 2 << 20
_LEVELS = 4  # bytes by which a value says where in its lists and structs it stands
#: Bytes of a header that are read at first, and at most (as pyarrow has it): it may hold the least and largest value.
_HEADER_BYTES, _MOST_HEADER_BYTES = 256, 16 << 20
#: Old files say too little of a chunk's length (PARQUET-816).
_PADDING = 100


class Source(Protocol):
    """What bytes are read from."""

    def read_at(self, count: int, start: int, /) -> bytes: ...


@dataclass
class Pages:
    """The pages of a column chunk.

    Args:
        largest, bytes: of the largest page and of all of them once they are decompressed.
        values: in data pages, nulls included.
        named: values in pages whose values are named by a dictionary.
        dictionary: bytes of the dictionary, decompressed.
        shared: bytes of the largest page whose values share beginnings; none of its values can be larger.
        most: values of the page that has the most of them.
        count, checked: pages, and those of them that have a checksum.
    """

    largest: int = 0
    bytes: int = 0
    values: int = 0
    named: int = 0
    dictionary: int = 0
    shared: int = 0
    most: int = 0
    count: int = 0
    checked: int = 0

    def add(self, header: thrift.Struct) -> None:
        """The next page. Raises KeyError if its header lacks something."""
        size = header[2]
        self.count, self.checked = self.count + 1, self.checked + (_CHECKSUM in header)
        self.largest, self.bytes = max(self.largest, size), self.bytes + size
        if header[1] == _DICTIONARY:
            self.dictionary = size
        if header[1] not in (_DATA, _DATA_2):
            return
        count, encoding = (header[5][1], header[5][2]) if header[1] == _DATA else (header[8][1], header[8][4])
        if count < 0:
            raise thrift.Malformed("a page of less than no values")
        self.values += count
        self.most = max(self.most, count)
        if encoding in _IN_DICTIONARY:
            self.named += count
        elif encoding == _SHARED_PREFIX:
            self.shared = max(self.shared, size)


@dataclass
class Plan:
    """How a row group is read so that it fits into memory.

    Args:
        rows: the most of a batch, or None where it does not matter.
        dictionaries: paths of columns that are all named by a dictionary: read as such, which is quicker too.
        named: paths of columns that are so in part; how large an entry is decides how many rows a batch may have.
        page_rows: of the largest page of strings: a batch of fewer rows takes room for a page, each time anew.
        needed: bytes that must be in memory at once.
    """

    rows: int | None = None
    dictionaries: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    page_rows: int = 0
    needed: int = 0

    def take_large(self, leaf: pq.ColumnSchema, pages: Pages) -> None:
        """Notes how many values large pages of strings have."""
        if not leaf.max_repetition_level and pages.largest > _LARGE_PAGE:
            self.page_rows = max(self.page_rows, pages.most)

    def bounded(self, value: int, most: int) -> None:
        """Batches of which each row may have a value of so many bytes, and all together `most`."""
        rows = max(1, most // max(value, 1))
        self.rows = rows if self.rows is None else min(rows, self.rows)


def plan(
    source: Source,
    size: int,
    group: pq.RowGroupMetaData,
    leaves: Sequence[pq.ColumnSchema],
    wanted: Iterable[int],
    length: int,
) -> Plan:
    """Looks at the pages of the wanted columns.

    Args:
        size: bytes of the file.
        leaves: the columns as they are stored.
        wanted: positions of those that are read.
        length: bytes of the row group in the file, all columns.

    Raises:
        DataError: what must be in memory at once passes the limit.
        pyarrow.ArrowInvalid: a header cannot be read.
    """
    found, limit = Plan(), limits()
    for i in wanted:
        leaf = leaves[i]
        pages = pages_of(source, size, group.column(i))
        found.needed += needed_of(leaf, pages)
        check_needed(found.needed, leaf, min(length, size))
        if width_of(leaf) is None:
            _take(found, pages, leaf.path, limit.at_once_bytes)
            found.take_large(leaf, pages)
    return found


def needed_of(leaf: pq.ColumnSchema, pages: Pages) -> int:
    """Bytes that must be in memory at once while a chunk with these pages is read."""
    width = width_of(leaf)
    if not leaf.max_repetition_level:
        return pages.bytes if width is None else pages.largest
    return pages.bytes + pages.values * (_LEVELS + (width or _LEVELS))


def check_needed(needed: int, leaf: pq.ColumnSchema, length: int) -> None:
    """Raise DataError where that, of all columns of a row group of so many bytes, passes the limit with this one."""
    if needed > limits().at_once(length):
        raise beyond("at_once_bytes", f"column '{leaf.path}': {shown_bytes(needed)} out of {shown_bytes(length)}")


def _take(found: Plan, pages: Pages, path: str, most: int) -> None:
    """Notes how a column of strings is to be read."""
    if pages.named and pages.named == pages.values:
        found.dictionaries.append(path)
    elif pages.named * pages.dictionary > most:
        found.named.append(path)
    if pages.shared * pages.values > most:
        found.bounded(pages.shared, most)


def width_of(leaf: pq.ColumnSchema) -> int | None:
    """Bytes of a value, where they do not vary."""
    return int(leaf.length) if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS.get(leaf.physical_type)


def ranges(group: pq.RowGroupMetaData, wanted: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(start, bytes) of the chunks of the wanted columns."""
    for i in wanted:
        chunk = group.column(i)
        yield _start(chunk), chunk.total_compressed_size + _PADDING


def _start(chunk: pq.ColumnChunkMetaData) -> int:
    """As pyarrow has it."""
    start = int(chunk.data_page_offset)
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
        start = int(chunk.dictionary_page_offset)
    return start


def pages_of(source: Source, size: int, chunk: pq.ColumnChunkMetaData) -> Pages:
    """The pages of a chunk, as far as pyarrow would read them.

    Args:
        size: bytes of the file.

    Raises:
        pyarrow.ArrowInvalid: a header cannot be read.
    """
    walk = Walk(size, chunk)
    walk.go(source, walk.end)
    return walk.pages


class Walk:
    """Goes through the headers of a chunk's pages, as far as pyarrow would read them.

    Args:
        size: bytes of the file.

    Attributes:
        pages: those that it has passed.
        start, end: where the chunk lies in the file.
    """

    def __init__(self, size: int, chunk: pq.ColumnChunkMetaData) -> None:
        self.pages, self.start = Pages(), _start(chunk)
        self.end = min(self.start + chunk.total_compressed_size + _PADDING, size)
        self._at, self._values = self.start, chunk.num_values

    @property
    def is_over(self) -> bool:
        """Whether no page follows."""
        return self._at >= self.end or self.pages.values >= self._values

    def go(self, source: Source, until: int, readable: int | None = None) -> bool:
        """Pass the headers that begin before a place in the file. Returns whether there were any.

        Args:
            readable: where the bytes that may be read end, None: at that place too. A header that goes on behind it is
                not passed yet.

        Raises:
            pyarrow.ArrowInvalid: one cannot be read.
        """
        before, stop = self.pages.count, min(self.end, until if readable is None else readable)
        while self._at < until and not self.is_over:
            found = _header(source, self._at, stop)
            if found is None:
                if stop < self.end:
                    break
                raise pa.ArrowInvalid("the header of a page does not end")
            header, self._at = found
            try:
                if min(header[2], header[3]) < 0:
                    raise thrift.Malformed("a page of less than no bytes")
                self.pages.add(header)
                self._at += header[3]
            except (KeyError, TypeError, ValueError) as error:
                raise pa.ArrowInvalid(f"the header of a page: {error!r}") from error
        return self.pages.count > before


def _header(source: Source, at: int, end: int) -> tuple[dict[int, Any], int] | None:
    """The header of a page, and the position behind it; None where the bytes end before it does."""
    length = _HEADER_BYTES
    while True:
        data = bytes(source.read_at(min(length, end - at), at))
        try:
            header, used = thrift.struct(data)
            return header, at + used
        except thrift.Malformed as error:
            raise pa.ArrowInvalid(f"the header of a page: {error}") from error
        except IndexError as error:
            if length >= _MOST_HEADER_BYTES:
                raise pa.ArrowInvalid("the header of a page does not end") from error
            if length >= end - at:
                return None
            length *= 16

"""WebDataset's tar archives: a row is a sample, which is the members of one name up to its first dot.

A unit of a plain archive is a run of whole samples, found by reading the headers once, and is read by one range; a
compressed archive is one unit.
"""

from __future__ import annotations

import functools
import operator
import re
from array import array
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.files.compression import Counted, compression_of, decompressed
from runner.data.files.opening import open_input, remote
from runner.data.formats.base import Inspected, Look, Request, Wanted
from runner.data.formats.tar_headers import BLOCK, Member, members
from runner.data.limits import beyond, limits, shown_bytes
from runner.data.shards import Unit
from runner.data.values.arrays import binaries, texts
from runner.errors import DataError

#: The column that names the sample; one for each extension follows it.
KEY = "__key__"
#: A unit ends with the sample by which it has so many bytes, and before one by which it would have twice as many.
UNIT_BYTES = 16 << 20
#: Bytes of values of a batch, where the caller does not say how many rows it wants.
BATCH_BYTES = 8 << 20
#: Kinds of members that a sample may have; a name with dots in it looks like a kind of its own.
MOST_EXTENSIONS = 1000
#: What one value may have: offsets are 32-bit.
_MOST_BYTES = 2**31 - 1
#: Fetched at a time from a remote file: headers by themselves, or with the bodies where these are short.
_HOP_BYTES, _RUN_BYTES, _FAR_BYTES = 16 << 10, 4 << 20, 1 << 20
_SKIPPED_BYTES = 1 << 20

_META = re.compile(r"__[^/]*__($|/)")
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)


def inspect(look: Look) -> Inspected:
    """Units and columns, from the headers; of a compressed archive from all of it."""
    file = look.file
    if not file.size:
        raise DataError("an empty file", allowed="a tar archive", todo="fetch or write it anew")
    with look.opened(mapped=True) as source:
        if compression_of(file.path):
            stream = Counted(decompressed(source, file.path), file.size)
            index = _Index(_Flow(stream), limits().at_once(file.size))
            units = index.as_one(file.size)
        else:
            index = _Index(_Hops(source), _MOST_BYTES, file.size)
            units = index.units
    if not units:
        return (), None
    return units, pa.schema([pa.field(KEY, pa.string(), False), *((name, pa.binary()) for name in index.extensions)])


def wants(request: Request) -> Wanted | None:
    """The bytes of the unit; None of a file of this machine."""
    shard, unit = request.shard, request.unit
    source = remote(request.url, shard.size, request.options, shard.etag)
    return None if source is None else Wanted(source, [(unit.start, unit.within(shard.size))])


def read(request: Request) -> Iterator[pa.RecordBatch]:
    """The samples of one unit; an extension that a sample has not is null."""
    shard, unit = request.shard, request.unit
    opens = partial(open_input, request.url, shard.size, request.options, path=shard.path, etag=shard.etag)
    with opens(until=unit.start + unit.length) as source:
        if compression_of(shard.path):
            stream = Counted(decompressed(source, shard.path), shard.size)
            yield from _batches(_Flow(stream), request, 0, None)
            return
        source.seek(unit.start)
        held = _Held(source.read_buffer(unit.length), unit.start)
        yield from _batches(held, request, unit.start, unit.start + unit.length)


# -- samples ---------------------------------------------------------------------------------------------------------


def split(name: str) -> tuple[str, str] | None:
    """Key and extension, as WebDataset tells them: the name is cut at the first dot behind the last '/', and the
    extension is in lower case. None for what is no part of a sample: hidden files, those without a dot, ``__meta__``.
    """
    found = _NAME.fullmatch(name)
    if found is None or _META.match(name):
        return None
    return found[1], found[2].lower()


def _parts(found: Iterator[Member]) -> Iterator[tuple[str, str, Member]]:
    for member in found:
        if (parts := split(member.name)) is not None:
            if parts[1] == KEY:
                raise DataError(f"a member '{member.name}'", allowed="other endings", todo="rename it")
            yield *parts, member


class _Index:
    """The samples of an archive: columns, and units of a plain one.

    Args:
        most: bytes that a member may have.
        size: of a plain archive.

    Attributes:
        extensions: in the order in which they come.
    """

    def __init__(self, source: _Hops | _Flow, most: int, size: int | None = None) -> None:
        self.units: tuple[Unit, ...] = ()
        self.extensions: dict[str, int] = {}
        self._most = most
        self._rows = self._bytes = self._start = self._end = 0
        self._keys, self._sets, self._places = array("q"), array("q"), array("q")
        self._all_rows = self._all_bytes = 0
        self._scan(source, size)
        self._check_apart()

    def as_one(self, size: int) -> tuple[Unit, ...]:
        """All samples as the one unit of a compressed archive."""
        return (Unit(0, self._all_rows, self._all_bytes, 0, size),) if self._all_rows else ()

    def _scan(self, source: _Hops | _Flow, size: int | None) -> None:
        sample: dict[str, Member] = {}
        current = ""
        for key, extension, member in _parts(members(source, 0, size)):
            if sample and key != current:
                self._add(current, sample)
                sample = {}
            current = key
            if extension in sample:
                raise DataError(
                    f"the sample '{key[:200]}' has two members '.{extension}'",
                    allowed="for each extension one",
                    todo="rename one of them",
                )
            self._check(extension, member)
            sample[extension] = member
        if sample:
            self._add(current, sample)
        self._end_unit()

    def _check(self, extension: str, member: Member) -> None:
        if member.size > self._most:
            raise beyond("at_once_bytes", f"a member of {shown_bytes(member.size)} ('{member.name[:200]}')")
        if extension in self.extensions:
            return
        self.extensions[extension] = len(self.extensions)
        if len(self.extensions) > min(MOST_EXTENSIONS, limits().fields):
            raise DataError(
                f"more than {len(self.extensions) - 1} kinds of members, the last in '{member.name[:200]}'",
                allowed="few extensions; what follows the first dot of a name is one",
                todo="rename the members so that there is no dot before the extension",
            )

    def _add(self, key: str, sample: Mapping[str, Member]) -> None:
        places = list(sample.values())
        start, end = places[0].header, places[-1].end
        if self._rows and end - self._start > 2 * UNIT_BYTES:
            self._end_unit()
        if not self._rows:
            self._start = start
        self._keys.append(hash(key))
        self._sets.append(functools.reduce(operator.or_, (1 << min(self.extensions[one], 61) for one in sample)))
        self._places.append(start)
        self._rows += 1
        self._bytes += len(key) + sum(member.size for member in sample.values()) + 8 * (1 + len(sample))
        self._end = end
        if self._end - self._start >= UNIT_BYTES:
            self._end_unit()

    def _end_unit(self) -> None:
        if self._rows:
            unit = Unit(len(self.units), self._rows, self._bytes, self._start, self._end - self._start)
            self.units += (unit,)
        self._all_rows, self._all_bytes = self._all_rows + self._rows, self._all_bytes + self._bytes
        self._rows = self._bytes = 0

    def _check_apart(self) -> None:
        """Raise DataError if the members of a sample lie apart: each part would be a row without the others."""
        keys = np.frombuffer(self._keys, np.int64)
        order = np.argsort(keys, kind="stable")
        for i in np.flatnonzero(np.diff(keys[order]) == 0).tolist():
            one, other = int(order[i]), int(order[i + 1])
            if not self._sets[one] & self._sets[other]:
                raise DataError(
                    f"the members of a sample lie apart (at bytes {self._places[one]:,} and {self._places[other]:,})",
                    allowed="the members of a sample one behind the other",
                    todo="write the archive in the order of names (tar --sort=name)",
                )


def _batches(source: _Held | _Flow, request: Request, at: int, end: int | None) -> Iterator[pa.RecordBatch]:
    rows = _Rows(request)
    for key, extension, member in _parts(members(source, at, end, whole=end is None)):
        if key != rows.key and rows.is_full():
            yield rows.batch()
        rows.begin(key)
        if extension in rows.values:
            rows.values[extension][-1] = source.take(member.start, member.size)
            rows.bytes += member.size
    if rows.keys:
        yield rows.batch()


class _Rows:
    """Samples on their way into a batch.

    Attributes:
        key: of the last one; "" before the first.
        values: extension -> a value for each sample.
    """

    def __init__(self, request: Request) -> None:
        names = [name for name in request.wanted.names if name != KEY and name not in request.shard.partitions]
        self.key, self.keys, self.bytes = "", list[str](), 0
        self.values: dict[str, list[Any]] = {name: [] for name in names}
        self._most = request.rows

    def is_full(self) -> bool:
        """Whether they are enough for a batch."""
        return len(self.keys) >= self._most if self._most else self.bytes >= BATCH_BYTES

    def begin(self, key: str) -> None:
        """Go on to the sample of a key, if it is another one."""
        if key != self.key:
            self.key = key
            self.keys.append(key)
            for values in self.values.values():
                values.append(None)

    def batch(self) -> pa.RecordBatch:
        """The samples, which are then forgotten."""
        names = list(self.values)
        columns = [binaries(self.values[name]) for name in names]
        batch = pa.RecordBatch.from_arrays([texts(self.keys), *columns], [KEY, *names])
        self.keys, self.bytes = [], 0
        self.values = {name: [] for name in names}
        return batch


# -- where bytes come from -------------------------------------------------------------------------------------------


class _Held:
    """A stretch of a file that is in memory; values are views of it."""

    def __init__(self, buffer: pa.Buffer, start: int) -> None:
        self._view, self._start = memoryview(buffer), start

    def take(self, at: int, count: int) -> Any:
        """See `tar_headers.Source`."""
        start = at - self._start
        part = self._view[start : start + count]
        return bytes(part) if count <= BLOCK else part


class _Hops:
    """A file of which the headers are read: the bodies too where they are short, for a request costs more."""

    def __init__(self, source: pa.NativeFile) -> None:
        self._source, self._size = source, source.size()
        self._is_remote = isinstance(source, pa.PythonFile)
        self._start, self._held = 0, b""

    def take(self, at: int, count: int) -> bytes:
        """See `tar_headers.Source`."""
        place = at - self._start
        if place < 0 or place + count > len(self._held):
            near = self._is_remote and self._held and place - len(self._held) < _FAR_BYTES
            more = max(count, min(_RUN_BYTES if near else _HOP_BYTES, self._size - at))
            self._start, self._held, place = at, bytes(self._source.read_at(more, at)), 0
        return self._held[place : place + count]


class _Flow:
    """A stream, which only goes forward."""

    def __init__(self, stream: Counted) -> None:
        self._stream, self._at = stream, 0

    def take(self, at: int, count: int) -> bytes:
        """See `tar_headers.Source`."""
        while self._at < at:
            if not self._some(min(at - self._at, _SKIPPED_BYTES)):
                return b""
        data = self._some(count)
        while len(data) < count and (more := self._some(count - len(data))):
            data += more
        return data

    def _some(self, count: int) -> bytes:
        data = self._stream.read(count)
        self._at += len(data)
        return data

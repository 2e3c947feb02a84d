"""Compressed files of lines: which compression a name tells, and the bytes inside."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import TypeAlias

import pyarrow as pa

from runner.data.files.readable import Readable
from runner.data.limits import beyond, limits, shown_bytes

#: Ending -> compression. All but xz and bz2 are read by pyarrow.
_READ = {
    "gz": "gzip",
    "gzip": "gzip",
    "tgz": "gzip",
    "bz2": "bz2",
    "zst": "zstd",
    "zstd": "zstd",
    "lz4": "lz4",
    "br": "brotli",
    "xz": "xz",
}
_CHUNK = 64 << 10
#: Endings of compressions and archives that are not read: there is no stream of bytes in them, or no library for it.
_REFUSED = ("snappy", "sz", "lzo", "deflate", "z", "lzma", "zip", "7z", "rar", "tar", "tgz", "tbz2")


def compression_of(path: str) -> str | None:
    """gzip, bz2, zstd, lz4, brotli, xz or None, by the last ending; a '.tgz' is a gzip."""
    return _READ.get(_last(path))


def refused_compression(path: str) -> str | None:
    """The last ending, where it is that of a compression or an archive that is not read."""
    return _last(path) if _last(path) in _REFUSED else None


def decompressed(source: pa.NativeFile, path: str) -> pa.NativeFile:
    """The bytes inside a compressed file, from its start; several members in a row are one.

    `source` is closed with it, so it must be one that nobody else reads.
    """
    compression = compression_of(path)
    if compression in _BY_PYTHON:
        return _BY_PYTHON[compression](source).native()
    return pa.CompressedInputStream(source, compression)


class Counted(Readable):
    """The bytes inside a compressed file, as long as they are not far too many.

    Args:
        source: they are read from.
        length: of the compressed file.
    """

    def __init__(self, source: pa.NativeFile, length: int) -> None:
        super().__init__(source)
        self._length, self._most, self._seen = length, limits().in_all(length), 0

    def read(self, count: int = -1) -> bytes:
        data = super().read(self._most + 1 if count < 0 else count)
        self._seen += len(data)
        if self._seen > self._most:
            raise beyond("ratio", f"more than {shown_bytes(self._most)} out of {shown_bytes(self._length)} compressed")
        return data


#: What unpacks one stream of a compressed file.
_Unpacks: TypeAlias = "lzma.LZMADecompressor | bz2.BZ2Decompressor | _Inflates"


class _Streams(Readable):
    """A file of one stream or several, of which each may be empty, by one of Python's own modules.

    pyarrow has no xz, and its bz2 gives up at an empty stream. What follows a stream and is none is an error: the
    beginning of another one may be damaged.

    Args:
        begun: what unpacks a stream; it is told whether that is the first.
        padding: whether zeros may follow a stream.
    """

    def __init__(self, source: pa.NativeFile, begun: Callable[[bool], _Unpacks], *, padding: bool) -> None:
        super().__init__(source)
        self._begun, self._padding = begun, padding
        self._unpacks: _Unpacks | None = begun(True)

    def read(self, count: int = -1) -> bytes:
        parts: list[bytes] = []
        wanted = count
        while wanted and (data := self._some(wanted if wanted > 0 else _CHUNK)):
            parts.append(data)
            wanted -= len(data) if wanted > 0 else 0
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        """At most so many bytes; none at the end."""
        while self._unpacks is not None:
            if self._unpacks.eof:
                packed = self._following(self._unpacks.unused_data)
                self._unpacks = self._begun(False) if packed else None
            else:
                packed = bytes(self._source.read(_CHUNK)) if self._unpacks.needs_input else b""
                if not packed and self._unpacks.needs_input:
                    raise EOFError("the compressed data ends before its end mark")
            if self._unpacks is not None and (data := self._unpack(packed, most)):
                return data
        return b""

    def _unpack(self, packed: bytes, most: int) -> bytes:
        assert self._unpacks is not None
        try:
            return self._unpacks.decompress(packed, most)
        except lzma.LZMAError as error:
            if not _wants_memory(error):
                raise
            raise beyond("at_once_bytes", "xz that wants more memory to unpack it") from error

    def _following(self, packed: bytes) -> bytes:
        """What follows a stream; nothing if that was the last."""
        zeros = b"\0" if self._padding else b""
        packed = packed.lstrip(zeros) if zeros else packed
        while not packed and (more := bytes(self._source.read(_CHUNK))):
            packed = more.lstrip(zeros) if zeros else more
        return packed


def _xz(source: pa.NativeFile) -> _Streams:
    most = limits().at_once_bytes

    def begun(first: bool) -> _Unpacks:
        return lzma.LZMADecompressor(lzma.FORMAT_AUTO if first else lzma.FORMAT_XZ, memlimit=most)

    return _Streams(source, begun, padding=True)


def _bz2(source: pa.NativeFile) -> _Streams:
    return _Streams(source, lambda first: bz2.BZ2Decompressor(), padding=False)


class _Inflates:
    """zlib as what unpacks one stream of a gzip."""

    def __init__(self) -> None:
        self._inflater, self._has_more = zlib.decompressobj(wbits=31), False

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._has_more

    def decompress(self, packed: bytes, most: int) -> bytes:
        """At most so many bytes."""
        data = self._inflater.decompress(self._inflater.unconsumed_tail + packed, most)
        self._has_more = len(data) == most
        return data


class _Gzip(Readable):
    """A gzip of one member or several, by pyarrow, and where that gives up once more by zlib: zeros may follow the last
    member, as on tapes, and pyarrow takes them for a damaged one."""

    def __init__(self, source: pa.NativeFile) -> None:
        super().__init__(pa.CompressedInputStream(source, "gzip"))
        self._packed, self._given = source, 0
        self._again: _Streams | None = None
        self._error: OSError | None = None

    def read(self, count: int = -1) -> bytes:
        if self._again is None:
            try:
                data = super().read(count)
            except OSError as error:
                self._error = error
                self._begin_again()
            else:
                self._given += len(data)
                return data
        assert self._again is not None
        try:
            while self._given:
                passed = len(self._again.read(min(self._given, _CHUNK)))
                if not passed:
                    raise EOFError("it is another file by now")
                self._given -= passed
            return self._again.read(count)
        except (zlib.error, EOFError) as error:
            raise self._error or error from error

    def _begin_again(self) -> None:
        self._packed.seek(0)
        self._again = _Streams(self._packed, lambda first: _Inflates(), padding=True)


def file_name(path: str) -> str:
    """The last part of a path, without the query that a web server's URL may have behind an ending; the name of a
    file may have a question mark."""
    name = path.rpartition("/")[2]
    before = name.partition("?")[0]
    return before if "." in before else name


def _last(path: str) -> str:
    name = file_name(path).lower()
    return name.rpartition(".")[2] if "." in name else ""


_BY_PYTHON: dict[str, Callable[[pa.NativeFile], Readable]] = {"xz": _xz, "bz2": _bz2, "gzip": _Gzip}


def _wants_memory(error: lzma.LZMAError) -> bool:
    """Whether liblzma may not take as much as the file wants, which Python tells in words alone."""
    return "emory usage limit" in str(error)

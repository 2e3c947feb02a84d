"""Compressed files of lines: which compression a name tells, and the bytes inside."""

from __future__ import annotations

import lzma
from typing import Any

import pyarrow as pa

from runner.data.readable import Readable

#: Ending -> compression. All but xz are pyarrow's own.
_READ = {
    "gz": "gzip",
    "gzip": "gzip",
    "bz2": "bz2",
    "zst": "zstd",
    "zstd": "zstd",
    "lz4": "lz4",
    "br": "brotli",
    "xz": "xz",
}
#: Endings of compressions and archives that are not read: there is no stream of bytes in them, or no library for it.
_REFUSED = ("snappy", "sz", "lzo", "deflate", "z", "lzma", "zip", "7z", "rar", "tar", "tgz", "tbz2")


def compression_of(path: str) -> str | None:
    """gzip, bz2, zstd, lz4, brotli, xz or None, by the last ending."""
    return _READ.get(_last(path))


def refused_compression(path: str) -> str | None:
    """The last ending, where it is that of a compression or an archive that is not read."""
    return _last(path) if _last(path) in _REFUSED else None


def decompressed(source: pa.NativeFile, path: str) -> pa.NativeFile:
    """The bytes inside a compressed file, from its start; several members in a row are one.

    `source` is closed with it, so it must be one that nobody else reads.
    """
    compression = compression_of(path)
    if compression == "xz":
        return _Xz(source).native()
    return pa.CompressedInputStream(source, compression)


class _Xz(Readable):
    """pyarrow has no xz of its own."""

    def __init__(self, source: Any) -> None:
        super().__init__(lzma.LZMAFile(source))  # noqa: SIM115
        self._compressed = source

    def read(self, count: int = -1) -> bytes:
        return bytes(self._source.read(count))

    def close(self) -> None:
        super().close()
        self._compressed.close()


def file_name(path: str) -> str:
    """The last part of a path, without the query that a web server's URL may have."""
    return path.rpartition("/")[2].partition("?")[0]


def _last(path: str) -> str:
    name = file_name(path).lower()
    return name.rpartition(".")[2] if "." in name else ""

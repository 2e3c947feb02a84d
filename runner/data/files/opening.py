"""Opening a file behind a URL: each read fetches exactly the bytes that are asked for."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from runner.data.files import local as local_files
from runner.data.files.changed import FileChanged
from runner.data.files.fetch import Source
from runner.data.files.ranges import RangeFile
from runner.data.files.readable import lend
from runner.errors import DataError
from runner.store import credentials

_CHAINED = re.compile(r"[^/]*::|.*::[A-Za-z0-9+]+://|(zip|tar|libarchive|dir|reference|\w*cache|cached)://.*::")


def filesystem(url: str, options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The fsspec file system of `url` and the path inside it."""
    import fsspec

    if "://" not in url or url.startswith("file://"):
        fs = fsspec.filesystem("file", **credentials.resolved(options)) if options else _disks()
        if url.startswith("/"):  # as fsspec does, which takes as long for it as to open a file
            return fs, url.rstrip("/") or "/"
        return fs, fs._strip_protocol(os.path.expanduser(url))
    if _CHAINED.match(url):
        raise DataError("a chained URL", allowed="a plain fsspec URL", todo="unpack the archive first", where=url)
    kind = fsspec.get_filesystem_class(url.split("://", 1)[0])
    fs = kind(**{**kind._get_kwargs_from_urls(url), **credentials.resolved(options)})
    return fs, kind._strip_protocol(url)


@functools.cache
def _disks() -> Any:
    """Those of this machine: to have fsspec find them for each file takes as long as to open it."""
    import fsspec

    return fsspec.filesystem("file")


def open_input(
    url: str,
    size: int,
    options: Mapping[str, Any] | None = None,
    *,
    path: str | None = None,
    mapped: bool = False,
    etag: str = "",
    until: int | None = None,
) -> pa.NativeFile:
    """A file opened for random reads; each read fetches exactly the bytes asked for.

    Args:
        size: bytes that the file had when it was listed.
        path: the part of the URL that is relative to the dataset's folder. A link by which somebody else would have
            this user read a file outside of that folder is refused, as it is when files are listed.
        mapped: map a local file into memory (reads copy nothing; the file must not shrink meanwhile).
        etag: as it was listed; where the store tells tags, a remote file that has another one is refused.
        until: where who reads it from start to end will stop, if not at its end: nothing behind it is read ahead.

    Raises:
        OSError: it is absent, may not be read, or (`FileChanged`) has another size.
        DataError: it is no regular file, or such a link.
    """
    fs, place = filesystem(url, options)
    if is_local(fs):
        base = place.removesuffix(f"/{path}")
        with local_files.opened(place, "" if base == place else base or "/") as (name, found):
            if found != size:
                raise FileChanged(f"the file has {found} bytes, {size} were listed")
            return pa.memory_map(name) if mapped and size else pa.OSFile(name)
    if fs.protocol in ("memory", ("memory",)):  # every open() there gives the same object, with one position
        return pa.BufferReader(fs.cat_file(place))
    return lend(RangeFile(fs, place, size, etag, until))


def remote(url: str, size: int, options: Mapping[str, Any] | None = None, etag: str = "") -> Source | None:
    """A file of another machine, to fetch ranges of it ahead of who opens it; None of one of this machine."""
    fs, place = filesystem(url, options)
    return Source(fs, place, size, etag) if is_remote(url, options) else None


def is_remote(url: str, options: Mapping[str, Any] | None = None) -> bool:
    """Whether files below a URL are fetched from another machine."""
    fs, _ = filesystem(url, options)
    return not is_local(fs) and fs.protocol not in ("memory", ("memory",))


def is_local(fs: Any) -> bool:
    """Whether a file system of fsspec is the disks of this machine."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return protocol in ("file", "local")

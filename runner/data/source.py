"""Files behind a URL: a file, a folder or a glob on any fsspec URL, and how to open one of them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from runner.data.compression import compression_of, refused_compression
from runner.data.etags import content_etag
from runner.data.tables import refuse_tables
from runner.errors import DataError, listed, suggest

FORMATS = ("parquet", "ipc", "jsonl", "csv", "text", "files")
_ENDINGS = {
    "parquet": "parquet", "pq": "parquet", "arrow": "ipc", "feather": "ipc", "ipc": "ipc", "arrows": "ipc",
    "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl", "csv": "csv", "tsv": "csv",
    "txt": "text", "text": "text",
}  # fmt: skip
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_THREADS = 16


@dataclass(frozen=True)
class SourceFile:
    """A file of a dataset: `url` is the base, '/' and `path`; see `Shard` for the other fields."""

    url: str
    path: str
    size: int
    etag: str
    partitions: Mapping[str, str | None] = field(default_factory=dict)


def list_files(url: str, options: Mapping[str, Any] | None = None, format: str | None = None) -> list[SourceFile]:
    """The data files behind `url`, sorted by relative path.

    Names that begin with '.' or '_' are not data (the custom of Hive, Spark and pyarrow), at any depth below
    `url`. Folders called ``name=value`` below `url` are hive partitions.

    Args:
        url: a file, a folder (read with all folders below) or a glob, on any fsspec URL.
        options: fsspec storage options.
        format: only checked here; None leaves it to `infer_format`.

    Raises:
        DataError: nothing is there, it cannot be reached, or it may not be read.
    """
    if format is not None and format not in FORMATS:
        raise DataError(f"format={format!r}", allowed=listed(FORMATS), todo=suggest(format, FORMATS), where=url)
    with _reached(url):
        fs, root = filesystem(url, options)
        base, found = _find(fs, root)
        if base not in found:
            refuse_tables(fs, base, found, url)
        visible = {path: info for path, info in found.items() if path == base or not _hidden(_relative(path, base))}
        if not visible:
            raise _nothing(url, found)
        with ThreadPoolExecutor(_THREADS) as pool:
            etags = list(pool.map(lambda item: content_etag(fs, *item), visible.items()))
    files = []
    for (path, info), etag in zip(visible.items(), etags, strict=True):
        relative = _relative(path, base)
        files.append(SourceFile(_full_url(fs, path), relative, int(info["size"]), etag, partitions_of(relative)))
    return sorted(files, key=lambda file: file.path)


def infer_format(files: list[SourceFile], url: str) -> str:
    """The one format that the files' endings agree on. Raises DataError where they do not, or say nothing."""
    endings: dict[str, int] = {}
    for file in files:
        endings[_ending(file.path)] = endings.get(_ending(file.path), 0) + 1
    formats = {_ENDINGS.get(ending) for ending in endings}
    found = formats.pop()
    if found is None or formats:
        shown = ", ".join(f"{count} x '{'.' + ending if ending else 'no ending'}'" for ending, count in endings.items())
        raise DataError(
            f"no single format follows from the names ({shown})",
            allowed=listed(FORMATS),
            todo="give format=, or a glob that fits only the data files",
            where=url,
        )
    return found


def partitions_of(path: str) -> dict[str, str | None]:
    """Hive partition values in the folders of a relative path."""
    pairs = [part.split("=", 1) for part in path.split("/")[:-1] if "=" in part]
    keys = [unquote(key) for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise DataError(
            f"a partition key twice in {path}", allowed="each key once in a path",
            todo="rename one of the folders", where=path,
        )  # fmt: skip
    values = [None if value == _HIVE_NULL else unquote(value) for _, value in pairs]
    return dict(zip(keys, values, strict=True))


def filesystem(url: str, options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The fsspec file system of `url` and the path inside it."""
    import fsspec

    if "::" in url:
        raise DataError("a chained URL", allowed="a plain fsspec URL", todo="unpack the archive first", where=url)
    local = "://" not in url
    fs, path = fsspec.core.url_to_fs(os.path.expanduser(url) if local else url, **dict(options or {}))
    return fs, path


def open_input(url: str, size: int, options: Mapping[str, Any] | None = None, *, mapped: bool = False) -> pa.NativeFile:
    """A file opened for random reads; each read fetches exactly the bytes asked for.

    Args:
        size: bytes that the file had when it was listed.
        mapped: map a local file into memory (reads copy nothing; the file must not shrink meanwhile).

    Raises:
        OSError: it is absent, may not be read, or has another size.
    """
    fs, path = filesystem(url, options)
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    if protocol in ("file", "local"):
        found = os.path.getsize(path)
        if found != size:
            raise OSError(f"the file has {found} bytes, {size} were listed")
        return pa.memory_map(path) if mapped and size else pa.OSFile(path)
    if protocol == "memory":  # every open() of fsspec's memory file gives the same object, with one position
        return pa.BufferReader(fs.cat_file(path))
    return pa.PythonFile(RangeFile(fs, path, size), mode="r")


class RangeFile:
    """A read-only file on ranged reads of an fsspec file system; no read-ahead, no cache.

    Args:
        size: bytes of the file.
    """

    closed = False

    def __init__(self, fs: Any, path: str, size: int) -> None:
        self._fs, self._path, self._size, self._at = fs, path, size, 0

    def read(self, count: int = -1) -> bytes:
        """The next `count` bytes, fewer at the end. Raises OSError if the store sends another number."""
        end = self._size if count < 0 else min(self._at + count, self._size)
        if end <= self._at:
            return b""
        data = bytes(self._fs.cat_file(self._path, start=self._at, end=end))
        if len(data) != end - self._at:
            raise OSError(f"asked for bytes {self._at} to {end}, got {len(data)} of {end - self._at}")
        self._at = end
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position; returns it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """No."""
        return False

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Nothing is held."""
        self.closed = True


def _find(fs: Any, root: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The base folder (the file itself where `root` is one) and every file found: path -> info."""
    fs.invalidate_cache()
    magic = re.search(r"[*?\[{]", root)
    if magic and not fs.exists(root):
        base = root[: magic.start()].rpartition("/")[0]
        found: dict[str, dict[str, Any]] = {}
        for path, info in sorted(fs.glob(root, detail=True).items()):
            found.update(fs.find(path, detail=True) if info["type"] == "directory" else {path: info})
        return base, _only_files(found)
    info = fs.info(root)
    if info["type"] != "directory":
        return root.rstrip("/"), {root.rstrip("/"): info}
    return root.rstrip("/"), _only_files(fs.find(root, detail=True))


def _only_files(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {path: info for path, info in found.items() if info["type"] != "directory" and not path.endswith("/")}


def _relative(path: str, base: str) -> str:
    return path.rpartition("/")[2] if path == base else path[len(base) :].lstrip("/")


def _hidden(relative: str) -> bool:
    parts = relative.split("/")
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in parts)


def _ending(path: str) -> str:
    parts = path.rpartition("/")[2].lower().split(".")
    if len(parts) > 2 and (compression_of(path) or refused_compression(path)):
        parts.pop()
    return parts[-1] if len(parts) > 1 else ""


def _full_url(fs: Any, path: str) -> str:
    url = str(fs.unstrip_protocol(path))
    return url.removeprefix("file://") if url.startswith("file:///") else url


def _nothing(url: str, found: dict[str, Any]) -> DataError:
    if found:
        return DataError(
            f"only hidden files ({listed(sorted(found)[:3])})",
            allowed="at least one file whose name begins with neither '.' nor '_'",
            todo="rename the files, or give the URL of one of them",
            where=url,
        )
    return DataError("no files", allowed="at least one file", todo="check the URL or the glob", where=url)


@contextlib.contextmanager
def _reached(url: str) -> Iterator[None]:
    """Turns whatever a file system raises into a DataError that names the URL and the cause."""
    try:
        yield
    except DataError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            "no such file or folder",
            allowed="a file, a folder or a glob that exists",
            todo="check the URL",
            where=url,
        ) from error
    except PermissionError as error:
        raise DataError(
            f"no permission to read it ({error})",
            allowed="data that this user may read",
            todo="check its owner, or the credentials in the environment",
            where=url,
        ) from error
    except Exception as error:  # each file system has its own kinds
        raise DataError(
            f"it cannot be reached ({type(error).__name__}: {error})",
            allowed="a path, or a URL whose scheme fsspec knows and whose package is installed",
            todo="check the URL, the network, the credentials and the storage options",
            where=url,
        ) from error

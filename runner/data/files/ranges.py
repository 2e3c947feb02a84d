"""Remote files by ranges; and whole, from servers that know no ranges."""

from __future__ import annotations

import io
import os
import tempfile
import threading
from collections import OrderedDict
from typing import Any

#: Whole files that a process keeps, each in a temporary file without a name.
_KEPT = 8
_wholes: OrderedDict[tuple[str, int], Any] = OrderedDict()
_lock = threading.Lock()


def _unlock() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


class RangeFile(io.RawIOBase):
    """A read-only file on ranged reads of an fsspec file system; no read-ahead, no cache.

    A server that answers a range with the whole file is asked for it once.

    Args:
        size: bytes of the file.
    """

    def __init__(self, fs: Any, path: str, size: int) -> None:
        self._fs, self._path, self._size, self._at = fs, path, size, 0

    def read(self, count: int = -1) -> bytes:
        """The next `count` bytes, fewer at the end. Raises OSError if the store sends another number."""
        end = self._size if count < 0 else min(self._at + count, self._size)
        if end <= self._at:
            return b""
        data = self._kept(end) or bytes(self._fs.cat_file(self._path, start=self._at, end=end))
        if len(data) == self._size != end - self._at:
            data = self.keep(data)[self._at : end]
        if len(data) != end - self._at:
            raise OSError(f"asked for bytes {self._at} to {end}, got {len(data)} of {end - self._at}")
        self._at = end
        return data

    def _kept(self, end: int) -> bytes | None:
        with _lock:
            file = _wholes.get((self._path, self._size))
            return None if file is None else os.pread(file.fileno(), end - self._at, self._at)

    def keep(self, data: bytes) -> bytes:
        """Keeps the whole file for later reads of this process."""
        file = tempfile.TemporaryFile(prefix="runner-")  # noqa: SIM115 (it is kept)
        file.write(data)
        file.flush()
        with _lock:
            _wholes[self._path, self._size] = file
            if len(_wholes) > _KEPT:
                _wholes.popitem(last=False)[1].close()
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


def keep_whole(fs: Any, path: str) -> int:
    """Fetches and keeps a file whose size the server does not tell. Returns its bytes."""
    data = bytes(fs.cat_file(path))
    RangeFile(fs, path, len(data)).keep(data)
    return len(data)

"""Remote files by ranges; and whole, from servers that know no ranges."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from typing import Any

from runner.data.files.seekable import Seekable

#: Whole files that a process keeps, each in a temporary file without a name.
_KEPT = 8
_wholes: OrderedDict[tuple[str, int], Any] = OrderedDict()
_lock = threading.Lock()


def _unlock() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


class RangeFile(Seekable):
    """A read-only file on ranged reads of an fsspec file system; no read-ahead, no cache.

    A server that answers a range with the whole file is asked for it once.

    Args:
        size: bytes of the file.
    """

    def __init__(self, fs: Any, path: str, size: int) -> None:
        super().__init__(size)
        self._fs, self._path = fs, path

    def read_at(self, count: int, start: int) -> bytes:
        """`count` bytes from `start` on, fewer at the end. Raises OSError if the store sends another number."""
        end = min(start + count, self._size)
        if end <= start:
            return b""
        data = self._kept(start, end) or bytes(self._fs.cat_file(self._path, start=start, end=end))
        if len(data) == self._size != end - start:
            data = self.keep(data)[start:end]
        if len(data) != end - start:
            raise OSError(f"asked for bytes {start} to {end}, got {len(data)} of {end - start}")
        return data

    def _kept(self, start: int, end: int) -> bytes | None:
        with _lock:
            file = _wholes.get((self._path, self._size))
            return None if file is None else os.pread(file.fileno(), end - start, start)

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


def keep_whole(fs: Any, path: str) -> int:
    """Fetches and keeps a file whose size the server does not tell. Returns its bytes."""
    data = bytes(fs.cat_file(path))
    RangeFile(fs, path, len(data)).keep(data)
    return len(data)

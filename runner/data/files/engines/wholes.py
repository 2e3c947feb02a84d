"""Whole files from servers that know no ranges: fetched once a process, kept in temporary files without a name."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from dataclasses import dataclass
from typing import Any

#: Bytes from which on a temporary file takes no more files, and how many such a process has: the oldest makes room.
_FULL_BYTES, _MOST = 1 << 30, 32


@dataclass(eq=False)
class _Spool:
    """A temporary file with whole files one after the other.

    Args:
        size: bytes that are written.
    """

    file: Any
    size: int = 0

    def add(self, data: bytes) -> int:
        """Returns where they begin. Raises OSError where there is no room."""
        start, rest = self.size, memoryview(data)
        while rest:
            count = os.pwrite(self.file.fileno(), rest, start + len(data) - len(rest))
            rest = rest[count:]
        self.size += len(data)
        return start


#: Path, size and etag -> in which file, and where it begins.
_wholes: dict[tuple[str, int, str], tuple[_Spool, int]] = {}
_spools: list[_Spool] = []
_is_own = False  # whether this process may write to the last one
_lock = threading.Lock()


def _unlock() -> None:
    """In a forked process: the lock may be one that a thread of the parent held, and its files are written by that."""
    global _lock, _is_own
    _lock, _is_own = threading.Lock(), False


os.register_at_fork(after_in_child=_unlock)


def kept(path: str, size: int, etag: str, start: int, end: int) -> bytes | None:
    """The bytes [start, end) of a file that is kept, else None.

    Args:
        etag: as it was listed: another version of the file is another one.
    """
    with _lock:
        found = _wholes.get((path, size, etag))
        if found is None:
            return None
        spool, begins = found
        return os.pread(spool.file.fileno(), end - start, begins + start)


def keep(path: str, etag: str, data: bytes) -> None:
    """Keep a whole file for later reads of this process."""
    with _lock, contextlib.suppress(OSError):  # a full disk: it is fetched again
        spool = _writable()
        _wholes[path, len(data), etag] = spool, spool.add(data)


def _writable() -> _Spool:
    global _is_own
    if not _is_own or _spools[-1].size >= _FULL_BYTES:
        _spools.append(_Spool(tempfile.TemporaryFile(prefix="runner-")))  # noqa: SIM115 (it is kept)
        _is_own = True
    while len(_spools) > _MOST:
        oldest = _spools.pop(0)
        for key in [key for key, (spool, _) in _wholes.items() if spool is oldest]:
            del _wholes[key]
        oldest.file.close()
    return _spools[-1]


def keep_whole(fs: Any, path: str) -> int:
    """Fetch and keep a file whose size the server does not tell, until it is `listed`. Returns its bytes."""
    data = bytes(fs.cat_file(path))
    keep(path, "", data)
    return len(data)


def listed(path: str, size: int, etag: str) -> None:
    """What was kept while a file was listed is this version of it; '': it is not known which, and nobody reads it."""
    with _lock:
        found = _wholes.pop((path, size, ""), None)
        if found is not None and etag:
            _wholes[path, size, etag] = found

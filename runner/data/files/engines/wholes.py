"""Whole files from servers that know no ranges: fetched once a process, kept in temporary files without a name."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from typing import Any

#: Whole files that a process keeps.
_KEPT = 8
_wholes: OrderedDict[tuple[str, int, str], Any] = OrderedDict()
_lock = threading.Lock()


def _unlock() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


def kept(path: str, size: int, etag: str, start: int, end: int) -> bytes | None:
    """The bytes [start, end) of a file that is kept, else None.

    Args:
        etag: as it was listed: another version of the file is another one.
    """
    with _lock:
        file = _wholes.get((path, size, etag))
        return None if file is None else os.pread(file.fileno(), end - start, start)


def keep(path: str, etag: str, data: bytes) -> None:
    """Keep a whole file for later reads of this process."""
    file = tempfile.TemporaryFile(prefix="runner-")  # noqa: SIM115 (it is kept)
    file.write(data)
    file.flush()
    with _lock:
        _wholes[path, len(data), etag] = file
        if len(_wholes) > _KEPT:
            _wholes.popitem(last=False)[1].close()


def keep_whole(fs: Any, path: str) -> int:
    """Fetch and keep a file whose size the server does not tell, until it is `listed`. Returns its bytes."""
    data = bytes(fs.cat_file(path))
    keep(path, "", data)
    return len(data)


def listed(path: str, size: int, etag: str) -> None:
    """What was kept while a file was listed is this version of it; '': it is not known which, and nobody reads it."""
    with _lock:
        file = _wholes.pop((path, size, ""), None)
        if file is not None and etag:
            _wholes[path, size, etag] = file

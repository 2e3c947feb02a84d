"""Python objects as files of pyarrow: what it wants of one that it reads from start to end, and how one is lent to it.

pyarrow reads ahead in threads of its own (CSV, and Parquet's buffers), also for a reader that nobody uses any more. A
thread that is in Python, or comes back into it, while Python ends aborts the process. So before that begins every file
that was lent is over: its next read finds nothing, and the one that is under way is waited for.
"""

from __future__ import annotations

import atexit
import io
import os
import threading
import time
import weakref
from typing import Any

import pyarrow as pa


class Readable(io.RawIOBase):
    """A file that reads from another, and closes it; subclasses have `read`.

    Args:
        source: the other file.
    """

    def __init__(self, source: Any) -> None:
        self._source = source

    def read(self, count: int = -1) -> bytes:
        """The next `count` bytes, fewer only at the end; all if it is negative."""
        return bytes(self._source.read(None if count < 0 else count))

    def readable(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """Closes the other file."""
        super().close()
        self._source.close()

    def native(self) -> pa.NativeFile:
        """The file as pyarrow takes it."""
        return lend(self)


def lend(file: Any) -> pa.NativeFile:
    """A Python file as one of pyarrow's, to read from."""
    native = pa.PythonFile(_Lent(file), mode="r")
    _files[native] = file
    return native


def lent(native: pa.NativeFile) -> Any:
    """The Python file that was lent as this one; None of any other."""
    return _files.get(native)


_files: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class _Lent:
    """What pyarrow holds of a Python file, and nobody else."""

    def __init__(self, file: Any) -> None:
        self._file, self._reading, self._over = file, threading.Lock(), False
        _lent.add(self)

    def read(self, count: int = -1) -> Any:
        with self._reading:
            return b"" if self._over else self._file.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def end(self) -> None:
        """From now on there is nothing more to read, and nobody is at it; a read that hangs is not waited for."""
        self._over = True
        if self._reading.acquire(timeout=LONGEST_READ_S):
            self._reading.release()


#: Seconds that a read may take, and a thread to let go of the file, when Python ends.
LONGEST_READ_S, LETTING_GO_S = 5.0, 0.1
_lent: weakref.WeakSet[_Lent] = weakref.WeakSet()
os.register_at_fork(after_in_child=_lent.clear)  # the threads are the parent's


@atexit.register
def _end_all() -> None:
    for file in list(_lent):
        file.end()
    gone = threading.Semaphore(0)
    left = [weakref.ref(file, lambda _: gone.release()) for file in _lent]
    deadline = time.monotonic() + LETTING_GO_S
    for _ in left:  # one whose reader is still held is let go of by this thread, later
        gone.acquire(timeout=max(0.0, deadline - time.monotonic()))

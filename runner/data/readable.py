"""What pyarrow wants of a Python object that it reads from start to end."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


class Readable:
    """A file that reads from another, and closes it; subclasses have `read`.

    Args:
        source: the other file.
    """

    closed = False

    def __init__(self, source: Any) -> None:
        self._source = source

    def read(self, count: int = -1) -> bytes:
        """The next `count` bytes, fewer only at the end; all if it is negative."""
        return bytes(self._source.read(None if count < 0 else count))

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """No."""
        return False

    def writable(self) -> bool:
        """No."""
        return False

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Closes the other file."""
        self.closed = True
        self._source.close()

    def native(self) -> pa.NativeFile:
        """The file as pyarrow takes it."""
        return pa.PythonFile(self, mode="r")

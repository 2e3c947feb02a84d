"""What pyarrow wants of a Python object that it reads from start to end."""

from __future__ import annotations

import io
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
        return pa.PythonFile(self, mode="r")

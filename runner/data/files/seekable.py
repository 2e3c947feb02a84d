"""A file of a known size that is read at any place: its position, for what reads it from start to end."""

from __future__ import annotations

import io
import os


class Seekable(io.RawIOBase):
    """Keeps the position; subclasses have `read_at`.

    Args:
        size: bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def read_at(self, count: int, start: int) -> bytes:
        """`count` bytes from `start` on, fewer at the end."""
        raise NotImplementedError

    def read(self, count: int | None = -1) -> bytes:
        """The next `count` bytes, fewer at the end; all if it is negative."""
        data = self.read_at(self._size - self._at if count is None or count < 0 else count, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position; returns it."""
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence] + offset
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

"""The files of an Iceberg table's metadata for `pyiceberg`, by fsspec: read only, and none outside of the table."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from runner.data.limits import beyond, limits, shown_bytes

_lock = threading.Lock()


def _unlock() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


@contextlib.contextmanager
def checked_lengths() -> Iterator[None]:
    """Has `pyiceberg` read Avro by its plain reader as long as the block lasts: the compiled one believes every length
    that a file tells, and damaged or hostile metadata would end the process. One at a time.
    """
    from pyiceberg.avro import file
    from pyiceberg.avro.decoder import StreamingBinaryDecoder

    class Checked(StreamingBinaryDecoder):
        def skip(self, n: int) -> None:
            self.read(n)  # which goes neither back nor beyond the end

    with _lock:
        usual = file.new_decoder
        file.new_decoder = Checked
        try:
            yield
        finally:
            file.new_decoder = usual


def opener(fs: Any, root: str, path: Callable[[str], str]) -> Any:
    """A `pyiceberg.io.FileIO` that opens what lies below the table's folder, each file in memory, for it is small.

    Args:
        fs: the file system of fsspec.
        root: the folder in it.
        path: of a location below the folder; it raises DataError for one elsewhere.
    """
    from pyiceberg.io import FileIO, InputFile

    class Input(InputFile):
        def __init__(self, location: str) -> None:
            super().__init__(location)
            self._path = f"{root}/{path(location)}"

        def __len__(self) -> int:
            return int(fs.info(self._path)["size"])

        def exists(self) -> bool:
            return bool(fs.exists(self._path))

        def open(self, seekable: bool = True) -> Any:
            if len(self) > limits().at_once_bytes:
                raise beyond("at_once_bytes", f"metadata of {shown_bytes(len(self))}", self.location)
            return io.BytesIO(fs.cat_file(self._path))

    class Files(FileIO):
        def new_input(self, location: str) -> InputFile:
            return Input(location)

        def new_output(self, location: str) -> Any:
            raise PermissionError(location)

        def delete(self, location: Any) -> None:
            raise PermissionError(location)

    return Files()

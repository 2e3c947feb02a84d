"""The files of an Iceberg table's metadata for `pyiceberg`, by fsspec: read only, and none outside of the table."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from runner.data.limits import beyond, limits, shown_bytes


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

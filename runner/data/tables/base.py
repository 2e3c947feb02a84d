"""What a version of a table is to the rest, and the errors that tables share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from runner.data.files.listing import SourceFile, known_files
from runner.data.values.types import plain_type
from runner.errors import DataError, RunnerError, SpecError
from runner.spec.checks import Fields
from runner.spec.reading import Reading, checked

#: What a library of Rust raises where it should have raised an error; no Exception of Python's.
_PANIC = "PanicException"


@dataclass(frozen=True)
class Part:
    """A data file of a table.

    Args:
        path: relative to the table's folder.
        size: bytes, as the table has them.
        partitions: column -> value, as text, of columns that the file need not hold.
    """

    path: str
    size: int
    partitions: Mapping[str, str | None]


@dataclass(frozen=True)
class Table:
    """One version of a table.

    Args:
        files: its Parquet files, by path.
        reading: the types that the table has declared.
    """

    files: list[SourceFile]
    reading: Reading


def made(url: str, options: Mapping[str, Any] | None, parts: Sequence[Part], schema: pa.Schema, what: str) -> Table:
    """The table whose files these are.

    Args:
        what: which version of it, for errors.

    Raises:
        DataError: it is empty, or a file is gone or is another one.
    """
    if not parts:
        raise DataError(f"{what} has no rows", allowed="at least one row", todo="read another version", where=url)
    files = known_files(url, [(part.path, part.size, part.partitions) for part in parts], options, what)
    kinds = {field.name: str(plain_type(field.type)) for field in schema}
    try:
        reading = checked(Fields(what), kinds, None, "ignore")
    except SpecError as error:
        raise DataError(
            f"{what} has columns that cannot be read ({error.found})", allowed="one column or more", where=url
        ) from error
    return Table(sorted(files, key=lambda file: file.path), replace(reading, table=True))


def address(url: str) -> str:
    """A table's URL as its library takes it: a path is absolute, as the locations in the table's metadata are."""
    return url.rstrip("/") if "://" in url else os.path.abspath(os.path.expanduser(url))


def refused(url: str, what: str, found: str, todo: str) -> DataError:
    """The error for a table that says more than its files do."""
    return DataError(
        f"{what} has {found}, which runner does not apply",
        allowed="tables whose rows are those of their Parquet files",
        todo=todo,
        where=url,
    )


@contextlib.contextmanager
def explained(url: str, kind: str) -> Iterator[None]:
    """Turns whatever a table's library raises into a DataError."""
    try:
        yield
    except RunnerError:
        raise
    except BaseException as error:  # each library has its own kinds; a length that lies is a MemoryError
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        words = " ".join(str(error).split())
        raise DataError(
            f"the {kind} table cannot be read ({type(error).__name__}: {words[:500]})",
            allowed=f"the folder of a {kind} table that can be reached",
            todo="check the URL, the version, the credentials and the storage options",
            where=url,
        ) from error

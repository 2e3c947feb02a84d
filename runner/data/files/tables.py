"""Folders that are tables of another system: their files alone do not say which rows the table has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runner.errors import DataError

_KINDS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_ICEBERG = ".metadata.json"
#: How a table is read as one.
_READ = {
    "Delta Lake": "say format='delta' (and version=...) with the table's folder",
    "Iceberg": "say format='iceberg' (and snapshot=...) with the table's folder",
    "Hudi": "read the table with its own library in a Dataset(make=...)",
}


def refuse_tables(fs: Any, base: str, found: Iterable[str], url: str) -> None:
    """Raise DataError if `base`, a folder in it, or the table that `base` is a partition of, is such a table.

    Args:
        base: the folder behind `url`, without its scheme.
        found: all files in it, hidden ones too.
    """
    known = None
    for path in found:
        folder, _, name = path.rpartition("/")
        if folder == known and not name.endswith(_ICEBERG):  # nearly all of very many
            continue
        known, folders = folder, path[len(base) :].strip("/").split("/")[:-1]
        kinds = [kind for mark, kind in _KINDS.items() if mark in folders]
        if folders[-1:] == ["metadata"] and name.endswith(_ICEBERG):
            kinds.append("Iceberg")
        if kinds:
            raise _refused(kinds[0], url, path)
    table = base
    while "=" in table.rpartition("/")[2]:  # a hive partition
        table = table.rpartition("/")[0]
    for mark, kind in _KINDS.items():
        if table and fs.exists(f"{table}/{mark}"):
            raise _refused(kind, url, f"{table}/{mark}")


def _refused(kind: str, url: str, mark: str) -> DataError:
    return DataError(
        f"a table of {kind} ({mark}); its folder also holds rows that were changed or removed",
        allowed="files that are the data as they stand",
        todo=f"{_READ[kind]}, or give one of its files by name",
        where=url,
    )

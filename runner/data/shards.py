"""What a manifest is made of: a shard is a file, a unit is the piece of it that is read at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Rows of a unit that nobody has counted yet (JSON lines, CSV and text before a scan).
UNCOUNTED = -1


@dataclass(frozen=True)
class Unit:
    """A Parquet row group, an Arrow record batch, a byte range of lines, a run of samples in tar, or a whole file.

    Args:
        index: position in the shard, from 0.
        rows: how many rows, or UNCOUNTED.
        bytes: an estimate of the size in memory once decoded, all columns.
        start: first byte in the file (0 where the format does not tell).
        length: bytes in the file.
    """

    index: int
    rows: int
    bytes: int
    start: int
    length: int

    def within(self, size: int) -> int:
        """Bytes in a file of `size` bytes: what says more of itself says too much."""
        return min(self.length, size)


@dataclass(frozen=True)
class Shard:
    """A file of a dataset.

    Args:
        path: relative to the manifest's base, with '/'.
        size: bytes of the file.
        etag: hash of the content: 'md5:<hex>' where it can be known, 'sha256:<hex>' of what a Prep wrote to a folder,
            else 'etag:<what the store says>'.
        format: parquet, ipc, jsonl, csv, text, tar or files.
        units: in file order.
        partitions: hive partition columns of this file, name -> value as written in the path (None for Hive's
            default).
    """

    path: str
    size: int
    etag: str
    format: str
    units: tuple[Unit, ...]
    partitions: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all units, or UNCOUNTED if one of them is not counted."""
        counts = [unit.rows for unit in self.units]
        return UNCOUNTED if UNCOUNTED in counts else sum(counts)

"""The files and units of data by number and size, and what of its order follows from them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from runner.data.manifest import UNCOUNTED, Manifest


@dataclass(frozen=True)
class Spread:
    """The smallest, the median and the largest of some numbers."""

    smallest: int
    median: int
    largest: int

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Spread:
        """Of at least one number."""
        return cls(min(numbers), int(statistics.median(numbers)), max(numbers))


@dataclass(frozen=True)
class UnitFacts:
    """Units, and the files that they are in.

    Args:
        count: of units; `rows` of one are None where they are not counted, `bytes` are decoded, all columns.
        files: their sizes.
        lanes, block_bytes: of a shuffled order (see docs/streaming.md).
    """

    count: int
    rows: Spread | None
    bytes: Spread
    files: Spread
    lanes: int
    block_bytes: int


def unit_facts(manifest: Manifest) -> UnitFacts:
    """Of a manifest that has at least one file."""
    units = [unit for _, unit in manifest.units]
    rows = [unit.rows for unit in units]
    return UnitFacts(
        len(units),
        Spread.of(rows) if rows and UNCOUNTED not in rows else None,
        Spread.of([unit.bytes for unit in units] or [0]),
        Spread.of([shard.size for shard in manifest.shards]),
        manifest.lanes,
        manifest.block_bytes,
    )

"""A part of data by which the whole is judged: units from everywhere in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from runner.data.manifest import Manifest
from runner.data.shards import Unit

T = TypeVar("T")
#: Units of a sample, at most.
_MOST_UNITS = 256


def spread_out(items: Sequence[T], most: int) -> Sequence[T]:
    """At most `most` of the items, evenly from all of them, the first one among them."""
    if len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]


def sampled(manifest: Manifest, most_bytes: int) -> Manifest:
    """Some units of a manifest with about so many decoded bytes, at least one if it has any; the order has lanes and
    blocks as the whole one does.
    """
    units = manifest.units
    typical = sum(unit.bytes for _, unit in units) // max(len(units), 1)
    count = max(1, min(_MOST_UNITS, most_bytes // max(typical, 1)))
    chosen: list[tuple[int, Unit]] = []
    size = 0
    for shard, unit in spread_out(units, count):
        if chosen and size + unit.bytes > most_bytes:
            continue
        chosen.append((shard, unit))
        size += unit.bytes
    shards = [
        replace(one, units=tuple(unit for at, unit in chosen if at == i))
        for i, one in enumerate(manifest.shards)
        if any(at == i for at, _ in chosen)
    ]
    return replace(manifest, shards=tuple(shards))

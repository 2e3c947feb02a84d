"""A stage cut into tasks: which units of the input belong together."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator

from runner.data.files.changed import content
from runner.data.manifest import Manifest, Shard

#: Decoded bytes of input that one task takes at most, except where a single unit is larger.
TASK_BYTES = 64 << 20
#: Files below this size share tasks, about so many bytes a task: whole files, which are one row each, and of other
#: formats those of a dataset of more than `PACK_FROM` shards.
PACK_BYTES = 4 << 20
PACK_FROM = 128
_PACK_FILES = 4096
#: What a file of rows counts for besides its bytes, since to open it takes as long as to read so many.
_OPENED_BYTES = 16 << 10


@dataclasses.dataclass(frozen=True)
class Part:
    """Some units of a shard, by their positions in `shard.units`."""

    shard: Shard
    units: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """In the file."""
        return sum(self.shard.units[i].length for i in self.units)


@dataclasses.dataclass(frozen=True)
class Task:
    """What one call of the pool does.

    Args:
        key: 16 hex digits of its input and of the stage's code; names its record and its files.
        parts: in order; of one shard, except where small files share a task.
        replace: its record exists, but not its data.
    """

    key: str
    parts: tuple[Part, ...]
    replace: bool = False

    def __str__(self) -> str:
        first = self.parts[0]
        if len(self.parts) > 1:
            return f"{len(self.parts)} files from {first.shard.path} on"
        if len(first.units) == len(first.shard.units):
            return f"shard {first.shard.path}"
        return f"shard {first.shard.path}, units {first.units[0]} to {first.units[-1]}"

    @property
    def bytes_in(self) -> int:
        """Bytes of its files."""
        return sum(part.bytes for part in self.parts)


def plan_tasks(manifest: Manifest, code: str) -> list[Task]:
    """The tasks of a stage, in the order of the data. Their keys say all that their results depend on.

    Args:
        manifest: of the input.
        code: the stage's code key.
    """
    columns = [str(field) for field in manifest.schema]
    if manifest.reading.csv:
        columns.append(json.dumps(manifest.reading.to_json()["csv"], sort_keys=True))
    return [Task(_task_key(code, columns, parts), parts) for parts in _groups(manifest)]


def _task_key(code: str, columns: list[str], parts: tuple[Part, ...]) -> str:
    shown = [
        [part.shard.path, content(part.shard.etag), part.shard.format, sorted(part.shard.partitions.items())]
        + [[unit.index, unit.start, unit.length] for unit in (part.shard.units[i] for i in part.units)]
        for part in parts
    ]
    return hashlib.sha256(json.dumps([code, columns, shown]).encode()).hexdigest()[:16]


def _groups(manifest: Manifest) -> Iterator[tuple[Part, ...]]:
    shards = [shard for shard in manifest.shards if shard.units]
    if shards and shards[0].format == "files":
        yield from _packed((shard, shard.size + 1) for shard in shards)
        return
    if len(manifest.shards) <= PACK_FROM:
        yield from ((part,) for shard in shards for part in _parts(shard))
        return
    sizes = ((shard, sum(unit.bytes for unit in shard.units) + _OPENED_BYTES) for shard in shards)
    for small, some in itertools.groupby(sizes, lambda one: one[1] < PACK_BYTES):
        if small:
            yield from _packed(some)
        else:
            yield from ((part,) for shard, _ in some for part in _parts(shard))


def _parts(shard: Shard) -> Iterator[Part]:
    """Consecutive units of at most TASK_BYTES."""
    units: list[int] = []
    size = 0
    for position, unit in enumerate(shard.units):
        if units and size + unit.bytes > TASK_BYTES:
            yield Part(shard, tuple(units))
            units, size = [], 0
        units.append(position)
        size += unit.bytes
    if units:
        yield Part(shard, tuple(units))


def _packed(shards: Iterable[tuple[Shard, int]]) -> Iterator[tuple[Part, ...]]:
    """Whole shards, small ones together; each comes with the bytes that it counts for.

    Where a group ends is decided by a hash of the last file's path and size, as in content-defined chunking: a file
    that comes or goes changes its own group, and the groups after it stay as they are.
    """
    group: list[Part] = []
    size = 0
    for shard, counted in shards:
        group.append(Part(shard, tuple(range(len(shard.units)))))
        size += counted
        draw = int.from_bytes(hashlib.sha256(shard.path.encode()).digest()[:4]) / 2**32
        if draw < counted / PACK_BYTES or size >= TASK_BYTES or len(group) >= _PACK_FILES:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)

"""A manifest of what a view makes of another one's units."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from runner.data.formats.columns import fill
from runner.data.formats.explain import explained
from runner.data.lanes import layout
from runner.data.manifest import Manifest
from runner.data.shards import AllUnits, Unit
from runner.data.stream.views import notes
from runner.errors import DataError

if TYPE_CHECKING:
    from runner.data.files.fetch import Promise
    from runner.data.files.fetch.cache import Cache

T = TypeVar("T")

#: Threads that count: most of their time is decoding, and waiting for files.
_MOST_THREADS = 16


class Counted(NamedTuple):
    """What comes of a unit.

    Args:
        rows: how many.
        mark: what says which; equal marks of a unit are equal rows.
    """

    rows: int
    mark: str


class View(Protocol):
    """Makes rows of the rows of a unit. It can be pickled."""

    #: Of what it gives.
    schema: pa.Schema

    def key(self) -> str | None:
        """What says for certain, with the manifest's id, how many rows come of each unit; None: nothing does."""
        ...

    def said(self) -> Any:
        """What has a part in the rows besides the marks, as a value of JSON."""
        ...

    def needs(self, columns: Sequence[str]) -> list[str]:
        """The source's columns of which these columns are made."""
        ...

    def counter(self, source: Manifest) -> Callable[[int, int], Counted]:
        """Counts what comes of a unit, by shard and position in the shard; for several threads at once."""
        ...

    def unit_bytes(self, unit: Unit, rows: int) -> int:
        """Decoded bytes of what comes of a unit, about."""
        ...

    def rows(self, batches: Iterator[pa.RecordBatch], columns: Sequence[str]) -> Iterator[pa.RecordBatch | Counted]:
        """What comes of a unit's batches, which have the columns of `needs`; at the very end what it was."""
        ...


@dataclass(frozen=True)
class Viewed(Manifest):
    """What a view makes of a manifest: other rows in the same files. Made by `viewed`.

    Args:
        source: what is seen.
        view: how.
        places: of each shard, which of the source's units are left.
        counted_as: of each shard and each unit left, what comes of it.
    """

    source: Manifest = field(kw_only=True)
    view: View = field(kw_only=True)
    places: tuple[tuple[int, ...], ...] = field(kw_only=True)
    counted_as: tuple[tuple[Counted, ...], ...] = field(kw_only=True)

    @cached_property
    def id(self) -> str:
        """32 hex digits: a hash of the source's id, the view, and what comes of each unit."""
        digest = hashlib.sha256(b"runner view 1\n")
        digest.update(json.dumps([self.source.id, self.view.said()], sort_keys=True).encode() + b"\n")
        for column in self.schema:
            digest.update(json.dumps(["column", column.name, str(column.type)]).encode() + b"\n")
        for places, counted in zip(self.places, self.counted_as, strict=True):
            digest.update(json.dumps([places, counted]).encode() + b"\n")
        return digest.hexdigest()[:32]

    def read(
        self,
        shard: int,
        units: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        rows: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Record batches of what the view makes of one shard.

        Raises:
            DataError: a unit cannot be read, or other rows come of it than when they were counted.
        """
        names = self.schema.names if columns is None else list(columns)
        one, needed = self.shards[shard], self.view.needs(names)
        wanted = pa.schema([self.schema.field(name) for name in names])  # types may be wider than the view's own
        for place in range(len(one.units)) if units is None else units:
            theirs = None if rows is None else self._theirs(shard, place, rows)
            batches = self.source.read(shard, [self.places[shard][place]], needed, theirs)
            with explained(self.url(one), one.units[place].index):
                for batch in _checked(self.view.rows(batches, names), self.counted_as[shard][place]):
                    yield from fill(batch, wanted, {})

    def _theirs(self, shard: int, place: int, rows: int) -> int:
        """The source's rows of which so many rows come."""
        before = self.source.shards[shard].units[self.places[shard][place]].rows
        return max(1, rows * before // self.shards[shard].units[place].rows)

    def ahead(
        self,
        shard: int,
        unit: int,
        columns: Sequence[str],
        cache: Cache | None = None,
        until: float = 1.0,
    ) -> Promise | None:
        """Begin to fetch a unit that will be read soon."""
        return self.source.ahead(shard, self.places[shard][unit], self.view.needs(columns), cache, until)

    def streams(self, shard: int, unit: int, columns: Sequence[str], held: int) -> bool:
        """Whether a unit can be read while no more than so many bytes of it are held."""
        return self.source.streams(shard, self.places[shard][unit], self.view.needs(columns), held)

    def forget(self, shard: int, unit: int, columns: Sequence[str], cache: Cache | None = None) -> None:
        """Let go of what is kept of a unit."""
        self.source.forget(shard, self.places[shard][unit], self.view.needs(columns), cache)

    def counted(self) -> Manifest:
        """Itself: a view has counted its rows."""
        return self

    def to_bytes(self) -> bytes:
        """There is no such file. Raises DataError."""
        raise DataError(
            "a manifest of a filter or of packed documents, to be written",
            allowed="manifests of files",
            todo="write that of the files, and give filter= or pack= to the stream",
            where=self.base,
        )


def viewed(source: Manifest, view: View) -> Viewed:
    """What a view makes of a manifest. Units of which nothing comes are left out.

    Raises:
        DataError: a unit cannot be read, or nothing comes of any.
    """
    places = [(shard, place) for shard, one in enumerate(source.shards) for place in range(len(one.units))]
    key = view.key()
    if key is not None:
        key = hashlib.sha256(json.dumps([source.id, key]).encode()).hexdigest()[:32]
    found = notes.kept(key, len(places), lambda: _counted(source, view, places))
    shards, kept, counted = [], [], []
    at = 0
    for one in source.shards:
        here = [Counted(*each) for each in found[at : at + len(one.units)]]
        at += len(one.units)
        left = tuple(place for place, each in enumerate(here) if each.rows)
        units = tuple(_unit(one.units[place], view, here[place].rows) for place in left)
        shards.append(replace(one, units=units))
        kept.append(left)
        counted.append(tuple(here[place] for place in left))
    lanes, block_bytes = layout(AllUnits(shards))
    made = Viewed(
        source.base,
        tuple(shards),
        view.schema,
        source.options,
        lanes,
        block_bytes,
        source=source,
        view=view,
        places=tuple(kept),
        counted_as=tuple(counted),
    )
    if not made.rows:
        raise DataError("no row is left", allowed="at least one row", todo="check filter= and pack=", where=source.base)
    return made


def in_threads(work: Callable[[int, int], T], places: Sequence[tuple[int, int]]) -> list[T]:
    """What `work` gives of each unit, by shard and position in the shard."""
    threads = min(_MOST_THREADS, max(4, os.cpu_count() or 1), max(1, len(places)))
    with ThreadPoolExecutor(threads, "runner-count") as pool:
        return list(pool.map(work, *zip(*places, strict=True))) if places else []


def _counted(source: Manifest, view: View, places: Sequence[tuple[int, int]]) -> list[Counted]:
    counter = view.counter(source)

    def count(shard: int, place: int) -> Counted:
        one = source.shards[shard]
        with explained(source.url(one), one.units[place].index):
            return counter(shard, place)

    return in_threads(count, places)


def _unit(unit: Unit, view: View, rows: int) -> Unit:
    return replace(unit, rows=rows, bytes=max(1, view.unit_bytes(unit, rows)))


def _checked(found: Iterator[pa.RecordBatch | Counted], expected: Counted) -> Iterator[pa.RecordBatch]:
    seen = 0
    for one in found:
        if isinstance(one, Counted):
            if one != expected:
                raise _otherwise(one.rows, expected.rows)
            return
        seen += one.num_rows
        if seen > expected.rows:
            raise _otherwise(seen, expected.rows)
        if one.num_rows:
            yield one


def _otherwise(rows: int, expected: int) -> DataError:
    found = f"{rows} rows" if rows != expected else "other rows"
    return DataError(
        f"{found} come of it, and {expected} were counted",
        allowed="a filter that depends on a row's values alone, and files whose statistics are true",
        todo="make the filter a pure function, or write the file again",
    )

"""How fast data is read on this machine: fetched, decoded by one thread, streamed. All is measured, on a sample."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from runner.data.files.opening import is_remote, open_input
from runner.data.files.overlay import Overlay
from runner.data.formats.explain import explained
from runner.data.formats.parquet_footer import Footer
from runner.data.formats.parquet_footer import read as read_footer
from runner.data.formats.parquet_pages import ranges
from runner.data.manifest import Manifest
from runner.data.shards import Shard, Unit
from runner.data.stream.reading import default_threads
from runner.data.stream.stream import Stream
from runner.data.survey.touched import touch
from runner.data.values.types import size_of
from runner.data.writer import write
from runner.errors import DataError

#: Decoded bytes below which what is measured tells nothing of a rate.
LEAST_BYTES = 1 << 20
_BATCH = 32
_ROUNDS = 3
#: How often a trial of another encoding and the data as it is are decoded in turns: more often where that is little, up
#: to so many bytes. A process decodes half as fast as long as its memory is new, which the second of two would not see.
_MOST_TURNS, _TURNS_BYTES = 24, 64 << 20
#: Decoded bytes that a stream reads before it is timed, and in all: small data is read several times.
_STREAM_BYTES = 64 << 20
#: Seconds after which a stream has shown enough.
_STREAM_S = 4.0
#: Decoded bytes that are encoded anew on trial: as many as were decoded, for fewer would fit better into caches.
_TRIAL_BYTES = 48 << 20


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Args:
        sample: its units; of so many `rows` and `stored` bytes in the files, `decoded` in memory.
        remote: whether the files are another machine's.
        fetch: bytes of the files a second, from where they lie into memory; here they may be in memory already.
        decode: decoded bytes a second of one thread's own time (others that run here do not count), from memory:
            pyarrow's for Parquet, else runner's own reader; None where a remote format cannot be decoded apart from its
            fetch.
        stream: decoded bytes a second of a shuffled `Stream` of batches of 32 rows, by so many `threads`, as `as_`.
        stream_cpu: seconds of processors that the stream and its consumer took for each decoded byte.
    """

    sample: int
    rows: int
    stored: int
    decoded: int
    remote: bool
    fetch: float
    decode: float | None
    stream: float
    stream_cpu: float
    threads: int
    as_: str


@dataclass(frozen=True)
class Encoded:
    """A part of the sample as `runner data rewrite` writes it.

    Args:
        decoded: bytes of its values.
        stored: bytes of the file that it becomes.
        decode: decoded bytes a second of one thread's own time by pyarrow, from memory, checksums verified.
        beside: as `Rates.decode`, measured in turns with it; None of files of other machines, and of huge units.
    """

    decoded: int
    stored: int
    decode: float
    beside: float | None = None


@dataclass
class Decoded:
    """A pass over units: seconds that fetching and decoding took, rows and decoded bytes of each unit."""

    fetch_s: float
    decode_s: float
    rows: int
    bytes: int


def measured(sample: Manifest) -> Rates:
    """The rates of a sample (see `sampled`), which is read several times.

    Raises:
        DataError: it cannot be read.
    """
    remote = is_remote(sample.base, sample.options)
    passes = [[decoded(sample, shard, unit) for shard, unit in _units(sample)] for _ in range(_ROUNDS)]
    fetch_s = sum(one.fetch_s for one in (passes[0] if remote else passes[-1]))
    decode_s = _least(passes)
    total = sum(one.bytes for one in passes[0])
    stored = sum(unit.within(shard.size) for shard, unit in _units(sample))
    alone = not remote or all(shard.format == "parquet" for shard in sample.shards)
    counted = _counted(sample, [one.rows for one in passes[0]])
    (stream, cpu), as_ = _streamed(counted, total)
    return Rates(
        len(passes[0]), sum(one.rows for one in passes[0]), stored, total, remote, stored / max(fetch_s, 1e-9),
        total / max(decode_s, 1e-9) if alone else None, stream, cpu, default_threads(), as_,
    )  # fmt: skip


def _units(manifest: Manifest) -> list[tuple[Shard, Unit]]:
    return [(manifest.shards[i], unit) for i, unit in manifest.units]


def decoded(manifest: Manifest, shard: Shard, unit: Unit) -> Decoded:
    """Fetch and decode one unit, all columns that the manifest has, by one thread. Raises DataError as a read does."""
    url = manifest.url(shard)
    began = time.perf_counter()
    if shard.format == "parquet":
        with explained(url, unit.index):
            return _row_group(manifest, shard, unit)
    with (
        explained(url, unit.index),
        open_input(url, shard.size, manifest.options, path=shard.path, etag=shard.etag) as source,
    ):
        source.read_at(unit.within(shard.size), unit.start)
    fetched = time.perf_counter()
    decoding = time.thread_time()
    rows = size = 0
    position = shard.units.index(unit)
    for batch in manifest.read(manifest.shards.index(shard), [position], manifest.schema.names):
        rows, size = rows + batch.num_rows, size + size_of(batch)
    return Decoded(fetched - began, time.thread_time() - decoding, rows, size)


def _row_group(manifest: Manifest, shard: Shard, unit: Unit) -> Decoded:
    url = manifest.url(shard)
    found = manifest.footer(shard)
    names = [name for name in manifest.schema.names if name in set(found.schema.names)]
    with open_input(url, shard.size, manifest.options, path=shard.path, etag=shard.etag) as source:
        return _from_memory(source, found, unit.index, names)


def _from_memory(source: pa.NativeFile, found: Footer, group: int, names: Sequence[str]) -> Decoded:
    """A row group by pyarrow, whose bytes are brought into memory before."""
    with Overlay(source) as overlay:
        began = time.perf_counter()
        overlay.fetch(ranges(found.metadata.row_group(group), found.leaves_of(names)))
        fetch_s = time.perf_counter() - began
        began = time.thread_time()
        file = pq.ParquetFile(
            overlay.native(),
            metadata=found.metadata,
            pre_buffer=False,
            page_checksum_verification=True,
            arrow_extensions_enabled=False,
        )
        table = file.read_row_group(group, columns=list(names), use_threads=False)
        return Decoded(fetch_s, time.thread_time() - began, table.num_rows, size_of(table))


def _counted(sample: Manifest, rows: list[int]) -> Manifest:
    """The sample with the rows that its units have turned out to have."""
    counts = iter(rows)
    shards = [
        replace(shard, units=tuple(replace(unit, rows=next(counts)) for unit in shard.units)) for shard in sample.shards
    ]
    full = [replace(one, units=tuple(unit for unit in one.units if unit.rows)) for one in shards]
    return replace(sample, shards=tuple(full))


def _streamed(sample: Manifest, total: int) -> tuple[tuple[float, float], str]:
    """As `_stream_rate`, and as what; arrays, or Arrow's where columns have nulls that arrays cannot hold."""
    if not sample.rows:
        return (0.0, 0.0), "arrow"
    try:
        return _stream_rate(sample, total, "numpy"), "numpy"
    except DataError:
        return _stream_rate(sample, total, "arrow"), "arrow"


def _stream_rate(sample: Manifest, total: int, as_: str) -> tuple[float, float]:
    """Decoded bytes a second, and seconds of processors a byte: behind the first pass, in which memory is new; of all
    that was read, where there was no time for more.
    """
    size = min(_BATCH, sample.rows)
    passes = 2 if total < LEAST_BYTES else 2 + _STREAM_BYTES // total
    first = sample.rows // size
    rows = 0
    with Stream(sample, size, as_=as_, epochs=passes) as stream:
        began = start = now = time.perf_counter()
        cpu = time.process_time()
        for i, batch in enumerate(stream):
            touch(batch)
            rows += size
            now = time.perf_counter()
            if now - began > _STREAM_S:
                break
            if i + 1 == first:
                start, rows, cpu = now, 0, time.process_time()
        cpu = time.process_time() - cpu
    size_read = max(rows * total / sample.rows, 1.0)
    return size_read / max(now - start, 1e-9), cpu / size_read


def encoded(sample: Manifest) -> Encoded | None:
    """A part of a sample encoded anew in memory and decoded again; None where it has no rows.

    Raises:
        DataError: it cannot be read, or has a type that Parquet has not.
    """
    table = pa.Table.from_batches(_trial(sample), sample.schema.remove_metadata())
    if not table.num_rows:
        return None
    file = io.BytesIO()
    try:
        written = write(file, table)
    except pa.ArrowNotImplementedError as error:
        raise DataError(f"it cannot be Parquet: {error}", where=sample.base) from error
    data = pa.py_buffer(file.getvalue())
    found = read_footer(pa.BufferReader(data))
    groups = range(found.metadata.num_row_groups)
    # Of a huge unit the memory was not new for long, and another pass over it takes long.
    is_large = sum(unit.bytes for _, unit in sample.units) > 2 * _TURNS_BYTES
    units = [] if is_large or is_remote(sample.base, sample.options) else _units(sample)
    old: list[list[Decoded]] = []
    new: list[list[Decoded]] = []
    while len(new) < _turns(new):
        old.append([decoded(sample, shard, unit) for shard, unit in units])
        new.append([_from_memory(pa.BufferReader(data), found, group, table.column_names) for group in groups])
    size, before = (sum(one.bytes for one in passes[0]) for passes in (new, old))
    beside = before / max(_least(old), 1e-9) if units else None
    return Encoded(size, written.bytes, size / max(_least(new), 1e-9), beside)


def _turns(passes: Sequence[Sequence[Decoded]]) -> int:
    """How many passes there are to be, by what the first one decoded."""
    size = sum(one.bytes for one in passes[0]) if passes else _TURNS_BYTES
    return max(_ROUNDS, min(_MOST_TURNS, _TURNS_BYTES // max(size, 1)))


def _least(passes: Sequence[Sequence[Decoded]]) -> float:
    """Seconds that decoding takes: of each unit the least of all passes."""
    return sum(min(one.decode_s for one in same) for same in zip(*passes, strict=True))


def _trial(sample: Manifest) -> Iterator[pa.RecordBatch]:
    size = 0
    for shard in range(len(sample.shards)):
        for batch in sample.read(shard, columns=sample.schema.names):
            yield batch
            size += size_of(batch)
            if size >= _TRIAL_BYTES:
                return

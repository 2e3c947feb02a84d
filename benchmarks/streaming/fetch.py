"""How fast ranges of Parquet come from S3: clients beside each other, and with decoding beside the local limit.

    python -m benchmarks.streaming.fetch [--manner free|slow|faulty] [--rounds 5] [--columns 4]

A table of 64 columns of float64, 256 MB in row groups of 16 MiB, lies on the S3 server of the tests (versitygw, here),
of which some columns, evenly spread, are read: as ranges by each client (the same ranges, nothing joined), and
decoded row group by row group in one thread. `slow` is behind a proxy with 30 ms to the first byte and 80 MB/s a
connection; `faulty` answers 1 % with 503, cuts 0.1 % of the bodies and lets 0.2 % stand still for 5 s. All ways take
turns, each round from cold connections; medians are printed, with processor time of this process, and for runner what
its counters say. obstore is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.streaming.proxy import Manner, proxied
from runner.data.files.engines import choose, http
from runner.data.files.fetch import fetched, pool
from runner.data.files.opening import filesystem
from runner.data.files.ranges import RangeFile
from runner.data.formats.parquet_pages import ranges
from runner.data.manifest import Manifest, build
from tests.local.s3server import KEY, SECRET, S3Server, serve

COLUMNS, GROUP_ROWS, BYTES = 64, 32768, 256 << 20
MANNERS = {
    "free": None,
    "slow": Manner(first_byte_s=0.03, bytes_per_s=80e6),
    "faulty": Manner(first_byte_s=0.03, bytes_per_s=80e6, refuse=0.01, cut=0.001, stall=0.002, stall_s=5.0),
}
#: Row groups that are asked for before they are decoded.
AHEAD = 8


class Case:
    """The table on the server, and the ways to read it."""

    def __init__(self, file: Path, server: S3Server, columns: int) -> None:
        self.file, self.server = file, server
        self.metadata = pq.read_metadata(file)
        chosen = [i * COLUMNS // columns for i in range(columns)]
        self.names = [f"c{i}" for i in chosen]
        groups = range(self.metadata.num_row_groups)
        self.ranges = [one for group in groups for one in ranges(self.metadata.row_group(group), chosen)]
        size = file.stat().st_size
        self.ranges = [(start, min(length, size - start)) for start, length in self.ranges]
        self.bytes = sum(length for _, length in self.ranges)
        self.manifest: Manifest = build("s3://lake/table.parquet", options=server.options)
        self.threads = ThreadPoolExecutor(pool.AT_ONCE)

    def ways(self) -> dict[str, Callable[[], Any]]:
        """Name -> what is timed."""
        found: dict[str, Callable[[], Any]] = {"s3fs": self.s3fs, "pyarrow": self.pyarrow}
        with suppress(ImportError):
            import obstore  # noqa: F401

            found["obstore"] = self.obstore
        return {
            **found,
            "runner, fsspec": lambda: self.runner("fsspec"),
            "runner": lambda: self.runner(""),
            "local, decoded": self.local_decoded,
            "pyarrow, decoded": self.pyarrow_decoded,
            "runner, decoded": self.runner_decoded,
        }

    def s3fs(self) -> None:
        """Its own way to read many ranges."""
        fs, path = filesystem("s3://lake/table.parquet", {**self.server.options, "skip_instance_cache": True})
        ends = [start + length for start, length in self.ranges]
        fs.cat_ranges([path] * len(ends), [start for start, _ in self.ranges], ends, on_error="raise")

    def _arrow(self) -> Any:
        from pyarrow.fs import S3FileSystem

        host = urlsplit(self.server.endpoint).netloc
        return S3FileSystem(
            access_key=KEY, secret_key=SECRET, endpoint_override=host, scheme="http", region="us-east-1"
        )

    def pyarrow(self) -> None:
        """One file, read at many places by as many threads."""
        with self._arrow().open_input_file("lake/table.parquet") as file:
            list(self.threads.map(lambda one: file.read_at(one[1], one[0]), self.ranges))

    def obstore(self) -> None:
        """Its way to read many ranges."""
        import obstore
        from obstore.store import S3Store

        store = S3Store(
            "lake",
            endpoint=self.server.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
            virtual_hosted_style_request=False,
        )
        starts, lengths = zip(*self.ranges, strict=True)
        obstore.get_ranges(store, "table.parquet", starts=starts, lengths=lengths, coalesce=0)

    def runner(self, engine: str) -> None:
        """One of runner's engines."""
        os.environ[choose.VARIABLE] = engine
        shard = self.manifest.shards[0]
        fs, path = filesystem(self.manifest.url(shard), {**self.server.options, "skip_instance_cache": bool(engine)})
        for _ in RangeFile(fs, path, shard.size, shard.etag).fetch(self.ranges):
            pass
        os.environ[choose.VARIABLE] = ""

    def local_decoded(self) -> None:
        """The limit: the local file, row group by row group."""
        file = pq.ParquetFile(self.file, metadata=self.metadata)
        for group in range(self.metadata.num_row_groups):
            _touch(file.read_row_group(group, self.names, use_threads=False).to_batches())

    def pyarrow_decoded(self) -> None:
        """pyarrow's own file system, with its own reading ahead of a row group's columns."""
        with self._arrow().open_input_file("lake/table.parquet") as source:
            file = pq.ParquetFile(source, metadata=self.metadata, pre_buffer=True)
            for group in range(self.metadata.num_row_groups):
                _touch(file.read_row_group(group, self.names, use_threads=False).to_batches())

    def runner_decoded(self) -> None:
        """runner, some row groups asked for ahead."""
        manifest = self.manifest
        places = [(shard, unit) for shard, one in enumerate(manifest.shards) for unit in range(len(one.units))]
        for ahead in places[:AHEAD]:
            manifest.ahead(*ahead, self.names)
        for number, (shard, unit) in enumerate(places):
            for ahead in places[number + AHEAD : number + AHEAD + 1]:
                manifest.ahead(*ahead, self.names)
            _touch(list(manifest.read(shard, [unit], self.names)))


def _touch(batches: list[pa.RecordBatch]) -> float:
    return sum(float(column.to_numpy().sum()) for batch in batches for column in batch.columns)


def write(path: Path) -> None:
    """The table; nothing in it can be compressed."""
    rows, draw = BYTES // 8 // COLUMNS, np.random.default_rng(0)
    table = pa.table({f"c{i}": draw.standard_normal(rows) for i in range(COLUMNS)})
    pq.write_table(table, path, row_group_size=GROUP_ROWS, use_dictionary=False)


@contextmanager
def served(manner: Manner | None, columns: int) -> Iterator[Case]:
    """The table on a server, perhaps behind a proxy."""
    with tempfile.TemporaryDirectory() as name, serve(Path(name)) as server:
        file = Path(name) / "table.parquet"
        write(file)
        fs, path = filesystem("s3://lake/table.parquet", server.options)
        fs.put_file(str(file), path)
        if manner is None:
            yield Case(file, server, columns)
            return
        with proxied(server.endpoint, manner) as proxy:
            yield Case(file, S3Server(proxy.url, server.bucket), columns)


def timed(way: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and those of the processor, from cold connections."""
    http._anew()
    begin, processor = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - begin, time.process_time() - processor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--manner", choices=MANNERS, default="free")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=pool.AT_ONCE, help="requests of runner under way")
    given = parser.parse_args()
    pool.AT_ONCE = given.at_once
    manner = MANNERS[given.manner]
    with served(manner, given.columns) as case:
        taken: dict[str, list[tuple[float, float]]] = {}
        told: dict[str, Any] = {}
        for number in range(given.rounds + 1):
            for name, way in case.ways().items():
                before = fetched()
                took = timed(way)
                told[name] = fetched() - before
                if number:
                    taken.setdefault(name, []).append(took)
        print(
            f"{given.manner}: {len(case.ranges)} ranges, {case.bytes / 1e6:.1f} MB, {given.at_once} at once, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        for name, every in taken.items():
            wall, processor = (statistics.median(one) for one in zip(*every, strict=True))
            print(
                f"{name:18}{case.bytes / wall / 1e6:8.0f} MB/s{wall * 1e3:9.1f} ms{processor * 1e3:9.1f} ms CPU", end=""
            )
            print(f"   {told[name].requests} requests, {told[name].hedges} hedges" if "runner" in name else "")
        if manner is not None:
            seconds = [manner.first_byte_s + length / manner.bytes_per_s for _, length in case.ranges]
            print(f"the cap allows {max(max(seconds), sum(seconds) / given.at_once) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()

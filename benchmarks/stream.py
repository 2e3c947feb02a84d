"""How fast `runner.Stream` reads local Parquet, beside plain pyarrow on the same files, interleaved.

    python benchmarks/stream.py [--megabytes 200] [--repeats 5]
    python benchmarks/stream.py --memory [--megabytes 1000]

Rows are 1024 tokens of 4 bytes and an id, in row groups of 16 MiB, in two files. Plain pyarrow decodes the row groups
one by one in file order and views them as numpy, which is the least that any reader must do; runner cuts them into
batches of torch tensors, shuffled or not. Both decode in one thread. Printed are decoded MiB per second of wall time
and per second of processor time (all threads), medians, and runner's share of pyarrow's.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from runner.data.manifest import Manifest, build
from runner.data.stream import Stream, dense

TOKENS = 1024
KINDS = ("binary", "binary-lz4", "binary-zstd", "list", "list-zstd")


def write(folder: Path, kind: str, megabytes: int) -> Path:
    """Two files of random tokens below 50,000, as fixed-size binary or as fixed-size lists."""
    path = folder / kind
    path.mkdir()
    encoding, _, codec = kind.partition("-")
    rows = megabytes * 128
    for half in range(2):
        tokens = np.random.default_rng(half).integers(0, 50_000, rows * TOKENS, dtype=np.int32)
        if encoding == "binary":
            buffers = [None, pa.py_buffer(tokens.tobytes())]
            column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * TOKENS), rows, buffers)
        else:
            column = pa.FixedSizeListArray.from_arrays(pa.array(tokens), TOKENS)
        table = pa.table({"id": np.arange(half * rows, (half + 1) * rows), "tokens": column})
        options = {"compression": codec or "none", "use_dictionary": False, "row_group_size": 4096}
        pq.write_table(table, path / f"{half}.parquet", **options)
    return path


def plain(path: Path) -> tuple[int, int]:
    """Rows, and the sum of their ids, by pyarrow alone."""
    rows = total = 0
    for file in sorted(path.iterdir()):
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group, use_threads=False)
            arrays = [dense.join(column.chunks, column.type) for column in table.columns]
            rows, total = rows + len(arrays[0]), total + int(arrays[0].sum())
    return rows, total


def stream(manifest: Manifest, shuffle: bool, batch: int) -> tuple[int, int]:
    """The same by runner; the manifest is built beforehand, as a run does once for all ranks."""
    rows = total = 0
    with Stream(manifest, batch_size=batch, shuffle=shuffle, tail="wrap") as batches:
        for one in batches:
            ids = one["id"][one.mask]
            rows, total = rows + len(ids), total + int(ids.sum())
    return rows, total


def compare(path: Path, manifest: Manifest, megabytes: int, repeats: int) -> None:
    """Prints one line for each way."""
    ways: dict[str, Callable[[], tuple[int, int]]] = {"pyarrow": functools.partial(plain, path)}
    for shuffle, batch in ((False, 256), (True, 256), (True, 32)):
        name = f"stream, {'shuffled' if shuffle else 'file order'}, batches of {batch}"
        ways[name] = functools.partial(stream, manifest, shuffle, batch)
    expected = plain(path)
    wall: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begin, begin_processor = time.perf_counter(), time.process_time()
            found = way()
            wall[name].append(time.perf_counter() - begin)
            processor[name].append(time.process_time() - begin_processor)
            if found != expected:
                sys.exit(f"{name}: {found}, expected {expected}")
    for name in ways:
        rates = [megabytes / statistics.median(times[name]) for times in (wall, processor)]
        shares = [statistics.median(t["pyarrow"]) / statistics.median(t[name]) for t in (wall, processor)]
        print(
            f"  {name:36s} {rates[0]:6.0f} MiB/s {shares[0]:5.2f}"
            f"   {rates[1]:6.0f} MiB per processor second {shares[1]:5.2f}"
        )


def memory(manifest: Manifest) -> None:
    """Prints what a shuffled epoch of one rank adds to the peak of a fresh process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        added = pool.submit(_added_to_peak, manifest).result() >> 10
    print(f"  blocks of {manifest.block_bytes >> 20} MiB; {added} MiB added to the peak by an epoch of one rank")


def _added_to_peak(manifest: Manifest) -> int:
    before = _peak()
    stream(manifest, True, 256)
    return _peak() - before


def _peak() -> int:
    """KiB; getrusage would tell the parent's peak, which a child inherits."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    """Parses the arguments and runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for kind in arguments.kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder), kind, arguments.megabytes)
            begin = time.perf_counter()
            manifest = build(str(path))
            print(f"{kind}: manifest in {time.perf_counter() - begin:.2f} s, {manifest.lanes} lanes")
            if arguments.memory:
                memory(manifest)
            else:
                compare(path, manifest, arguments.megabytes, arguments.repeats)


if __name__ == "__main__":
    main()

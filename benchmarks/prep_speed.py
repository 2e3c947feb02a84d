"""What a preparation costs beside a plain pyarrow loop that reads, calls, and writes with the same codecs and checks.

    python -m benchmarks.prep_speed [--megabytes 256] [--rounds 5] [--work tokens ...] [--profile]

In one process, interleaved, in CPU seconds of that process (which other work on the machine hardly changes): once
with an identity, once with a function that adds one to every number. `--profile` shows where runner's go instead.
The loop verifies and writes page checksums, and takes codecs and dictionaries from what runner has written; it has no
hashes, no records, and knows no schema but its own.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_BATCH = {"tokens": 2048, "binary": 256, "floats": 65536, "tiny": 4096}
_GROUP_BYTES = 16 << 20
_TINY = 2000


def main() -> None:
    """Print the table."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(f"| work | function | runner, CPU s | loop, CPU s | loop / runner |{' hash alone, s |'}")
        print("|---|---|---|---|---|---|")
        for name in asked.work or list(_BATCH):
            source = root / name
            payload = _WRITERS[name](source, asked.megabytes << 20)
            for what, fn in (("identity", identity), ("plus one", plus_one)):
                if asked.profile:
                    _profile(root, name, source, fn)
                else:
                    _row(root, name, source, what, fn, asked.rounds)
            print(f"<!-- {name}: {payload / 1e6:.0f} MB -->", file=sys.stderr)
            shutil.rmtree(source)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256, help="decoded bytes of a work")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", nargs="*", choices=list(_BATCH), help="all if none is named")
    parser.add_argument("--profile", action="store_true", help="cProfile of runner instead")
    return parser.parse_args()


# -- what is read ----------------------------------------------------------------------------------------------------


def _tokens(folder: Path, size: int) -> int:
    def table(first: int, rows: int) -> pa.Table:
        values = np.random.default_rng(first).integers(0, 50_000, rows * 2048, dtype=np.int32)
        offsets = np.arange(0, rows * 2048 + 1, 2048, dtype=np.int32)
        return pa.table({"tokens": pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))})

    return _files(folder, table, size, 8192, "zstd")


def _binary(folder: Path, size: int) -> int:
    def table(first: int, rows: int) -> pa.Table:
        data = np.random.default_rng(first).integers(0, 256, rows * 70_000, dtype=np.uint8)
        offsets = np.arange(0, rows * 70_000 + 1, 70_000, dtype=np.int32)
        image = pa.BinaryArray.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        return pa.table({"id": pa.array(np.arange(first, first + rows)), "image": image})

    return _files(folder, table, size, 70_008, "none")


def _floats(folder: Path, size: int) -> int:
    def table(first: int, rows: int) -> pa.Table:
        values = np.random.default_rng(first).standard_normal((64, rows), dtype=np.float32)
        return pa.table({f"x{i:02d}": values[i] for i in range(64)})

    return _files(folder, table, size, 256, "none")


def _files(folder: Path, table: Callable[[int, int], pa.Table], size: int, row_bytes: int, codec: str) -> int:
    """Eight files of such rows."""
    folder.mkdir()
    group, rows = _GROUP_BYTES // row_bytes, size // row_bytes // 8
    for number in range(8):
        with pq.ParquetWriter(
            folder / f"part-{number}.parquet",
            table(0, 1).schema,
            compression=codec,
            use_dictionary=False,
            write_page_checksum=True,
        ) as writer:
            for first in range(0, rows, group):
                writer.write_table(table(number * rows + first, min(group, rows - first)))
    return rows * 8 * row_bytes


def _tiny(folder: Path, size: int) -> int:
    """Files of ten rows, whatever the size."""
    folder.mkdir()
    for number in range(_TINY):
        first = number * 10
        table = pa.table({"x": np.arange(first, first + 10), "s": [f"v{i % 3}" for i in range(10)]})
        pq.write_table(table, folder / f"part-{number:05d}.parquet", write_page_checksum=True)
    return sum(path.stat().st_size for path in folder.iterdir())


_WRITERS = {"tokens": _tokens, "binary": _binary, "floats": _floats, "tiny": _tiny}


# -- the functions ---------------------------------------------------------------------------------------------------


def identity(batch: Any, config: Any = None) -> Any:
    """What it gets."""
    return batch


def plus_one(batch: Any, config: Any = None) -> Any:
    """One more for each number, in whatever columns there are."""
    return pa.RecordBatch.from_arrays([_more(column) for column in batch.columns], names=batch.schema.names)


def _more(column: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type):
        return pa.ListArray.from_arrays(column.offsets, _more(column.values))
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return pc.add(column, pa.scalar(1, column.type))
    return column


# -- who is compared -------------------------------------------------------------------------------------------------


def _runner(root: Path, name: str, source: Path, fn: Any) -> tuple[Callable[[], Any], Path]:
    """What runs all tasks of a stage here, and the store that they write to."""
    import functools

    from runner.data.manifest import build
    from runner.prep.tasks import plan_tasks
    from runner.prep.work import Work, run_task
    from runner.record import Bundle
    from runner.record.run_spec import RunSpec
    from runner.spec import Job, Prep, wire
    from runner.store import Store
    from runner.worker.scope import Scope
    from tests.unit.record.spec_kit import SPEC

    store = Path(tempfile.mkdtemp(dir=root))
    stage = Prep("p", fn=fn, source="a", sink="b", batch_size=_BATCH[name])
    job = Job("test", [stage])
    place, run = Store(str(store)), "r260101-000001aa-test-aa"
    Bundle(place, run).write_spec(RunSpec.from_json({**SPEC, "job": wire.to_json(job, Path.cwd())}))
    scratch = store / "scratch"
    scratch.mkdir()
    scope = Scope(place, run, 0, 1, scratch, inline=True, job=job)
    manifest = build(str(source))
    tasks = plan_tasks(manifest, "0" * 20)
    work = Work(stage, "0" * 20, manifest.base, manifest.options, manifest.schema, manifest.rows,
                frozenset(), {}, frozenset(), frozenset(), scope)  # fmt: skip
    return lambda: list(map(functools.partial(run_task, work), tasks)), store


def _loop(source: Path, target: Path, fn: Any, options: dict[str, Any], rows: int) -> None:
    for path in sorted(source.iterdir()):
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            writer = None
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, use_threads=False)
                out = [fn(batch, None) for batch in table.to_batches(rows)]
                made = pa.Table.from_batches(out)
                writer = writer or pq.ParquetWriter(
                    target / path.name, made.schema, write_page_checksum=True, **options
                )
                writer.write_table(made)
            writer.close()


def _options(store: Path) -> dict[str, Any]:
    """Codecs and dictionaries as runner has chosen them."""
    file = next(path for path in sorted(store.rglob("*.parquet")) if "datasets" in path.parts)
    group = pq.read_metadata(file).row_group(0)
    leaves = [group.column(i) for i in range(group.num_columns)]
    codecs = {leaf.path_in_schema: leaf.compression.lower() for leaf in leaves}
    levels = {path: 1 for path, codec in codecs.items() if codec == "zstd"}
    words = [leaf.path_in_schema for leaf in leaves if leaf.has_dictionary_page]
    used = {path: codec for path, codec in codecs.items() if codec != "uncompressed"}
    return {"compression": used or "none", "compression_level": levels or None, "use_dictionary": words or False}


def _row(root: Path, name: str, source: Path, what: str, fn: Any, rounds: int) -> None:
    ours, loops, hashes = [], [], []
    for number in range(rounds + 1):
        run, store = _runner(root, name, source, fn)
        ours_s = _cpu(run)
        options = _options(store)
        shutil.rmtree(store)
        target = Path(tempfile.mkdtemp(dir=root))
        loop_s = _cpu(lambda: _loop(source, target, fn, options, _BATCH[name]))  # noqa: B023
        hash_s = _cpu(lambda: _hash(target))  # noqa: B023
        shutil.rmtree(target)
        if number:  # the first is to warm up
            ours.append(ours_s)
            loops.append(loop_s)
            hashes.append(hash_s)
    ratio = statistics.median(loop / own for loop, own in zip(loops, ours, strict=True))
    cells = [name, what, *(f"{statistics.median(each):.2f}" for each in (ours, loops)), f"{ratio:.2f}"]
    print("|", " | ".join([*cells, f"{statistics.median(hashes):.2f}"]), "|", flush=True)


def _hash(folder: Path) -> None:
    import hashlib

    for path in folder.iterdir():
        hashlib.sha256(path.read_bytes())  # as in a folder; in a store whose tags are MD5s these are computed besides


def _cpu(run: Callable[[], Any]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def _profile(root: Path, name: str, source: Path, fn: Any) -> None:
    run, store = _runner(root, name, source, fn)
    with cProfile.Profile(time.process_time) as profile:
        run()
    shutil.rmtree(store)
    print(f"== {name} {fn.__name__}")
    pstats.Stats(profile).sort_stats("tottime").print_stats(28)


if __name__ == "__main__":
    main()

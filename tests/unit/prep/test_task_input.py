"""What a task reads, and when it is fetched."""

from __future__ import annotations

import contextlib
import io
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.manifest import build
from runner.prep.task_input import TaskInput
from runner.prep.tasks import plan_tasks
from tests.unit.data.kit import register_remote

ROWS = 20_000


def test_the_next_units_of_a_remote_file_are_fetched_while_rows_of_one_are_transformed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind the first batch the others are on their way; each byte is asked for once, and the rows are the file's."""
    remote = register_remote(monkeypatch)
    values = np.random.default_rng(0).integers(0, 1 << 60, 4 * ROWS)
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": values}), sink, row_group_size=ROWS, use_dictionary=False, compression="none")
    remote().pipe_file("/data/part.parquet", sink.getvalue())
    manifest = build("remote://data")
    (task,) = plan_tasks(manifest, "code")
    (shard,) = manifest.shards
    remote.reads.clear()
    read = TaskInput(task, manifest.base, manifest.options, manifest.schema)
    with contextlib.closing(read.rows()) as rows:
        batches = [next(rows)]
        until = time.monotonic() + 30
        last = shard.units[-1]
        while not any(start <= last.start < end for _, start, end in remote.reads):
            assert time.monotonic() < until, f"nothing was fetched ahead: {remote.reads}"
            threading.Event().wait(0.01)
        batches += rows
    assert pa.Table.from_batches(batches).column("x").to_numpy().tolist() == values.tolist()
    fetched = sum(end - start for _, start, end in remote.reads if start < last.start + last.length)
    assert fetched < 1.1 * shard.size
    assert read.locate(3 * ROWS) == (manifest.url(shard), 3 * ROWS)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("runner-ask")]


def test_a_task_that_ends_early_lets_go_of_what_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed after its first batch, it leaves no thread that asks."""
    remote = register_remote(monkeypatch)
    for name in ("a", "b"):
        sink = io.BytesIO()
        pq.write_table(pa.table({"x": range(1000)}), sink, row_group_size=100)
        remote().pipe_file(f"/data/{name}.parquet", sink.getvalue())
    manifest = build("remote://data")
    rows = TaskInput(plan_tasks(manifest, "code")[1], manifest.base, manifest.options, manifest.schema).rows()
    assert next(rows).num_rows == 100
    rows.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("runner-ask")]

"""What the tests of data preparation share: small shards, a scope on a temporary store, reading a result."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runner.data.catalog import Catalog
from runner.data.manifest import Manifest
from runner.record import Bundle
from runner.record.run_spec import RunSpec
from runner.spec import Job, Prep, wire
from runner.store import Store
from runner.worker.pool.base import InlinePool
from runner.worker.scope import Scope
from tests import ROOT
from tests.unit.record.spec_kit import SPEC

#: Runs, one after the other.
RUNS = [f"r260101-00000{number}aa-test-aa" for number in range(9)]
R1, R2, R3 = RUNS[1:4]
_attempts = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Config:
    """Of the jobs in these tests."""

    factor: int = 2
    unrelated: int = 0
    mark: str = ""


class CountingPool(InlinePool):
    """Keeps the names of the items that it maps."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[str] = []

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any], timeout_s: float | None = None) -> Any:
        items = list(items)
        self.items += [str(item) for item in items]
        return super().map(fn, items, timeout_s)


def write_shards(folder: Path, shards: int = 3, rows: int = 10, group: int = 5) -> str:
    """Parquet files part-0, part-1 ... with a running number `x` and a word `s`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(shards):
        table = pa.table({"x": np.arange(i * rows, (i + 1) * rows), "s": [f"v{j % 3}" for j in range(rows)]})
        pq.write_table(table, folder / f"part-{i}.parquet", row_group_size=group)
    return str(folder)


def identity(batch: Any, config: Any) -> Any:
    return batch


def make_scope(
    store: Path, stage: Prep | None = None, config: Any = None, *, inline: bool = False, run: str = R1
) -> Scope:
    """The scope of a run with one stage; the first one of a run writes the run's spec."""
    root = Store(str(store))
    job = Job("test", [stage or Prep("p", fn=identity, source="a", sink="b")], config=config)
    if not root.exists(f"{run}/spec.json"):
        Bundle(root, run).write_spec(RunSpec.from_json({**SPEC, "job": wire.to_json(job, ROOT)}))
    scratch = store.parent / f"{store.name}-scratch"
    scratch.mkdir(exist_ok=True)
    return Scope(root, run, 0, next(_attempts), scratch, inline=inline, job=job)


def rows_of(store: Path, name: str) -> pa.Table:
    """All rows of the newest version of a dataset."""
    manifest = Catalog(Store(str(store))).latest(name)
    assert manifest is not None
    batches = [batch for i in range(len(manifest.shards)) for batch in manifest.read(i)]
    return pa.Table.from_batches(batches, schema=manifest.schema)


def contents(store: Path, name: str) -> dict[str, bytes]:
    """File name -> bytes of the data and manifests of a dataset."""
    folder = store / "datasets" / name
    manifests = {file.name: file.read_bytes() for file in folder.glob("_manifests/*")}
    return {file.name: file.read_bytes() for file in folder.glob("data/*")} | {
        name: _placeless(data) for name, data in manifests.items()
    }


def _placeless(manifest: bytes) -> bytes:
    """Without the folder of the shards, which is named by the run."""
    return dataclasses.replace(Manifest.from_bytes(manifest), base="").to_bytes()

"""A run with one training stage, made by hand: real data, a real bundle, no supervisor."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runner.code import references
from runner.code.references import FunctionRef
from runner.record import Bundle, trust
from runner.record.entries import AttemptBegan, CheckpointPublished, Resumed, Submitted
from runner.spec import Cluster, Dataset, Job, Train, wire
from runner.store import Store
from runner.train.gang.local import LocalGang
from runner.train.stage import run_train
from runner.worker.scope import Scope
from tests import ROOT
from tests.unit.record.spec_kit import SPEC

RUN = "r260101-000000-test-abc"


@dataclass(frozen=True)
class Config:
    """What the train functions of the tests read; each uses a few."""

    batch: int = 8
    epochs: int = 1
    act: str = ""
    at_step: int = 0
    width: int = 16
    path: str = ""


def write_rows(folder: Path, rows: int = 96, shards: int = 3, features: int = 4) -> str:
    """Parquet shards with the columns id, x and y (y is a fixed linear function of x)."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for shard in range(shards):
        ids = np.arange(shard * rows // shards, (shard + 1) * rows // shards)
        x = random.standard_normal((len(ids), features)).astype(np.float32)
        y = (x @ np.arange(1, features + 1)).astype(np.float32)
        values = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), features)
        pq.write_table(pa.table({"id": ids, "x": values, "y": y}), folder / f"{shard}.parquet", row_group_size=16)
    return str(folder)


def make_scope(
    tmp_path: Path,
    fn: Callable[..., Any],
    config: Any = None,
    *,
    attempt: int = 1,
    inline: bool = True,
    rows: int = 96,
    store: str | None = None,
    **stage: Any,
) -> tuple[Train, Scope]:
    """The stage `fit` over the data `train` (and `validation`, the same rows), and the scope of an attempt at it.

    A second call with the next attempt goes on with the same run.
    """
    url = write_rows(tmp_path / "data", rows) if not (tmp_path / "data").exists() else str(tmp_path / "data")
    source = Dataset(url=url)
    given = Train("fit", fn, {"train": source, "validation": source}, **{"checkpoint_every_s": None, **stage})
    job = Job("test", [given], config=config if config is not None else Config())
    root = Store(store or str(tmp_path / "store"))
    bundle = Bundle(root, RUN)
    references.set_code_root(ROOT)
    shown = {"stages": []} if inline else wire.to_json(job, ROOT)
    spec = {**SPEC, "job": shown, "cluster": wire.to_json(Cluster(), tmp_path), "legs": [["fit"]]}
    bundle.store.put("spec.json", json.dumps(spec).encode())
    if not bundle.log.read():
        bundle.log.append(Submitted(job="test", legs=(("fit",),), by=trust.user()))
    elif attempt > 1:
        bundle.log.append(Resumed())
    bundle.log.append(AttemptBegan(leg=0, attempt=attempt))
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    scope = Scope(root, RUN, 0, attempt, scratch, inline=inline, job=job if inline else None)
    return next(s for s in scope.job.stages if isinstance(s, Train)), scope


def rows_of(scope: Scope, attempt: int | None = None) -> list[dict[str, Any]]:
    """The metrics rows that rank 0 wrote in an attempt."""
    path = scope.scratch / "spool" / "fit" / str(attempt or scope.attempt) / "metrics" / "rank0.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def curve(scope: Scope, attempt: int | None = None, name: str = "loss") -> dict[int, float]:
    """Step -> value of a metric."""
    return {row["step"]: row[name] for row in rows_of(scope, attempt) if name in row}


def job(name: str, module: str = "jobs") -> FunctionRef:
    """A train function of a file beside this one; this process does not import torch."""
    return FunctionRef(name, file=f"tests/unit/train/{module}.py", module=f"tests.unit.train.{module}")


def train(tmp_path: Path, name: str, config: Config, attempt: int = 1, **stage: Any) -> tuple[dict[str, Any], Scope]:
    """Run a function of tests/unit/train/jobs.py on local ranks: the stage's result, and the scope."""
    given, scope = make_scope(tmp_path, job(name), config, inline=False, attempt=attempt, **stage)
    return run_train(given, scope, LocalGang()), scope


def notes(tmp_path: Path, name: str, rank: int) -> list[Any]:
    """What `note` of tests/unit/train/jobs.py wrote down on a rank."""
    path = tmp_path / f"{name}-{rank}"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def published(scope: Scope) -> list[CheckpointPublished]:
    """The checkpoints that a run's log knows, oldest first."""
    events = [entry.event for entry in scope.bundle.log.read()]
    return [event for event in events if isinstance(event, CheckpointPublished)]

"""Whole-dataset transforms with Ray Data, and the pool of Ray actors."""

from __future__ import annotations

import functools
import operator
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from runner.data.values.types import plain_type, written_type
from runner.errors import DataError, UserCodeError, WorkerLost
from runner.prep import ray_data
from runner.prep.stage import run_prep
from runner.spec import Dataset, Prep
from runner.worker.pool.base import InlinePool, RayPool
from tests.unit.data.arrow_kit import LEAVES, any_array, any_type, values_of
from tests.unit.prep.kit import Config, contents, make_scope, rows_of, write_shards

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    yield
    ray.shutdown()


# -- transforms ------------------------------------------------------------------------------------------------------


def tripled(table: pa.Table) -> pa.Table:
    return table.append_column("z", pc.multiply(table.column("x"), 3))


def two_tables(datasets: dict[str, Any], config: Config) -> dict[str, Any]:
    both = datasets["a"].union(datasets["b"])
    return {"all": both.map_batches(tripled, batch_format="pyarrow"), "squares": both.map_batches(squared)}


def squared(batch: dict[str, Any]) -> dict[str, Any]:
    return {"x": batch["x"], "q": batch["x"] ** 2}


def unchanged(dataset: Any, config: Any) -> Any:
    return dataset


def mapped(dataset: Any, config: Any) -> Any:
    return dataset.map_batches(lambda table: table, batch_format="pyarrow")


def rows_only(dataset: Any, config: Any) -> Any:
    return dataset.take_all()


def boom(table: pa.Table) -> pa.Table:
    raise ValueError("boom in a worker")


def raises_in_a_worker(dataset: Any, config: Any) -> Any:
    return dataset.map_batches(boom, batch_format="pyarrow")


def raises_here(dataset: Any, config: Any) -> Any:
    raise KeyError("nothing")


def double(batch: pa.RecordBatch, config: Config) -> dict[str, Any]:
    return {"y": pc.multiply(batch.column("x"), config.factor)}


def run(stage: Prep, store: Path, **options: Any) -> dict[str, Any]:
    return run_prep(stage, make_scope(store, stage, Config(), **options), InlinePool())


# -- datasets --------------------------------------------------------------------------------------------------------


def test_two_sources_two_sinks_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    """What becomes of two datasets is in two sinks, sorted by the total key; a second store gets the same bytes."""
    write_shards(tmp_path / "a", shards=3)
    (tmp_path / "b").mkdir()
    pq.write_table(pa.table({"x": [-1, -2], "s": ["b", "b"]}), tmp_path / "b" / "b.parquet")
    source = {name: Dataset(str(tmp_path / name)) for name in ("a", "b")}
    sink = {"all": "rows", "squares": "squares"}
    stage = Prep("p", fn=two_tables, source=source, sink=sink, batch_format="dataset", sort_by=("x",))
    first = run(stage, tmp_path / "one")
    assert (first["rows_in"], first["rows_out"]) == (32, {"all": 32, "squares": 32})
    assert rows_of(tmp_path / "one", "rows").column("z").to_pylist() == [3 * x for x in range(-2, 30)]
    assert rows_of(tmp_path / "one", "squares").column("q").to_pylist() == [x * x for x in range(-2, 30)]
    assert run(stage, tmp_path / "two")["outputs"] == first["outputs"]
    for name in sink.values():
        assert contents(tmp_path / "one", name) == contents(tmp_path / "two", name)


def test_sorted_by_ray_or_here_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come out in the order of the key, whoever sorts, as the same bytes; a second run is skipped."""
    (tmp_path / "in").mkdir()
    for name, numbers in {"b": range(50), "a": range(50, 100)}.items():
        pq.write_table(pa.table({"x": list(numbers), "s": ["w"] * 50}), tmp_path / "in" / f"{name}.parquet")
    source = Dataset(str(tmp_path / "in"))
    stage = Prep("p", fn=unchanged, source=source, sink="out", batch_format="dataset", sort_by=("s", "x"))
    here = run(stage, tmp_path / "here")
    assert (here["rows_in"], here["processed"], here["rows_out"]) == (100, 100, {"": 100})
    assert rows_of(tmp_path / "here", "out").column("x").to_pylist() == list(range(100))
    monkeypatch.setattr(ray_data, "LOCAL_SORT_BYTES", 0)
    assert run(stage, tmp_path / "ray")["outputs"] == here["outputs"]
    assert contents(tmp_path / "here", "out") == contents(tmp_path / "ray", "out")
    assert run(stage, tmp_path / "ray")["skipped"]


@pytest.mark.parametrize(
    ("sort_by", "message"),
    [
        (("s",), "two rows of 'out' have the same sort_by key: s='v0'"),
        (("s", "y"), "sort_by names 'y', which is no column of 'out'"),
    ],
)
def test_sort_keys_that_do_not_do(tmp_path: Path, sort_by: tuple[str, ...], message: str) -> None:
    """A key that is no total order, or no column, is an error that says so; nothing is published."""
    source = Dataset(write_shards(tmp_path / "in"))
    stage = Prep("p", fn=unchanged, source=source, sink="out", batch_format="dataset", sort_by=sort_by)
    with pytest.raises(DataError, match=message):
        run(stage, tmp_path / "s")
    assert not (tmp_path / "s" / "datasets" / "out" / "_log").exists()


@pytest.mark.parametrize(
    ("fn", "error", "message"),
    [
        (raises_in_a_worker, UserCodeError, r"ValueError: boom in a worker \(.*test_prep_ray.py:\d+ in boom\)"),
        (raises_here, UserCodeError, "KeyError: 'nothing'"),
        (rows_only, DataError, "fn returned a list"),
    ],
)
def test_errors_of_the_function(tmp_path: Path, fn: Any, error: Any, message: str) -> None:
    """What the function raises, here or in Ray's workers, is the user's error with the user's frames."""
    source = Dataset(write_shards(tmp_path / "in"))
    stage = Prep("p", fn=fn, source=source, sink="out", batch_format="dataset", sort_by=("x",))
    with pytest.raises(error, match=message) as caught:
        run(stage, tmp_path / "s")
    if error is UserCodeError:
        assert "test_prep_ray.py" in caught.value.trace
        assert "site-packages" not in caught.value.trace


# -- the pool --------------------------------------------------------------------------------------------------------


def test_the_pool_of_actors(tmp_path: Path) -> None:
    """Actors give each item's result once, raise the function's error as itself, and are named when they die."""
    scope = make_scope(tmp_path / "s")
    with RayPool((2, 2), scope, "p") as pool:
        assert sorted(pool.map(operator.neg, range(6))) == [(i, -i) for i in range(6)]
        with pytest.raises(ValueError, match="invalid literal"):
            list(pool.map(int, ["1", "x"]))
        list(pool.map(print, ["hello"]))
        with pytest.raises(WorkerLost, match=r"worker prep-\d died while it worked on 9"):
            list(pool.map(signal.raise_signal, [9]))
        assert list(pool.map(abs, [-1])) == [(0, 1)]
    logs = [scope.spool("p", "logs", f"prep-{i}").read_text() for i in range(2) if os.path.exists(scope.scratch)]
    assert "hello" in "".join(logs)


def test_a_pool_that_grows_begins_an_item_again(tmp_path: Path) -> None:
    """An item whose actor dies goes to another one; one that kills each of them is named after three; all end early
    that have no work.
    """
    scope = make_scope(tmp_path / "s")
    mark = tmp_path / "mark"
    with RayPool((1, 3), scope, "p") as pool:
        found = sorted(pool.map(functools.partial(die_once, str(mark)), [1, 2, 3, 4]))
        assert found == [(0, 1), (1, 2), (2, 3), (3, 4)]
        assert mark.exists()
        assert len(pool._actors) == 1
        with pytest.raises(WorkerLost, match="died while it worked on 9"):
            list(pool.map(signal.raise_signal, [9]))


def die_once(mark: str, item: int) -> int:
    """The first that is given 3 dies of it."""
    if item == 3 and not os.path.exists(mark):
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_stage_on_actors_gives_the_same_bytes(tmp_path: Path) -> None:
    """On Ray a batch-by-batch stage gives the files and the id that it gives in this process."""
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in", shards=4)), sink="out")
    here = run(stage, tmp_path / "here")
    scope = make_scope(tmp_path / "ray", stage, Config())
    with RayPool((2, 2), scope, "p") as pool:
        there = run_prep(stage, scope, pool)
    assert here["outputs"] == there["outputs"]
    assert contents(tmp_path / "here", "out") == contents(tmp_path / "ray", "out")


@pytest.mark.parametrize("fn", [unchanged, mapped])
def test_every_type_passes_through_ray(tmp_path: Path, fn: Any) -> None:
    """Columns of all types, nested and with nulls, come out of Ray Data with equal values in the documented type."""
    random = np.random.default_rng(3)
    kinds = [*LEAVES, *(any_type(random) for _ in range(30))]
    columns = {f"c{i}": any_array(random, kind, 12) for i, kind in enumerate(kinds)}
    table = pa.table({"k": pa.array(range(12)), **columns})
    (tmp_path / "in").mkdir()
    with pa.OSFile(str(tmp_path / "in" / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        for batch in table.to_batches(max_chunksize=5):
            file.write_batch(batch)
    source = Dataset(url=str(tmp_path / "in"))
    run(Prep("p", fn=fn, source=source, sink="out", batch_format="dataset", sort_by=("k",)), tmp_path / "store")
    out = rows_of(tmp_path / "store", "out")
    for field in table.schema:
        assert plain_type(out.schema.field(field.name).type) == written_type(field.type), field
        assert values_of(out.column(field.name)) == values_of(table.column(field.name)), field

"""The prep stage end to end in this process, on small real files."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import Stream
from runner.data.catalog import Catalog
from runner.data.files.fetch.cache import file_name
from runner.data.manifest import Manifest
from runner.data.results import Results
from runner.driver.stages import make_sources
from runner.errors import DataDamaged, DataError, StoreError, UserCodeError
from runner.plan.keys import result_key, short_etags, stage_code, used_config
from runner.prep import files as prep_files
from runner.prep.stage import run_make, run_prep
from runner.prep.tasks import plan_tasks
from runner.record.entries import AttemptBegan, Resumed
from runner.spec import Dataset, Prep, wire
from runner.store import Store
from runner.worker.pool.base import InlinePool
from tests.unit.prep.kit import (
    R1,
    R2,
    R3,
    ROOT,
    Config,
    CountingPool,
    contents,
    identity,
    make_scope,
    rows_of,
    write_shards,
)


def prep(stage: Prep, store: Path, config: Any = None, *, inline: bool = False) -> tuple[dict[str, Any], CountingPool]:
    pool = CountingPool()
    return run_prep(stage, make_scope(store, stage, config, inline=inline), pool), pool


# -- transforms ------------------------------------------------------------------------------------------------------


def double(batch: pa.RecordBatch, config: Any) -> dict[str, Any]:
    return {"y": batch.column("x").to_numpy() * 2, "s": batch.column("s")}


def scaled(batch: Any, config: Config) -> dict[str, Any]:
    return {"y": batch["x"] * config.factor}


def frame(batch: Any, config: Any) -> Any:
    batch["y"] = batch["x"] * 2
    return batch[["y", "s"]]


def arrays(batch: dict[str, np.ndarray], config: Any) -> dict[str, Any]:
    batch["x"] *= 2
    return {"y": batch["x"], "s": batch["s"]}


def listed_rows(batch: list[dict[str, Any]], config: Any) -> list[dict[str, Any]]:
    return [{"y": row["x"] * 2, "s": row["s"]} for row in batch]


def even(batch: Any, config: Any) -> Any:
    return np.asarray(batch["x"]) % 2 == 0


def split(batch: pa.RecordBatch, config: Any) -> dict[str, Any]:
    low = np.asarray(batch.column("x")) < 15
    return {"low": batch.filter(pa.array(low)), "high": batch.filter(pa.array(~low))}


def only_low(batch: pa.RecordBatch, config: Any) -> dict[str, Any]:
    return {"low": batch}


def nothing(batch: Any, config: Any) -> None:
    return None


def fails_on_17(batch: Any, config: Any) -> Any:
    for value in batch.column("x").to_pylist():
        if value == 17:
            raise ValueError("seventeen")
    return batch


def fails_on_17_else_x(batch: pa.RecordBatch, config: Any) -> Any:
    return fails_on_17(batch, config).select(["x"])


def fails_together(batch: Any, config: Any) -> Any:
    if batch.num_rows == 10:
        raise ValueError("ten at once")
    return batch


def wrong_key(batch: Any, config: Any) -> Any:
    return {"trian": batch}


def not_a_batch(batch: Any, config: Any) -> Any:
    return 3


def uneven(batch: Any, config: Any) -> Any:
    return {"a": [1, 2], "b": [1]}


def drifting(batch: Any, config: Any) -> Any:
    first = batch.column("x")[0].as_py()
    return {"value": ["text"] if first >= 10 else [first]}


def drifting_batches(batch: Any, config: Any) -> Any:
    first = batch.column("x")[0].as_py()
    return {"value": ["text"] if first % 10 else [first]}


def widening(batch: Any, config: Any) -> Any:
    first = batch.column("x")[0].as_py()
    return {"value": pa.nulls(1) if first < 10 else pa.array([first], pa.int32() if first < 20 else pa.int64())}


class Stateful:
    made = 0

    def __init__(self, config: Any) -> None:
        type(self).made += 1
        self.calls = 0

    def __call__(self, batch: pa.RecordBatch) -> dict[str, Any]:
        self.calls += 1
        return {"calls": [self.calls]}


class CannotBeMade:
    def __init__(self, config: Any) -> None:
        raise OSError("no model here")

    def __call__(self, batch: Any) -> Any:
        return batch


# -- what is promised ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "fn"), [("arrow", double), ("pandas", frame), ("numpy", arrays), ("rows", listed_rows)]
)
def test_every_batch_format_gives_the_same_rows(tmp_path: Path, form: str, fn: Any) -> None:
    """Whatever form a function asks for and returns, its rows come out in the order of the input."""
    url = write_shards(tmp_path / "in")
    result, _ = prep(Prep("p", fn=fn, source=Dataset(url), sink="out", batch_format=form, batch_size=4), tmp_path / "s")
    table = rows_of(tmp_path / "s", "out")
    assert table.column("y").to_pylist() == [2 * i for i in range(30)]
    assert table.column("s").to_pylist()[:4] == ["v0", "v1", "v2", "v0"]
    assert result["rows_in"] == result["processed"] == 30
    assert result["rows_out"] == {"": 30}
    assert json.loads(json.dumps(result)) == result


def test_same_input_and_code_give_the_same_bytes_and_id(tmp_path: Path) -> None:
    """Two stores, and two copies of the input at different places, hold equal files under equal names."""
    outputs, written = [], []
    for name in ("one", "two"):
        url = write_shards(tmp_path / name / "in")
        result, _ = prep(Prep("p", fn=double, source=Dataset(url), sink="out"), tmp_path / name / "s")
        outputs.append((result["outputs"], result["key"]))
        written.append(contents(tmp_path / name / "s", "out"))
    assert outputs[0] == outputs[1]
    assert len(written[0]) == 4
    assert written[0] == written[1]


def test_second_run_is_skipped(tmp_path: Path) -> None:
    """A stage whose result exists maps nothing and gives the same outputs and counts."""
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in")), sink="out")
    first, _ = prep(stage, tmp_path / "s")
    second, pool = prep(stage, tmp_path / "s")
    assert (first["skipped"], second["skipped"]) == (False, True)
    assert pool.items == []
    assert second["tasks_reused"] == 3
    same = [key for key in first if key not in ("skipped", "tasks_reused", "seconds")]
    assert {key: first[key] for key in same} == {key: second[key] for key in same}
    assert len(Catalog(Store(str(tmp_path / "s"))).versions("out")) == 1


def test_new_and_changed_shards_cost_only_themselves(tmp_path: Path) -> None:
    """After one shard is added and one is changed, exactly these two are mapped again."""
    url = write_shards(tmp_path / "in", shards=4)
    stage = Prep("p", fn=double, source=Dataset(url), sink="out")
    first, _ = prep(stage, tmp_path / "s")
    write_shards(tmp_path / "in", shards=5)
    pq.write_table(pa.table({"x": [1000], "s": ["new"]}), tmp_path / "in" / "part-1.parquet")
    scope, pool = make_scope(tmp_path / "s", stage, run=R2), CountingPool()
    second = run_prep(stage, scope, pool)
    assert pool.items == ["shard part-1.parquet", "shard part-4.parquet"]
    assert (second["tasks"], second["tasks_reused"]) == (5, 3)
    assert second["outputs"] != first["outputs"]
    expected = [*range(0, 20, 2), 2000, *range(40, 100, 2)]
    assert rows_of(tmp_path / "s", "out").column("y").to_pylist() == expected


def test_a_version_is_alone_in_its_folder(tmp_path: Path) -> None:
    """Each version's folder has its own rows for any reader; `data` leads to the newest, and unchanged shards are the
    same files.
    """
    url = write_shards(tmp_path / "in", shards=3)
    stage = Prep("p", fn=double, source=Dataset(url), sink="out")
    first, _ = prep(stage, tmp_path / "s")
    pq.write_table(pa.table({"x": [1000], "s": ["new"]}), tmp_path / "in" / "part-1.parquet")
    second = run_prep(stage, make_scope(tmp_path / "s", stage, run=R2), CountingPool())
    folders = [tmp_path / "s" / result["places"]["out"] for result in (first, second)]
    expected = [[*range(0, 60, 2)], [*range(0, 20, 2), 2000, *range(40, 60, 2)]]
    for folder, rows in zip(folders, expected, strict=True):
        assert pq.read_table(folder).column("y").to_pylist() == rows
        assert Stream(folder, batch_size=1).rows == len(rows)
    out = tmp_path / "s" / "datasets" / "out"
    assert (out / "data").resolve() == folders[1]
    assert pq.read_table(out).column("y").to_pylist() == expected[1]
    shared = {file.stat().st_ino for file in folders[0].iterdir()} & {
        file.stat().st_ino for file in folders[1].iterdir()
    }
    assert len(shared) == 2


def test_what_a_lost_worker_wrote_is_in_no_version(tmp_path: Path) -> None:
    """A file that a task left without its record does not stand beside the version's own."""
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in")), sink="out")
    scope = make_scope(tmp_path / "s", stage)
    left = tmp_path / "s" / "datasets" / "out" / scope.data_folder / "part-0-other.parquet"
    left.parent.mkdir(parents=True)
    pq.write_table(pa.table({"y": [7], "s": ["?"]}), left)
    result = run_prep(stage, scope, CountingPool())
    assert pq.read_table(tmp_path / "s" / result["places"]["out"]).column("y").to_pylist() == [*range(0, 60, 2)]
    assert left.exists()


def test_killed_in_the_middle_only_the_rest_is_done(tmp_path: Path) -> None:
    """After a crash when three of five tasks were recorded, two are mapped, and the result equals an uncut one."""
    url = write_shards(tmp_path / "in", shards=5)
    stage = Prep("p", fn=double, source=Dataset(url), sink="out")

    class Killed(CountingPool):
        def map(self, fn: Any, items: Any, timeout_s: float | None = None) -> Any:
            for index, result in super().map(fn, items, timeout_s):
                if index == 2:
                    raise KeyboardInterrupt
                yield index, result

    with pytest.raises(KeyboardInterrupt):
        run_prep(stage, make_scope(tmp_path / "s", stage), Killed())
    assert Catalog(Store(str(tmp_path / "s"))).names() == []
    cut, pool = prep(stage, tmp_path / "s")
    assert len(pool.items) == 2  # a worker records its task before it answers
    uncut, _ = prep(stage, tmp_path / "other")
    assert cut["outputs"] == uncut["outputs"]


def test_crash_between_result_and_version_is_repaired(tmp_path: Path) -> None:
    """A result whose dataset log lacks the version is published by the next run, which skips the work."""
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in")), sink="out")
    first, _ = prep(stage, tmp_path / "s")
    shutil.rmtree(tmp_path / "s" / "datasets" / "out" / "_log")
    second, _ = prep(stage, tmp_path / "s")
    assert second["skipped"]
    assert [v.data.id for v in Catalog(Store(str(tmp_path / "s"))).versions("out")] == [first["outputs"]["out"]]


def test_deleted_data_is_made_again(tmp_path: Path) -> None:
    """A result that names a file which is gone is not trusted: the file's task alone runs again."""
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in")), sink="out")
    first, _ = prep(stage, tmp_path / "s")
    sorted((tmp_path / "s" / "datasets" / "out" / "data").iterdir())[1].unlink()
    second, pool = prep(stage, tmp_path / "s")
    assert not second["skipped"]
    assert pool.items == ["shard part-1.parquet"]
    assert second["outputs"] == first["outputs"]
    assert rows_of(tmp_path / "s", "out").num_rows == 30


def test_only_used_config_fields_matter(tmp_path: Path) -> None:
    """Changing a field outside `uses` skips the stage, changing one of them does not."""
    stage = Prep(
        "p",
        fn=scaled,
        source=Dataset(write_shards(tmp_path / "in")),
        sink="out",
        batch_format="numpy",
        uses=("factor",),
    )

    def run(config: Config, run: str) -> dict[str, Any]:
        return run_prep(stage, make_scope(tmp_path / "s", stage, config, run=run), InlinePool())

    assert not run(Config(), R1)["skipped"]
    assert run(Config(unrelated=5), R2)["skipped"]
    changed = run(Config(factor=3), R3)
    assert not changed["skipped"]
    assert rows_of(tmp_path / "s", "out").column("y").to_pylist()[:3] == [0, 3, 6]
    record = Results(Store(str(tmp_path / "s"))).newest(changed["key"])
    assert record is not None
    assert record["config"] == {"factor": 3}


def test_planner_finds_the_same_key(tmp_path: Path) -> None:
    """The key that a plan computes from code, config and input ids is the one that the stage publishes under."""
    url = write_shards(tmp_path / "in")
    stage = Prep("p", fn=double, source=Dataset(url), sink="out", keep=even)
    result, _ = prep(stage, tmp_path / "s", Config())
    scope = make_scope(tmp_path / "s", stage)
    ids, code = {"": scope.manifest(Dataset(url)).id}, stage_code(stage, config=scope.spec.job.config).hash
    assert result_key(stage, code, used_config(stage, dataclasses.asdict(Config())), ids) == result["key"]


def test_going_back_to_earlier_code_makes_its_result_the_latest(tmp_path: Path) -> None:
    """After A, B and A again the newest version is A's, and nothing was computed for it."""
    source = Dataset(write_shards(tmp_path / "in"))
    a, b = (Prep("p", fn=fn, source=source, sink="out", batch_size=size) for fn, size in ((double, 4), (double, 5)))
    first, _ = prep(a, tmp_path / "s")
    prep(b, tmp_path / "s")
    again, pool = prep(a, tmp_path / "s")
    assert pool.items == []
    versions = Catalog(Store(str(tmp_path / "s"))).versions("out")
    assert versions[-1].data.id == first["outputs"]["out"] == again["outputs"]["out"]


# -- counts, sinks, filters ------------------------------------------------------------------------------------------


def test_filtered_rows_are_counted(tmp_path: Path) -> None:
    """Rows in are processed plus filtered, and the progress reports say so."""
    url = write_shards(tmp_path / "in")
    stage = Prep("p", fn=double, source=Dataset(url), sink="out", keep=even)
    scope = make_scope(tmp_path / "s", stage)
    result = run_prep(stage, scope, InlinePool())
    counts = (result["rows_in"], result["processed"], result["filtered"], result["quarantined"])
    assert counts == (30, 15, 15, 0)
    assert result["rows_out"] == {"": 15}
    last = json.loads(scope.spool("p", "metrics", "driver").read_text().splitlines()[-1])
    assert {k: last[k] for k in ("done", "total", "rows_in", "rows_out", "filtered", "quarantined")} == {
        "done": 3,
        "total": 3,
        "rows_in": 30,
        "rows_out": 15,
        "filtered": 15,
        "quarantined": 0,
    }
    assert last["bytes_in"] > 0


def test_several_sinks_from_one_stage(tmp_path: Path) -> None:
    """Each sink gets its rows; both are in the one record of the result."""
    stage = Prep("p", fn=split, source=Dataset(write_shards(tmp_path / "in")), sink={"low": "lows", "high": "highs"})
    result, _ = prep(stage, tmp_path / "s")
    assert result["rows_out"] == {"low": 15, "high": 15}
    assert rows_of(tmp_path / "s", "highs").column("x").to_pylist() == list(range(15, 30))
    record = Results(Store(str(tmp_path / "s"))).newest(result["key"])
    assert record is not None
    assert {s["dataset"]: s["id"] for s in record["sinks"].values()} == result["outputs"]
    assert {len(d["sha256"]) for s in record["sinks"].values() for d in s["data"]} == {64}


def test_an_empty_sink_is_said(tmp_path: Path) -> None:
    """A sink without rows is published empty, with a note; the other one has its rows."""
    stage = Prep("p", fn=only_low, source=Dataset(write_shards(tmp_path / "in")), sink={"low": "lows", "high": "highs"})
    result, _ = prep(stage, tmp_path / "s")
    assert result["rows_out"] == {"low": 30, "high": 0}
    assert result["notes"] == ["the sink 'highs' is empty: fn returned no row for it"]
    manifest = Catalog(Store(str(tmp_path / "s"))).latest("highs")
    assert manifest is not None
    assert manifest.rows == 0


def test_no_rows_at_all_is_an_error(tmp_path: Path) -> None:
    """A stage that writes nothing fails with the counts, and publishes nothing."""
    stage = Prep("p", fn=nothing, source=Dataset(write_shards(tmp_path / "in")), sink="out")
    with pytest.raises(DataError, match="30 came in, 0 were filtered"):
        prep(stage, tmp_path / "s")
    assert Catalog(Store(str(tmp_path / "s"))).names() == []


def test_class_is_made_once(tmp_path: Path) -> None:
    """A class is constructed once for all batches of all tasks of its worker."""
    Stateful.made = 0
    stage = Prep("p", fn=Stateful, source=Dataset(write_shards(tmp_path / "in")), sink="out", batch_size=5)
    prep(stage, tmp_path / "s")
    assert Stateful.made == 1
    assert rows_of(tmp_path / "s", "out").column("calls").to_pylist() == [1, 2, 3, 4, 5, 6]


def test_hive_partitions_are_columns_of_the_batch(tmp_path: Path) -> None:
    """A partition value of the path is a column that the transform sees and may pass on."""
    for year in (2012, 2013):
        write_shards(tmp_path / "in" / f"year={year}", shards=1, rows=2)
    stage = Prep("p", fn=identity, source=Dataset(str(tmp_path / "in")), sink="out")
    prep(stage, tmp_path / "s")
    assert rows_of(tmp_path / "s", "out").column("year").to_pylist() == [2012, 2012, 2013, 2013]


def count_lines(batch: list[dict[str, Any]], config: Any) -> list[dict[str, Any]]:
    return [{"path": row["path"], "lines": row["bytes"].count(b"\n")} for row in batch]


def test_whole_files_share_tasks(tmp_path: Path) -> None:
    """Small whole files are read together, in few output files, and a new one runs one task of several."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(60):
        (folder / f"f{i:02d}.txt").write_bytes(b"line\n" * (20_000 + i))
    source = Dataset(str(folder), format="files")
    stage = Prep("p", fn=count_lines, source=source, sink="out", batch_format="rows")
    first, _ = prep(stage, tmp_path / "s")
    assert 1 <= first["tasks"] < 15
    assert rows_of(tmp_path / "s", "out").column("lines").to_pylist() == [20_000 + i for i in range(60)]
    (folder / "f30a.txt").write_bytes(b"line\n")
    scope, pool = make_scope(tmp_path / "s", stage, run=R2), CountingPool()
    second = run_prep(stage, scope, pool)
    assert len(pool.items) <= 2
    assert second["rows_out"] == {"": 61}


# -- errors ----------------------------------------------------------------------------------------------------------


def test_a_raise_names_row_and_shard(tmp_path: Path) -> None:
    """The error names the exception, the row inside the shard and the shard's URL, and shows only the user's frames."""
    url = write_shards(tmp_path / "in")
    stage = Prep("p", fn=fails_on_17, source=Dataset(url), sink="out", batch_size=4)
    with pytest.raises(UserCodeError) as caught:
        prep(stage, tmp_path / "s")
    assert "ValueError: seventeen" in caught.value.message
    assert f"row 7 of {url}/part-1.parquet" in caught.value.message
    assert "in fails_on_17" in caught.value.trace
    assert "prep_user" not in caught.value.trace
    assert not (tmp_path / "s" / "datasets" / "out" / "_log").exists()


def test_row_is_found_in_lines_that_nobody_counted(tmp_path: Path) -> None:
    """The row number is right for text too, whose rows are not known before they are read."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("".join(json.dumps({"x": i}) + "\n" for i in range(30)))
    stage = Prep("p", fn=fails_on_17, source=Dataset(str(tmp_path / "in")), sink="out", batch_size=7)
    with pytest.raises(UserCodeError, match=r"row 17 of .*a\.jsonl"):
        prep(stage, tmp_path / "s")


def test_rows_that_fail_only_together_are_said_as_a_range(tmp_path: Path) -> None:
    """When no row raises by itself the error names the rows of the batch."""
    stage = Prep("p", fn=fails_together, source=Dataset(write_shards(tmp_path / "in")), sink="out", batch_size=10)
    with pytest.raises(
        UserCodeError, match=r"the 10 rows from row 0 of .*part-0\.parquet on, which raise only together"
    ):
        prep(stage, tmp_path / "s")


def test_inline_the_users_own_exception_comes_out(tmp_path: Path) -> None:
    """Inline, the very exception propagates, with a note that names row and shard."""
    stage = Prep("p", fn=fails_on_17, source=Dataset(write_shards(tmp_path / "in")), sink="out")
    with pytest.raises(ValueError, match="seventeen") as caught:
        prep(stage, tmp_path / "s", inline=True)
    assert "row 7 of" in caught.value.__notes__[0]
    assert "part-1.parquet" in caught.value.__notes__[0]


def test_quarantine_sets_rows_aside(tmp_path: Path) -> None:
    """Rows that raise within the share are counted, kept with row number, shard, error and input, and left out."""
    url = write_shards(tmp_path / "in")
    stage = Prep("p", fn=fails_on_17, source=Dataset(url), sink="out", max_quarantine=0.1)
    result, _ = prep(stage, tmp_path / "s")
    assert (result["rows_in"], result["processed"], result["quarantined"]) == (30, 29, 1)
    assert rows_of(tmp_path / "s", "out").column("x").to_pylist() == [i for i in range(30) if i != 17]
    record = Results(Store(str(tmp_path / "s"))).newest(result["key"])
    assert record is not None
    assert result["notes"] == [f"1 rows raised and were set aside, in {record['quarantine'][0]} of the store"]
    bad = pq.read_table(tmp_path / "s" / record["quarantine"][0]).to_pylist()
    assert bad[0]["shard"] == f"{url}/part-1.parquet"
    assert bad[0]["row"] == 7
    assert bad[0]["error"].startswith("ValueError: seventeen")
    assert bad[0]["input"] == {"x": 17, "s": "v1"}


def test_too_many_quarantined_rows_fail_the_stage(tmp_path: Path) -> None:
    """Above the share the stage fails, says how many of how many, and names the first row."""
    stage = Prep("p", fn=fails_on_17, source=Dataset(write_shards(tmp_path / "in")), sink="out", max_quarantine=0.01)
    with pytest.raises(UserCodeError, match=r"1 rows of 30 \(3.33%\) raised, more than max_quarantine=0.01 .*row 7 of"):
        prep(stage, tmp_path / "s")


def test_tasks_with_quarantined_rows_are_not_reused_without_quarantine(tmp_path: Path) -> None:
    """Taking max_quarantine away brings the error back, although the tasks had been done."""
    source = Dataset(write_shards(tmp_path / "in"))
    prep(Prep("p", fn=fails_on_17, source=source, sink="out", max_quarantine=0.1), tmp_path / "s")
    with pytest.raises(UserCodeError, match="seventeen"):
        prep(Prep("p", fn=fails_on_17, source=source, sink="out"), tmp_path / "s")


def test_a_class_that_cannot_be_made(tmp_path: Path) -> None:
    """An error of the constructor is the user's, and says that it happened there."""
    stage = Prep("p", fn=CannotBeMade, source=Dataset(write_shards(tmp_path / "in")), sink="out")
    with pytest.raises(UserCodeError, match=r"OSError: no model here .* when CannotBeMade\(config\) was made"):
        prep(stage, tmp_path / "s")


@pytest.mark.parametrize(
    ("fn", "sink", "message"),
    [
        (wrong_key, {"train": "a", "test": "b"}, r"sink key 'trian'(.|\n)*'train', 'test'(.|\n)*did you mean 'train'"),
        (not_a_batch, "out", "fn returned a int"),
        (not_a_batch, {"train": "a", "test": "b"}, "fn returned a int, but the stage has 2 sinks"),
        (uneven, "out", "columns of different lengths: 'a' has 2, 'b' has 1"),
        (drifting, "out", r"'value' of 'out': int64 in .*part-0.parquet, string in .*part-1.parquet"),
        (drifting_batches, "out", r"'value' of 'out': int64 up to row 4, string from there on .*part-0.parquet"),
    ],
)
def test_wrong_returns_say_what_is_wrong(tmp_path: Path, fn: Any, sink: Any, message: str) -> None:
    """A return that is no batch, an unknown sink key, uneven columns and drifting types each give their error."""
    stage = Prep("p", fn=fn, source=Dataset(write_shards(tmp_path / "in")), sink=sink, batch_size=5)
    with pytest.raises(DataError, match=message):
        prep(stage, tmp_path / "s")
    assert not (tmp_path / "s" / "results").exists() or not list((tmp_path / "s" / "results").glob("*.json"))


def test_nulls_and_narrow_numbers_widen(tmp_path: Path) -> None:
    """Shards of nulls, int32 and int64 become one int64 column; the narrower files are written again."""
    stage = Prep("p", fn=widening, source=Dataset(write_shards(tmp_path / "in")), sink="out", batch_size=10)
    result, pool = prep(stage, tmp_path / "s")
    table = rows_of(tmp_path / "s", "out")
    assert table.schema.field("value").type == pa.int64()
    assert table.column("value").to_pylist() == [None, 10, 20]
    assert [item for item in pool.items if item.startswith("the file")] != []
    again, _ = prep(stage, tmp_path / "other")
    assert again["outputs"] == result["outputs"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the scratch disk is full the error says so, no file is left there, and nothing is published."""

    def half_written(path: Path, table: pa.Table, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prep_files, "write_file", half_written)
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in")), sink="out")
    with pytest.raises(StoreError, match="no space left while writing"):
        prep(stage, tmp_path / "s")
    assert list((tmp_path / "s-scratch").glob("*.parquet")) == []
    assert Catalog(Store(str(tmp_path / "s"))).names() == []


# -- make ------------------------------------------------------------------------------------------------------------

MADE = []


def make_two() -> Any:
    MADE.append(1)
    yield pa.table({"a": [1, 2]})
    yield pa.record_batch({"a": [3]})


def make_raising() -> Any:
    yield pa.table({"a": [1]})
    raise OSError("the source is gone")


def make_wrong() -> Any:
    yield "text"


def make_now() -> Any:
    yield pa.table({"x": [time.time_ns()]})


class InlinePools:
    """The part of an engine that makes data."""

    def pool(self, stage: str, workers: tuple[int, int], scope: Any) -> InlinePool:
        return InlinePool()

    def ray(self, scope: Any, workers: int) -> None:
        """There is none."""


def test_made_data_stays_as_it_is_for_all_stages_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `make` has read may change under way: the next stage sees the same, and its folder gets no more files."""
    monkeypatch.setattr("runner.prep.reuse.Reuse.may_use", lambda *_: False)
    scope, store = make_scope(tmp_path / "s", run=R1), tmp_path / "s"
    scope.spec = scope.spec.but(datasets={**scope.spec.datasets, "d": wire.to_json(Dataset(make=make_now), ROOT)})
    scope.bundle.log.append(AttemptBegan(leg=scope.leg, attempt=scope.attempt))
    seen = []
    for name in ("p", "q"):
        make_sources(Prep(name, fn=identity, source="d", sink=name), scope, InlinePools())  # type: ignore[arg-type]
        seen.append(rows_of(store, "d"))
    assert seen[0] == seen[1]
    assert len(Catalog(Store(str(store))).versions("d")) == 1
    scope.bundle.log.append(Resumed())
    assert scope.made_since_resume() == set()


def test_make_runs_once(tmp_path: Path) -> None:
    """Each table that `make` yields becomes a shard; a second run finds the dataset and calls nothing."""
    MADE.clear()
    first = run_make("d", Dataset(make=make_two), make_scope(tmp_path / "s"), InlinePool())
    second = run_make("d", Dataset(make=make_two), make_scope(tmp_path / "s"), InlinePool())
    assert (first["skipped"], second["skipped"], len(MADE)) == (False, True, 1)
    assert first["id"] == second["id"]
    assert (first["rows"], first["files"]) == (3, 2)
    assert rows_of(tmp_path / "s", "d").column("a").to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (make_raising, UserCodeError, "OSError: the source is gone .* in make"),
        (make_wrong, DataError, "make yielded a str as number 0"),
    ],
)
def test_make_that_fails_publishes_nothing(tmp_path: Path, make: Any, error: Any, message: str) -> None:
    """A `make` that raises, or yields no table, is said so, and the dataset does not exist."""
    with pytest.raises(error, match=message):
        run_make("d", Dataset(make=make), make_scope(tmp_path / "s"), InlinePool())
    assert Catalog(Store(str(tmp_path / "s"))).names() == []


@pytest.mark.parametrize(
    "names",
    [
        [f"part.{i}.parquet" for i in range(8)],
        [f"2024.01.0{i}.parquet" for i in range(1, 9)],
        ["a-1.parquet", "a-2.parquet", "a.parquet"],
        [f"country={'u' * 50}/city=san_francisco/part-{i:05d}.parquet" for i in range(6)],
        ["zürich.parquet", "zéro.parquet", "数据-1.parquet", "数据-2.parquet", "数据-3.parquet"],
        [f"a.b/{i}.parquet" for i in range(6)],
    ],
)
def test_the_order_of_rows_is_that_of_the_paths(tmp_path: Path, names: list[str]) -> None:
    """Rows out are in the order of the shards' paths, whether these are long, dotted or not ASCII."""
    for i, name in enumerate(sorted(names)):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"x": [i]}), tmp_path / "in" / name)
    prep(Prep("p", fn=identity, source=Dataset(url=str(tmp_path / "in")), sink="out"), tmp_path / "store")
    assert rows_of(tmp_path / "store", "out").column("x").to_pylist() == list(range(len(names)))


def test_rows_set_aside_keep_what_parquet_can_hold(tmp_path: Path) -> None:
    """Rows of a column that Parquet has no type for are set aside without it."""
    (tmp_path / "in").mkdir()
    table = pa.table({"x": [16, 17], "odd": pa.array([(1, 2, 3)] * 2, pa.month_day_nano_interval())})
    with pa.OSFile(str(tmp_path / "in" / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    stage = Prep("p", fn=fails_on_17_else_x, source=Dataset(url=str(tmp_path / "in")), sink="out", max_quarantine=0.5)
    result, _ = prep(stage, tmp_path / "store")
    assert result["quarantined"] == 1
    (aside,) = (tmp_path / "store" / "tasks").glob("*/*.quarantine.parquet")
    assert pq.read_table(aside).column("input").to_pylist() == [{"x": 17}]


def test_what_is_published_is_named_by_its_sha256_and_verified_by_it(tmp_path: Path) -> None:
    """In a folder no MD5 is computed; a Stream that verifies sees a file of the dataset that is another."""
    prep(Prep("p", fn=identity, source=Dataset(write_shards(tmp_path / "in")), sink="b"), tmp_path / "store")
    manifest = Catalog(Store(str(tmp_path / "store"))).latest("b")
    (kind, digest), file = manifest.shards[0].etag.split(":"), Path(manifest.url(manifest.shards[0]))
    assert (kind, digest) == ("sha256", hashlib.sha256(file.read_bytes()).hexdigest())
    assert len(list(Stream(manifest, 5, as_="numpy", verify=True))) == 6
    data = bytearray(file.read_bytes())
    data[-5] ^= 1  # of the length of the footer, which is in the plan
    file.unlink()
    file.write_bytes(data)
    with pytest.raises(DataDamaged, match="its SHA-256 is"):
        list(Stream(manifest, 5, as_="numpy", verify=True))


def test_what_a_prep_wrote_is_the_same_data_in_every_store(tmp_path: Path) -> None:
    """The MD5 that stands beside the SHA-256 in an object store changes no id, no key of a task and no cached entry."""
    table = pa.table({"x": [1, 2]})
    store = Store(str(tmp_path / "store"))
    where = {"folder": "_versions/r260101-000000aa-tiny-aa-1", "scratch": tmp_path, "source": "s", "where": "w"}
    in_folder = prep_files.store_table(table, store, "d", "a", **where)
    in_bucket = dataclasses.replace(in_folder, md5="0" * 32)
    shards = [file.shard for file in (in_folder, in_bucket)]
    assert shards[0].etag != shards[1].etag
    one, other = (Manifest.of("/d", [shard], table.schema) for shard in shards)
    assert one.id == other.id
    assert [task.key for task in plan_tasks(one, "code")] == [task.key for task in plan_tasks(other, "code")]
    assert len({file_name(f"/{shard.etag}", shard.size, shard.etag) for shard in shards}) == 1
    assert len({str(short_etags([("p", shard.etag)])) for shard in shards}) == 1

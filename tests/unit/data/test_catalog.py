"""Keys of results, and the datasets and records of a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner.client import leftovers
from runner.data.catalog import Catalog
from runner.data.manifest import Manifest, Shard, Unit
from runner.data.results import Results
from runner.data.versions import VersionMade
from runner.errors import DataError
from runner.plan.keys import code_key, make_key, result_key, stage_code, used_config
from runner.spec import Prep
from runner.store import Store

#: A version's folder, a result's key and a task's.
FOLDER = "_versions/r260101-000000aa-tiny-aa-1"
CODE, TASK = "c" * 20, "d" * 16


def one(batch: Any, config: Any) -> Any:
    return batch


def two(batch: Any, config: Any) -> Any:
    return batch, 2


def keep(batch: Any, config: Any) -> Any:
    return [True] * len(batch)


def stage(**changes: Any) -> Prep:
    return Prep(**{"name": "p", "fn": one, "source": "a", "sink": "b", **changes})


def manifest(*etags: str) -> Manifest:
    shards = [Shard(f"f{i}.parquet", 10, f"md5:{e}", "parquet", (Unit(0, 5, 40, 4, 6),)) for i, e in enumerate(etags)]
    return Manifest.of("/somewhere", shards, pa.schema([("x", pa.int64())]))


def folder_of(version: Manifest) -> str:
    return f"{FOLDER}{int(version.id[:4], 16)}"


@pytest.mark.parametrize(
    "changes",
    [
        {"fn": two},
        {"keep": keep},
        {"sink": "c"},
        {"sink": {"k": "b"}},
        {"batch_size": 7},
        {"batch_format": "rows"},
        {"max_quarantine": 0.5},
        {"batch_format": "dataset", "sort_by": ("x",)},
    ],
)
def test_key_changes_with_everything_the_result_depends_on(changes: dict[str, Any]) -> None:
    """Code, filter, sinks, batching, quarantine and sort order are part of a result's key."""
    base, other = stage(), stage(**changes)
    assert result_key(base, stage_code(base).hash, {}, {"": "i"}) != result_key(
        other, stage_code(other).hash, {}, {"": "i"}
    )


def test_key_changes_with_config_and_input_and_with_nothing_else() -> None:
    """Config values and input ids count; the stage's name, workers and machines do not."""
    base = stage()
    key = result_key(base, "c", {"a": 1}, {"": "i"})
    assert key != result_key(base, "c", {"a": 2}, {"": "i"})
    assert key != result_key(base, "c", {"a": 1}, {"": "j"})
    assert key == result_key(stage(name="q", workers=7, on="big", timeout_s=3.0), "c", {"a": 1}, {"": "i"})


def test_tasks_are_shared_between_shares_of_quarantine() -> None:
    """The share that may be set aside decides about the result, not about what a task writes."""
    assert code_key(stage(), "c", {}) == code_key(stage(max_quarantine=0.5), "c", {})


def test_used_config_is_all_or_what_is_named() -> None:
    """Without `uses` every field counts, with it only those named."""
    assert used_config(stage(), {"a": 1, "b": 2}) == {"a": 1, "b": 2}
    assert used_config(stage(uses=("b",)), {"a": 1, "b": 2}) == {"b": 2}
    assert make_key("d", "c") != make_key("e", "c")


def test_versions_are_published_in_order(tmp_path: Path) -> None:
    """The newest version is the latest, older ones stay readable by id, publishing the same again adds nothing."""
    catalog = Catalog(Store(str(tmp_path)))
    old, new = manifest("a"), manifest("a", "b")
    for version in (old, new, new):
        catalog.publish("d", version, {"key": CODE}, folder_of(version))
    assert [entry.data.id for entry in catalog.versions("d")] == [old.id, new.id]
    assert catalog.versions("d")[-1].data.rows == 10
    latest = catalog.latest("d")
    assert latest is not None
    assert (latest.id, latest.base) == (new.id, f"{tmp_path}/datasets/d/{folder_of(new)}")
    assert catalog.manifest("d", old.id).rows == 5
    assert catalog.names() == ["d"]


def facts(number: int) -> VersionMade:
    return VersionMade(f"{number:032d}", f"{FOLDER}{number}", rows=number, bytes=1, files=1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that stores are asked for, one request each."""
    keys: list[str] = []
    for name in ("get", "list"):
        call = getattr(Store, name)
        monkeypatch.setattr(
            Store, name, lambda self, key="", *rest, _call=call: keys.append(key) or _call(self, key, *rest)
        )
    return keys


def test_a_listing_costs_as_much_for_many_versions_as_for_one(store: Store, asked: list[str]) -> None:
    """Of every dataset the summary, the entry that it ends with and the absence of a later one; to publish costs no
    more than that either.
    """
    for number in range(60):
        Catalog(store).publish_version("many", facts(number))
    Catalog(store).publish_version("one", facts(0))
    asked.clear()
    assert [len(found) for found in Catalog(store).all_versions().values()] == [60, 1]
    assert len(asked) == 1 + 2 * 3
    asked.clear()
    Catalog(store).publish_version("many", facts(60))
    Catalog(store).retract("many", [facts(3).id])
    assert len(asked) < 30
    assert [v.data.rows for v in Catalog(store).versions("many")] == [0, 1, 2, *range(4, 61)]


@pytest.mark.parametrize(
    "summary",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"number": 99, "mark": "", "versions": []}',
        b'{"number": 2, "mark": "x", "versions": []}',
        b'{"number": 2, "mark": "0", "versions": [1]}',
        b'{"number": "x"}',
        b'{"number": 1e999, "mark": "", "versions": []}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_the_log_is_the_truth(store: Store, summary: bytes) -> None:
    """A summary that is damaged, of another log or ahead of this one changes nothing, and the next one is right."""
    for number in range(3):
        Catalog(store).publish_version("d", facts(number))
    store.put("datasets/d/_summary.json", summary)
    assert [v.data.rows for v in Catalog(store).versions("d")] == [0, 1, 2]
    Catalog(store).publish_version("d", facts(3))
    assert store.list("datasets/d/_log") == [f"{number:08d}.json" for number in (1, 2, 3, 4)]
    assert [v.number for v in Catalog(store).versions("d")] == [1, 2, 3, 4]


def test_a_summary_of_a_slower_publisher_is_read_on_from(store: Store) -> None:
    """It counts less than there is: the entries behind it are read, removals too."""
    Catalog(store).publish_version("d", facts(0))
    older = store.get("datasets/d/_summary.json")
    Catalog(store).publish_version("d", facts(1))
    Catalog(store).retract("d", [facts(0).id])
    store.put("datasets/d/_summary.json", older)
    assert [v.data.rows for v in Catalog(store).versions("d")] == [1]


def test_a_dataset_whose_log_was_removed_has_no_versions(store: Store) -> None:
    """What a summary says of a log that is not there, or begun anew, is not believed."""
    Catalog(store).publish_version("d", facts(0))
    store.delete_tree("datasets/d/_log")
    assert Catalog(store).names() == []
    Catalog(store).publish_version("d", facts(1))
    assert [v.data.rows for v in Catalog(store).versions("d")] == [1]


def test_a_moved_store_is_read_at_its_new_place(tmp_path: Path) -> None:
    """Manifests hold no place: after a move their base is the new one."""
    Catalog(Store(str(tmp_path / "old"))).publish("d", manifest("a"), {}, FOLDER)
    (tmp_path / "old").rename(tmp_path / "new")
    latest = Catalog(Store(str(tmp_path / "new"))).latest("d")
    assert latest is not None
    assert latest.base == f"{tmp_path}/new/datasets/d/{FOLDER}"


def test_absent_data_is_none_or_an_error(tmp_path: Path) -> None:
    """No dataset, result or task is None; a version that is not there is an error that lists those that are."""
    catalog = Catalog(Store(str(tmp_path)))
    assert (catalog.latest("d"), Results(catalog.store).newest(CODE), Results(catalog.store).task(CODE, TASK)) == (
        None,
        None,
        None,
    )
    assert (catalog.names(), Results(catalog.store).tasks(CODE)) == ([], set())
    catalog.publish("d", manifest("a"), {}, FOLDER)
    with pytest.raises(DataError, match=manifest("a").id):
        catalog.manifest("d", "0" * 32)


def test_a_damaged_manifest_is_named_and_written_anew(tmp_path: Path) -> None:
    """Who reads it learns which object it is and what to do; who makes the dataset again puts it right."""
    store = Store(str(tmp_path))
    catalog, made = Catalog(store), manifest("1")
    catalog.publish("d", made, {}, folder_of(made))
    store.put(f"datasets/d/_manifests/{made.id}.parquet", b"PAR1")
    with pytest.raises(DataError, match=rf"(?s){made.id}.*no manifest.*--force STAGE"):
        catalog.manifest("d", made.id)
    catalog.publish("d", made, {}, folder_of(made))
    assert catalog.manifest("d", made.id).id == made.id


def test_definitions_beside_published_data_are_none(tmp_path: Path) -> None:
    """Where the store is the project's folder, the files of definitions in `datasets/` are no published datasets."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/raw.py").write_text("")
    catalog = Catalog(Store(str(tmp_path)))
    catalog.publish("d", manifest("a"), {}, FOLDER)
    assert catalog.names() == ["d"]
    assert leftovers.leftovers(Store(str(tmp_path))) == ([], [])


def done(rows: int) -> dict[str, Any]:
    counts = {"rows_in": rows, "processed": rows, "filtered": 0, "quarantined": 0, "bytes_in": 9}
    none = dict.fromkeys(("quarantine", "first_error", "first_trace"))
    run = "r260101-000000aa-tiny-aa"
    return {**counts, **none, "key": TASK, "run": run, "loaded": [], "sinks": {}, "deps": {}, "packages": {}}


def test_the_first_record_stays(tmp_path: Path) -> None:
    """Of two writers of one record the first wins, unless the second says that the data had been lost."""
    catalog = Catalog(Store(str(tmp_path)))
    Results(catalog.store).publish_task(CODE, TASK, done(1))
    Results(catalog.store).publish_task(CODE, TASK, done(2))
    assert Results(catalog.store).task(CODE, TASK) == done(1)
    Results(catalog.store).publish_task(CODE, TASK, done(3), replace=True)
    assert Results(catalog.store).task(CODE, TASK) == done(3)
    assert Results(catalog.store).tasks(CODE) == {TASK}


def test_planning_imports_nothing_heavy() -> None:
    """The keys can be computed without pyarrow, numpy, pandas, torch and ray."""
    code = (
        "import sys, runner.data.catalog; "
        "print([m for m in ('pyarrow', 'numpy', 'pandas', 'torch', 'ray') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

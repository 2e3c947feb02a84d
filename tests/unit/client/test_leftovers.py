"""What may go from a store: runs and datasets by name, and what nobody needs."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import runner
from runner.cli import keep
from runner.cli.console import Output
from runner.client import leftovers
from runner.client.run import Run
from runner.code.dependencies import Present
from runner.data.catalog import Catalog
from runner.data.results import Results
from runner.errors import ApiError, DataError, InputError
from runner.prep.stage import run_prep
from runner.record import RunState
from runner.record.entries import Resumed
from runner.record.index import new_run_id
from runner.record.receipt import end_run
from runner.spec import Dataset, Prep
from runner.store import Store
from runner.worker.pool.base import InlinePool
from tests.unit.cli.kit import call, lost, unstarted, write_project
from tests.unit.prep.kit import R1, R2, R3, RUNS, make_scope, rows_of, write_shards


def double(batch: pa.RecordBatch, config: Any) -> dict[str, Any]:
    return {"y": batch.column("x").to_numpy() * 2}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small project of the command line's tests, as the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path)


def last() -> Run:
    return runner.get_run("@last")


def publish(tmp_path: Path, store: Path, shards: int, run: str, sink: str = "out") -> dict[str, Any]:
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in", shards=shards)), sink=sink)
    made = run_prep(stage, make_scope(store, stage, run=run), InlinePool())
    shutil.rmtree(store / run)  # only what it has published is looked at
    return made


def test_a_run_is_removed_whole(project: Path) -> None:
    """Its folder and its line are gone, other runs and what it published are not; without --yes nobody removes."""
    call("submit", "tiny", "-d")
    first = last()
    call("submit", "tiny", "-d")
    assert "add --yes" in call("rm", first.id, code=2).stderr
    assert first.bundle.store.exists("spec.json")
    assert f"removed run {first.id}" in call("rm", first.id, "--yes").stdout
    assert not Path(first.bundle.store.root).exists()
    assert [run.id for run in runner.runs()] == [last().id] != [first.id]


def test_what_lives_is_not_removed(project: Path) -> None:
    """A run that has not ended, and a dataset that such a run reads or writes, are refused with the run's name."""
    run = unstarted()
    assert "cancel it first" in call("rm", run.id, "--yes", code=2).stderr
    store = Store(str(project / ".runner"))
    publish(project, Path(store.root), 2, R1, sink="tokens")
    refused = call("rm", "tokens", "--yes", code=2).stderr
    assert f"dataset tokens is used by a run that lives, {run.id}" in refused
    assert rows_of(Path(store.root), "tokens").num_rows == 20


def test_a_dataset_goes_and_can_be_made_again(tmp_path: Path) -> None:
    """All versions at once: nobody finds them, their files are gone, and the same job makes the data again."""
    store = tmp_path / "s"
    publish(tmp_path, store, 2, R1)
    result = publish(tmp_path, store, 3, R2)
    (target,) = leftovers.targets(Store(str(store)), ["out"])
    assert (target.kind, target.name, target.why) == ("dataset", "out", "2 versions")
    catalog = Catalog(Store(str(store)))
    assert Results(catalog.store).newest(result["key"], Present(Path.cwd())) is not None
    leftovers.remove(Store(str(store)), target)
    assert Results(catalog.store).newest(result["key"], Present(Path.cwd())) is None, "what a plan looks for"
    assert catalog.names() == []
    assert not list(store.glob("datasets/out/**/*.parquet"))
    assert not os.path.lexists(store / "datasets/out/data")
    with pytest.raises(DataError, match="no dataset 'out'"):
        runner.dataset("out", store=str(store))
    again = publish(tmp_path, store, 3, R3)
    assert not again["skipped"]
    assert again["outputs"] == result["outputs"]
    assert rows_of(store, "out").num_rows == 30


def test_one_version_goes_and_the_other_stays(tmp_path: Path) -> None:
    """`out@<id>` removes that one; shards that the other shares are still there, and `data` leads to it."""
    store = tmp_path / "s"
    first, second = (publish(tmp_path, store, shards, RUNS[shards]) for shards in (2, 3))
    (target,) = leftovers.targets(Store(str(store)), [f"out@{second['outputs']['out'][:12]}"])
    leftovers.remove(Store(str(store)), target)
    assert [v.data.id for v in Catalog(Store(str(store))).versions("out")] == [first["outputs"]["out"]]
    assert rows_of(store, "out").num_rows == 20
    assert (store / "datasets/out/data").resolve() == store / first["places"]["out"]


def test_shards_that_another_version_has_are_not_made_again(tmp_path: Path) -> None:
    """When the version goes in whose folder tasks had written, shards are found in that of one that shares them."""
    store = tmp_path / "s"
    first = publish(tmp_path, store, 2, R1)
    publish(tmp_path, store, 3, R2)
    (target,) = leftovers.targets(Store(str(store)), [f"out@{first['outputs']['out'][:12]}"])
    leftovers.remove(Store(str(store)), target)
    more = publish(tmp_path, store, 4, R3)
    assert (more["tasks"], more["tasks_reused"]) == (4, 3)
    assert rows_of(store, "out").num_rows == 40


def test_a_name_that_fits_nothing_or_too_much_is_refused(project: Path) -> None:
    """A misspelt name suggests; one that is a dataset and fits a run must be said more clearly."""
    publish(project, project / ".runner", 2, R1, sink="tiny")
    call("submit", "tiny", "-d")
    assert "did you mean 'tiny'" in call("rm", "tini", "--yes", code=2).stderr
    assert "is a dataset and fits the run" in call("rm", "tiny", "--yes", code=2).stderr
    assert "removed dataset tiny" in call("rm", "dataset:tiny", "--yes").stdout


def old(store: Path, days: float) -> None:
    """Let every file seem so old."""
    when = time.time() - days * 86400
    for file in store.rglob("*"):
        os.utime(file, (when, when), follow_symlinks=False)


def test_gc_finds_what_nobody_needs_and_leaves_what_somebody_may(tmp_path: Path) -> None:
    """Results, tasks and shards without a version, of some age, files half-written; nothing that a version names."""
    store = tmp_path / "s"
    publish(tmp_path, store, 2, R1)
    publish(tmp_path, store, 2, R2, sink="other")
    opened = Store(str(store))
    Catalog(opened).retract("other", [v.data.id for v in Catalog(opened).versions("other")])
    (store / "results/.tmp-0123456789ab-x.json").write_text("{")
    assert leftovers.leftovers(opened) == ([], [])
    old(store, 8)
    found, _ = leftovers.leftovers(opened)
    kinds = {target.kind: target for target in found}
    assert set(kinds) == {"temporary file", "result", "tasks", "shards", "manifest"}
    assert kinds["shards"].name.startswith("other/")
    assert kinds["manifest"].name.startswith("other@")
    for target in found:
        leftovers.remove(opened, target)
    assert rows_of(store, "out").num_rows == 20
    assert publish(tmp_path, store, 2, R3)["skipped"]
    assert leftovers.leftovers(opened) == ([], [])


def test_equal_data_in_another_folder_is_what_the_version_names(tmp_path: Path) -> None:
    """Where shards of a version were lost and are made again, `data` and gc go by the folder that has them now."""
    store = tmp_path / "s"
    first = publish(tmp_path, store, 2, R1)
    lost = store / first["places"]["out"]
    next(lost.glob("*.parquet")).unlink()
    second = publish(tmp_path, store, 2, R2)
    assert second["outputs"] == first["outputs"]
    assert (store / "datasets/out/data").resolve() == store / second["places"]["out"] != lost
    for record in store.glob("tasks/*/*.json"):
        record.unlink()  # tasks of a dataset that was made as a whole have none
    old(store, 8)
    for target in leftovers.leftovers(Store(str(store)))[0]:
        leftovers.remove(Store(str(store)), target)
    assert rows_of(store, "out").num_rows == 20


def test_gc_leaves_a_result_whose_data_another_had_made_before(tmp_path: Path) -> None:
    """The version names the result that made it first; a job with another share of quarantine finds its own."""
    store = tmp_path / "s"
    publish(tmp_path, store, 2, R1)
    stage = Prep("p", fn=double, source=Dataset(str(tmp_path / "in")), sink="out", max_quarantine=0.5)
    assert not run_prep(stage, make_scope(store, stage, run=R2), InlinePool())["skipped"]
    assert len(Catalog(Store(str(store))).versions("out")) == 1
    old(store, 8)
    for target in leftovers.leftovers(Store(str(store)))[0]:
        leftovers.remove(Store(str(store)), target)
    assert run_prep(stage, make_scope(store, stage, run=R3), InlinePool())["skipped"]


def test_gc_leaves_results_aside_while_a_run_lives(project: Path) -> None:
    """A run that lives may use any result of the store, so none is judged until it has ended."""
    store = project / ".runner"
    publish(project, store, 2, R1, sink="gone")
    opened = Store(str(store))
    Catalog(opened).retract("gone", [v.data.id for v in Catalog(opened).versions("gone")])
    old(store, 8)
    run = unstarted()
    found = json.loads(call("gc", "-o", "json").stdout)
    assert (found["found"], found["removed"]) == ([], False)
    assert run.id in found["notes"][0]
    end_run(run.bundle, RunState.CANCELLED, None, {})
    assert "add --yes" in call("gc").stdout
    assert "removed" in call("gc", "--yes").stdout
    assert not list(store.glob("datasets/gone/_versions/*"))


def test_gc_removes_a_run_that_was_never_submitted_whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a log, an hour old, is what a killed client left; a younger one may come to be yet."""
    opened = Store(str(project / ".runner"))
    opened.put("r200101-000000-tiny-xx/spec.json", b"{}")
    young = new_run_id("tiny")
    opened.put(f"{young}/spec.json", b"{}")
    found, _ = leftovers.leftovers(opened)
    assert [(target.kind, target.name) for target in found] == [("unfinished run", "r200101-000000-tiny-xx")]


def test_what_a_killed_process_was_making_is_told_from_what_the_user_has(project: Path) -> None:
    """Where the store is the project: files and links with the store's own marks, in its own folders, and no others."""
    publish(project, project, 2, R1)
    mine = [
        ".tmp-notes",
        ".tmp-0123456789ab-in.txt",
        "src/.tmp-0123456789ab-x",
        "datasets/.tmp-draft.py",
        "datasets/out/.tmp-0123456789AB-data",
    ]
    for name in mine:
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("x")
    link = project / "datasets/out/.tmp-0123456789ab-data"
    link.symlink_to("_versions")
    old(project, 8)
    opened = Store(str(project))
    found, _ = leftovers.leftovers(opened)
    assert [(target.kind, target.name) for target in found] == [("temporary file", "datasets/out/" + link.name)]
    leftovers.remove(opened, found[0])
    assert not os.path.lexists(link)
    assert all((project / name).exists() for name in mine)
    assert rows_of(project, "out").num_rows == 20
    assert ".tmp-draft.py" in opened.list("datasets"), "it is as any other file there"


@pytest.mark.parametrize("version", [0, 1, None])
def test_of_a_removal_and_a_run_that_begins_one_sees_the_other(
    project: Path, monkeypatch: pytest.MonkeyPatch, version: int | None
) -> None:
    """A run that comes to live after the last look, and may have found the data, keeps it: each version, at its place;
    one that looks for data later does not find what is going.
    """
    store = Store(str(project / ".runner"))
    for shards, run_id in ((2, R1), (3, R2), (4, R3)):
        publish(project, Path(store.root), shards, run_id, sink="tokens")
    before = Catalog(store).versions("tokens")
    name = "tokens" if version is None else f"tokens@{before[version].data.id}"
    (target,) = leftovers.targets(store, [name])
    kept = ("datasets/tokens/_versions", "datasets/tokens/_manifests")
    files, found = {file.key: store.get(f"{top}/{file.key}") for top in kept for file in store.find(top)}, []

    def late(self: Catalog, name: str, ids: Sequence[str], _retract: Any = Catalog.retract) -> Any:
        run = unstarted()
        gone = _retract(self, name, ids)
        found.append((run.id, [each.data.id for each in Catalog(store).versions(name)]))
        return gone

    monkeypatch.setattr(Catalog, "retract", late)
    with pytest.raises(InputError) as caught:
        leftovers.remove(store, target)
    ((run_id, seen),) = found
    assert f"is used by a run that lives, {run_id}" in str(caught.value)
    assert not set(seen) & set(target.ids)
    for _ in ("by the summary", "by the log"):
        after = Catalog(store).versions("tokens")
        assert [(each.number, each.data) for each in after] == [(each.number, each.data) for each in before]
        store.delete("datasets/tokens/_summary.json")
    assert {file.key: store.get(f"{top}/{file.key}") for top in kept for file in store.find(top)} == files
    shown = project / ".runner/datasets/tokens/data"
    assert shown.resolve() == project / ".runner/datasets/tokens" / before[-1].data.folder


def test_a_result_that_goes_while_it_is_taken_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that found a result looks once more after it has published it: what was being removed is not skipped."""
    store = tmp_path / "s"
    first = publish(tmp_path, store, 2, R1)

    def late(self: Catalog, record: Any, _publish: Any = Catalog.publish_versions) -> None:
        monkeypatch.undo()
        _publish(self, record)
        (target,) = leftovers.targets(Store(str(store)), ["out"])
        leftovers.remove(Store(str(store)), target)

    monkeypatch.setattr(Catalog, "publish_versions", late)
    second = publish(tmp_path, store, 2, R2)
    assert not second["skipped"]
    assert second["outputs"] == first["outputs"]
    assert rows_of(store, "out").num_rows == 20
    assert publish(tmp_path, store, 2, R3)["skipped"]


def test_what_is_used_by_now_is_not_removed(project: Path) -> None:
    """Between a look and a removal a run may have come to life: what it may use stays, and the rest goes."""
    store = Store(str(project / ".runner"))
    publish(project, Path(store.root), 2, R1, sink="tokens")
    publish(project, Path(store.root), 2, R2, sink="gone")
    Catalog(store).retract("gone", [v.data.id for v in Catalog(store).versions("gone")])
    (project / ".runner/results/.tmp-0123456789ab-x").write_text("")
    old(Path(store.root), 8)
    named = leftovers.targets(store, ["tokens"])
    found, _ = leftovers.leftovers(store)
    run = unstarted()
    before = store.find()
    for target in [*named, *(each for each in found if each.kind != "temporary file")]:
        with pytest.raises(InputError, match=f"is used by a run that lives, {run.id}"):
            leftovers.remove(store, target)
    assert store.find() == before
    keep.gc(store, Output.JSON, yes=True, older=None)


def test_gc_goes_on_after_what_cannot_go(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told in words, and is not among what was removed."""
    first, second = lost(), lost()
    reap = Run.reap
    monkeypatch.setattr(Run, "reap", lambda self: reap(self) if self.id == second.id else _refuse())
    said = json.loads(call("gc", "--yes", "-o", "json").stdout)
    assert [(each["kind"], each["name"]) for each in said["found"]] == [("lost run", second.id)]
    assert f"lost run {first.id} is left: the API is away" in said["notes"]
    assert (first.status, second.status) == ("lost", "failed")


def test_gc_ends_no_lost_run_of_somebody_elses(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write the store may write a bundle that leads to machines of others: it takes a word."""
    run = lost()
    monkeypatch.setenv("RUNNER_KEY", "x" * 32)
    said = json.loads(call("gc", "--yes", "-o", "json").stdout)
    assert said["found"] == []
    assert f"runner cancel {run.id}" in said["notes"][0]
    assert run.status == "lost"


def _refuse() -> None:
    raise ApiError(0, "the API is away")


def test_a_removal_that_was_cut_is_finished(project: Path) -> None:
    """Whatever is left of the run: its log says that it goes, or only the log is left. Others without a line stay."""
    runs = []
    for part in ("whole", "log", "alive"):
        call("submit", "tiny", "-d")
        run = last()
        old_id = run.id.replace(run.id[1:7], "200101")
        os.rename(run.bundle.store.root, project / ".runner" / old_id)
        run.bundle.leave_index()
        runs.append(Run(run.bundle.root, old_id))
        if part == "log":
            for name in (each for each in runs[-1].bundle.store.list() if each != "log"):
                runs[-1].bundle.store.delete_tree(name)
        if part == "alive":
            runs[-1].bundle.log.append(Resumed())
    found, _ = leftovers.leftovers(runs[0].bundle.root)
    assert {(each.kind, each.name) for each in found} == {("half-removed run", run.id) for run in runs[:2]}
    for target in found:
        leftovers.remove(runs[0].bundle.root, target)
    assert [run.id in run.bundle.root.list() for run in runs] == [False, False, True]


def test_looking_removes_nothing(tmp_path: Path) -> None:
    """What is found is as it was."""
    publish(tmp_path, tmp_path / "s", 2, R1)
    old(tmp_path / "s", 30)
    opened = Store(str(tmp_path / "s"))
    before = opened.find()
    leftovers.leftovers(opened)
    leftovers.targets(opened, ["out"])
    assert opened.find() == before
    with pytest.raises(InputError):
        leftovers.targets(opened, ["nothing"])

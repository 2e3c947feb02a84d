"""One bad object in a store breaks nothing else: it is passed over and named, and refused where it is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.client import leftovers, lookup, prepare, submit
from runner.client.run import Run
from runner.data.catalog import Catalog
from runner.data.results import Results
from runner.data.versions import VersionMade
from runner.errors import RunFailed, StoreBroken, UserCodeError
from runner.record import Bundle, RunState, fold
from runner.record.entries import (
    AttemptBegan,
    CancelAsked,
    CheckpointPublished,
    Ended,
    Resumed,
    StageStarted,
    SupervisorBegan,
)
from runner.record.failures import Failure
from runner.record.kept import checkpoints
from runner.record.trust import user
from runner.store import Log
from runner.store.events import Unknown
from runner.store.log import ENTRY_BYTES
from runner.untrusted.shapes import MOST_SIGNS
from tests.unit.cli.kit import call, call_json, unstarted, write_lines, write_project
from tests.unit.record.index_kit import read_index

BAD, OLD = "r260101-000000aa-bad-aa", "r260101-000001aa-good-bb"
FOLDER = f"_versions/{OLD}-1"
DEEP = b'{"kind":"submitted","at":1.0,"data":' + b"[" * 100_000
#: What may lie in the place of JSON.
BROKEN = [
    b"", b"hi", b"\xff\xfe", b"null", b"[]", b"3", b'"x"', b"{}", b'{"kind":', DEEP, b"[" * 5000 + b"]" * 5000,
    b'{"kind": 5, "at": 1.0, "data": {}}', b'{"kind": "ended", "at": 1e999, "data": {}}',
    b'{"kind": "ended", "at": NaN, "data": {}}', b'{"kind": "ended", "at": true, "data": {}}',
    b'{"kind": "ended", "at": "x", "data": {}}', b'{"kind": "ended", "at": 1.0, "data": []}',
    b'{"kind": "ended", "at": 1.0}', b'{"kind": "ended", "at": ' + b"9" * 5000 + b', "data": {}}',
    b'{"kind": "ended", "at": 1.0, "data": {"state": "excellent"}}',
    b'{"kind": "ended", "at": 1.0, "data": {"state": ["failed"]}}',
    b'{"kind": "submitted", "at": 1.0, "data": {"job": "../x", "legs": []}}',
    b'{"kind": "submitted", "at": 1.0, "data": {"job": "x", "legs": [["../x"]]}}',
    b'{"kind": "submitted", "at": 1.0, "data": {"job": "x", "legs": {"a": 1}}}',
    b'{"kind": "stage-done", "at": 1.0, "data": {"stage": "train", "result": {}}}',
    b'{"kind": "attempt", "at": 1.0, "data": {"leg": -1, "attempt": 1}}',
    b'{"kind": "attempt", "at": 1.0, "data": {"leg": 0, "attempt": 1e300}}',
]  # fmt: skip


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that goes on, in a project of its own."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    return unstarted()


def version(catalog: Catalog, name: str, number: int = 1) -> None:
    catalog.publish_version(name, VersionMade(f"{number:032d}", FOLDER, rows=1, bytes=1, files=1, run=OLD))


@pytest.mark.parametrize("content", BROKEN)
def test_a_bad_log_is_passed_over_in_a_list(good: Run, content: bytes) -> None:
    """`ps`, `gc` and what opens other runs go on; the bad run is shown as what it is, and its object named."""
    store = good.bundle.root
    store.put(f"index/{BAD}~x~live~0", b"")
    store.put(f"{BAD}/log/00000001.json", content)
    seen = call("ps")
    assert [line.split()[:3] for line in seen.stdout.splitlines()[1:]] == [
        [good.id, "tiny", "submitted"],
        [BAD, "x", "unreadable"],
    ]
    assert f"passed over: {store.url}/{BAD}/log/00000001.json: " in seen.stderr
    assert [row["state"] for row in call_json("ps")] == ["submitted", "unreadable"]
    assert call_json("ps", "--user", user())[0]["run"] == good.id
    assert BAD in call("gc").stderr
    for words in (["status"], ["logs"], ["metrics"], ["why"], ["checkpoints"]):
        call(*words, good.id)
        refused = call(*words, BAD, code=1)
        assert "error: " in refused.stderr
        assert "Traceback" not in refused.stderr
    assert [run.id for run in lookup.runs(state="submitted")] == [good.id]
    call("status")  # @last


@pytest.mark.parametrize(
    "name",
    [
        "a~b~c~d",
        f"{BAD}~x~live~x",
        f"{BAD}~x~failed~inf",
        f"{BAD}~x~failed~nan",
        f"{BAD}~x~failed~1e3",
        "..~a~live~0",
        f"{BAD}~x~live~0~running~t~%00%zz",
        f"{BAD}~x~failed~007",
    ],
)
def test_a_bad_line_of_the_index_disturbs_nobody(good: Run, name: str) -> None:
    """It is named once; runs are listed, found, submitted, and go on to write their own line."""
    (Path(good.bundle.root.url) / "index" / name).touch()
    assert f"index/{name}: no line of the index" in call("ps").stderr
    good.bundle.index("tiny", "running", 3.0)
    assert [line.state for line in read_index(good.bundle.root)] == ["running"]
    assert runner_submits()
    assert leftovers.living(good.bundle.root).unreadable == set()


def runner_submits() -> bool:
    return submit.create(prepare.prepare("tiny")).status == "submitted"


def test_what_follows_a_gap_in_a_log_is_none(good: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """Nor are files that are no entries; the first is named, and a writer writes the entry that is missing."""
    good.bundle.store.put("log/00000009.json", b"{}")
    good.bundle.store.put("log/notes.txt", b"hi")
    fresh = Bundle(good.bundle.root, good.id)
    assert [entry.number for entry in fresh.log.read()] == [1, 2]
    assert "log/00000009.json: no entry 3 before it" in capfd.readouterr().err
    assert fresh.log.append(CancelAsked(by="x")).number == 3


def test_an_entry_that_nobody_would_take_is_not_written(good: Run) -> None:
    """A writer that has gone wrong raises, and the log stays as it was."""
    wrong: Any = 3
    for event in (CancelAsked(by=wrong), Ended("over"), Unknown("note", {"x": "y" * ENTRY_BYTES})):
        with pytest.raises(StoreBroken):
            good.bundle.log.append(event)
    assert [entry.kind for entry in Bundle(good.bundle.root, good.id).log.read()] == ["submitted", "supervisor"]


def test_an_entry_of_1_gib_is_not_read(good: Run) -> None:
    """Nor a spec: both are refused by their size. They take no disk here."""
    store = good.bundle.root
    store.put(f"index/{BAD}~x~live~0", b"")
    for key in (f"{BAD}/log/00000001.json", f"{good.id}/spec.json"):
        store.put(key, b"{}")
        os.truncate(store.path(key), 1 << 30)
    assert "1,073,741,824 bytes" in call("ps").stderr
    assert "1,073,741,824 bytes" in call("status", good.id, code=1).stderr


def test_entries_that_are_one_file_do_not_fill_memory(good: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is no longer read where its entries together are too much, though each is small enough and costs nothing:
    a link, or a copy within a bucket."""
    most = 40_000
    monkeypatch.setattr("runner.store.log.MOST_SIGNS", most)
    store, log = good.bundle.root, f"{good.id}/log"
    entry = {"kind": "x", "at": 1.0, "data": {"x": [[]] * (most // 8)}}
    store.put(f"{log}/00000002.json", json.dumps(entry).encode())
    for number in range(3, 12):
        store.copy(f"{log}/00000002.json", f"{log}/{number:08d}.json")
    assert "with the entries before it more than" in call("ps").stderr
    assert "00000005.json" in call("status", good.id, code=1).stderr


def test_json_of_millions_of_lists_is_not_made(good: Run) -> None:
    """What two bytes say takes sixty in memory: JSON of too many values is refused before it is parsed."""
    text = b'{"x":[' + b"[]," * (MOST_SIGNS // 2) + b"0]}"
    good.bundle.root.put(f"{good.id}/spec.json", text)
    assert "commas, colons and brackets" in call("status", good.id, code=1).stderr


SPECS: list[Callable[[dict[str, Any]], Any]] = [
    lambda spec: [], lambda spec: {}, lambda spec: {**spec, "job": []}, lambda spec: {**spec, "cluster": None},
    lambda spec: {**spec, "job": {"stages": [{"name": "../x", "kind": "Train"}]}},
    lambda spec: {**spec, "job": {"stages": [{"name": "a"}]}}, lambda spec: {**spec, "job": {"stages": {}}},
    lambda spec: {**spec, "cluster": {"backend": ["local"]}}, lambda spec: {**spec, "legs": "train"},
    lambda spec: {**spec, "start_from": {"run": "..", "stages": {}}},
    lambda spec: {**spec, "cluster": {"backend": "kuberay", "kubernetes": {"namespace": 3}}},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(SPECS)))
def test_a_bad_spec_is_refused_by_name(good: Run, number: int) -> None:
    """The run cannot be shown; others are."""
    other = unstarted()
    other.bundle.store.put("spec.json", json.dumps(SPECS[number](other.spec())).encode())
    assert len(call_json("ps")) == 2
    for words in (["status"], ["why"], ["logs"]):
        refused = call(*words, other.id, code=1)
        assert f"{other.id}/spec.json" in refused.stderr
        assert "Traceback" not in refused.stderr
    call("gc")
    call("status", good.id)


@pytest.mark.parametrize(
    "content",
    [
        *BROKEN[:18],
        b'{"kind": "version", "at": 1.0, "data": {}}',
        b'{"kind": "removed", "at": 1.0, "data": {}}',
        b'{"kind": "version", "at": 1.0, "data": {"id": "../x", "folder": "..", "rows": 1, "bytes": 1, "files": 1}}',
    ],
)
def test_a_bad_dataset_is_passed_over(good: Run, content: bytes) -> None:
    """`data ls` shows the others, a submit reads them, and gc takes nothing of the bad one for what nobody needs."""
    store = good.bundle.root
    version(Catalog(store), "fine")
    store.put("datasets/spoilt/_log/00000001.json", content)
    store.put(f"datasets/spoilt/{FOLDER}/part.parquet", b"x")
    seen = call("data", "ls")
    assert [line.split()[0] for line in seen.stdout.splitlines()[1:]] == ["fine"]
    assert "datasets/spoilt/_log/00000001.json" in seen.stderr
    assert "datasets/spoilt" in call("data", "ls", "spoilt", code=1).stderr
    assert Catalog(store).names() == ["fine"]
    found, _ = leftovers.leftovers(store, now=4e9)
    assert not [target for target in found if "spoilt" in target.name]
    assert runner_submits()


def test_what_cannot_be_read_can_be_removed_by_name(good: Run) -> None:
    """Nobody knows whether it is needed, so it is for the user to say."""
    store = good.bundle.root
    store.put(f"index/{BAD}~x~live~0", b"")
    store.put(f"{BAD}/log/00000001.json", b"{}")
    store.put("datasets/spoilt/_log/00000001.json", b"{}")
    assert "cannot be read" in call("rm", BAD, "spoilt", code=2).stdout
    call("rm", BAD, "spoilt", "--yes")
    assert [line.run_id for line in read_index(store)] == [good.id]
    assert not store.exists(BAD)
    assert not store.exists("datasets/spoilt")


@pytest.mark.parametrize(
    "summary",
    [
        b'{"number": 1, "mark": "MARK", "versions": [{"number": 1, "at": 1, "data": {}}]}',
        b'{"number": 1, "mark": "MARK", "versions": 3}',
    ],
)
def test_a_summary_that_lies_is_not_believed(good: Run, summary: bytes) -> None:
    """It has the mark of the log's last entry, and versions that are none: the log is read instead."""
    store = good.bundle.root
    version(Catalog(store), "fine")
    mark = Log(store, "datasets/fine/_log").mark(1)
    assert mark is not None
    store.put("datasets/fine/_summary.json", summary.replace(b"MARK", mark.encode()))
    assert [each.data.rows for each in Catalog(store).versions("fine")] == [1]


@pytest.mark.parametrize("content", [*BROKEN, b'{"sinks": {"": {"dataset": "../x"}}}'])
def test_a_bad_record_is_made_again(good: Run, content: bytes) -> None:
    """It is passed over by whoever looks for a result, and replaced by the next one who has made it."""
    catalog, key = Catalog(good.bundle.root), "a" * 20
    record = {
        "key": key, "at": 1.0, "run": OLD, "sinks": {}, "code": {}, "config": {}, "settings": {}, "inputs": {},
        "deps": {}, "packages": {},
    }  # fmt: skip
    Results(catalog.store).publish(key, record)
    (name,) = good.bundle.root.list(f"results/{key}")
    good.bundle.root.put(f"results/{key}/{name}", content)
    good.bundle.root.put(f"results/{key}/notes", b"")
    assert Results(catalog.store).of_key(key) == []
    Results(catalog.store).publish(key, record)
    assert Results(catalog.store).of_key(key) == [record]


@pytest.mark.parametrize(
    "name",
    [
        "at",
        "step",
        "epoch",
        "samples",
        "samples_per_s",
        "wait_share",
        "steps_total",
        "loss",
        "fetch_requests",
        "fetched_bytes",
    ],
)
def test_rows_of_nothing_are_shown(good: Run, name: str) -> None:
    """Whatever a row of a training that goes on says null of, and in whatever order such rows come."""
    good.bundle.log.append(AttemptBegan(leg=1, attempt=1))
    good.bundle.log.append(StageStarted(stage="train", attempt=1))
    row = {"at": 2.0, "step": 1, "epoch": 0, "loss": 2.0, "samples": 3, "samples_per_s": 4.0, "wait_share": 0.5,
           "steps_total": 9, "fetch_requests": 2}  # fmt: skip
    rows = [row, {**row, "at": 3.0, "step": 2}, {**row, "at": 4.0, "step": 3, name: None}]
    write_lines(good.bundle, "train", "metrics", "rank0", *map(json.dumps, rows))
    for words in (["status"], ["metrics"], ["metrics", "--plot", "a.png"], ["status", "-o", "json"]):
        call(*words)


def test_bad_segments_cost_only_themselves(good: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """Lines that are no rows, names that are no offsets, times that are none, a pipe in the place of a segment."""
    good.bundle.log.append(AttemptBegan(leg=1, attempt=1))
    good.bundle.log.append(StageStarted(stage="train", attempt=1))
    write_lines(good.bundle, "train", "logs", "rank0", "hello")
    rows = ['{"at": 1.0, "step": 1, "loss": 2.0}', "x", "[]", '{"step": "x"}', '{"step": NaN}', '{"at": 1e300}',
            '{"step": ' + "9" * 400 + "}", '{"step": 2, "loss": ' + "9" * 400 + "}", "[" * 9999,
            '{"at": 3.0, "step": 3, "loss": NaN}']  # fmt: skip
    write_lines(good.bundle, "train", "metrics", "rank0", *rows)
    base = Path(good.bundle.store.path("stages/train/1"))
    for name in ("logs/rank0/x", "metrics/rank0/0", "logs/rank0/-1", "logs/rank0/²"):
        (base / name).touch()
    (base / "logs/rank1").mkdir()
    os.mkfifo(base / "logs/rank1/000000000000000")
    for folder in ("²", "x", "../1", "zz/1/logs/rank0"):
        (base.parent / folder).mkdir(parents=True, exist_ok=True)
    times = base / "times/rank0/000000000000000"
    times.parent.mkdir(parents=True)
    for content in (b"3", b"[[1]]", b'[["x", 1]]', b"[[0, 1e300]]", DEEP):
        times.write_bytes(content)
        assert call("logs", good.id).stdout == "train/rank0 | hello\n"
    assert [row["step"] for row in good.rows("train", "rank0")] == [1, 3]
    for words in (["status"], ["metrics"], ["why"], ["checkpoints"], ["logs", "--tail", "1"]):
        call(*words)
    assert "passed over" in capfd.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        *BROKEN,
        b'{"files": {"../x": {"sha256": "a", "bytes": 1}}}',
        b'{"files": {"x": {"sha256": "a", "bytes": 1e300}}}',
    ],
)
def test_a_bad_manifest_of_a_checkpoint_is_passed_over(good: Run, content: bytes) -> None:
    """It is listed as gone, and the one beside it as it is."""
    for step in (1, 2):
        key = good.bundle.checkpoint("train", step, 1)
        good.bundle.store.put(
            f"{key}/manifest.json", b'{"files": {"x": {"sha256": "", "bytes": 5}}}' if step == 1 else content
        )
        good.bundle.log.append(CheckpointPublished("train", step, key, {}, best=False, sha256=""))
    assert [each.bytes for each in checkpoints(good.bundle, good.view())] == [5, None]
    assert call("checkpoints").stdout.splitlines()[2].split()[2:4] == ["last", "gone"]
    call("status")


def test_an_entry_may_name_only_what_the_run_has(good: Run) -> None:
    """A stage, or a leg, that it does not have makes its log unreadable."""
    for event in (StageStarted("other", 1), AttemptBegan(7, 1), Resumed(again=("other",))):
        other = unstarted()
        other.bundle.log.append(event)
        with pytest.raises(StoreBroken):
            fold(other.bundle.log.read())


def test_long_words_of_an_error_fit_into_an_entry(good: Run) -> None:
    """Their two ends are kept: a run that fails with all of its data in an exception must still be able to end."""
    told = Failure.of(UserCodeError("a" + "x" * 50_000_000 + "z", trace="b" + "y" * 50_000_000))
    good.bundle.log.append(Ended(state="failed", error=told))
    view = Run(good.bundle.root, good.id).view()
    assert view.state is RunState.FAILED
    assert view.error is not None
    assert view.error.message.startswith("ax")
    assert view.error.message.endswith("xz")
    with pytest.raises(RunFailed):
        good.raise_error(view)


def test_a_log_may_not_choose_whom_a_cancel_reaches(good: Run, tmp_path: Path) -> None:
    """A process of this user's that is no supervisor of the run gets no signal, whatever the log says of it."""
    import signal
    import subprocess
    import sys

    from runner.worker import processes

    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        import psutil

        started = psutil.Process(victim.pid).create_time()
        good.bundle.log.append(SupervisorBegan(host=os.uname().nodename, pid=victim.pid, started=started))
        assert good.cancel()
        assert victim.poll() is None
        processes.note_supervisor(good.id, victim.pid)
        good._machines.nudge(good.view())
        assert victim.wait(10) == -signal.SIGTERM
    finally:
        victim.kill()
        victim.wait()
        processes.remove_scratch(good.id)


def test_the_temporary_folder_of_another_run_is_not_taken_for_ones_own() -> None:
    """Ids that differ in the job's name alone have one folder: it stays that of the run that made it."""
    from runner.errors import InputError
    from runner.worker import processes

    mine, theirs = "r260101-000000aa-mine-zz", "r260101-000000aa-evil-zz"
    folder = processes.scratch_folder(mine)
    try:
        (folder / "spool").mkdir()
        processes.remove_scratch(theirs)
        assert (folder / "spool").is_dir()
        with pytest.raises(InputError, match=mine):
            processes.scratch_folder(theirs)
    finally:
        assert not processes.remove_scratch(mine)

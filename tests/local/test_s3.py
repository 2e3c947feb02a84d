"""The store, the data and a whole run on a real S3 server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import runner
from runner.client import leftovers, published
from runner.client.run import Run
from runner.errors import StoreAway, StoreBroken
from runner.prep.stage import run_prep
from runner.record import Bundle, RunState
from runner.record.entries import Ended, NearlyDone, Submitted
from runner.record.index import LIVE, IndexLine, leave, lines_of, show
from runner.record.run_spec import RunSpec
from runner.spec import Dataset, Job, Prep, wire
from runner.store import Log, Store
from runner.store.events import Unknown
from runner.store.snapshots import EVERY
from runner.worker.pool.base import InlinePool
from runner.worker.scope import Scope
from tests.local.s3server import S3Server, at, free_port, serve
from tests.unit.prep.kit import R2, R3, ROOT, RUNS, write_shards
from tests.unit.record.index_kit import read_index
from tests.unit.record.spec_kit import SPEC

pytestmark = pytest.mark.timeout(900)  # the server is compiled the first time


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def s3(server: S3Server, request: pytest.FixtureRequest) -> Store:
    """A store in a folder of the test's own."""
    return Store(f"s3://{server.bucket}/{request.node.name}", server.options)


def test_create_is_refused_by_the_server_where_the_key_exists(s3: Store) -> None:
    """The second create is refused, and the first content stays."""
    assert s3.create("a/b", b"first")
    assert not s3.create("a/b", b"second")
    assert s3.get("a/b") == b"first"


def test_of_many_writers_exactly_one_creates(server: S3Server, s3: Store) -> None:
    """Among racing threads, each with a client of its own, exactly one wins; the object is that one's."""
    barrier, winners = threading.Barrier(8), []

    def write(number: int) -> None:
        mine = Store(s3.url, {**server.options, "skip_instance_cache": True})
        mine.exists("warm")
        barrier.wait()
        if mine.create("contested", b"%d" % number):
            winners.append(number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert s3.get("contested") == b"%d" % winners[0]


def test_a_process_of_a_run_waits_for_a_store_that_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A client is told at once that nothing answers; a store with patience writes when the server is back."""
    port = free_port()
    url, options = "s3://lake/away", {**at(port).options, "skip_instance_cache": True}
    with pytest.raises(StoreAway, match="does not answer|Could not connect"):
        Store(url, options).create("a", b"x")
    made: list[bool] = []
    writer = threading.Thread(target=lambda: made.append(Store(url, options, patience_s=60).create("a", b"x")))
    capsys.readouterr()
    writer.start()
    deadline = time.monotonic() + 60
    while "trying again" not in capsys.readouterr().err:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with serve(tmp_path, port) as back:
        writer.join(60)
        assert made == [True]
        assert Store(url, back.options).get("a") == b"x"


def test_the_log_loses_nothing(server: S3Server, s3: Store) -> None:
    """Racing writers leave a log without gaps that holds every entry."""

    def write(name: str) -> None:
        log = Log(Store(s3.url, {**server.options, "skip_instance_cache": True}), "log")
        for number in range(5):
            log.append(Unknown(name, {"n": number}))

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = Log(s3, "log").read()
    assert [e.number for e in entries] == list(range(1, 21))


def test_a_long_log_is_read_in_a_handful_of_requests(s3: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server tells the MD5 of what it holds, so that snapshots count: one that lies does not."""
    log = Log(s3, "log")
    for number in range(EVERY + 3):
        log.append(Unknown("note", {"n": number}))
    asked: list[str] = []
    get_all = Store.get_all
    monkeypatch.setattr(Store, "get_all", lambda self, wanted: asked.extend(wanted) or get_all(self, wanted))
    assert Log(s3, "log").read() == log.read()
    snapshot = f"log/snapshot-{EVERY:08d}.json"
    assert asked == [snapshot, *(f"log/{EVERY + number:08d}.json" for number in (1, 2, 3))]
    s3.put(snapshot, s3.get(snapshot).replace(b"note", b"lies"))
    assert Log(s3, "log").read() == log.read()


def test_a_runs_line_is_found_among_those_of_others(s3: Store) -> None:
    """The server lists what begins with a run's id, and nothing beside it; a line that moves leaves none behind."""
    others = [IndexLine(f"r26010{day}-000000-a-222", "a", "failed", 1.0) for day in range(1, 5)]
    for line in others:
        show(s3, line)
    for state in (LIVE, "succeeded", LIVE):
        new = IndexLine("r260102-000001-a-222", "a", state, 2.0)
        show(s3, new)
        assert lines_of(s3, new.run_id) == [new]
        assert sorted(read_index(s3), key=lambda line: line.run_id) == [*others[:2], new, *others[2:]]
    leave(s3, new.run_id)
    assert read_index(s3) == others


def test_an_object_is_refused_by_its_size_before_it_is_read(s3: Store) -> None:
    """Empty ones and those of just that size are read, and an absent one is none."""
    for data in (b"", b"12345"):
        s3.put("x", data)
        assert s3.get("x", 5) == data
    with pytest.raises(StoreBroken, match="5 bytes, and at most 4"):
        s3.get("x", 4)
    with pytest.raises(FileNotFoundError):
        s3.get("y")


def test_what_is_no_name_is_not_found(s3: Store) -> None:
    """Objects may be called anything on S3."""
    bucket, _, folder = s3.path().partition("/")
    for name in ("\x1b[2J", "a\u202eb", "st*r", "good"):
        s3.fs.call_s3("put_object", Bucket=bucket, Key=f"{folder}/f/{name}", Body=b"")
    assert [found.key for found in s3.find("f")] == s3.list("f") == ["good"]


def test_objects_are_listed_replaced_and_removed(s3: Store, tmp_path: Path) -> None:
    """list, put, put_file, exists and the deletions do on S3 what they do on a disk."""
    s3.put("f/a/deep", b"1")
    s3.put("f/b", b"2")
    s3.put("f/b", b"3")
    (tmp_path / "file").write_bytes(b"4")
    s3.put_file("f/c", tmp_path / "file")
    assert s3.list("f") == ["a", "b", "c"]
    assert (s3.get("f/b"), s3.get("f/c"), s3.list("none")) == (b"3", b"4", [])
    assert s3.exists("f/b")
    assert s3.exists("f/a")
    assert not s3.exists("f/z")
    s3.delete("f/b")
    s3.delete("f/b")
    s3.delete_tree("f/a")
    assert s3.list("f") == ["c"]
    with pytest.raises(FileNotFoundError):
        s3.get("f/b")


def test_files_are_found_and_copied_within_the_store(s3: Store) -> None:
    """find lists every file with its size and time; copy makes an object of another without a download."""
    before = time.time() - 60  # clocks may differ a little
    s3.put("f/a/deep", b"12345")
    s3.copy("f/a/deep", "g/b")
    (deep,) = s3.find("f")
    assert (deep.key, deep.bytes, deep.at > before) == ("a/deep", 5, True)
    assert [(found.key, found.bytes) for found in s3.find("g/b")] == [("", 5)]
    assert s3.find("none") == ()
    assert s3.get("g/b") == b"12345"
    with pytest.raises(FileNotFoundError):
        s3.copy("f/none", "g/c")


def test_snapshots_go_with_their_log(s3: Store) -> None:
    """rm takes them with the run; one that comes behind, of a writer that was late, is found by gc."""
    bundle = Bundle(s3, "r260101-000000-a-222")
    bundle.write_spec(RunSpec.from_json(SPEC))
    bundle.log.append(Submitted(job="a", legs=(("train",),), by="ann"))
    for _ in range(EVERY - 2):
        bundle.log.append(NearlyDone())
    bundle.log.append(Ended(state="succeeded", error=None))
    bundle.index("a", "succeeded", 1.0)
    snapshot = f"{bundle.run_id}/log/snapshot-{EVERY:08d}.json"
    data = s3.get(snapshot)
    (target,) = leftovers.targets(s3, [bundle.run_id])
    assert target.bytes == sum(file.bytes for file in s3.find(bundle.run_id))
    leftovers.remove(s3, target)
    assert s3.find() == ()
    s3.put(snapshot, data)
    assert Bundle(s3, bundle.run_id).log.read() == []
    found, _ = leftovers.leftovers(s3)
    for target in found:
        leftovers.remove(s3, target)
    assert s3.find() == ()


def double(batch: pa.RecordBatch, config: object) -> dict[str, object]:
    return {"y": batch.column("x").to_numpy() * 2}


def publish(s3: Store, tmp_path: Path, shards: int) -> dict[str, Any]:
    """Prepare so many shards into the dataset "out", as a run of its own."""
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in", shards=shards)), sink="out")
    run, job = RUNS[shards], Job("test", [stage])
    Bundle(s3, run).write_spec(RunSpec.from_json({**SPEC, "job": wire.to_json(job, ROOT)}))
    made = run_prep(stage, Scope(s3, run, 0, 1, tmp_path / "scratch", inline=True, job=job), InlinePool())
    s3.delete_tree(run)  # only what it has published is looked at
    return made


def test_published_versions_lie_alone_on_s3_too(s3: Store, tmp_path: Path) -> None:
    """Each version's folder is read as it stands; a shard that was there is copied in the store; rm and gc clean up."""
    first, second = (publish(s3, tmp_path, shards) for shards in (2, 3))
    assert second["tasks_reused"] == 2
    for result, rows in ((first, 20), (second, 30)):
        folder = f"{s3.url}/{result['places']['out']}"
        assert pq.read_table(folder.removeprefix("s3://"), filesystem=s3.fs).num_rows == rows
        assert runner.Stream(folder, batch_size=1, options=s3.options).rows == rows
    newest = published.dataset("out", store=s3)
    assert newest.to_table().column("y").to_pylist() == [*range(0, 60, 2)]
    assert (len(newest.files), newest.options) == (3, s3.options)
    assert published.dataset("out", version=R2, store=s3).rows == 20
    (older,) = leftovers.targets(s3, [f"out@{first['outputs']['out']}"])
    leftovers.remove(s3, older)
    assert published.dataset("out", store=s3).to_table().num_rows == 30
    found, _ = leftovers.leftovers(s3, now=time.time() + 8 * 86400)
    assert {target.kind for target in found} == {"result"}
    for target in found:
        leftovers.remove(s3, target)
    assert published.dataset("out", store=s3).lineage()["run"] == R3


def test_a_whole_run_with_bundle_and_data_on_s3(
    server: S3Server, project: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: Callable[[Run], None]
) -> None:
    """A run whose store is on S3 ends well, and its loss curve equals that of the same run on a disk, bit for bit."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    run = runner.submit("tiny", store=f"s3://{server.bucket}/runs", steps=10)
    assert run.wait(180) is RunState.SUCCEEDED
    nothing_left(run)
    local = runner.submit("tiny", steps=10)
    assert local.wait(120) is RunState.SUCCEEDED
    assert run.metrics()["loss"].to_pylist() == local.metrics()["loss"].to_pylist()
    assert run.results()["double"]["outputs"] == local.results()["double"]["outputs"]
    assert any("the end" in line for line in run.logs("train", rank=0))

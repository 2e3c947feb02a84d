"""The store, the data and a whole run on real servers of every kind of object store."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.asyn import sync
from typer.main import get_command

import runner
from runner.cli.commands import app
from runner.client import leftovers, published
from runner.client.run import Run
from runner.errors import StoreAway, StoreBroken, StoreRefused, UserCodeError
from runner.prep.stage import run_prep
from runner.record import Bundle, RunState
from runner.record.entries import Ended, NearlyDone, Submitted
from runner.record.index import LIVE, IndexLine, leave, lines_of, show
from runner.record.run_spec import RunSpec
from runner.spec import Dataset, Job, Prep, wire
from runner.store import Log, Store, bucket
from runner.store.events import Unknown
from runner.store.place import AZURE, S3
from runner.store.snapshots import EVERY
from runner.worker.pool.base import InlinePool
from runner.worker.scope import Scope
from tests.local.object_stores import SERVERS, Server
from tests.local.servers import free_port, relayed
from tests.unit.prep.kit import R2, R3, ROOT, RUNS, write_shards
from tests.unit.record.index_kit import read_index
from tests.unit.record.spec_kit import SPEC

pytestmark = pytest.mark.timeout(900)  # the server is compiled the first time


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    serve, _ = SERVERS[request.param]
    with serve(tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def remote(server: Server, request: pytest.FixtureRequest) -> Store:
    """A store in a folder of the test's own."""
    return Store(f"{server.url}/{request.node.originalname}", server.options)


def test_create_is_refused_by_the_server_where_the_key_exists(remote: Store) -> None:
    """The second create is refused, and the first content stays."""
    assert remote.create("a/b", b"first")
    assert not remote.create("a/b", b"second")
    assert remote.get("a/b") == b"first"


def test_of_many_writers_exactly_one_creates(server: Server, remote: Store) -> None:
    """Among racing threads, each with a client of its own, exactly one wins; the object is that one's."""
    barrier, winners = threading.Barrier(8), []

    def write(number: int) -> None:
        mine = Store(remote.url, {**server.options, "skip_instance_cache": True})
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
    assert remote.get("contested") == b"%d" % winners[0]


def test_a_process_of_a_run_waits_for_a_store_that_is_away(
    server: Server, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client is told at once that nothing answers; a store with patience writes when the server is back."""
    there = SERVERS[request.node.callspec.params["server"]][1](free_port())
    url, options = f"{there.url}/away", {**there.options, "skip_instance_cache": True}
    with pytest.raises(StoreAway, match="does not answer|[Cc]ould not connect|Cannot connect"):
        Store(url, options).create("a", b"x")
    made: list[bool] = []
    writer = threading.Thread(target=lambda: made.append(Store(url, options, patience_s=60).create("a", b"x")))
    capsys.readouterr()
    writer.start()
    deadline = time.monotonic() + 60
    while "trying again" not in capsys.readouterr().err:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with relayed(there.port, server.port):  # a server that had just begun might have no bucket yet
        writer.join(60)
        assert made == [True]
        assert Store(url, there.options).get("a") == b"x"


def test_the_log_loses_nothing(server: Server, remote: Store) -> None:
    """Racing writers leave a log without gaps that holds every entry."""

    def write(name: str) -> None:
        log = Log(Store(remote.url, {**server.options, "skip_instance_cache": True}), "log")
        for number in range(5):
            log.append(Unknown(name, {"n": number}))

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = Log(remote, "log").read()
    assert [e.number for e in entries] == list(range(1, 21))


def test_a_long_log_is_read_in_a_handful_of_requests(remote: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server tells the MD5 of what it holds, so that snapshots count: one that lies does not."""
    log = Log(remote, "log")
    for number in range(EVERY + 3):
        log.append(Unknown("note", {"n": number}))
    asked: list[str] = []
    get_all = Store.get_all
    monkeypatch.setattr(Store, "get_all", lambda self, wanted: asked.extend(wanted) or get_all(self, wanted))
    assert Log(remote, "log").read() == log.read()
    snapshot = f"log/snapshot-{EVERY:08d}.json"
    assert asked == [snapshot, *(f"log/{EVERY + number:08d}.json" for number in (1, 2, 3))]
    remote.put(snapshot, remote.get(snapshot).replace(b"note", b"lies"))
    assert Log(remote, "log").read() == log.read()


def test_a_runs_line_is_found_among_those_of_others(remote: Store) -> None:
    """The server lists what begins with a run's id, and nothing beside it; a line that moves leaves none behind."""
    others = [IndexLine(f"r26010{day}-000000-a-222", "a", "failed", 1.0) for day in range(1, 5)]
    for line in others:
        show(remote, line)
    for state in (LIVE, "succeeded", LIVE):
        new = IndexLine("r260102-000001-a-222", "a", state, 2.0)
        show(remote, new)
        assert lines_of(remote, new.run_id) == [new]
        assert sorted(read_index(remote), key=lambda line: line.run_id) == [*others[:2], new, *others[2:]]
    leave(remote, new.run_id)
    assert read_index(remote) == others


def test_an_object_is_refused_by_its_size_before_it_is_read(remote: Store) -> None:
    """Empty ones and those of just that size are read, and an absent one is none."""
    for data in (b"", b"12345"):
        remote.put("x", data)
        assert remote.get("x", 5) == data
    with pytest.raises(StoreBroken, match="5 bytes, and at most 4"):
        remote.get("x", 4)
    with pytest.raises(FileNotFoundError):
        remote.get("y")


def put_raw(store: Store, name: str) -> None:
    """An empty object whose name no store would give."""
    bucket, _, folder = store.path().partition("/")
    if store.kind == S3:
        store.fs.call_s3("put_object", Bucket=bucket, Key=f"{folder}/{name}", Body=b"")
    else:
        sync(store.fs.loop, store._bucket._put, f"{folder}/{name}", b"")


def test_a_bucket_that_is_not_there_is_told(server: Server) -> None:
    """By whoever writes, and by whoever lists; what is absent in a bucket is only absent."""
    store = Store(f"{server.url.replace('lake', 'nolake')}/runs", server.options)
    for act in (lambda: store.create("x", b""), lambda: store.put("x", b""), lambda: store.list("x"), store.find):
        with pytest.raises(StoreRefused, match="there is no bucket 'nolake'"):
            act()


def test_what_is_no_name_is_not_found(remote: Store) -> None:
    """Objects may be called anything."""
    controls = () if remote.kind == AZURE else ("\x1b[2J",)  # Azurite cannot list such a name
    for name in (*controls, "a\u202eb", "st*r", "good"):
        put_raw(remote, f"f/{name}")
    assert [found.key for found in remote.find("f")] == remote.list("f") == ["good"]


def test_objects_are_listed_replaced_and_removed(remote: Store, tmp_path: Path) -> None:
    """list, put, put_file, exists and the deletions do what they do on a disk."""
    remote.put("f/a/deep", b"1")
    remote.put("f/b", b"2")
    remote.put("f/b", b"3")
    (tmp_path / "file").write_bytes(b"4")
    remote.put_file("f/c", tmp_path / "file")
    assert remote.list("f") == ["a", "b", "c"]
    assert (remote.get("f/b"), remote.get("f/c"), remote.list("none")) == (b"3", b"4", [])
    assert remote.exists("f/b")
    assert remote.exists("f/a")
    assert not remote.exists("f/z")
    remote.delete("f/b")
    remote.delete("f/b")
    remote.delete_tree("f/a")
    assert remote.list("f") == ["c"]
    with pytest.raises(FileNotFoundError):
        remote.get("f/b")


def test_files_are_found_and_copied_within_the_store(remote: Store) -> None:
    """find lists every file with its size and time; copy makes an object of another without a download."""
    before = time.time() - 60  # clocks may differ a little
    remote.put("f/a/deep", b"12345")
    remote.copy("f/a/deep", "g/b")
    (deep,) = remote.find("f")
    assert (deep.key, deep.bytes, deep.at > before) == ("a/deep", 5, True)
    assert [(found.key, found.bytes) for found in remote.find("g/b")] == [("", 5)]
    assert remote.find("none") == ()
    assert remote.get("g/b") == b"12345"
    with pytest.raises(FileNotFoundError):
        remote.copy("f/none", "g/c")


def test_large_files_come_and_go_in_parts(remote: Store, tmp_path: Path) -> None:
    """A file of several parts is the same when it comes back; one that is larger than it may be is not begun."""
    data = random.Random(7).randbytes((40 << 20) + 5)
    (tmp_path / "large").write_bytes(data)
    remote.put_file("x", tmp_path / "large")
    remote.put("y", data[:100])
    remote.copy("x", "z")
    for key, content in (("x", data), ("y", data[:100]), ("z", data)):
        remote.get_file(key, tmp_path / "back", len(content))
        assert (tmp_path / "back").read_bytes() == content
    with pytest.raises(StoreBroken, match="41,943,045 bytes, and at most 41,943,044"):
        remote.get_file("x", tmp_path / "none", len(data) - 1)
    with pytest.raises(FileNotFoundError):
        remote.get_file("none", tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "large"]


def test_a_folder_of_many_objects_is_listed_and_removed_whole(remote: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page; what only begins with the folder's name stays."""
    monkeypatch.setattr(bucket, "PAGE", 10)
    names = [f"{number:03d}" for number in range(33)]
    for name in names:
        remote.put(f"f/{name}", b"")
    remote.put("f-other", b"1")
    assert remote.list("f") == [found.key for found in remote.find("f")] == names
    assert [found.key for found in remote.objects("f")] == names
    assert remote.list("f", "00") == names[:10]
    remote.delete_tree("f")
    assert not remote.exists("f")
    assert [found.key for found in remote.find()] == ["f-other"]


def test_snapshots_go_with_their_log(remote: Store) -> None:
    """rm takes them with the run; one that comes behind, of a writer that was late, is found by gc."""
    bundle = Bundle(remote, "r260101-000000-a-222")
    bundle.write_spec(RunSpec.from_json(SPEC))
    bundle.log.append(Submitted(job="a", legs=(("train",),), by="ann"))
    for _ in range(EVERY - 2):
        bundle.log.append(NearlyDone())
    bundle.log.append(Ended(state="succeeded", error=None))
    bundle.index("a", "succeeded", 1.0)
    snapshot = f"{bundle.run_id}/log/snapshot-{EVERY:08d}.json"
    data = remote.get(snapshot)
    (target,) = leftovers.targets(remote, [bundle.run_id])
    assert target.bytes == sum(file.bytes for file in remote.find(bundle.run_id))
    leftovers.remove(remote, target)
    assert remote.find() == ()
    remote.put(snapshot, data)
    assert Bundle(remote, bundle.run_id).log.read() == []
    found, _ = leftovers.leftovers(remote)
    for target in found:
        leftovers.remove(remote, target)
    assert remote.find() == ()


def double(batch: pa.RecordBatch, config: object) -> dict[str, object]:
    return {"y": batch.column("x").to_numpy() * 2}


def publish(remote: Store, tmp_path: Path, shards: int) -> dict[str, Any]:
    """Prepare so many shards into the dataset "out", as a run of its own."""
    stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in", shards=shards)), sink="out")
    run, job = RUNS[shards], Job("test", [stage])
    Bundle(remote, run).write_spec(RunSpec.from_json({**SPEC, "job": wire.to_json(job, ROOT)}))
    made = run_prep(stage, Scope(remote, run, 0, 1, tmp_path / "scratch", inline=True, job=job), InlinePool())
    remote.delete_tree(run)  # only what it has published is looked at
    return made


def test_published_versions_lie_alone_there_too(remote: Store, tmp_path: Path) -> None:
    """Each version's folder is read as it stands; a shard that was there is copied in the store; rm and gc clean up."""
    first, second = (publish(remote, tmp_path, shards) for shards in (2, 3))
    assert second["tasks_reused"] == 2
    for result, rows in ((first, 20), (second, 30)):
        folder = f"{remote.url}/{result['places']['out']}"
        assert pq.read_table(remote.path(result["places"]["out"]), filesystem=remote.fs).num_rows == rows
        assert runner.Stream(folder, batch_size=1, options=remote.options).rows == rows
    newest = published.dataset("out", store=remote)
    assert newest.to_table().column("y").to_pylist() == [*range(0, 60, 2)]
    assert (len(newest.files), newest.options) == (3, remote.options)
    assert published.dataset("out", version=R2, store=remote).rows == 20
    (older,) = leftovers.targets(remote, [f"out@{first['outputs']['out']}"])
    leftovers.remove(remote, older)
    assert published.dataset("out", store=remote).to_table().num_rows == 30
    found, _ = leftovers.leftovers(remote, now=time.time() + 8 * 86400)
    assert {target.kind for target in found} == {"result"}
    for target in found:
        leftovers.remove(remote, target)
    assert published.dataset("out", store=remote).lineage()["run"] == R3


def test_a_whole_run_with_bundle_and_data_there(
    server: Server,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    nothing_left: Callable[[Run], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run whose store is a bucket fails, is resumed and ends well, with the loss curve of a run on a disk, bit for
    bit; commands show it there, and rm and gc leave nothing of it.
    """
    for name, value in {**server.environment, "RUNNER_STORE": f"{server.url}/runs"}.items():
        monkeypatch.setenv(name, value)
    run = runner.submit("tiny", steps=10, fail_rank=1)
    with pytest.raises(UserCodeError, match="rank 1 is unhappy"):
        run.wait(180)
    assert call("resume", run.id, "--set", "fail_rank=-1", "--detach") == 0
    assert run.wait(180) is RunState.SUCCEEDED
    nothing_left(run)
    local = runner.submit("tiny", store=str(project / ".runner"), steps=10)
    assert local.wait(120) is RunState.SUCCEEDED
    assert run.metrics()["loss"].to_pylist() == local.metrics()["loss"].to_pylist()
    assert run.results()["double"]["outputs"] == local.results()["double"]["outputs"]
    capsys.readouterr()
    for words, shown in ((["ps"], run.id), (["logs", run.id], "the end"), (["data", "ls"], "doubled")):
        assert call(*words) == 0
        assert shown in capsys.readouterr().out
    assert call("rm", run.id, "doubled", "numbers", "--yes") == 0
    assert call("gc", "--yes", "--older-than", "0s") == 0
    left = [found.key for found in Store(f"{server.url}/runs").find()]
    assert all(re.fullmatch(r"datasets/\w+/(_log/\d+|_summary)\.json", key) for key in left)


def call(*words: str) -> int:
    """A command in this process; the code with which it ends."""
    try:
        get_command(app)(list(words), standalone_mode=False)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0

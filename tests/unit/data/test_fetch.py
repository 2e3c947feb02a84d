"""Fetching: which requests are made, in which order, how often, and when one is made twice."""

from __future__ import annotations

import gzip
import io
import itertools
import pickle
import random
import tarfile
import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data import lanes
from runner.data.files.changed import FileChanged, Version
from runner.data.files.engines.base import Attempt, Data, Passing, Unfit, of_status
from runner.data.files.fetch import fetched, latency, patience, source
from runner.data.files.fetch import pool as pools
from runner.data.files.fetch import promise as promises_of
from runner.data.files.fetch.latency import Latencies
from runner.data.files.fetch.patience import Budget
from runner.data.files.fetch.source import Source
from runner.data.files.fetch.spans import SHAPES, Shape, spans
from runner.data.files.overlay import Overlay
from runner.data.files.ranges import RangeFile
from runner.data.files.readable import lend
from runner.data.formats import parquet_footer
from runner.data.manifest import Manifest, build
from runner.data.stream import Stream
from runner.errors import DataAway
from tests.unit.data.kit import RemoteFileSystem, register_remote

BYTES = random.Random(0).randbytes(3 << 20)


def test_near_ranges_are_one_request_and_long_ones_several() -> None:
    """All that is wanted is covered, nothing twice, no request is too long, and no gap too wide."""
    draw = random.Random(1)
    for _ in range(200):
        size, shape = draw.randrange(1, 5000), Shape(draw.randrange(50), draw.randrange(1, 300))
        wanted = [(draw.randrange(size + 50), draw.randrange(400)) for _ in range(draw.randrange(12))]
        asked = spans(wanted, size, shape)
        covered = bytearray(size)
        for start, end in asked:
            assert 0 < end - start <= shape.most
            assert not any(covered[start:end])
            covered[start:end] = b"x" * (end - start)
        needed = bytearray(size)
        for start, length in wanted:
            needed[start : start + length] = b"x" * len(needed[start : start + length])
        assert all(c or not n for c, n in zip(covered, needed, strict=True))
        extra = bytes(c and not n for c, n in zip(covered, needed, strict=True)).split(b"\0")
        assert max(map(len, extra)) <= shape.gap


def test_a_request_is_late_when_nineteen_of_twenty_were_far_quicker() -> None:
    """Only requests of about that size count, and only where there were enough."""
    seen = Latencies()
    assert seen.late_after(1000) == latency.UNKNOWN_S
    for i in range(100):
        seen.add(1000, 1.0 + i / 100)
    assert seen.late_after(900) == pytest.approx(1.5 * 1.94)
    assert seen.late_after(9000) == latency.UNKNOWN_S
    assert sum(seen.may_hedge() for _ in range(100)) == 9


def test_tries_are_given_back_by_what_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has tried again too often does so no more, until requests succeed."""
    monkeypatch.setattr(patience, "TRIES", 3.0)
    budget = Budget()
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]
    for _ in range(5):
        budget.earn()
    assert [budget.spend() for _ in range(2)] == [True, False]


def test_tags_are_compared_as_far_as_they_can_be() -> None:
    """A tag that is no MD5 says nothing against one; from the first answer on the tag stays the same."""
    one, other = "0" * 32, "1" * 32
    for etag, told, of_content, same in (
        (f"md5:{one}", f'"{one}"', True, True),
        (f"md5:{one}", f'"{other}"', True, False),
        (f"md5:{one}", f'"{other}"', False, True),
        (f"md5:{one}", f'"{other}-2"', True, True),
        (f"sha256:{one * 2}", f'"{other}"', True, True),
        (f"sha256:{one * 2} md5:{one}", f'"{one}"', True, True),
        (f"sha256:{one * 2} md5:{one}", f'"{other}"', True, False),
        (f"sha256:{one * 2} md5:{one}", f'"{other}-2"', True, True),
        (f"etag:{one}-2", f'"{one}-2"', True, True),
        (f"etag:{one}-2", f'"{one}-3"', True, False),
        ("etag:abc", 'W/"abc"', True, True),
        ("", '"abc"', True, True),
    ):
        version = Version(etag)
        if same:
            version.check(told, of_content=of_content)
            version.check("")
            with pytest.raises(FileChanged):
                version.check('"another"')
        else:
            with pytest.raises(FileChanged):
                version.check(told, of_content=of_content)
    assert Version(f"md5:{one}").wanted == Version(f"sha256:{one * 2}").wanted == ""
    assert Version("etag:abc").wanted == "abc"
    assert pickle.loads(pickle.dumps(FileChanged("x"))).errno


def test_statuses_are_told_apart() -> None:
    """Absent, refused, for a moment, and anything else."""
    kinds = {404: FileNotFoundError, 403: PermissionError, 429: Passing, 503: Passing, 500: Passing}
    assert {status: type(of_status(status, "")) for status in kinds} == kinds
    assert of_status(400, "") is None
    assert of_status(501, "") is None


class Scripted:
    """An engine that does what a test says, and knows how many requests are under way."""

    def __init__(self, act: Callable[[int, Attempt], None] = lambda number, attempt: None) -> None:
        self._act, self._lock = act, threading.Lock()
        self.requests = self.running = self.most = 0
        self.asked: list[tuple[int, int]] = []

    def get(self, start: int, end: int, attempt: Attempt) -> Data:
        with self._lock:
            self.requests += 1
            self.running += 1
            self.most = max(self.most, self.running)
            number = self.requests
            self.asked.append((start, end))
        try:
            self._act(number, attempt)
            return BYTES[start:end]
        finally:
            with self._lock:
                self.running -= 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scripted], RangeFile]:
    """A file whose engine is the test's, on a pool of its own."""
    monkeypatch.setattr(pools, "_pool", None)
    monkeypatch.setattr(source, "_latencies", {})
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setitem(SHAPES, "", Shape(gap=0, most=1 << 16))

    def make(engine: Scripted) -> RangeFile:
        monkeypatch.setattr(source, "engine", lambda *_, **__: engine)
        return RangeFile(RemoteFileSystem(), "x", len(BYTES))

    return make


RANGES = [(start, 1000) for start in range(0, 1 << 20, 1 << 14)]


def wanted(file: RangeFile) -> bool:
    return all(data == BYTES[start : start + 1000] for start, data in file.fetch(RANGES))


def test_requests_are_under_way_side_by_side_and_no_more_than_allowed(
    made: Callable[[Scripted], RangeFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as may be wait for each other, and never one more."""
    monkeypatch.setattr(pools, "AT_ONCE", 5)
    together = threading.Barrier(5)
    engine = Scripted(lambda number, _: together.wait(20) and None if number <= 5 else None)
    assert wanted(made(engine))
    assert engine.most == 5


def test_what_is_read_ahead_stays_within_the_budget_and_blocks_nobody(
    made: Callable[[Scripted], RangeFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that nobody takes hold the budget, and who waits for another part gets it nevertheless."""
    monkeypatch.setattr(pools, "BUDGET_BYTES", 3500)
    engine = Scripted()
    file = made(engine)
    held = file._source.ask(RANGES)
    for part in held[:3]:
        assert part.over.wait(20)
    assert engine.requests == 3
    assert file.read_at(10, 77) == BYTES[77:87]
    assert held[40].take() == BYTES[held[40].start : held[40].end]
    for part in held:
        part.drop()
    assert wanted(file)


def test_what_passes_is_tried_again_and_counted(
    made: Callable[[Scripted], RangeFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third request fails for a moment; the bytes are right, and the counters say what it took."""
    monkeypatch.setattr(latency, "LEAST_S", 60.0)

    def act(number: int, _: Attempt) -> None:
        if number % 3 == 0:
            raise Passing("503")

    before, engine = fetched(), Scripted(act)
    assert wanted(made(engine))
    took = fetched() - before
    assert (took.requests, took.bytes) == (engine.requests, 1000 * len(RANGES))
    assert took.retries == engine.requests // 3


def test_what_fails_for_good_is_not_tried_again(made: Callable[[Scripted], RangeFile]) -> None:
    """An absent file is one request, and the error names the file."""

    def act(number: int, _: Attempt) -> None:
        raise FileNotFoundError("404")

    engine = Scripted(act)
    with pytest.raises(FileNotFoundError, match="no such file.*x"):
        made(engine).read_at(10, 0)
    assert engine.requests == 1


def test_a_process_without_tries_left_gives_up(
    made: Callable[[Scripted], RangeFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget of the process ends tries before their time."""
    monkeypatch.setattr(patience, "TRIES", 4.0)
    monkeypatch.setattr(patience, "_budget", Budget())

    def act(number: int, _: Attempt) -> None:
        raise Passing("503")

    engine = Scripted(act)
    with pytest.raises(DataAway, match="bytes 0 to 10 do not come \\(503\\)"):
        made(engine).read_at(10, 0)
    assert engine.requests == 5


def test_a_late_request_is_sent_a_second_time(made: Callable[[Scripted], RangeFile]) -> None:
    """A request that stands still does not hold its reader up, is broken off, and few are sent twice."""
    broken = threading.Event()

    def act(number: int, attempt: Attempt) -> None:
        if number == 50:
            attempt.breaks_by(broken.set)
            assert broken.wait(60)
            raise Passing("broken off")

    before, engine = fetched(), Scripted(act)
    assert wanted(made(engine))
    assert broken.wait(20)
    took = fetched() - before
    assert 1 <= took.hedges <= 8
    assert took.retries == 0


def test_the_other_engine_is_asked_where_one_is_unfit(
    made: Callable[[Scripted], RangeFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that the direct engine cannot make is made by fsspec's, and so are all that follow."""

    def act(number: int, _: Attempt) -> None:
        raise Unfit("no")

    direct, plain = Scripted(act), Scripted()
    file = made(direct)
    monkeypatch.setattr(source, "engine", lambda *_, plain=False, **__: generic if plain else direct)
    generic = plain
    assert file.read_at(10, 0) == BYTES[:10]
    assert file.read_at(10, 10) == BYTES[10:20]
    assert (direct.requests, plain.requests) == (1, 2)


def test_requests_side_by_side_all_go_to_the_other_engine(
    made: Callable[[Scripted], RangeFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of requests that the direct engine refuses at the same time, as where a signature has ended, each is made."""
    together = threading.Barrier(2)

    def act(number: int, _: Attempt) -> None:
        if number <= 2:
            together.wait(10)
        raise Unfit("403")

    direct, generic = Scripted(act), Scripted()
    file = made(direct)
    monkeypatch.setattr(source, "engine", lambda *_, plain=False, **__: generic if plain else direct)
    assert wanted(file)
    assert direct.requests >= 2
    assert generic.requests == len(RANGES)


def test_who_reads_on_finds_what_follows_on_its_way(made: Callable[[Scripted], RangeFile]) -> None:
    """Read from start to end, a file is asked for ahead and each byte once; read here and there it is not."""
    engine = Scripted()
    file, parts = made(engine), []
    while data := file.read(100_000):
        parts.append(bytes(data))
    assert b"".join(parts) == BYTES
    covered = sorted(engine.asked)
    assert covered[0][0] == 0
    assert covered[-1][1] == len(BYTES)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(covered))
    engine.asked.clear()
    for start in (1 << 20, 5, 2 << 20):
        file.seek(start)
        assert file.read(300_000) == BYTES[start : start + 300_000]
    assert sum(end - start for start, end in engine.asked) == 900_000


def test_nothing_is_read_ahead_beyond_where_the_reader_stops(made: Callable[[Scripted], RangeFile]) -> None:
    """A unit that ends within a file is read ahead to its end alone."""
    engine = Scripted()
    file = made(engine)
    file = RangeFile(RemoteFileSystem(), "x", len(BYTES), until=1_500_000)
    file.seek(200_000)
    for at in range(200_000, 1_500_000, 325_000):
        assert file.read(325_000) == BYTES[at : at + 325_000]
    assert (min(engine.asked)[0], max(end for _, end in engine.asked)) == (200_000, 1_500_000)
    file.close()


def test_what_is_kept_has_the_last_word(made: Callable[[Scripted], RangeFile]) -> None:
    """Bytes that replace those of the file stay when the range around them is fetched; others are the file's."""
    overlay = Overlay(lend(made(Scripted())))
    overlay.keep(1000, b"0123456789")
    overlay.fetch([(500, 2000), (900, 200), (5000, 10)])
    right = BYTES[:1000] + b"0123456789" + BYTES[1010:]
    assert overlay.read_at(3000, 0) == right[:3000]
    assert overlay.native().read_at(100_000, 950) == right[950:100_950]


def test_a_thread_ends_when_there_is_nothing_to_fetch(
    made: Callable[[Scripted], RangeFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that fetches no more has no thread of the pool's, and begins again when it does."""
    monkeypatch.setattr(pools, "_IDLE_S", 0.01)
    file = made(Scripted())
    assert wanted(file)
    deadline = time.monotonic() + 20
    while pools.pool()._threads:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert wanted(file)


def test_secrets_of_a_url_are_not_shown() -> None:
    """What a web server's URL carries besides host and path is in no error."""
    import fsspec

    fs = fsspec.filesystem("http", skip_instance_cache=True)
    assert Source(fs, "http://ann:pass@host/a.parquet?token=1", 1).url == "http://host/a.parquet"


@pytest.mark.parametrize("format", ["parquet", "ipc", "arrows", "files", "jsonl", "csv", "text", "tar", "jsonl.gz"])
def test_a_unit_is_fetched_before_it_is_read(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for ahead is read without a request more; what is given up is let go of."""
    remote = register_remote(monkeypatch)
    fs = remote()
    for number in range(2):
        fs.pipe_file(f"/data/{number}.{'parquet' if format == 'files' else format}", _written(format, number))
    kind = {"arrows": "ipc"}.get(format, format.partition(".")[0])
    manifest = build("remote://data", kind, count=True)
    names = {"parquet": ["a", "c"], "ipc": ["a", "c"], "files": ["path", "bytes"], "tar": ["__key__", "txt"]}.get(kind)
    names = names or manifest.schema.names
    units = [(shard, unit) for shard, one in enumerate(manifest.shards) for unit in range(len(one.units))]
    rows = [batch.to_pylist() for shard, unit in units for batch in manifest.read(shard, [unit], names)]
    promises = [manifest.ahead(shard, unit, names) for shard, unit in units]
    assert all(promises)
    for promise in promises:
        assert promise is not None
        for part in promise._parts:
            assert part.over.wait(20)  # type: ignore[attr-defined]
    remote.reads.clear()
    assert [batch.to_pylist() for shard, unit in units for batch in manifest.read(shard, [unit], names)] == rows
    # a header of CSV is read by itself, and an archive is asked whether it is the one that was listed
    assert len(remote.reads) <= (len(units) if kind == "csv" else 0)
    last = manifest.ahead(*units[0], names)
    assert last is not None
    last.drop()
    assert not promises_of._parts
    assert not pools.pool()._held


def many_groups(monkeypatch: pytest.MonkeyPatch) -> tuple[type[RemoteFileSystem], Manifest]:
    """A remote file of 12 row groups of 100 rows."""
    remote, sink = register_remote(monkeypatch), pa.BufferOutputStream()
    pq.write_table(pa.table({"x": range(1200), "y": range(1200)}), sink, row_group_size=100, use_dictionary=False)
    remote().pipe_file("/data/a.parquet", sink.getvalue().to_pybytes())
    return remote, build("remote://data/a.parquet", count=True)


def test_a_stream_asks_for_several_units_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one decoding thread the requests of six units wait for each other; each unit is asked for once an epoch."""
    remote, manifest = many_groups(monkeypatch)
    together, numbers, read = threading.Barrier(6), itertools.count(), RemoteFileSystem.cat_file
    monkeypatch.setattr(latency, "LEAST_S", 60.0)

    def cat_file(self: RemoteFileSystem, *arguments: Any, **more: Any) -> bytes:
        if next(numbers) < 6:
            together.wait(60)
        return read(self, *arguments, **more)

    monkeypatch.setattr(remote, "cat_file", cat_file)
    remote.reads.clear()
    with Stream(manifest.select(["x"]), batch_size=100, threads=1, as_="numpy", timeout_s=60) as stream:
        assert sorted(x for batch in stream for x in batch["x"].tolist()) == list(range(1200))
    assert len(remote.reads) == 12


def test_remote_files_are_looked_at_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """The footers of eight files are on their way at the same time: none is asked for once another is there."""
    remote, read = register_remote(monkeypatch), RemoteFileSystem.cat_file
    asked, all_asked = set(), threading.Event()
    for number in range(8):
        remote().pipe_file(f"/data/{number}.parquet", _written("parquet", number))

    def cat_file(self: RemoteFileSystem, path: str, **more: Any) -> bytes:
        asked.add(path)
        if len(asked) == 8:
            all_asked.set()
        assert all_asked.wait(60)
        return read(self, path, **more)

    monkeypatch.setattr(remote, "cat_file", cat_file)
    assert build("remote://data").rows == 8 * 5000


def test_a_stream_that_is_closed_lets_go_of_what_it_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a break nothing is held for nobody, and the rest is read all the same."""
    monkeypatch.setattr(pools, "_pool", None)
    monkeypatch.setattr(lanes, "SMALL_BYTES", 0)
    _, manifest = many_groups(monkeypatch)
    with Stream(manifest, batch_size=10, threads=1, as_="numpy", shuffle=False) as stream:
        first = next(stream)["x"].tolist()
        stream.close()
        assert not promises_of._parts
        deadline = time.monotonic() + 20
        while pools.pool()._held:  # a request that was under way still comes
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert first + [x for batch in stream for x in batch["x"].tolist()] == list(range(1200))


def _written(format: str, number: int) -> bytes:
    """A file of 5,000 rows, or of some samples."""
    rows = range(number, number + 5000)
    if format == "jsonl.gz":
        return gzip.compress(_written("jsonl", number))
    if format == "jsonl":
        return b"".join(b'{"a": %d}\n' % row for row in rows)
    if format in ("csv", "text"):
        return b"a,b\n" + b"".join(b"%d,%d\n" % (row, -row) for row in rows)
    file = io.BytesIO()
    if format == "tar":
        with tarfile.open(fileobj=file, mode="w") as archive:
            for row in rows[:200]:
                member = tarfile.TarInfo(f"{row}.txt")
                member.size = 5
                archive.addfile(member, io.BytesIO(b"%05d" % row))
        return file.getvalue()
    columns = dict.fromkeys("abc", rows)
    if format in ("ipc", "arrows"):
        table = pa.table(columns)
        with (pa.ipc.new_stream if format == "arrows" else pa.ipc.new_file)(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
        return file.getvalue()
    pq.write_table(pa.table(columns), file, row_group_size=1000, use_dictionary=False)
    return file.getvalue()


def test_a_lane_that_begins_leaves_what_the_others_have_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start of a stream of several lanes nothing that was asked for is given up, and nothing asked for twice."""
    monkeypatch.setattr(lanes, "SMALL_BYTES", 0)
    monkeypatch.setattr(lanes, "BLOCK_BYTES", 800)
    monkeypatch.setattr(lanes, "WINDOW_BYTES", 800)
    remote, manifest = many_groups(monkeypatch)
    assert manifest.lanes > 3
    given_up: list[int] = []
    drop = pools.Part.drop
    monkeypatch.setattr(pools.Part, "drop", lambda part: (given_up.append(part.start), drop(part))[1])
    remote.reads.clear()
    with Stream(manifest, batch_size=100, threads=1, as_="numpy") as stream:
        assert sum(len(batch["x"]) for batch in stream) == 1200
        assert not given_up
    assert len(remote.reads) == 12


def test_threads_that_need_a_footer_read_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many threads that want one file's footer at the same time one reads it; others are no one's business."""
    remote, manifest = many_groups(monkeypatch)
    monkeypatch.setattr(parquet_footer, "_kept", parquet_footer._Kept())
    arrived, slowly = threading.Barrier(8), remote.cat_file

    def cat_file(self: RemoteFileSystem, *arguments: Any, **more: Any) -> bytes:
        time.sleep(0.05)  # stands for the way there and back
        return slowly(self, *arguments, **more)

    monkeypatch.setattr(remote, "cat_file", cat_file)
    remote.reads.clear()
    shard = manifest.shards[0]

    def need() -> None:
        arrived.wait(10)
        assert parquet_footer.footer(manifest.url(shard), shard, None).metadata.num_rows == 1200

    threads = [threading.Thread(target=need) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(remote.reads) == 1


@pytest.mark.parametrize("format", ["jsonl", "csv", "text", "jsonl.gz"])
def test_a_small_file_of_lines_is_asked_for_once(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For units, encoding, types and rows of a plan together."""
    remote = register_remote(monkeypatch)
    monkeypatch.setattr(remote, "said", {"ETag": '"one-2"'})
    data = b'{"a": 1}\n{"a": 2}\n' if "jsonl" in format else b"a,b\n1,2\n3,4\n"
    remote().pipe_file(f"/lines/a.{format}", gzip.compress(data) if format.endswith("gz") else data)
    before = fetched()
    manifest = build("remote://lines", count=True)
    now = fetched() - before
    assert now.requests - now.hedges == 1
    assert manifest.rows == (3 if format == "text" else 2)

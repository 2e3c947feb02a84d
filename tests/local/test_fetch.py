"""Fetching from a real S3 server: every engine gives the same bytes, and faults on the way change nothing."""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import runner
from benchmarks.streaming.proxy import Manner, proxied
from runner.data.files.changed import FileChanged
from runner.data.files.engines import choose, s3
from runner.data.files.engines.generic import Generic
from runner.data.files.fetch import Fetched, fetched, patience
from runner.data.files.listing import list_files
from runner.data.files.opening import filesystem, open_input
from runner.data.files.ranges import RangeFile
from runner.data.formats import parquet_footer
from runner.data.manifest import build
from runner.data.stream import Stream
from runner.errors import DataAway, DataError
from tests.local.s3server import KEY, SECRET, S3Server, serve

pytestmark = pytest.mark.timeout(900)  # the server is compiled the first time

BYTES = random.Random(0).randbytes(24 << 20)
#: Many small ranges, and one that is cut.
RANGES = [(start, 40_000 + start % 7) for start in range(0, 16 << 20, 320 << 10)] + [(15 << 20, 9 << 20)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def folder(server: S3Server, request: pytest.FixtureRequest) -> str:
    """A folder of the test's own, with an object whose name must be quoted."""
    url = f"s3://{server.bucket}/{request.node.name.replace('[', '-').replace(']', '')}"
    put(server, f"{url}/a b+c=ü%20~.bin", BYTES)
    return url


def put(server: S3Server, url: str, data: bytes) -> None:
    fs, path = filesystem(url, server.options)
    fs.pipe_file(path, data)


def opened(url: str, server: S3Server) -> RangeFile:
    """The one file of a folder, as it is listed now."""
    (file,) = list_files(url, server.options)
    fs, path = filesystem(file.url, server.options)
    return RangeFile(fs, path, file.size, file.etag)


def read(file: RangeFile) -> dict[int, bytes]:
    return {start: bytes(data) for start, data in file.fetch(RANGES)}


def check(found: dict[int, bytes]) -> None:
    """All ranges are there, and each byte is the object's."""
    held = bytearray(len(BYTES))
    for start, data in found.items():
        assert BYTES[start : start + len(data)] == data
        held[start : start + len(data)] = b"x" * len(data)
    assert all(held[start : start + length].count(b"x") == length for start, length in RANGES)


@pytest.mark.parametrize("name", ["fsspec", ""])
def test_every_engine_gives_the_same_bytes(
    server: S3Server, folder: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranges, a read from start to end and one of everything give the object's bytes, by either engine."""
    monkeypatch.setenv(choose.VARIABLE, name)
    file = opened(folder, server)
    check(read(file))
    assert isinstance(file._source._fit()[0], Generic if name else s3.S3)
    parts = []
    while data := file.read(1_000_003):
        parts.append(bytes(data))
    assert b"".join(parts) == BYTES
    (listed,) = list_files(folder, server.options)
    with open_input(listed.url, listed.size, server.options, etag=listed.etag) as source:
        assert source.read() == BYTES


@pytest.mark.parametrize(
    "options",
    [
        {"s3_additional_kwargs": {"RequestPayer": "requester"}},
        {"requester_pays": True},
        {"config_kwargs": {"signature_version": "s3"}},
    ],
)
def test_options_that_a_signed_url_cannot_carry_are_left_to_fsspec(
    server: S3Server, options: dict[str, object]
) -> None:
    """Where the direct engine would say less than s3fs, it is s3fs that is asked."""
    fs, _ = filesystem("s3://lake/x", {**server.options, **options})
    assert isinstance(choose.engine(fs, "lake/x", 1, RangeFile(fs, "lake/x", 1)._source._version), Generic)


def test_credentials_of_the_environment_are_found(
    server: S3Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What s3fs finds in the environment is what the direct engine signs with."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    (listed,) = list_files(folder)
    fs, path = filesystem(listed.url, {"skip_instance_cache": True})
    file = RangeFile(fs, path, listed.size, listed.etag)
    check(read(file))
    assert isinstance(file._source._fit()[0], s3.S3)


@pytest.mark.parametrize("name", ["fsspec", ""])
def test_a_file_that_was_replaced_is_refused(
    server: S3Server, folder: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another object of the same size is an error that says so, not a mix: before the first read, and after it."""
    monkeypatch.setenv(choose.VARIABLE, name)
    before, (listed,) = opened(folder, server), list_files(folder, server.options)
    assert before.read_at(10, 5) == BYTES[5:15]
    put(server, listed.url, BYTES[::-1])
    with pytest.raises(FileChanged):
        before.read_at(10, 5)
    fs, path = filesystem(listed.url, server.options)
    with pytest.raises(FileChanged):
        RangeFile(fs, path, listed.size, listed.etag).read_at(10, 5)


def test_a_stream_names_the_file_that_was_replaced(server: S3Server, tmp_path: Path) -> None:
    """A Parquet file that was written anew after it was listed is an error with its URL."""
    url = f"s3://{server.bucket}/replaced/a.parquet"
    for seed in (0, 1):
        pq.write_table(pa.table({"x": np.random.default_rng(seed).random(1000)}), tmp_path / "a", compression="none")
        put(server, url, (tmp_path / "a").read_bytes())
        if not seed:
            manifest = build(url, options=server.options)
    with pytest.raises(DataError, match=r"(?s)replaced/a.parquet.*it has changed"):
        next(iter(runner.Stream(manifest, batch_size=10, as_="numpy")))


def test_what_is_refused_fails_at_once_and_tells_no_secret(server: S3Server, folder: str) -> None:
    """An absent object and wrong credentials are named with their URL, after no other try."""
    (listed,) = list_files(folder, server.options)
    before = fetched()
    wrong = {**server.options, "secret": "wrong-secret"}
    for options, path, kind in ((server.options, "lake/none", FileNotFoundError), (wrong, None, PermissionError)):
        fs, place = filesystem(listed.url, options)
        with pytest.raises(kind) as caught:
            RangeFile(fs, path or place, listed.size).read_at(10, 0)
        assert (path or place) in str(caught.value)
        told = f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"
        assert not any(secret in told for secret in (SECRET, "wrong-secret", "X-Amz-Signature"))
    assert (fetched() - before).retries == 0


def test_faults_change_nothing(server: S3Server, folder: str) -> None:
    """Refusals, cut bodies and stalls give the same bytes, with at most half as many requests again."""
    clean = fetched()
    for _ in range(4):
        check(read(opened(folder, server)))
    needed = (fetched() - clean).requests
    with proxied(server.endpoint, Manner(refuse=0.04, cut=0.04, stall=0.02, stall_s=3600, seed=1)) as proxy:
        before = fetched()
        file = opened(folder, S3Server(proxy.url, server.bucket))
        for _ in range(4):
            check(read(file))
        took, counts = fetched() - before, proxy.counts()
    assert counts.refused
    assert counts.cut
    assert counts.stalled
    assert took.retries
    assert took.hedges
    assert took.requests <= 1.5 * needed


def test_a_store_that_stays_away_is_named(server: S3Server, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When every try has failed the error says where, for which bytes, and what the server answered."""
    monkeypatch.setattr(patience, "RETRY_S", 0.5)
    (listed,) = list_files(folder, server.options)
    with proxied(server.endpoint, Manner(refuse=1)) as proxy:
        fs, path = filesystem(listed.url, S3Server(proxy.url, server.bucket).options)
        with pytest.raises(DataAway, match=r"(?s)s3://lake/.*bytes 5 to 15.*503") as caught:
            RangeFile(fs, path, listed.size, listed.etag).read_at(10, 5)
    assert KEY not in str(caught.value)


def test_a_reader_waits_no_longer_than_it_may(server: S3Server, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that stands still ends the wait, with an error that says for what and how long."""
    monkeypatch.setattr(patience, "READ_S", 0.5)
    (listed,) = list_files(folder, server.options)
    with proxied(server.endpoint, Manner(stall=1, stall_s=3600)) as proxy:
        fs, path = filesystem(listed.url, S3Server(proxy.url, server.bucket).options)
        with pytest.raises(DataAway, match="bytes 5 to 15 do not come"):
            RangeFile(fs, path, listed.size, listed.etag).read_at(10, 5)


def test_a_process_that_was_forked_reads_by_a_client_of_its_own(server: S3Server, folder: str) -> None:
    """A child goes on reading a file that its parent has read, while the parent's requests are under way."""
    file = opened(folder, server)
    check(read(file))
    reading = threading.Thread(target=lambda: [check(read(file)) for _ in range(3)])
    reading.start()
    child = os.fork()
    if not child:
        try:
            check(read(file))
            os._exit(0 if fetched() - Fetched() else 1)
        except BaseException:
            os._exit(2)
    reading.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_clients_of_a_process_outlive_its_forked_children(server: S3Server) -> None:
    """A child that uses S3 and collects its garbage leaves its parent's connections as they are."""
    fs, path = filesystem("s3://lake/forked", {**server.options, "config_kwargs": {"read_timeout": 20}})
    fs.pipe_file(path, b"1")
    for number in range(3):
        child = os.fork()
        if not child:
            try:
                del fs
                gc.collect()
                mine, _ = filesystem("s3://lake/forked", server.options)
                os._exit(0 if mine.cat_file(path) else 1)
            except BaseException:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        begin = time.monotonic()
        fs.pipe_file(path, b"%d" % number)
        assert time.monotonic() - begin < 20  # the client would try again only then
    assert fs.cat_file(path) == b"2"


def test_a_stream_gives_the_same_rows_whatever_happens_on_the_way(server: S3Server, tmp_path: Path) -> None:
    """Some columns of a table behind a faulty connection come as from the disk, by few more requests."""
    draw = np.random.default_rng(0)
    table = pa.table({f"c{i}": draw.random(40_000) for i in range(16)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2000, use_dictionary=False)
    put(server, "s3://lake/table/a.parquet", (tmp_path / "a.parquet").read_bytes())
    names = ["c1", "c7", "c12"]

    def rows(url: str, options: dict[str, object] | None = None) -> list[bytes]:
        with runner.Stream(url, batch_size=500, columns=names, options=options, seed=3, as_="numpy") as stream:
            return [batch[name].tobytes() for batch in stream for name in names]

    before = fetched()
    right = rows("s3://lake/table/a.parquet", server.options)
    needed = (fetched() - before).requests
    assert right == rows(str(tmp_path / "a.parquet"))
    faults = Manner(first_byte_s=0.01, refuse=0.05, cut=0.05, seed=2)
    with proxied(server.endpoint, faults) as proxy:
        before = fetched()
        assert rows("s3://lake/table/a.parquet", S3Server(proxy.url, server.bucket).options) == right
        counts = proxy.counts()
    assert counts.refused
    assert counts.cut
    assert (fetched() - before).requests <= 1.5 * needed


RANK = """
import json, sys
from runner.data.files.fetch import fetched
from runner.data.manifest import Manifest
from runner.data.stream import Stream
manifest, cache, rank = sys.argv[1:]
with open(manifest, "rb") as file:
    known = Manifest.from_bytes(file.read())
stream = Stream(known, 32, rank=int(rank), world_size=4, epochs=2, cache=cache, cache_bytes="1GiB", as_="numpy", seed=5)
found = [batch["id"].tolist() for batch in stream]
print(json.dumps([found, fetched().bytes]))
"""


def test_ranks_of_a_machine_fetch_each_byte_once(server: S3Server, tmp_path: Path) -> None:
    """Four ranks with a cache fetch each unit once in two epochs; the batches are those of a reader of the disk."""
    (tmp_path / "data").mkdir()
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 2**62, (6000, 128))
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 128)
        table = pa.table({"id": np.arange(6000) + 6000 * number, "x": column})
        pq.write_table(table, tmp_path / "data" / f"{number}.parquet", row_group_size=2000, compression="none")
        put(server, f"s3://lake/ranks/{number}.parquet", (tmp_path / "data" / f"{number}.parquet").read_bytes())
    disk = build(str(tmp_path / "data"))
    ranks = [Stream(disk, 32, rank=rank, world_size=4, epochs=2, as_="numpy", seed=5) for rank in range(4)]
    expected = [[batch["id"].tolist() for batch in rank] for rank in ranks]
    manifest = build("s3://lake/ranks", options=server.options)
    (tmp_path / "manifest").write_bytes(manifest.to_bytes())
    command = [sys.executable, "-c", RANK, str(tmp_path / "manifest"), str(tmp_path / "nvme")]
    running = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(4)]
    found = [json.loads(one.communicate(timeout=300)[0]) for one in running]
    assert [batches for batches, _ in found] == expected
    data, footers = sum(unit.length for _, unit in manifest.units), 4 * 4 * (128 << 10)
    assert data <= sum(used for _, used in found) < data + footers


WITH_FOOTERS = """
import json, sys
from runner.data.files.fetch import fetched
from runner.data.manifest import Manifest
from runner.data.stream import Stream
manifest, footers, rank = sys.argv[1:]
def read(path):
    with open(path, "rb") as file:
        return file.read()
known = Manifest.from_bytes(read(manifest), (lambda: read(footers)) if footers else None)
stream = Stream(known, 32, rank=int(rank), world_size=2, columns=["id"], as_="numpy", seed=5)
found = [batch["id"].tolist() for batch in stream]
told = fetched()
print(json.dumps([found, told.requests - told.hedges - told.retries, told.bytes]))
"""


def test_ranks_ask_no_file_for_its_footer(server: S3Server, tmp_path: Path) -> None:
    """With the footers that the plan has read a rank asks for the data alone, a request less for each of its files."""
    for number in range(12):
        table = pa.table({"id": np.arange(1000) + 1000 * number, "x": np.random.default_rng(number).random(1000)})
        pq.write_table(table, tmp_path / "one", row_group_size=500, compression="none", use_dictionary=False)
        put(server, f"s3://lake/footers/{number}.parquet", (tmp_path / "one").read_bytes())
    manifest = build("s3://lake/footers", options=server.options)
    (tmp_path / "manifest").write_bytes(manifest.to_bytes())
    (tmp_path / "footers").write_bytes(manifest.footers.to_bytes())

    def ranks(footers: str) -> list[tuple[list[list[int]], int, int]]:
        command = [sys.executable, "-c", WITH_FOOTERS, str(tmp_path / "manifest"), footers]
        running = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
        return [json.loads(one.communicate(timeout=300)[0]) for one in running]

    for (batches, requests, size), (same, more, larger) in zip(
        ranks(str(tmp_path / "footers")), ranks(""), strict=True
    ):
        assert batches == same
        assert requests == 24  # a row group each; this little data is one block, which every rank holds
        assert size < 24 * (500 * 8 + 300)
        assert more == requests + 12
        assert larger > size


def test_a_replaced_file_is_refused_whose_footer_is_known(server: S3Server, tmp_path: Path) -> None:
    """Another object of the same size is an error also where nobody asks for its footer."""
    url = "s3://lake/replaced-known/a.parquet"
    for seed in (0, 1):
        pq.write_table(pa.table({"x": np.random.default_rng(seed).random(1000)}), tmp_path / "a", compression="none")
        put(server, url, (tmp_path / "a").read_bytes())
        if not seed:
            manifest = build(url, options=server.options)
    parquet_footer._anew()
    assert manifest.footers.has(manifest.shards[0])
    with pytest.raises(DataError, match=r"(?s)replaced-known/a.parquet.*it has changed"):
        next(iter(runner.Stream(manifest, batch_size=10, as_="numpy")))


def test_a_folder_is_listed_while_it_is_asked_whether_there_is_one(
    server: S3Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On S3 both are on their way at the same time; a folder, a file and what is not there are told apart as ever."""
    together, (fs, _) = threading.Barrier(2), filesystem(folder, server.options)
    waiting = {"info", "find"}

    def beside(name: str, ask: Any) -> Any:
        def asked(path: str, *given: Any, **more: Any) -> Any:
            if name in waiting:  # the first time
                waiting.remove(name)
                together.wait(30)
            return ask(path, *given, **more)

        return asked

    for name in ("info", "find"):
        monkeypatch.setattr(fs, name, beside(name, getattr(fs, name)))
    found = list_files(folder, server.options)
    assert not waiting
    assert [file.size for file in found] == [len(BYTES)]
    assert list_files(found[0].url, server.options)[0].url == found[0].url
    with pytest.raises(DataError, match="no such file or folder"):
        list_files(f"{folder}-none", server.options)


OF_LARGE_GROUPS = """
import hashlib, json, sys
from runner.data.files.fetch import fetched, pool
from runner.data.stream import Stream, spill
url, options, memory, budget = json.loads(sys.argv[1])
pool.BUDGET_BYTES = budget
spills, make = [], spill.Spill.__init__
def init(self, batches):
    spills.append(1)
    make(self, batches)
spill.Spill.__init__ = init
digest = hashlib.sha256()
with Stream(url, 512, options=options, memory_bytes=memory, as_="numpy", seed=2, epochs=1) as stream:
    for batch in stream:
        digest.update(batch["x"].tobytes())
print(json.dumps([digest.hexdigest(), len(spills), fetched().bytes]))
"""


def test_row_groups_larger_than_all_budgets_are_read_within_them(server: S3Server, tmp_path: Path) -> None:
    """With little memory, and a budget of requests that no row group fits into: the rows of the disk, each byte fetched
    once. What can be read as it comes is; where there is memory for too little of it, by a temporary file."""
    (tmp_path / "data").mkdir()
    mib, rows = 1 << 20, 20_480
    for number in range(8):
        values = np.random.default_rng(number).random(rows * 128)
        table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(values), 128)})
        path = tmp_path / "data" / f"{number}.parquet"
        pq.write_table(table, path, row_group_size=rows, compression="none", use_dictionary=False)
        put(server, f"s3://lake/large/{number}.parquet", path.read_bytes())

    def read(url: str, options: dict[str, object] | None, memory: int | None) -> tuple[str, int, int]:
        command = [sys.executable, "-c", OF_LARGE_GROUPS, json.dumps([url, options, memory, 2 * mib])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        digest, spills, size = json.loads(done.stdout)
        return digest, spills, size

    digest, _, _ = read(str(tmp_path / "data"), None, None)
    data = 8 * rows * 128 * 8
    least = 8 * (8 + 4) * mib + 12 * mib + 2 * 2 * 8 * mib
    for memory, spilled in ((least, 8), (least + 2 * 8 * 12 * mib, 0)):
        found, spills, size = read("s3://lake/large", server.options, memory)
        assert (found, spills) == (digest, spilled)
        assert data <= size < 1.02 * data

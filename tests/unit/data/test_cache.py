"""The cache of remote ranges: fetched once for all processes, whole or not there, and within its bytes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.files.fetch import Fetched, counters, fetched
from runner.data.files.fetch.cache import Cache, folder_in
from runner.data.manifest import Manifest, build
from runner.data.stream import Stream
from runner.errors import DataError, SpecError
from tests import ROOT
from tests.unit.data.kit import register_remote


class Given:
    """Stands for a remote file: `pieces` are what it says, and each time that it is asked is written down."""

    def __init__(self, log: Path, hold: Callable[[], Any] = lambda: None) -> None:
        self.log, self.hold, self.key = log, hold, ("given://file", 100, "md5:1")

    def spans(self, ranges: Any) -> list[tuple[int, int]]:
        return [(start, start + length) for start, length in ranges]

    def ask_spans(self, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {spans}\n")
        self.hold()
        return spans

    def take(self, spans: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
        return ((start, bytes(range(start, end))) for start, end in spans)

    def count(self, more: Fetched) -> None:
        counters.count(more)

    @property
    def asked(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path / "asked")


def taken(cache: Cache, name: str, given: Given, ranges: Any = ((0, 10), (50, 20))) -> list[tuple[int, bytes]]:
    promise = cache.fetch(name, given, ranges)  # type: ignore[arg-type]
    found = [(part.start, bytes(part.take())) for part in promise._parts]
    promise.drop()
    return found


def test_an_entry_is_fetched_once(tmp_path: Path, given: Given) -> None:
    """What was fetched is read from the disk from then on, by another cache of the folder too; it is counted apart."""
    folder = folder_in(tmp_path / "nvme")
    expected = [(0, bytes(range(10))), (50, bytes(range(50, 70)))]
    before = fetched()
    assert taken(Cache(folder, 1000), "a", given) == expected
    assert taken(Cache(folder, 1000), "a", given) == expected
    assert (given.asked, (fetched() - before).kept) == (1, 30)
    assert taken(Cache(folder, 1000), "a", given, ((0, 10),)) == expected[:1]  # other ranges are not what is kept
    assert given.asked == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_entry_is_fetched_again(tmp_path: Path, given: Given, damage: str) -> None:
    """An entry that is not whole, or whose bytes have changed, counts as none, and is replaced."""
    folder = folder_in(tmp_path)
    cache = Cache(folder, 1000)
    expected = taken(cache, "a", given)
    (path,) = folder.glob("*.unit")
    data = bytearray(path.read_bytes())
    data[-1] ^= damage == "flipped"
    path.write_bytes(b"" if damage == "empty" else data[: -1 if damage == "cut" else None])
    assert taken(cache, "a", given) == taken(cache, "a", given) == expected
    assert given.asked == 2


def test_threads_that_need_the_same_wait_for_one(tmp_path: Path) -> None:
    """Of many who need an entry at once one fetches it."""
    arrived = threading.Barrier(4)
    given = Given(tmp_path / "asked")
    cache = Cache(folder_in(tmp_path), 1000)

    def need() -> None:
        arrived.wait(10)
        taken(cache, "a", given)

    threads = [threading.Thread(target=need) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert given.asked == 1


CHILD = """
import os, signal, sys
from pathlib import Path
from runner.data.files.fetch.cache import Cache, folder_in
from tests.unit.data.test_cache import Given, taken
folder, log, dies = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "dies"
given = Given(log, (lambda: os.kill(os.getpid(), signal.SIGKILL)) if dies else (lambda: None))
assert len(taken(Cache(folder_in(folder), 1000), "a", given)) == 2
"""


def test_processes_share_and_may_be_killed(tmp_path: Path) -> None:
    """A process that is killed while it fetches leaves its place to the next; then no other fetches again."""
    log = tmp_path / "asked"

    def child(dies: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), str(log), dies], cwd=ROOT)

    assert child("dies").wait(60) < 0
    others = [child("lives") for _ in range(3)]
    assert [one.wait(60) for one in others] == [0, 0, 0]
    assert Given(log).asked == 2


def test_those_needed_last_make_room(tmp_path: Path, given: Given) -> None:
    """The folder stays within its bytes: what is needed latest, or by nobody, goes; what is needed first is kept."""
    folder = folder_in(tmp_path)
    due = {"soon": 1.0, "later": 2.0, "last": 3.0}
    cache = Cache(folder, 250, due.get)
    for name in ("unknown", "last", "later", "soon"):
        taken(cache, name, given)
        assert sum(path.stat().st_size for path in folder.glob("*.unit")) <= 250
    assert sorted(path.stem for path in folder.glob("*.unit")) == ["later", "soon"]
    taken(cache, "last", given)  # is not kept in the place of what is needed before it
    assert sorted(path.stem for path in folder.glob("*.unit")) == ["later", "soon"]
    taken(Cache(folder, 20), "soon", given, ((0, 10),))


def test_a_folder_where_others_write_is_refused(tmp_path: Path) -> None:
    """Whoever could write into the cache would decide what is read from it."""
    folder = folder_in(tmp_path)
    folder.chmod(0o777)
    with pytest.raises(DataError, match="others may write"):
        folder_in(tmp_path)
    folder.chmod(0o700)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        folder_in(tmp_path / "file")
    link = tmp_path / "elsewhere" / folder.name
    link.parent.mkdir()
    link.symlink_to(folder)
    with pytest.raises(DataError, match="others may write"):
        folder_in(link.parent)


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> tuple[Manifest, Any]:
    """A remote dataset of twelve row groups, in two lanes."""
    fs = register_remote(monkeypatch)()
    monkeypatch.setattr("runner.data.stream.reader.SMALL_BYTES", 0)
    for number in range(3):
        sink = pa.BufferOutputStream()
        values = np.random.default_rng(number).integers(0, 2**60, 4000)
        pq.write_table(pa.table({"id": np.arange(4000) + 4000 * number, "x": values}), sink, row_group_size=1000)
        fs.pipe_file(f"/kept/{number}.parquet", sink.getvalue().to_pybytes())
    return replace(build("remote://kept"), lanes=2, block_bytes=8000), fs


def ids(stream: Stream) -> list[int]:
    return [i for batch in stream for i in batch["id"].tolist()]


def test_a_stream_reads_the_next_epochs_from_its_cache(tmp_path: Path, lake: tuple[Manifest, Any]) -> None:
    """Every unit is requested once, whatever epoch, rank and run it is read in; the order is that without a cache."""
    manifest, fs = lake
    plain = ids(Stream(manifest, 100, epochs=3))
    fs.reads.clear()
    before = fetched()
    stream = Stream(manifest, 100, epochs=3, cache=tmp_path, cache_bytes="1MiB")
    assert ids(stream) == plain
    told, now = stream.stats(), fetched() - before
    assert (told.requests, told.fetched_bytes) == (now.requests, now.bytes)
    assert told.cached_bytes == now.kept == 2 * now.bytes
    units = [read for read in fs.reads if read[2] - read[1] > 4000]
    assert len(set(units)) == 12
    assert len(units) - (fetched() - before).hedges <= 12  # a request that is late is made twice
    fs.reads.clear()
    ranks = [Stream(manifest, 50, rank=rank, world_size=2, epochs=3, cache=tmp_path) for rank in range(2)]
    assert sorted(ids(ranks[0]) + ids(ranks[1])) == sorted(plain)
    assert not [read for read in fs.reads if read[2] - read[1] > 4000]


def test_a_small_cache_keeps_what_comes_first(tmp_path: Path, lake: tuple[Manifest, Any]) -> None:
    """With room for half of the units about half of the reads of later epochs come from the cache."""
    manifest, fs = lake
    size = sum(unit.length for _, unit in manifest.units)
    fs.reads.clear()
    ids(Stream(manifest, 100, epochs=6, cache=tmp_path, cache_bytes=size // 2, threads=1))
    requested = len([read for read in fs.reads if read[2] - read[1] > 4000])
    assert 12 + 5 * 5 <= requested <= 12 + 5 * 9  # the least recently used would be there hardly ever
    kept = sum(path.stat().st_size for path in folder_in(tmp_path).glob("*.unit"))
    assert size // 4 < kept <= size // 2


def test_wrong_sizes_of_a_cache(tmp_path: Path, lake: tuple[Manifest, Any]) -> None:
    """A size that is none is refused before anything is read."""
    with pytest.raises(SpecError, match="cache_bytes"):
        Stream(lake[0], 10, cache=tmp_path, cache_bytes="much")
    with pytest.raises(SpecError, match="cache_bytes"):
        Stream(lake[0], 10, cache=tmp_path, cache_bytes=0)


def test_a_full_disk_is_no_error(tmp_path: Path, given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no file can be made or grow, what is fetched is handed on, and nothing is kept."""
    folder = folder_in(tmp_path)
    opened = Path.open

    def full(self: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if "a" in mode and folder in self.parents:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return opened(self, mode, *more, **options)

    monkeypatch.setattr(Path, "open", full)
    expected = [(0, bytes(range(10))), (50, bytes(range(50, 70)))]
    assert [taken(Cache(folder, 1000), "a", given) for _ in range(2)] == [expected, expected]
    assert (given.asked, list(folder.glob("*.unit"))) == (2, [])

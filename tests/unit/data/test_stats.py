"""What a stream says of what it has read: its own requests and bytes, and no other's."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.files.fetch import fetched
from runner.data.manifest import Manifest, build
from runner.data.stream import Stats, Stream
from runner.spec.mixing import Mix
from tests.unit.data.kit import register_remote
from tests.unit.data.units_kit import write


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A remote dataset of six files, each a row group of a hundred rows; and the same files once more elsewhere."""
    fs = register_remote(monkeypatch)()
    for number in range(6):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": np.arange(100) + 100 * number}), sink, use_dictionary=False)
        for folder in ("lake", "again"):
            fs.pipe_file(f"/{folder}/{number}.parquet", sink.getvalue().to_pybytes())
    return build("remote://lake")


def read(stream: Stream) -> int:
    return sum(len(batch["id"]) for batch in stream)


def test_each_stream_has_its_own(lake: Manifest) -> None:
    """Of two that are read at the same time each tells its own; together they are what the process has fetched."""
    again = build("remote://again")
    before = fetched()
    one, other = Stream(lake, 10, as_="numpy"), Stream(again, 10, as_="numpy", epochs=2)
    assert one.stats() == Stats()
    threads = [threading.Thread(target=read, args=(stream,)) for stream in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now, first, second = fetched() - before, one.stats(), other.stats()
    assert (first.rows, second.rows) == (600, 600)  # so little data is kept from epoch to epoch
    assert first.requests - first.hedges == second.requests - second.hedges == 6
    assert first.fetched_bytes == second.fetched_bytes > 0
    assert first.requests + second.requests == now.requests
    assert first.fetched_bytes + second.fetched_bytes == now.bytes
    assert 0 < first.wait_s <= first.seconds
    assert 0 < first.wait_share <= 1
    assert (second - second, first.cached_bytes, first.retries) == (Stats(), 0, 0)


def test_a_mixture_adds_up_its_sources(lake: Manifest, tmp_path: Path) -> None:
    """Local files cost no request; what is decoded counts of all."""
    pq.write_table(pa.table({"id": np.arange(300)}), tmp_path / "a.parquet")
    stream = Stream(Mix({"lake": 1, "disk": 1}, {"lake": lake, "disk": str(tmp_path)}), 10, as_="numpy")
    read(stream)
    told = stream.stats()
    assert told.rows >= 900
    assert told.requests - told.hedges == 6
    assert Stream(str(tmp_path), 10, as_="numpy").stats() == Stats()


def test_time_between_passes_does_not_count(tmp_path: Path) -> None:
    """The seconds are those from where a pass begins to its last batch, whatever lies between passes."""
    pq.write_table(pa.table({"id": np.arange(300)}), tmp_path / "a.parquet")
    stream = Stream(str(tmp_path), 10, as_="numpy")
    read(stream)
    first = stream.stats()
    stream.close()
    assert stream.stats() == first
    copy = pickle.loads(pickle.dumps(stream))
    assert (copy.stats().seconds, copy.stats().wait_s, copy.stats().rows) == (first.seconds, first.wait_s, 0)
    read(stream)
    assert stream.stats().seconds > first.seconds


def _child(stream: Stream, into: Any) -> None:
    read(stream)
    into.put(stream.stats().rows)


def test_a_forked_process_counts_its_own(tmp_path: Path) -> None:
    """A child begins with nothing decoded, and its parent's sums stay."""
    pq.write_table(pa.table({"id": np.arange(300)}), tmp_path / "a.parquet")
    stream, fork = Stream(str(tmp_path), 10, as_="numpy"), multiprocessing.get_context("fork")
    read(stream)
    into = fork.SimpleQueue()
    child = fork.Process(target=_child, args=(stream, into))
    child.start()
    assert into.get() == 300
    child.join()
    assert stream.stats().rows == 300


def test_going_back_to_a_state_forgets_nothing(tmp_path: Path) -> None:
    """Also where other units are set aside there, and what is held is read again: no number falls."""
    with Stream(write(tmp_path / "d", [5]), 16, as_="numpy", max_quarantine=0.3) as one:
        state = one.state_dict()
        list(one)
        before = one.stats()
        one.load_state_dict(state)
        assert one.stats() == before
        list(one)
        more = one.stats() - before
    assert more.rows > 0
    assert more.seconds > 0
    assert one.rows_read == before.rows + more.rows

"""A Stream in other processes: DataLoader's workers, pickles, forked children; and how far it reads ahead."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from runner import Pack, Stream
from runner.data.stream import prefetch, steps
from runner.data.stream import stream as stream_module
from runner.data.stream.ahead import ReadAhead
from runner.data.stream.prefetch import Prefetch
from runner.errors import SpecError


@pytest.fixture
def data(tmp_path: Path) -> str:
    pq.write_table(pa.table({"x": list(range(103)), "s": [f"s{i}" for i in range(103)]}), tmp_path / "a.parquet")
    return str(tmp_path)


def listed(batches: Any) -> list[tuple[int, list[int], list[str], list[int]]]:
    """Epoch, numbers, strings and positions of each batch."""
    return [(b.epoch, b["x"].tolist(), b["s"], b.positions.tolist()) for b in batches]


def loader(stream: Any, workers: int, **arguments: Any) -> DataLoader[Any]:
    timeout = 60 if workers else 0
    return DataLoader(stream, batch_size=None, num_workers=workers, timeout=timeout, **arguments)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_dataloader(data: str, workers: int) -> None:
    """A DataLoader gives the batches of the stream, in its order, for any number of workers; no row twice."""
    arguments: dict[str, Any] = {"batch_size": 5, "seed": 3, "rank": 1, "world_size": 2, "epochs": 2, "tail": "wrap"}
    expected = listed(Stream(data, **arguments))
    assert len(expected) == 22
    found = loader(Stream(data, **arguments), workers)
    assert len(found) == 22
    assert listed(found) == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataloader_that_would_put_batches_together_is_refused(data: str, workers: int) -> None:
    """It would give batches of one batch each, with a dimension more and without positions."""
    with pytest.raises(SpecError, match=r"batch_size=None"):
        list(DataLoader(Stream(data, 10), num_workers=workers, timeout=60 if workers else 0))


def test_dataloader_passes(data: str) -> None:
    """Workers that live on go on with the next epochs, also behind a pass that was broken off."""
    expected = listed(Stream(data, 10, epochs=3))
    found = loader(Stream(data, 10), 2, persistent_workers=True)
    assert listed(found) == expected[:10]
    next(iter(found))
    assert listed(found) == expected[20:]


class Numbers(IterableDataset[Any]):
    """A dataset of one's own around a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Any]:
        return (batch["x"] for batch in self.stream)


def test_stream_inside_a_dataset(data: str) -> None:
    """A stream that a dataset holds is shared out too, from where it stands: here behind a first look."""
    stream = Stream(data, 10, shuffle=False)
    assert next(stream)["x"].tolist() == list(range(10))
    found = [one.tolist() for one in loader(Numbers(stream), 2)]
    assert found == [list(range(start, start + 10)) for start in range(10, 100, 10)]


def test_pickle(data: str) -> None:
    """A pickled stream goes on behind the last batch that was taken, with the same batches."""
    stream = Stream(data, 10, seed=5, epochs=2)
    taken = listed([next(stream) for _ in range(3)])
    copy = pickle.loads(pickle.dumps(stream))
    rest = listed(stream)
    assert listed(copy) == rest
    assert taken + rest == listed(Stream(data, 10, seed=5, epochs=2))


@pytest.mark.parametrize("more", [{}, {"pack": Pack("tokens", length=4)}])
def test_pickles_of_vectors(tmp_path: Path, more: dict[str, Any]) -> None:
    """A copy of a stream of fixed-size lists, in the files or of a Pack, is of the same data: its state fits."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(range(60), pa.int32()), 3)
    pq.write_table(pa.table({"tokens": vectors.cast(pa.list_(pa.int32())), "v": vectors}), tmp_path / "a.parquet")
    stream = Stream(tmp_path, 2, **more)
    for copied in (pickle.loads(pickle.dumps(stream)), copy.deepcopy(stream)):
        assert copied.manifest.schema.equals(stream.manifest.schema, check_metadata=True)
        stream.load_state_dict(copied.state_dict())


def test_forked(data: str) -> None:
    """A child forked under way has the batches that its parent has not taken, and ends; so does the parent."""
    stream = Stream(data, 10, shuffle=False, prefetch_bytes=1)
    next(stream)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if [x for b in stream for x in b["x"].tolist()] == list(range(10, 100)) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [x for b in stream for x in b["x"].tolist()] == list(range(10, 100))


def interrupted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, before: bool) -> None:
    """Ctrl-C, once, as a function is called or as it returns."""
    whole, calls = getattr(owner, name), itertools.count()

    def once(*arguments: Any, **more: Any) -> Any:
        first = next(calls) == 0
        result = None if first and before else whole(*arguments, **more)
        if first:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, once)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (threading.Thread, "start"),
        (stream_module, "make_batch"),
        (Prefetch, "__next__"),
        (ReadAhead, "next"),
        (Prefetch, "close"),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_ctrl_c(data: str, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, before: bool) -> None:
    """Wherever Ctrl-C comes, a loop that goes on has each batch once, and the state counts those that it was given."""
    expected = listed(Stream(data, 5, seed=2))
    stream = Stream(data, 5, seed=2, prefetch_bytes=1)
    found: list[Any] = []

    def read() -> None:
        for batch in stream:
            found.extend(listed([batch]))
            if name == "close":
                stream.close()

    with monkeypatch.context() as patched:
        interrupted(patched, owner, name, before=before)
        with pytest.raises(KeyboardInterrupt):
            read()
    assert stream.state_dict()["samples_seen"] == 5 * len(found)
    found += listed(stream)
    assert found == expected
    assert not any(thread.name == "runner-prefetch" and thread.is_alive() for thread in threading.enumerate())


def test_threads_that_share_a_stream(data: str) -> None:
    """Each batch is given to one of them, and each of them ends."""
    stream = Stream(data, 2, epochs=4, prefetch_bytes=1)
    ready, found = threading.Barrier(4), list[Any]()

    def read() -> None:
        ready.wait()
        while (batch := next(stream, None)) is not None:
            found.extend(listed([batch]))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert sorted(found) == sorted(listed(Stream(data, 2, epochs=4)))


def test_locks_in_a_forked_process(data: str) -> None:
    """A lock that a thread of the parent held does not stop its child."""
    from runner.data.files import etags
    from runner.data.files.engines import wholes
    from runner.data.formats import ipc, parquet_footer

    with parquet_footer._kept._lock, etags._lock, wholes._lock, ipc._decoding:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if len(list(Stream(data, 10))) == 10 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_prefetch_is_bounded_in_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the items, only so many are made ahead."""
    monkeypatch.setattr(prefetch, "MOST_ITEMS", 3)
    made, enough, more = [], threading.Event(), threading.Event()

    def source() -> Iterator[tuple[int, int]]:
        for i in range(100):
            made.append(i)
            enough.set() if i == 3 else None
            more.set() if i == 4 else None
            yield i, 0

    ahead = Prefetch(source(), 1 << 30)
    ahead.start()

    assert enough.wait(60)
    assert not more.wait(0.2)  # the fourth is made, and waits for room
    assert next(ahead) == 0
    assert more.wait(60)
    ahead.close()


@pytest.mark.parametrize(
    "value", ["x" * 1000, b"x" * 1000, ["y" * 100] * 10, {"a": {"b": "x" * 1000}}, [{"a": "x" * 1000}], (1,) * 1000]
)
def test_sizes_of_python_values(value: Any) -> None:
    """The bytes of Python values count at every depth."""
    assert 2 * 1000 <= steps._size([value, value]) < 200_000


def test_tensors_survive_the_way(data: str) -> None:
    """What a worker sends has mask, weight and epoch."""
    (first, *_) = loader(Stream(data, 10), 1)
    assert first.mask.all()
    assert (first.weight, first.epoch) == (1.0, 0)
    assert isinstance(first["x"], torch.Tensor)


READING = """
import sys, time
import pyarrow.csv
from runner.data.files.readable import Readable

class Slow(Readable):
    def read(self, count=-1):
        time.sleep(0.002)
        return super().read(count)

options = pyarrow.csv.ReadOptions(use_threads=False, block_size=4096)
reader = pyarrow.csv.open_csv(Slow(open(sys.argv[1], "rb")).native(), options)
print(reader.schema.names)
if sys.argv[2] == "let go of":
    del reader
"""


@pytest.mark.parametrize("how", ["kept", "let go of"])
def test_a_process_ends_while_pyarrow_reads_ahead(tmp_path: Path, how: str) -> None:
    """Its threads are out of Python before that ends, whether the reader is still held or not: none aborts it."""
    (tmp_path / "a.csv").write_text("a,b\n" + "1,x\n" * 200_000)
    command = [sys.executable, "-c", READING, str(tmp_path / "a.csv"), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "['a', 'b']\n", "")

"""runner.Stream: the same samples for any number of ranks, resumed at any step, from a thread that can be trusted."""

from __future__ import annotations

import gc
import inspect
import io
import itertools
import json
import re
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from runner.data.manifest import Manifest, build
from runner.data.stream import Stream, ahead, blocks, memory
from runner.data.stream.columns import Fixed
from runner.data.stream.dense import dense
from runner.data.stream.prefetch import Prefetch
from runner.data.stream.reader import Reader
from runner.errors import DataError, SpecError
from runner.spec import Dataset
from tests import ROOT
from tests.seeds import seeds
from tests.unit.data.kit import register_remote

ROWS = 230


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Parquet files with an id and a column of each kind."""
    path = tmp_path_factory.mktemp("data")
    n = np.arange(ROWS)
    table = pa.table(
        {
            "id": n,
            "half": pa.array(n / 2, pa.float32()),
            "even": n % 2 == 0,
            "pair": pa.FixedSizeListArray.from_arrays(pa.array(np.stack([n, -n], 1).ravel()), 2),
            "raw": pa.array([int(i).to_bytes(4, "little") for i in n], pa.binary(4)),
            "text": [f"row {i}" for i in n],
            "ragged": [[int(i)] * (i % 3) for i in n],
            "record": [{"i": int(i)} for i in n],
            "day": pa.array(n.astype("datetime64[D]")),
        }
    )
    pq.write_table(table.slice(0, 130), path / "a.parquet", row_group_size=17)
    pq.write_table(table.slice(130), path / "b.parquet", row_group_size=29)
    return path


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    """With lanes and blocks as large data has them: 5 lanes, blocks of some 13 rows."""
    whole = build(str(folder))
    row = sum(unit.bytes for _, unit in whole.units) // ROWS
    return replace(whole, lanes=5, block_bytes=13 * row)


def gang(
    manifest: Manifest, world_size: int, size: int, state: dict[str, Any] | None = None, **more: Any
) -> list[Stream]:
    more = {"seed": 3, "columns": ["id"], **more}
    ranks = [
        Stream(manifest, global_batch_size=size, rank=rank, world_size=world_size, **more) for rank in range(world_size)
    ]
    for rank in ranks if state else ():
        rank.load_state_dict(state or {})
    return ranks


def sequence(ranks: list[Stream], steps: int | None = None) -> dict[int, int]:
    """Position -> id, over all ranks and steps, which are checked to be the same number for all ranks."""
    found: dict[int, int] = {}
    while steps is None or steps > 0:
        batches = [next(rank, None) for rank in ranks]
        if batches[0] is None:
            assert batches == [None] * len(ranks)
            break
        sizes = [len(batch["id"]) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        for batch in batches:
            kept = batch.mask
            fresh = dict(zip(batch.positions[kept].tolist(), batch["id"][kept].tolist(), strict=True))
            assert not fresh.keys() & found.keys()
            found.update(fresh)
        steps = None if steps is None else steps - 1
    for rank in ranks:
        rank.close()
    return found


@pytest.fixture(scope="module")
def reference(manifest: Manifest) -> dict[int, int]:
    """Three epochs, all of them, by one rank."""
    return sequence(gang(manifest, 1, 10, epochs=3, tail="wrap"))


def test_every_row_once_an_epoch(reference: dict[int, int]) -> None:
    """Each epoch has every row once, in an order of its own."""
    epochs = [[reference[epoch * ROWS + p] for p in range(ROWS)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("size", "tail"), [(8, "drop"), (37, "drop"), (37, "wrap"), (230, "drop"), (400, "wrap")])
def test_any_world_size(manifest: Manifest, reference: dict[int, int], world_size: int, size: int, tail: str) -> None:
    """The id at each position is the same for any number of ranks, more than lanes too, and any batch size."""
    found = sequence(gang(manifest, world_size, size, epochs=3, tail=tail))
    assert found.items() <= reference.items()
    assert len(found) == (3 * ROWS if tail == "wrap" else 3 * (ROWS // size * size))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_the_same_global_batches(manifest: Manifest, world_size: int) -> None:
    """A step's rows, listed rank after rank, are the same rows in the same order for any number of ranks."""

    def steps(world: int) -> list[list[int]]:
        streams = zip(*gang(manifest, world, 12), strict=True)
        return [[i for batch in batches for i in batch["id"].tolist()] for batches in streams]

    assert steps(world_size) == steps(1)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_tiny_data(tmp_path: Path, rows: int, shuffle: bool) -> None:
    """Less data than ranks and batch works with tail='wrap'; what was filled up is masked."""
    pq.write_table(pa.table({"id": np.arange(rows)}), tmp_path / "a.parquet")
    found = sequence(gang(build(str(tmp_path)), 3, 8, epochs=2, tail="wrap", shuffle=shuffle))
    assert sorted(found) == list(range(2 * rows))
    assert sorted(found.values()) == sorted(2 * list(range(rows)))


def test_file_order(manifest: Manifest) -> None:
    """Without shuffling the ids come as they lie in the files, for any number of ranks."""
    assert sequence(gang(manifest, 3, 16, shuffle=False, tail="wrap")) == {i: i for i in range(ROWS)}


# -- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(5, 60))
def test_resume_twice(manifest: Manifest, reference: dict[int, int], seed: int) -> None:
    """Cut at random steps and resumed twice, with another world size and batch size each time, nothing is lost."""
    random = np.random.default_rng(seed)
    found: dict[int, int] = {}
    state = None
    for steps in (int(random.integers(0, 20)), int(random.integers(1, 20)), None):
        ranks = gang(manifest, int(random.integers(1, 6)), int(random.integers(6, 24)), state, epochs=3, tail="wrap")
        part = sequence(ranks, steps)
        assert not part.keys() & found.keys()
        found.update(part)
        states = [json.loads(json.dumps(rank.state_dict())) for rank in ranks]
        assert all(one == states[0] for one in states)
        state = states[0]
    assert found == reference


def test_every_step_can_be_resumed(manifest: Manifest) -> None:
    """The state after each step leads to exactly the steps that follow it, to the end and beyond the epoch."""
    stream = gang(manifest, 1, 50, epochs=2)[0]
    states, ids = [stream.state_dict()], []
    for batch in stream:
        states.append(stream.state_dict())
        ids.append(batch["id"].tolist())
    assert len(ids) == len(stream) == 8
    for step, state in enumerate(states):
        again = gang(manifest, 1, 50, state, epochs=2)[0]
        assert again.steps_left == 8 - step
        assert [batch["id"].tolist() for batch in again] == ids[step:]


def test_state_is_what_was_consumed(manifest: Manifest) -> None:
    """What is only read ahead is not in the state."""
    stream = gang(manifest, 1, 10)[0]
    assert stream.state_dict()["samples_seen"] == 0
    next(stream)
    next(stream)
    assert (stream.state_dict()["epoch"], stream.state_dict()["samples_seen"]) == (0, 20)


def test_mark(manifest: Manifest) -> None:
    """Once a loop marks what it consumed, the state stays at the last mark until the next."""
    stream = gang(manifest, 1, 10)[0]
    next(stream)
    stream.mark()
    next(stream)
    assert stream.state_dict()["samples_seen"] == 10
    stream.mark()
    assert stream.state_dict()["samples_seen"] == 20


def test_state_is_small(manifest: Manifest) -> None:
    """A state is some hundred bytes of JSON."""
    assert len(json.dumps(gang(manifest, 1, 10)[0].state_dict())) < 400


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 4}, "seed is 3 in the state and 4 here"),
        ({"shuffle": False}, "shuffle is True in the state and False here"),
        ({"tail": "wrap"}, "tail is 'drop' in the state and 'wrap' here"),
    ],
)
def test_other_arguments_are_refused(manifest: Manifest, change: dict[str, Any], words: str) -> None:
    """A state of another order is refused, and what differs is named with both values."""
    state = gang(manifest, 1, 10)[0].state_dict()
    with pytest.raises(DataError, match=words):
        gang(manifest, 1, 10, state, **change)


def test_all_differences_are_named(manifest: Manifest) -> None:
    """Other data, other lanes, another version and a broken place are named together."""
    state = gang(manifest, 1, 10)[0].state_dict()
    other = {**state, "manifest_id": "x", "lanes": 6, "order_version": 0, "units": "y", "samples_seen": -1}
    with pytest.raises(DataError) as caught:
        gang(manifest, 1, 10, other)
    for name in ("manifest_id", "lanes is 6", "order_version is 0", "units", "samples_seen"):
        assert name in str(caught.value)


@pytest.mark.parametrize("place", [("samples_seen", 10**30), ("samples_seen", 101), ("epoch", 10**30), ("epoch", True)])
def test_a_place_that_is_none_is_refused(tmp_path: Path, place: tuple[str, Any]) -> None:
    """Behind the rows of an epoch, or beyond what positions can count."""
    pq.write_table(pa.table({"id": range(100)}), tmp_path / "a.parquet")
    stream = Stream(str(tmp_path), 10)
    with pytest.raises(DataError, match=r"epoch and samples_seen are \[.*\], of 100 rows an epoch"):
        stream.load_state_dict({**stream.state_dict(), place[0]: place[1]})
    stream.load_state_dict({**stream.state_dict(), "samples_seen": 100})
    assert list(stream) == []


@pytest.mark.parametrize("argument", ["shuffle", "verify"])
def test_what_is_neither_true_nor_false_is_refused(tmp_path: Path, argument: str) -> None:
    """Words and None are not taken for either."""
    for value in ("no", None, 2):
        with pytest.raises(SpecError, match=f"{argument}=.*"):
            Stream(str(tmp_path), 1, **{argument: value})


def test_a_limit_of_no_cache_is_refused(tmp_path: Path) -> None:
    """Bytes that may be kept say nothing where nothing is kept."""
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(SpecError, match="cache_bytes='1GiB'.*\n.*without cache="):
        Stream(str(tmp_path), 1, cache_bytes="1GiB")


def test_appended_data_is_refused(tmp_path: Path) -> None:
    """A state does not fit the data once a file was added."""
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "a.parquet")
    state = Stream(str(tmp_path), 1).state_dict()
    pq.write_table(pa.table({"id": [3]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="manifest_id"):
        Stream(str(tmp_path), 1).load_state_dict(state)


# -- batches ---------------------------------------------------------------------------------------------------------


def test_columns(manifest: Manifest) -> None:
    """Numbers, fixed-size lists and bytes are tensors, dates are days, the rest are lists; rows stay whole."""
    batch = next(gang(manifest, 1, 20, columns=None)[0])
    ids = batch["id"]
    assert list(batch) == ["id", "half", "even", "pair", "raw", "text", "ragged", "record", "day"]
    assert torch.equal(batch["half"], ids / 2)
    assert batch["half"].dtype == torch.float32
    assert torch.equal(batch["even"], ids % 2 == 0)
    assert torch.equal(batch["pair"], torch.stack([ids, -ids], 1))
    assert batch["raw"].dtype == torch.uint8
    assert torch.equal(batch["raw"][:, 0] + 256 * batch["raw"][:, 1].long(), ids)
    assert torch.equal(batch["day"].long(), ids)
    assert batch["text"] == [f"row {i}" for i in ids]
    assert all(torch.equal(row, torch.full((int(i) % 3,), int(i))) for row, i in zip(batch["ragged"], ids, strict=True))
    assert batch["record"] == [{"i": i} for i in ids.tolist()]


def test_tensors_are_the_callers(manifest: Manifest) -> None:
    """A batch may be written to; no later batch sees it."""
    batches = list(gang(manifest, 1, 20, columns=["id", "pair", "ragged"], epochs=2)[0])
    expected = [batch["id"].clone() for batch in batches]
    for batch in batches:
        for name in ("id", "pair"):
            batch[name].fill_(-1)
        for row in batch["ragged"]:
            row.fill_(-1)
    again = gang(manifest, 1, 20, epochs=2)[0]
    assert all(torch.equal(batch["id"], ids) for batch, ids in zip(again, expected, strict=True))


def test_choice_of_columns_does_not_change_the_order(manifest: Manifest) -> None:
    """Columns come in the order asked for, and their choice changes neither order nor state."""
    first = gang(manifest, 1, 20, columns=["text", "id"])[0]
    second = gang(manifest, 1, 20)[0]
    batch = next(first)
    assert list(batch) == ["text", "id"]
    assert torch.equal(batch["id"], next(second)["id"])
    assert first.state_dict() == second.state_dict()


def test_weights_keep_the_gradient_exact(manifest: Manifest) -> None:
    """The mean over ranks of weight times mean is the mean over the global batch, in uneven and last batches too."""
    for size, tail in ((16, "drop"), (37, "drop"), (100, "wrap")):
        for batches in zip(*gang(manifest, 3, size, tail=tail), strict=True):
            whole = torch.cat([batch["id"][batch.mask] for batch in batches]).double().mean()
            parts = [batch.weight * batch["id"][batch.mask].double().mean() for batch in batches if batch.mask.any()]
            assert torch.isclose(sum(parts) / 3, whole)
            assert all(batch.weight == 0 for batch in batches if not batch.mask.any())


def test_weight_is_one_where_ranks_are_equal(manifest: Manifest) -> None:
    """With batch_size= every weight is exactly 1."""
    stream = Stream(manifest, batch_size=7, rank=1, world_size=3)
    assert {batch.weight for batch in stream} == {1.0}
    assert stream.global_batch == 21


def test_nulls(tmp_path: Path) -> None:
    """Nulls are NaN in fractions, None in strings, and an error that names the column elsewhere."""
    pq.write_table(pa.table({"f": [1.0, None], "s": ["x", None], "i": [1, None]}), tmp_path / "a.parquet")
    batch = next(Stream(str(tmp_path), 2, shuffle=False, columns=["f", "s"]))
    assert torch.isnan(batch["f"]).tolist() == [False, True]
    assert batch["s"] == ["x", None]
    with pytest.raises(DataError, match=r"a\.parquet .*column 'i': 1 nulls(?s:.*)leave the column out with columns="):
        next(Stream(str(tmp_path), 2))


def test_other_types(tmp_path: Path) -> None:
    """Types that are less common arrive in one piece, whatever the file cuts them into."""
    table = pa.table(
        {
            "word": pa.array(["a", "b", "a", "c"]).dictionary_encode(),
            "time": pa.array([1, 2, 3, 4], pa.timestamp("us", "UTC")),
            "u8": pa.array([1, 2, 3, 255], pa.uint8()),
            "f16": pa.array(np.arange(4, dtype=np.float16)),
            "cube": pa.array(np.arange(24).tolist()[i : i + 6] for i in range(0, 24, 6)).cast(pa.list_(pa.int64(), 6)),
            "price": pa.array([1, 2, 3, 4]).cast(pa.decimal128(23, 2)),
            "large": pa.array(["x", "y", "z", ""], pa.large_string()),
            "nothing": pa.nulls(4),
            "nested": pa.array([[["a"]], [], [["b", "c"]], None]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    batch = next(Stream(str(tmp_path), 4, shuffle=False))
    assert batch["word"] == ["a", "b", "a", "c"]
    assert batch["time"].tolist() == [1, 2, 3, 4]
    assert (batch["u8"].dtype, batch["f16"].dtype) == (torch.uint8, torch.float16)
    assert torch.equal(batch["cube"], torch.arange(24).reshape(4, 6))
    assert [float(price) for price in batch["price"]] == [1, 2, 3, 4]
    assert batch["large"] == ["x", "y", "z", ""]
    assert batch["nothing"] == [None] * 4
    assert batch["nested"] == [[["a"]], [], [["b", "c"]], None]


def test_a_column_that_is_not_there_is_named_with_those_that_are(manifest: Manifest) -> None:
    """A wrong name of a column is a KeyError that names the batch's; `get` and `in` are those of any dict."""
    batch = next(iter(Stream(manifest, batch_size=4, seed=0)))
    with pytest.raises(KeyError, match=f"no column 'nope'; there are '{next(iter(batch))}'"):
        batch["nope"]
    assert batch.get("nope") is None
    assert "nope" not in batch


def test_to_device(manifest: Manifest) -> None:
    """A batch moves to a device as a whole and keeps what it knows."""
    batch = next(gang(manifest, 1, 20, columns=["id", "text", "ragged"])[0])
    moved = batch.to("meta")
    assert moved["id"].device.type == moved["ragged"][0].device.type == moved.mask.device.type == "meta"
    assert moved["text"] == batch["text"]
    assert (moved.weight, moved.epoch) == (1.0, 0)
    assert torch.equal(moved.positions, batch.positions)


# -- sources ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "dataset", "arrow", "jsonl", "csv"])
def test_sources(folder: Path, tmp_path: Path, kind: str) -> None:
    """URLs of any file system, Dataset values and every format give the same rows."""
    table = pq.read_table(folder).select(["id", "text"])
    source: Any = str(tmp_path)
    if kind == "memory":
        fsspec.filesystem("memory").put(f"{folder}/", "/stream/", recursive=True)
        source = "memory://stream"
    elif kind == "dataset":
        source = Dataset(url=str(folder), columns=("id", "text"))
    elif kind == "arrow":
        with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=50)
    elif kind == "jsonl":
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        import pyarrow.csv

        pyarrow.csv.write_csv(table, tmp_path / "a.csv")
    found = {
        i: text for batch in Stream(source, 23) for i, text in zip(batch["id"].tolist(), batch["text"], strict=True)
    }
    assert found == {i: f"row {i}" for i in range(ROWS)}


def test_units_larger_than_blocks(tmp_path: Path) -> None:
    """Row groups much larger than a block are decoded once an epoch, in sequence."""
    pq.write_table(pa.table({"id": np.arange(40_000)}), tmp_path / "a.parquet", row_group_size=10_000)
    manifest = replace(build(str(tmp_path)), lanes=4, block_bytes=8 * 300)
    stream = Stream(manifest, 100, epochs=2)
    assert sorted(i for batch in stream for i in batch["id"].tolist()) == sorted(2 * list(range(40_000)))
    assert stream.rows_read == 80_000


def test_fewer_units_than_lanes(tmp_path: Path) -> None:
    """A row group that is cut over lanes is decoded once in all."""
    pq.write_table(pa.table({"id": np.arange(4000), "s": ["x"] * 4000}), tmp_path / "a.parquet")
    manifest = replace(build(str(tmp_path)), lanes=8, block_bytes=1000)
    stream = Stream(manifest, 100, epochs=3)
    ids = [i for batch in stream for i in batch["id"].tolist()]
    assert sorted(ids) == sorted(3 * list(range(4000)))
    assert len({i // 500 for i in ids[:100]}) == 8
    assert stream.rows_read == 4000


def test_small_data_is_read_once(folder: Path) -> None:
    """Small data is decoded once for all epochs."""
    stream = Stream(str(folder), 23, epochs=4)
    assert len(list(stream)) == 40
    assert stream.rows_read == ROWS


def test_ranks_read_their_own_lanes(tmp_path: Path) -> None:
    """Where ranks divide the lanes, together they decode little more than the data once."""
    pq.write_table(pa.table({"id": np.arange(6400)}), tmp_path / "a.parquet", row_group_size=100)
    manifest = replace(build(str(tmp_path)), lanes=16, block_bytes=800)
    ranks = [Stream(manifest, 16, rank=rank, world_size=4) for rank in range(4)]
    for rank in ranks:
        assert len(list(rank)) == 100
    assert sum(rank.rows_read for rank in ranks) < 1.2 * 6400


def test_open_blocks_are_bounded(tmp_path: Path) -> None:
    """A rank never holds more blocks than lanes, and forgets the ones that it has left."""
    pq.write_table(pa.table({"id": np.arange(20_000)}), tmp_path / "a.parquet", row_group_size=500)
    manifest = replace(build(str(tmp_path)), lanes=8, block_bytes=8 * 500)
    stream = Stream(manifest, 64, rank=1, world_size=4, prefetch_bytes=1)
    held = []
    for _ in stream:
        held.append(stream._ahead.reader.open_rows)
    assert max(held) <= (8 / 4 + 2) * 2 * 500


# -- the iterator ----------------------------------------------------------------------------------------------------


def test_each_pass_goes_on(manifest: Manifest) -> None:
    """A second loop over the stream has the next epochs, as one long stream has them; an ended stream stays ended."""
    stream = gang(manifest, 1, 23)[0]
    passes = [[batch["id"].tolist() for batch in stream] for _ in range(3)]
    assert [one for part in passes for one in part] == [
        batch["id"].tolist() for batch in gang(manifest, 1, 23, epochs=3)[0]
    ]
    assert next(stream, None) is None


def test_break_and_go_on(manifest: Manifest) -> None:
    """A loop that was left goes on where it stopped, with or without close() in between."""
    stream = gang(manifest, 1, 23)[0]
    whole = [batch["id"].tolist() for batch in gang(manifest, 1, 23)[0]]
    parts = []
    for close in (True, False, True):
        for batch in stream:
            parts.append(batch["id"].tolist())
            if len(parts) % 3 == 0:
                break
        if close:
            stream.close()
    assert parts == whole[:9]


def test_without_end(manifest: Manifest) -> None:
    """With epochs=None there is always a next batch, and no length."""
    stream = gang(manifest, 1, 100, epochs=None)[0]
    assert [next(stream).epoch for _ in range(6)] == [0, 0, 1, 1, 2, 2]
    assert stream.steps_left is None
    with pytest.raises(TypeError, match="no length"):
        len(stream)


@pytest.mark.parametrize(("size", "tail", "steps"), [(10, "drop", 23), (100, "drop", 2), (100, "wrap", 3)])
def test_length(manifest: Manifest, size: int, tail: str, steps: int) -> None:
    """The length is the number of steps of a pass."""
    stream = gang(manifest, 1, size, tail=tail, epochs=2)[0]
    assert len(stream) == stream.steps_left == 2 * steps == len(list(stream))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "batch_size"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 1, "global_batch_size": 2}, "either batch_size or global_batch_size"),
        ({"global_batch_size": 3, "world_size": 4}, "global_batch_size=3(.|\n)*from 4"),
        ({"batch_size": 1, "rank": 2, "world_size": 2}, "rank=2"),
        ({"batch_size": 1, "seed": -1}, "seed=-1"),
        ({"batch_size": 1, "epochs": 0}, "epochs=0"),
        ({"batch_size": 1, "tail": "dropp"}, "did you mean 'drop'"),
    ],
)
def test_wrong_arguments(manifest: Manifest, arguments: dict[str, Any], words: str) -> None:
    """A wrong argument is named with what is allowed."""
    with pytest.raises(SpecError, match=words):
        Stream(manifest, **arguments)


@pytest.mark.parametrize("columns", ["id", ["id", 1], 3])
def test_columns_are_several_names(manifest: Manifest, columns: Any) -> None:
    """One name that is not in a list is not taken for a list of its letters."""
    with pytest.raises(SpecError, match="columns=.*(.|\n)*a tuple or a list of names"):
        Stream(manifest, 1, columns=columns)


def test_what_a_notebook_shows(manifest: Manifest) -> None:
    """A stream and its manifest are shown in a line that says how much data it is, however many units that has."""
    assert repr(manifest) == f"<Manifest {manifest.id[:12]}: 230 rows in 2 files, {manifest.base}>"
    assert repr(replace(manifest, shards=manifest.shards[:1])).endswith(f"130 rows in 1 file, {manifest.base}>")
    assert repr(Stream(manifest, 8)) == f"<Stream of {manifest.base}: 230 rows in steps of 8>"
    assert repr(Stream(manifest, 8, rank=1, world_size=2)).endswith("230 rows in steps of 16, rank 1 of 2>")


def test_the_page_has_every_argument() -> None:
    """The table on the page of streaming names each argument of a Stream, and none besides."""
    page = (ROOT / "docs" / "streaming.md").read_text()
    table = page.partition("| argument | |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    named = {name for cell in cells for name in re.findall(r"`([a-z_]+)[=`]", cell)}
    assert named == set(inspect.signature(Stream).parameters)


def test_wrong_data(manifest: Manifest, tmp_path: Path) -> None:
    """An unknown column, too little data and a dataset without a URL are errors before the first batch."""
    with pytest.raises(DataError, match=r"no column 'idd'(.|\n)*did you mean 'id'"):
        Stream(manifest, 1, columns=["idd"])
    with pytest.raises(DataError, match="230 rows, and a global batch of 231"):
        Stream(manifest, 231)
    with pytest.raises(DataError, match="without a URL"):
        Stream(Dataset(make=dict), 1)
    with pytest.raises(DataError, match="no such file"):
        Stream(str(tmp_path / "none"), 1)


def test_error_in_the_thread(tmp_path: Path) -> None:
    """A unit that cannot be read raises in the consumer, with URL and unit, after the batches before it."""
    table = pa.table({"id": np.arange(1000)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100, write_page_checksum=True)
    manifest = replace(build(str(tmp_path)), lanes=1, block_bytes=800)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    unit = manifest.shards[0].units[7]
    data[unit.start + unit.length // 2] ^= 1
    (tmp_path / "a.parquet").write_bytes(data)
    stream = Stream(manifest, 10, shuffle=False)
    seen: list[int] = []

    def consume() -> None:
        for batch in stream:
            seen.extend(batch["id"].tolist())

    with pytest.raises(DataError, match=r"a\.parquet \(unit 7\)"):
        consume()
    assert seen == list(range(len(seen)))
    assert stream.state_dict()["samples_seen"] == len(seen)
    assert not running()


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "runner-prefetch"]


def test_no_thread_is_left(manifest: Manifest) -> None:
    """The thread ends with the stream's end, with close(), with the context, and with the stream itself."""
    list(gang(manifest, 1, 10)[0])
    closed = gang(manifest, 1, 10, prefetch_bytes=1)[0]
    next(closed)
    closed.close()
    with gang(manifest, 1, 10, prefetch_bytes=1)[0] as entered:
        next(entered)
    assert not running()
    forgotten = gang(manifest, 1, 10, prefetch_bytes=1, epochs=None)[0]
    next(forgotten)
    assert running()
    del forgotten
    gc.collect()
    assert not running()


def test_prefetch_is_bounded() -> None:
    """The thread makes no more than the bytes allowed, but at least one item; the waiting is measured."""
    made, gate = [], threading.Event()

    def source() -> Any:
        for i in range(100):
            made.append(i)
            if i == 4:
                gate.set()
            yield i, 10

    items = Prefetch(source(), 35)
    items.start()
    assert next(items) == 0
    assert gate.wait(5)
    assert next(items) == 1
    assert len(made) <= 6  # two taken, three ready, one in the making
    items.close()

    def slow() -> Any:
        threading.Event().wait(0.05)
        yield 1, 1000

    items = Prefetch(slow(), 1)
    items.start()
    assert list(items) == [1]
    assert 0.03 < items.wait_s < 1


def test_wait_is_measured(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that the consumer waited is kept over the whole life of the stream."""
    batches = ahead.batches

    def late(*arguments: Any) -> Any:
        threading.Event().wait(0.05)
        yield from batches(*arguments)

    monkeypatch.setattr(ahead, "batches", late)
    stream = gang(manifest, 1, 10)[0]
    list(stream)
    assert 0.03 < stream.wait_s < 60


def test_import_is_light() -> None:
    """Importing the stream loads no torch."""
    code = "import sys, runner.data.stream; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_values_of_python_are_exact_or_an_error(tmp_path: Path) -> None:
    """Nanoseconds inside structures are kept, and what Python lacks is an error that names column and file."""
    times = pa.array([1_234_567, 5], pa.time64("ns"))
    table = pa.table({"s": pa.StructArray.from_arrays([times], ["t"])})
    pq.write_table(table, tmp_path / "a.parquet")
    (batch,) = Stream(str(tmp_path / "a.parquet"), 2, shuffle=False)
    assert [row["t"].value for row in batch["s"]] == [1_234_567, 5]
    far = pa.array([2**50, 0], pa.timestamp("ms"))
    pq.write_table(pa.table({"s": pa.StructArray.from_arrays([far], ["t"])}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="b.parquet .*: column 's': a value that Python cannot hold"):
        next(Stream(str(tmp_path / "b.parquet"), 2, shuffle=False))


def test_arrays_of_numpy_are_the_same_batches(tmp_path: Path) -> None:
    """With as_='numpy' every batch has the values, positions and masks of the one with tensors."""
    pq.write_table(pa.table({"x": list(range(10)), "s": [str(n) for n in range(10)]}), tmp_path / "a.parquet")
    pairs = zip(
        Stream(str(tmp_path), batch_size=4, tail="wrap"),
        Stream(str(tmp_path), batch_size=4, tail="wrap", as_="numpy"),
        strict=True,
    )
    for tensors, arrays in pairs:
        assert isinstance(arrays["x"], np.ndarray)
        assert (arrays["x"] == tensors["x"].numpy()).all()
        assert arrays["s"] == tensors["s"]
        assert (arrays.positions == tensors.positions.numpy()).all()
        assert (arrays.mask == tensors.mask.numpy()).all()
        assert arrays.weight == tensors.weight
        with pytest.raises(TypeError, match="on no device"):
            arrays.to("cpu")
    with pytest.raises(SpecError, match="as_"):
        Stream(str(tmp_path), batch_size=4, as_="pandas")


# -- what batches hold -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_", ["torch", "numpy", "arrow"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_type_of_column_in_every_form(tmp_path: Path, as_: str, shuffle: bool) -> None:
    """Rows gathered from many pieces are pyarrow's rows: fixed, of one length by chance, of many, and nested."""
    random = np.random.default_rng(0)
    n = 5000
    lists = [random.integers(0, 99, size).tolist() for size in random.integers(0, 5, n)]
    table = pa.table(
        {
            "id": np.arange(n),
            "byte": pa.array(random.integers(0, 255, n), pa.uint8()),
            "flag": pa.array(random.integers(0, 2, n).astype(bool)),
            "half": pa.array(random.random(n).astype(np.float16)),
            "odd": pa.array([bytes([i % 251] * 7) for i in range(n)], pa.binary(7)),
            "grid": pa.FixedSizeListArray.from_arrays(
                pa.FixedSizeListArray.from_arrays(pa.array(random.integers(0, 9, n * 6)), 3), 2
            ),
            "same": pa.array(random.integers(0, 9, (n, 4)).tolist(), pa.list_(pa.int16())),
            "lists": pa.array(lists, pa.large_list(pa.int32())),
            "text": pa.array([f"{i}é" * (i % 4) for i in range(n)]),
            "bytes": pa.array([bytes(i % 5) for i in range(n)], pa.large_binary()),
            "words": pa.array([[f"w{i}"] * (i % 3) for i in range(n)]),
            "time": pa.array(random.integers(0, 2**40, n), pa.timestamp("us")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=171)
    manifest = replace(build(str(tmp_path)), lanes=4, block_bytes=20_000)
    stream = Stream(manifest, 64, as_=as_, shuffle=shuffle, tail="wrap", threads=3)
    expected = table.to_pylist()
    seen = 0
    for batch in stream:
        rows = {name: _python(values) for name, values in batch.items()}
        for i in np.flatnonzero(np.asarray(batch.mask)).tolist():
            found = {name: values[i] for name, values in rows.items()}
            wanted = expected[found["id"]]
            seen += 1
            if as_ != "arrow":
                wanted = wanted | {"odd": list(wanted["odd"]), "time": table["time"][found["id"]].value}
            assert found == wanted
    assert seen == n


def _python(values: Any) -> list[Any]:
    return (
        values.to_pylist() if isinstance(values, pa.Array) else values if isinstance(values, list) else values.tolist()
    )


@pytest.mark.parametrize("as_", ["torch", "arrow"])
def test_nulls_in_columns_of_many_lengths(tmp_path: Path, as_: str) -> None:
    """Nulls stay nulls: of text and bytes in every form, of numbers and lists as Arrow arrays."""
    n = 600
    table = pa.table(
        {
            "id": np.arange(n),
            "text": pa.array([None if i % 3 == 0 else f"{i}" for i in range(n)]),
            "bytes": pa.array([None if i > 500 else b"x" * (i % 4) for i in range(n)]),
            "number": pa.array([None if i % 7 == 0 else i for i in range(n)]),
            "list": pa.array([None if i % 5 == 0 else [i, None] for i in range(n)]),
        }
    )
    table = table if as_ == "arrow" else table.drop_columns(["number", "list"])
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=50)
    manifest = replace(build(str(tmp_path)), lanes=2, block_bytes=2_000)
    expected = table.to_pylist()
    found = []
    for batch in Stream(manifest, 32, as_=as_, tail="wrap"):
        columns = {name: _python(values) for name, values in batch.items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        found += [row for row, kept in zip(rows, batch.mask.tolist(), strict=True) if kept]
    assert sorted(found, key=lambda row: row["id"]) == expected


def test_text_that_is_no_utf8_is_an_error_with_its_file(tmp_path: Path) -> None:
    """A column of strings whose bytes are no text is refused with file, unit and column."""
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"s": bad}), tmp_path / "a.parquet")
    for as_ in ("torch", "numpy", "arrow"):
        with pytest.raises(DataError, match=r"a\.parquet \(unit 0\): column 's'.*UTF-?8"):
            next(Stream(str(tmp_path), 1, as_=as_))


def test_a_ragged_column(tmp_path: Path) -> None:
    """Rows of different length are one buffer with offsets, and a sequence of views or of Python's values."""
    pq.write_table(pa.table({"x": [[1, 2], [], [3]], "s": ["a", "", "bc"]}), tmp_path / "a.parquet")
    (batch,) = Stream(str(tmp_path), 3, shuffle=False)
    lists, text = batch["x"], batch["s"]
    assert lists.values.tolist() == [1, 2, 3]
    assert lists.offsets.tolist() == [0, 2, 2, 3]
    assert lists.lengths.tolist() == [2, 0, 1]
    assert [row.tolist() for row in lists] == [[1, 2], [], [3]]
    assert lists[-1].tolist() == [3]
    assert lists[1:].tolist() == [[], [3]]
    assert text == ["a", "", "bc"]
    assert (text[2], list(text), text.values.dtype) == ("bc", ["a", "", "bc"], torch.uint8)
    lists.values[0] = 7  # it is the caller's
    assert lists[0].tolist() == [7, 2]
    with pytest.raises(IndexError, match="row 3 of 3"):
        text[3]


def test_units_are_decoded_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two threads two units are being decoded at the same time, and the order is that of one thread."""
    pq.write_table(pa.table({"id": np.arange(4000)}), tmp_path / "a.parquet", row_group_size=500)
    manifest = replace(build(str(tmp_path)), lanes=4, block_bytes=4000)
    both, calls = threading.Barrier(2), itertools.count()
    read = Manifest.read

    def meeting(self: Manifest, *args: Any, **options: Any) -> Any:
        if next(calls) < 2:
            both.wait(10)
        return read(self, *args, **options)

    one = [batch["id"].tolist() for batch in Stream(manifest, 50, threads=1)]
    monkeypatch.setattr(Manifest, "read", meeting)
    assert [batch["id"].tolist() for batch in Stream(manifest, 50, threads=2)] == one


def test_a_unit_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file does not answer in time, that is an error with URL and unit, and not a wait without end."""
    pq.write_table(pa.table({"id": np.arange(10)}), tmp_path / "a.parquet")
    answer = threading.Event()

    def silent(*_: Any, **__: Any) -> Any:
        answer.wait(60)
        yield from ()

    stream = Stream(build(str(tmp_path)), 5, timeout_s=0.05)
    monkeypatch.setattr(Manifest, "read", silent)
    with pytest.raises(DataError, match=r"a\.parquet \(unit 0\): no data after 0.05 s"):
        next(stream)
    answer.set()


def test_close_waits_for_no_file_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose file does not answer can be closed from outside, without waiting for the answer."""
    pq.write_table(pa.table({"id": np.arange(10)}), tmp_path / "a.parquet")
    answer, asked = threading.Event(), threading.Event()

    def silent(*_: Any, **__: Any) -> Any:
        asked.set()
        answer.wait(60)
        yield from ()

    monkeypatch.setattr(blocks, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(Manifest, "read", silent)
    stream = Stream(build(str(tmp_path)), 5)
    reader = threading.Thread(target=lambda: next(stream, None), daemon=True)
    reader.start()
    assert asked.wait(10)
    while stream._ahead.running is None:  # the thread that asks was quicker than the one that started it
        reader.join(0.01)
    stream.close()
    reader.join(20)
    assert not reader.is_alive()
    answer.set()


def test_who_is_closed_by_another_thread_goes_on_where_it_was(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that waits for a batch ends without an error, wherever its reading was interrupted; the next loop is in
    the same pass, and has the batch."""
    whole = [batch["id"].tolist() for batch in gang(manifest, 1, 10)[0]]
    stream = gang(manifest, 1, 10)[0]
    found = [next(stream)["id"].tolist()]
    stream.close()
    asked, interrupted = threading.Event(), threading.Event()

    def waits(self: Any, *_: Any) -> Any:
        asked.set()
        assert interrupted.wait(10)
        raise CancelledError

    ended: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(Reader, "take", waits)
        patched.setattr(Reader, "stop", lambda self: interrupted.set())
        consumer = threading.Thread(target=lambda: ended.append(list(stream)))
        consumer.start()
        assert asked.wait(10)
        while stream._ahead.running is None:
            consumer.join(0.01)
        stream.close()
        consumer.join(10)
    assert ended == [[]]
    found += [batch["id"].tolist() for batch in stream]
    assert found == whole


# -- memory, and what is fetched ahead --------------------------------------------------------------------------------


def test_less_memory_gives_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within `memory_bytes` units that are too large are read through a temporary file, once, in the same order."""
    from runner.data.stream import blocks as decoded
    from runner.data.stream import reading

    monkeypatch.setattr(reading, "_LEAST_HELD", 1000)
    monkeypatch.setattr(reading, "_LEAST_AHEAD", 1000)
    opened: list[Any] = []

    class Counted(decoded.Spill):
        def __init__(self, batches: Any) -> None:
            opened.append(batches)
            super().__init__(batches)

    monkeypatch.setattr(decoded, "Spill", Counted)
    pq.write_table(pa.table({"id": np.arange(20_000)}), tmp_path / "a.parquet", row_group_size=5000)
    manifest = replace(build(str(tmp_path)), lanes=2, block_bytes=8000)
    whole = [batch["id"].tolist() for batch in Stream(manifest, 50, threads=1)]
    assert not opened
    stream = Stream(manifest, 50, threads=1, memory_bytes=40_000)
    assert [batch["id"].tolist() for batch in stream] == whole
    assert len(opened) == 4
    with pytest.raises(SpecError, match=r"memory_bytes=30000\s+allowed: at least 37000 .*: 2 lanes"):
        Stream(manifest, 50, threads=1, memory_bytes=30_000)


def test_sizes_in_words(tmp_path: Path) -> None:
    """What may be taken and be ready is a number of bytes or a size in words; what is neither is refused."""
    pq.write_table(pa.table({"id": np.arange(100)}), tmp_path / "a.parquet")
    ids = [batch["id"].tolist() for batch in Stream(tmp_path, 10)]
    for sizes in ({"memory_bytes": "1GiB"}, {"prefetch_bytes": "1 MiB"}, {"memory_bytes": 1 << 30}):
        assert [batch["id"].tolist() for batch in Stream(tmp_path, 10, **sizes)] == ids
    for wrong in ("much", -1, 0, 1.5):
        for name in ("memory_bytes", "prefetch_bytes"):
            with pytest.raises(SpecError, match=f"Stream: {name}="):
                Stream(tmp_path, 10, **{name: wrong})


def test_remote_units_are_asked_for_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first unit waits for its bytes those that come next are requested, within the budget; once each."""
    fs = register_remote(monkeypatch)()
    for number in range(6):
        sink = pa.BufferOutputStream()
        table = pa.table({"id": np.arange(number * 1000, number * 1000 + 1000)})
        pq.write_table(table, sink, compression="none", use_dictionary=False)
        fs.pipe_file(f"/ahead/{number}.parquet", sink.getvalue().to_pybytes())
    manifest = replace(build("remote://ahead"), lanes=1, block_bytes=8000)
    monkeypatch.setattr("runner.data.stream.reader.SMALL_BYTES", 0)
    asked: list[int] = []
    ahead, read, several = Manifest.ahead, Manifest.read, threading.Event()

    def told(self: Manifest, shard: int, unit: int, *more: Any, **named: Any) -> Any:
        asked.append(shard)
        if len(asked) >= 4:
            several.set()
        return ahead(self, shard, unit, *more, **named)

    def waits(self: Manifest, *more: Any, **options: Any) -> Any:
        assert several.wait(20)
        return read(self, *more, **options)

    monkeypatch.setattr(Manifest, "ahead", told)
    monkeypatch.setattr(Manifest, "read", waits)
    fs.reads.clear()
    stream = Stream(manifest, 100, shuffle=False, threads=1)
    assert [i for batch in stream for i in batch["id"].tolist()] == list(range(6000))
    whole = [read for read in fs.reads if read[2] - read[1] > 4000]
    assert len(whole) == len(set(whole)) == 6


CUT_OFF = """
import os, sys
from dataclasses import replace
from runner.data.manifest import build
from runner.data.stream import Stream, reader
from runner.errors import DataError
path, format = sys.argv[1:]
reader.SMALL_BYTES = 0
manifest = replace(build(path, format), lanes=1, block_bytes=2 << 20)
stream = Stream(manifest, 1, as_="numpy", shuffle=False, threads=1, prefetch_bytes=1)
next(stream)
os.truncate(path, 100_000)
try:
    for _ in stream:
        pass
except DataError as error:
    print("said:", error)
"""


@pytest.mark.parametrize("kind", ["ipc", "arrows", "tar", "parquet"])
def test_a_file_that_is_cut_off_while_it_is_read_ends_nothing(tmp_path: Path, kind: str) -> None:
    """A local file that shrinks under the reader is an error of the data, and not the end of the process."""
    path = tmp_path / f"a.{kind}"
    rows = [np.random.default_rng(i).bytes(1 << 20) for i in range(40)]
    table = pa.table({"x": pa.array(rows, pa.binary())})
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            for i, row in enumerate(rows):
                member = tarfile.TarInfo(f"{i}.x")
                member.size = len(row)
                archive.addfile(member, io.BytesIO(row))
    elif kind == "parquet":
        pq.write_table(table, path, row_group_size=10, compression="none", write_page_checksum=True)
    else:
        new = pa.ipc.new_file if kind == "ipc" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=10)
    command = [sys.executable, "-c", CUT_OFF, str(path), kind if kind in ("tar", "parquet") else "ipc"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"said: {path}"), done.stdout


@pytest.mark.parametrize("width", [1, 3, 16, 33, 16 << 10, (16 << 10) + 1, 300_000])
@pytest.mark.parametrize("kind", ["fixed", "lists"])
def test_rows_of_every_width(tmp_path: Path, width: int, kind: str) -> None:
    """Rows are right however narrow or wide they are, and wherever in memory their pieces lie."""
    n = 40
    rows = [np.random.default_rng(i).integers(0, 255, width).astype(np.uint8) for i in range(n)]
    column = pa.array([row.tobytes() for row in rows], pa.binary(width))
    if kind == "lists":
        column = pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * width, np.concatenate(rows))
    table = pa.table({"id": np.arange(n), "flag": np.arange(n) % 2 == 0, "x": column})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    manifest = replace(build(str(tmp_path)), lanes=3, block_bytes=4 * (width + 9))
    for as_ in ("numpy", "arrow"):
        for batch in Stream(manifest, 8, as_=as_):
            ids = _python(batch["id"])
            assert _python(batch["flag"]) == [i % 2 == 0 for i in ids]
            for i, x in zip(ids, batch["x"], strict=True):
                found = np.frombuffer(x.as_py(), np.uint8) if as_ == "arrow" and kind == "fixed" else x
                found = found.values.to_numpy() if as_ == "arrow" and kind == "lists" else found
                assert np.array_equal(found, rows[i])


def test_wide_rows_far_apart_in_memory() -> None:
    """Pieces may lie where the C library, and where Arrow has its memory: more than numpy can count of wide rows."""
    memory.keep_freed_memory()  # from here on the C library's is its heap
    width = 300_000
    rows = [np.full(width, i, np.uint8) for i in range(4)]
    column = Fixed(pa.binary(width))
    column.keep(0, np.stack(rows[:2]))
    column.keep(1, dense(pa.array([row.tobytes() for row in rows[2:]], pa.binary(width))))
    found = column.rows(np.array([1, 0, 0, 1]), np.array([0, 0, 1, 1]))
    assert found[:, 0].tolist() == found[:, -1].tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize("source", [b"a.parquet", ["a.parquet", 5], [None]])
def test_what_is_no_url(source: Any) -> None:
    """Anything but text and paths is refused as a source."""
    with pytest.raises(SpecError, match=r"source="):
        Stream(source, 2)


@pytest.mark.parametrize("tail", ["drop", "wrap"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 2**31}, {"batch_size": 10**30}, {"global_batch_size": 10**30},
        {"epochs": 10**30, "batch_size": 1},
        {"batch_size": 2**30, "world_size": 2}, {"batch_size": 2, "world_size": 10**30},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_counted(tmp_path: Path, wrong: dict[str, int], tail: str) -> None:
    """A batch or a count of epochs beyond what rows are counted by is refused, by name."""
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(SpecError, match=f"Stream: {next(iter(wrong))}.*="):
        Stream(tmp_path, **wrong, tail=tail)


@pytest.mark.parametrize("seconds", [1e300, float("inf")])
def test_a_wait_without_end(tmp_path: Path, seconds: float) -> None:
    """A time-out beyond what a clock counts is a very long one."""
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "a.parquet")
    assert len(list(Stream(tmp_path, 2, timeout_s=seconds))) == 1


@pytest.mark.parametrize("epoch", [2**62, 2**70])
def test_epochs_that_cannot_be_counted(tmp_path: Path, epoch: int) -> None:
    """A first epoch whose positions would pass 64 bit is refused before the first batch."""
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(SpecError, match=r"start_epoch="):
        Stream(tmp_path, 2, start_epoch=epoch)

"""Streams against an oracle that is written anew from docs/streaming.md, in plain Python, at every position."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.manifest import Manifest, build
from runner.data.stream import Stream
from runner.data.stream.order import permutation
from runner.data.stream.reader import Reader
from tests.seeds import seeds


def written(folder: Path, draw: random.Random) -> tuple[Manifest, list[list[int]]]:
    """A dataset of some shape, and the ids of each of its units: one-row files, empty row groups, a giant one."""
    start, files = 0, []
    for number in range(draw.randint(1, 6)):
        groups = [draw.choice([0, 1, 1, 7, 40, 160]) for _ in range(draw.randint(1, 6))]
        if draw.random() < 0.2:
            groups = [draw.choice([1, 700])]
        files.append(groups)
        pair = pa.list_(pa.int16(), 2)
        schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("list", pa.list_(pa.int32())), ("pair", pair)])
        with pq.ParquetWriter(folder / f"{number}.parquet", schema) as writer:
            for rows in groups:
                ids = range(start, start + rows)
                columns = [[value(i) for i in ids] for value in VALUES.values()]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=max(rows, 1))
                start += rows
    if not start:
        return written(folder, draw)
    manifest = build(str(folder))
    ids = iter(range(start))
    units = [list(itertools.islice(ids, unit.rows)) for _, unit in manifest.units]
    row = max(1, sum(unit.bytes for _, unit in manifest.units) // start)
    return replace(manifest, lanes=draw.choice([1, 2, 3, 5, 8, 16]), block_bytes=row * draw.randint(1, 60)), units


def expected(manifest: Manifest, units: list[list[int]], seed: int, epoch: int, shuffle: bool) -> list[int]:
    """The ids of an epoch by position."""
    total = sum(map(len, units))
    lanes = manifest.lanes if shuffle else 1
    digest = hashlib.blake2b(f"runner order 1: seed {seed}, epoch {epoch}".encode(), digest_size=16).digest()
    key = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    runs = runs_of(manifest, units, lanes)
    turn = permutation(len(runs), key, (0, 0, 0)).tolist() if shuffle else range(len(runs))
    dealt: list[list[tuple[list[int], int, int, int]]] = [[] for _ in range(lanes)]
    before = 0
    for run in turn:
        ids, size, unit, first = runs[run]
        dealt[(2 * before + len(ids)) * lanes // (2 * total)].append((ids, size, unit, first))
        before += len(ids)
    queues = [in_blocks(lane, number, lanes, manifest.block_bytes, key, shuffle) for number, lane in enumerate(dealt)]
    order = []
    while any(queues):
        order += [queue.pop(0) for queue in queues if queue]
    return order


def runs_of(manifest: Manifest, units: list[list[int]], lanes: int) -> list[tuple[list[int], int, int, int]]:
    """What is dealt: ids, bytes, unit and first row; a unit is cut where there are fewer than lanes."""
    found = []
    for number, (ids, (_, unit)) in enumerate(zip(units, manifest.units, strict=True)):
        parts = 1
        if len(units) < lanes:
            parts = max(1, min(-(-lanes // len(units)), unit.bytes // manifest.block_bytes, max(len(ids), 1)))
        for part in range(parts):
            low, high = len(ids) * part // parts, len(ids) * (part + 1) // parts
            size = unit.bytes * (part + 1) // parts - unit.bytes * part // parts
            found.append((ids[low:high], size, number, low))
    return found


def in_blocks(
    lane: list[tuple[list[int], int, int, int]], number: int, lanes: int, block: int, key: Any, shuffle: bool
) -> list[int]:
    """The ids of a lane: cut by bytes into blocks, each permuted; a block's rows lie in file order before that."""
    rows = [(unit, first + i, one) for ids, _, unit, first in lane for i, one in enumerate(ids)]
    size = sum(size for _, size, _, _ in lane)
    bounds = sorted(
        {0, len(rows), *(rows_within(lane, at) for at in range(block - block * number // lanes, size, block))}
    )
    order = []
    for index, (low, high) in enumerate(itertools.pairwise(bounds)):
        inside = sorted(rows[low:high])
        turn = permutation(high - low, key, (index, number, 1)).tolist() if shuffle else range(high - low)
        order += [inside[i][2] for i in turn]
    return order


def rows_within(lane: list[tuple[list[int], int, int, int]], size: int) -> int:
    """The rows that so many bytes hold, rounded up."""
    rows = 0
    for ids, own, _, _ in lane:
        if size < own:
            return rows + -(-size * len(ids) // own)
        rows, size = rows + len(ids), size - own
    return rows


def check(folder: Path, seed: int) -> None:
    """Two epochs of a random dataset, cut twice and gone on with by other ranks, threads and batches."""
    draw = random.Random(seed)
    manifest, units = written(folder, draw)
    shuffle, tail = draw.random() < 0.8, draw.choice(["drop", "wrap"])
    names = draw.choice([None, ["id"], ["pair", "id"]])  # all, or such as have few bytes a row
    rows = sum(map(len, units))
    order = [i for epoch in range(2) for i in expected(manifest, units, seed, epoch, shuffle)]
    found: dict[int, int] = {}
    state = None
    for last in (False, False, True):
        world, batch = draw.choice([1, 2, 3, 5, 8, 64]), draw.randint(1, max(1, rows // 2))
        if draw.random() < 0.5:  # in each step all lanes have as many rows
            world, batch = draw.choice([1, 1, 2, 4, 8]), manifest.lanes * draw.randint(1, 6)
        ranks = [
            Stream(
                manifest,
                global_batch_size=max(batch, world),
                rank=rank,
                world_size=world,
                seed=seed,
                shuffle=shuffle,
                tail="wrap" if max(batch, world) > rows else tail,
                epochs=2,
                columns=names,
                threads=draw.randint(1, 3),
                prefetch_bytes=draw.choice([1, 1 << 20]),
                as_=draw.choice(["numpy", "arrow"]),
            )
            for rank in range(world)
        ]
        if state is not None and state["tail"] != ranks[0].tail:
            return  # a batch larger than the data
        for rank in ranks if state else ():
            rank.load_state_dict(state or {})
        steps = None if last else draw.randint(0, 3)
        for batches in itertools.islice(zip(*ranks, strict=True), steps):
            for one in batches:
                ids = plain(one["id"])
                for name, column in one.items():
                    assert plain(column) == [VALUES[name](i) for i in ids]
                for position, i, kept in zip(one.positions.tolist(), ids, one.mask.tolist(), strict=True):
                    if kept:
                        assert found.setdefault(position, i) == i
        state = ranks[0].state_dict()
        for rank in ranks:
            assert rank.state_dict() == state
            rank.close()
    assert found == {position: order[position] for position in found}
    if tail == "wrap":
        assert len(found) == 2 * rows


#: Of a row, by its id.
VALUES: dict[str, Callable[[int], Any]] = {
    "id": lambda i: i,
    "text": lambda i: f"{i}" * (i % 3),
    "list": lambda i: [i] * (i % 4),
    "pair": lambda i: [i % 100, i % 7],
}


def plain(column: Any) -> list[Any]:
    """Values of Python's."""
    found: list[Any] = column.to_pylist() if isinstance(column, pa.Array) else column.tolist()
    return found


@pytest.mark.parametrize("seed", seeds(5, 12))
def test_every_position_is_the_oracles(tmp_path: Path, seed: int) -> None:
    """Ids by position are those of the oracle, for any ranks, threads, batches and places of a resume."""
    check(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_every_position_of_many(tmp_path: Path) -> None:
    """The same for 400 datasets."""
    for seed in range(100, 500):
        folder = tmp_path / str(seed)
        folder.mkdir()
        check(folder, seed)


def test_the_oracle_sees_what_it_should(tmp_path: Path) -> None:
    """Of two epochs each has all ids once, in another order; of blocks of one row none is anywhere else."""
    manifest, units = written(tmp_path, random.Random(3))
    first, second = (expected(manifest, units, 0, epoch, True) for epoch in range(2))
    assert sorted(first) == sorted(second) == list(range(len(first)))
    assert first != second or len(first) < 3
    assert np.array_equal(expected(manifest, units, 0, 0, False), range(len(first)))


@pytest.mark.parametrize("number", [12, pytest.param(400, marks=pytest.mark.soak)])
def test_rows_that_are_put_in_order_as_blocks(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow rows, of which a step has as many of each lane, are those that are looked up one by one."""
    used = []
    plainly = Reader._in_turns

    def noted(reader: Reader, turns: Any) -> Any:
        used.append(turns)
        return plainly(reader, turns)

    monkeypatch.setattr(Reader, "_in_turns", noted)
    for seed in range(number):
        folder = tmp_path / str(seed)
        folder.mkdir()
        compare(folder, random.Random(5000 + seed), seed)
    assert len(used) > number


def compare(folder: Path, draw: random.Random, seed: int) -> None:
    """Narrow columns as numpy's arrays and as Arrow's, of each rank, from some place on to the end of three epochs."""
    manifest, units = written(folder, draw)
    rows, world = sum(map(len, units)), draw.choice([1, 2, 4])
    batch = manifest.lanes * draw.randint(1, 4) * world
    seen = draw.choice([0, batch % rows, rows // 3])
    for rank in range(world):
        one, other = (
            Stream(
                manifest,
                global_batch_size=batch,
                rank=rank,
                world_size=world,
                seed=seed,
                tail="wrap",
                epochs=3,
                columns=["pair", "id"],
                as_=as_,
            )
            for as_ in ("numpy", "arrow")
        )
        state = {**one.state_dict(), "samples_seen": seen}
        one.load_state_dict(state)
        other.load_state_dict(state)
        for batch_of, wanted in zip(one, other, strict=True):
            for name in ("id", "pair"):
                assert plain(batch_of[name]) == plain(wanted[name])
            assert batch_of.positions.tolist() == wanted.positions.tolist()
            assert batch_of.mask.tolist() == wanted.mask.tolist()

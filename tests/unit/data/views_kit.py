"""Random data for filters, packing and mixtures, and what must come of it: plain Python, a row at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from runner.data.manifest import Manifest, build
from runner.data.stream import Stream
from tests.unit.data import test_exact_streams as exact

Row = dict[str, Any]
#: What the tests read of a row, as something that is equal where rows are.
Seen = Any

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("lang", pa.string()),
        ("score", pa.float64()),
        ("tokens", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int64())),
    ]
)


def some_units(random: np.random.Generator) -> list[list[list[Row]]]:
    """Files of units of rows: empty units, files of one row, now and then a giant unit; sorted by `lang` in part."""
    made, number = [], 0
    for _ in range(int(random.integers(1, 6))):
        kind = random.integers(0, 4)
        sizes = {0: [1], 1: [int(random.integers(60, 200))]}.get(kind, random.integers(0, 25, 4).tolist())
        units = []
        for size in sizes:
            only = random.choice(["en", "de", ""])  # a unit of one language, which its statistics tell
            rows = []
            for _ in range(size):
                length = int(random.integers(0, 12)) if random.random() < 0.95 else 60
                tokens = random.integers(1, 1000, length).tolist()
                lang = only or random.choice(["en", "de", "fr", None], p=[0.4, 0.3, 0.2, 0.1])
                score = None if random.random() < 0.1 else float(random.integers(0, 10)) / 2
                rows.append(
                    {"id": number, "lang": lang, "score": score, "tokens": tokens, "labels": [-t for t in tokens]}
                )
                number += 1
            units.append(rows)
        made.append(units)
    if not any(rows for units in made for rows in units):
        made[0][0] = [{"id": 0, "lang": "en", "score": 1.0, "tokens": [1, 2], "labels": [-1, -2]}]
    return made


def written(folder: Path, files: Sequence[Sequence[Sequence[Row]]], format: str = "parquet") -> Manifest:
    """The manifest of files with these units; of JSON lines a file is one unit."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, units in enumerate(files):
        path = folder / f"{number:03}.{format}"
        tables = [pa.Table.from_pylist(list(rows), SCHEMA) for rows in units]
        if format == "parquet":
            with pq.ParquetWriter(path, SCHEMA) as writer:
                for table in tables:
                    writer.write_table(table, row_group_size=max(1, len(table)))
        elif format == "arrow":
            with pa.ipc.new_file(path, SCHEMA) as sink:
                for table in tables:
                    for batch in table.combine_chunks().to_batches():
                        sink.write_batch(batch)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for rows in units for row in rows))
    return build(str(folder), count=True)


def in_units(files: Sequence[Sequence[Sequence[Row]]], format: str = "parquet") -> list[list[Row]]:
    """The rows of each unit that has any."""
    if format == "jsonl":
        files = [[[row for rows in units for row in rows]] for units in files]
    return [list(rows) for units in files for rows in units if rows]


def kept(units: Sequence[Sequence[Row]], keep: Callable[[Row], bool]) -> list[list[Row]]:
    """The rows of which `keep` is True."""
    return [rows for unit in units if (rows := [row for row in unit if keep(row)])]


def packed(
    units: Sequence[Sequence[Row]], length: int, fill: int = 0, separator: int | None = None
) -> list[list[tuple[tuple[int, ...], ...]]]:
    """The packed rows of each unit that has tokens: tokens, labels, document and position of each."""
    found = []
    for unit in units:
        stream: list[tuple[int, int, int, int]] = []
        for number, row in enumerate(unit):
            tokens, labels = list(row["tokens"]), list(row["labels"])
            if separator is not None:
                tokens.append(separator)
                labels.append(separator)
            stream += [(t, x, number, place) for place, (t, x) in enumerate(zip(tokens, labels, strict=True))]
        rows = []
        for start in range(0, len(stream), length):
            part = stream[start : start + length]
            documents = sorted({number for _, _, number, _ in part})
            part = [(t, x, documents.index(number), place) for t, x, number, place in part]
            part += [(fill, fill, -1, 0)] * (length - len(part))
            rows.append(tuple(zip(*part, strict=True)))
        if rows:
            found.append(rows)
    return found


def cut_otherwise(manifest: Manifest, random: np.random.Generator) -> Manifest:
    """With some lanes and blocks, as large data has them."""
    return replace(manifest, lanes=int(random.integers(1, 9)), block_bytes=int(random.integers(1, 4000)))


def expected(manifest: Manifest, seed: int, units: Sequence[Sequence[Seen]], epochs: int) -> list[Seen]:
    """What stands at each position."""
    assert [unit.rows for _, unit in manifest.units] == [len(rows) for rows in units]
    return [row for epoch in range(epochs) for row in epoch_of(manifest, seed, units, epoch)]


def epoch_of(manifest: Manifest, seed: int, units: Sequence[Sequence[Seen]], epoch: int) -> list[Seen]:
    """What stands at each position of an epoch."""
    return list(exact.expected(manifest, [list(rows) for rows in units], seed, epoch, True))


def streamed(
    random: np.random.Generator, end: int, read: Callable[[Any], list[Seen]], source: Any, **arguments: Any
) -> dict[int, Seen]:
    """Position -> what stands there, by gangs of random sizes, cut and gone on with at random steps.

    Args:
        end: positions of the pass.
        read: what the tests see of each row of a batch.
    """
    found: dict[int, Seen] = {}
    state: dict[str, Any] | None = None
    while len(found) < end:
        world = int(random.integers(1, 9))
        size = int(random.integers(world, 60))
        ranks = [Stream(source, global_batch_size=size, rank=r, world_size=world, **arguments) for r in range(world)]
        for rank in ranks if state else ():
            rank.load_state_dict(json.loads(json.dumps(state)))
        for _ in range(int(random.integers(1, 40))):
            batches = [next(rank, None) for rank in ranks]
            if batches[0] is None:
                assert batches == [None] * world
                break
            for batch in batches:
                for position, mask, row in zip(batch.positions.tolist(), batch.mask.tolist(), read(batch), strict=True):
                    assert not (mask and position in found)
                    if mask:
                        found[position] = row
        states = [rank.state_dict() for rank in ranks]
        assert states == [states[0]] * world
        state = states[0]
        for rank in ranks:
            rank.close()
    return found

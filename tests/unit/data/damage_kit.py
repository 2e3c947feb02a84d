"""Small files of every format, damaged in ways that seeds tell, and every way of reading them.

As a program it reads damaged files of one kind, of a range of seeds, and has written down which one it is at, so that
whoever started it can say of which file its process ended:

    python -m tests.unit.data.damage_kit snappy.parquet 0 500 /tmp/folder
"""

from __future__ import annotations

import bz2
import contextlib
import datetime
import faulthandler
import gzip
import io
import json
import random
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import fsspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from runner.data import manifest
from runner.data.formats import ipc, tar
from runner.data.manifest import Manifest
from runner.data.stream import Stream, blocks
from runner.errors import DataDamaged, DataError
from runner.prep.task_input import TaskInput
from runner.prep.tasks import plan_tasks
from tests.unit.data.kit import RemoteFileSystem

ROWS, BATCH = 60, 25
#: Seconds after which a file that is still read has hung.
_HUNG_S = 120


def table(other: bool = False) -> pa.Table:
    """Every kind of layout that values have in memory, some inside others.

    Args:
        other: another one of the same types.
    """
    rows = range(1000, 1000 + ROWS) if other else range(ROWS)
    return pa.table(
        {
            "whole": pa.array(rows),
            "struct": [{"texts": [str(row)] * (row % 4), "number": None if row % 3 else row * 1.5} for row in rows],
            "binary": [b"q" * (row % 100) for row in rows],
            "map": pa.array([[(str(row), row)] for row in rows], pa.map_(pa.string(), pa.int32())),
            "decimal": pa.array([Decimal(row) for row in rows], pa.decimal128(6, 0)),
            "dictionary": pa.array([f"v{row % 5}" for row in rows]).dictionary_encode(),
            "time": [datetime.datetime(2020, 1, 1)] * ROWS,
            "fixed": pa.array([[1.0, 2.0]] * ROWS, pa.list_(pa.float32(), 2)),
            "large": pa.array(["x" * (row % 100) for row in rows], pa.large_string()),
            "null": pa.nulls(ROWS),
            "bool": [row % 2 == 0 for row in rows],
        }
    )


# -- good files ------------------------------------------------------------------------------------------------------


def _parquet(**how: Any) -> Callable[[Path, bool], None]:
    def write(path: Path, other: bool) -> None:
        pq.write_table(table(other), path, row_group_size=BATCH, write_page_index=True, **how)

    return write


def _delta(path: Path, other: bool) -> None:
    """The newer encodings, each of one column."""
    rows = table(other).select(["whole", "binary", "large", "bool", "fixed"])
    encodings = {
        "whole": "DELTA_BINARY_PACKED",
        "binary": "DELTA_BYTE_ARRAY",
        "large": "DELTA_LENGTH_BYTE_ARRAY",
        "bool": "RLE",
        "fixed.list.element": "BYTE_STREAM_SPLIT",
    }
    pq.write_table(rows, path, row_group_size=BATCH, use_dictionary=False, column_encoding=encodings)


def _ipc(stream: bool = False, pieces: bool = False, **how: Any) -> Callable[[Path, bool], None]:
    def write(path: Path, other: bool) -> None:
        rows = table(other).drop_columns("dictionary") if pieces else table(other)
        opened = pa.ipc.new_stream if stream else pa.ipc.new_file
        with opened(path, rows.schema, options=pa.ipc.IpcWriteOptions(**how)) as writer:
            writer.write_table(rows, BATCH)

    return write


def _lines(pack: Callable[[bytes], bytes] = bytes) -> Callable[[Path, bool], None]:
    def write(path: Path, other: bool) -> None:
        first = 1000 if other else 0
        rows = [{"id": first + row, "text": "ä" * (row % 9), "of": {"x": [row, row * 0.5]}} for row in range(ROWS)]
        path.write_bytes(pack("".join(json.dumps(row) + "\n" for row in rows).encode()))

    return write


def _csv(path: Path, other: bool) -> None:
    first = 1000 if other else 0
    rows = pa.table(
        {"id": range(first, first + ROWS), "x": [row * 0.5 for row in range(ROWS)], "text": ['a,"b'] * ROWS}
    )
    pa_csv.write_csv(rows, path)


def _text(path: Path, other: bool) -> None:
    path.write_text("".join(f"line {row} of {'b' if other else 'a'} größe\n" for row in range(ROWS)))


def _tar(path: Path, other: bool) -> None:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w", format=tarfile.PAX_FORMAT) as archive:
        for row in range(ROWS):
            for kind in ("bin", "ä" * (row % 7) + ".cls")[: 1 + row % 2]:
                member = tarfile.TarInfo(f"{'other' if other else 'folder'}/{row}.{kind}")
                member.size = 10 * row
                archive.addfile(member, io.BytesIO(bytes([row]) * member.size))


@dataclass(frozen=True)
class Kind:
    """A way to write a file.

    Args:
        write: to a path; True writes another of the same form.
        is_checked: whether the format has checksums over all that its values are made of.
        reading: of a Stream.
    """

    write: Callable[[Path, bool], None]
    is_checked: bool = False
    reading: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "snappy.parquet": Kind(_parquet(compression="snappy")),
    "checked.parquet": Kind(_parquet(compression="zstd", write_page_checksum=True)),
    "plain.parquet": Kind(_parquet(compression="none", data_page_version="2.0", use_dictionary=False)),
    "delta.parquet": Kind(_delta),
    "pages.parquet": Kind(
        _parquet(
            compression="snappy",
            data_page_version="2.0",
            data_page_size=64,
            max_rows_per_page=7,
            dictionary_pagesize_limit=40,
            write_page_checksum=True,
        )
    ),
    "plain.arrow": Kind(_ipc()),
    "zstd.arrow": Kind(_ipc(compression="zstd")),
    "plain.arrows": Kind(_ipc(stream=True)),
    "zstd.arrows": Kind(_ipc(stream=True, compression="zstd")),
    "pieces.arrows": Kind(_ipc(stream=True, pieces=True)),
    "plain.jsonl": Kind(_lines()),
    "packed.jsonl.gz": Kind(_lines(gzip.compress), is_checked=True),
    "packed.jsonl.bz2": Kind(_lines(bz2.compress), is_checked=True),
    "plain.csv": Kind(_csv),
    "plain.txt": Kind(_text),
    "plain.files": Kind(_text, reading={"format": "files"}),
    "plain.tar": Kind(_tar),
    "packed.tar.gz": Kind(_tar, is_checked=True),
}


# -- damage ----------------------------------------------------------------------------------------------------------


def damaged(good: bytes, other: bytes, seed: int) -> bytes:
    """Bits flipped, bytes overwritten, left out, put in, cut off at the end, or taken from another file of the same
    form; more often near the end, where footers are."""
    chance = random.Random(seed)
    data = bytearray(good)
    for _ in range(chance.choice([1, 1, 2, 5])):
        first = 0 if chance.random() < 0.6 else max(0, len(data) - 2500)
        at = chance.randrange(first, len(data)) if data else 0
        _damage(data, other, at, chance)
    return bytes(data)


def damaged_in_place(good: bytes, other: bytes, seed: int) -> bytes:
    """The same, of as many bytes as before."""
    chance = random.Random(seed)
    data = bytearray(good)
    for _ in range(chance.choice([1, 1, 2, 5])):
        _overwrite(data, other, chance.randrange(len(data)), chance, chance.randrange(5))
    return bytes(data)


def _damage(data: bytearray, other: bytes, at: int, chance: random.Random) -> None:
    match chance.randrange(10):
        case 0:
            del data[at : at + chance.choice([1, 3, 8, 400])]
        case 1:
            data[at:at] = chance.randbytes(chance.choice([1, 4, 64]))
        case 2:
            del data[at:]
        case 3:
            data[at:] = other[min(at, len(other)) :]
        case 4:
            data[at:] = other[chance.randrange(len(other)) :]
        case how if data:
            _overwrite(data, other, min(at, len(data) - 1), chance, how - 5)


def _overwrite(data: bytearray, other: bytes, at: int, chance: random.Random, how: int) -> None:
    length = min(chance.choice([1, 4, 16, 300]), len(data) - at)
    match how:
        case 0 | 1:
            data[at] ^= 1 << chance.randrange(8)
        case 2:
            data[at] = chance.randrange(256)
        case 3:
            filled = chance.choice([b"\xff", b"\0", b"\x7f"]) * length
            data[at : at + length] = chance.choice([filled, chance.randbytes(length)])
        case _:
            data[at : at + length] = other[at : at + length].ljust(length, b"\0")


# -- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Good:
    """A good file of a kind, another of the same form, and what the first one holds."""

    name: str
    kind: Kind
    data: bytes
    other: bytes
    found: Manifest
    rows: pa.Table


def good(name: str, folder: Path) -> Good:
    """The good files of a kind, written and read in a folder of their own."""
    kind, (one, other) = KINDS[name], (folder / "one", folder / "other")
    for place in (one, other):
        place.mkdir(parents=True)
        kind.write(place / name, place is other)
    found = manifest.build(one / name, count=True, **kind.reading)
    rows = pa.Table.from_batches(found.read(0), schema=found.schema)
    return Good(name, kind, (one / name).read_bytes(), (other / name).read_bytes(), found, rows)


def outcome(of: Good, seed: int, folder: Path) -> str:
    """What comes of reading a damaged file in every way: 'refused', 'same' or 'other'.

    Raises:
        AssertionError: it is wrong: rows are missing, or are other ones though the format has checksums; or the error
            does not name the file.
    """
    pinned = seed % 3 == 0  # it was damaged after it was listed
    data = (damaged_in_place if pinned else damaged)(of.data, of.other, seed)
    base = _placed(of.name, data, seed, folder)
    try:
        with mock.patch.object(blocks, "PIECE_BYTES", blocks.PIECE_BYTES if seed % 2 else 500):
            url = f"{base}/{of.name}"
            found = replace(of.found, base=base) if pinned else manifest.build(url, count=True, **of.kind.reading)
            return _read(of, found, data, pinned)
    except DataError as error:
        if base not in str(error):  # a dataset without rows is named by its folder
            raise AssertionError("an error that does not name the file") from error
        return "refused"
    finally:
        shutil.rmtree(folder / str(seed), ignore_errors=True)


def _placed(name: str, data: bytes, seed: int, folder: Path) -> str:
    """A file in a folder of its own, for what is known of a file is kept by its name; each fifth on a store."""
    if seed % 5:
        (folder / str(seed)).mkdir()
        (folder / str(seed) / name).write_bytes(data)
        return str(folder / str(seed))
    fsspec.register_implementation("remote", RemoteFileSystem, clobber=True)
    RemoteFileSystem.store.clear()
    RemoteFileSystem.reads.clear()
    RemoteFileSystem().pipe_file(f"/{seed}/{name}", data)
    return f"remote:///{seed}"


def _read(of: Good, found: Manifest, data: bytes, pinned: bool) -> str:
    if pinned and data != of.data:
        _refused(found)
    given = [batch for task in plan_tasks(found, "") for batch in _prep(found, task)]
    rows = pa.Table.from_batches(given, schema=found.schema)
    assert len(rows) == found.rows, f"{len(rows)} of {found.rows} rows"
    same = found.schema.equals(of.rows.schema) and rows.equals(of.rows)
    is_other = data.rstrip(b"\0") == of.other.rstrip(b"\0")  # behind a gzip zeros are none of it
    assert same or not of.kind.is_checked or is_other, "other rows, though there are checksums"
    for as_ in ("arrow", "numpy"):
        _stream(found, rows, as_)
    return "same" if same else "other"


def _refused(found: Manifest) -> None:
    """Where the content is compared with what was listed, nothing passes."""
    try:
        for _ in Stream(found, 16, as_="numpy", tail="wrap", threads=1, verify=True):
            raise AssertionError("a change that is not seen though it was looked for")
    except DataDamaged:
        pass


def _prep(found: Manifest, task: Any) -> Any:
    return TaskInput(task, found.base, found.options, found.schema).rows()


def _stream(found: Manifest, rows: pa.Table, as_: str) -> None:
    names = found.schema.names
    with Stream(found, 16, as_=as_, shuffle=False, tail="wrap", threads=1, timeout_s=_HUNG_S / 2) as stream:
        batches = list(stream)
    real = sum(int(batch.mask.sum()) for batch in batches)
    assert real == len(rows), f"{real} of {len(rows)} rows by as_={as_!r}"
    if as_ == "arrow":
        every = pa.table([pa.concat_arrays([batch[name] for batch in batches]) for name in names], found.schema)
        assert _equal(every.slice(0, real), rows), "the stream has other rows than the Prep"


def _equal(a: pa.Table, b: pa.Table) -> bool:
    """As they are shown: NaN is NaN."""
    return a.equals(b) or [column.to_pylist().__repr__() for column in a.columns] == [
        column.to_pylist().__repr__() for column in b.columns
    ]


@contextlib.contextmanager
def small_units(name: str) -> Iterator[None]:
    """While it lasts archives, and streams of Arrow that are to be, are cut into several units, as large ones are."""
    with (
        mock.patch.object(tar, "UNIT_BYTES", 5_000),
        mock.patch.object(ipc, "UNIT_BYTES", 1 if "pieces" in name else ipc.UNIT_BYTES),
    ):
        yield


def main(arguments: Sequence[str]) -> None:
    """Reads files of a range of seeds; prints how many had which outcome, as JSON."""
    name, first, count, folder = arguments
    faulthandler.enable()
    of, outcomes = good(name, Path(folder) / "good"), Counter[str]()
    note = Path(folder) / "seed"
    with small_units(name):
        for seed in range(int(first), int(first) + int(count)):
            note.write_text(str(seed))
            faulthandler.dump_traceback_later(_HUNG_S, exit=True)
            try:
                outcomes[outcome(of, seed, Path(folder))] += 1
            except Exception as error:
                raise AssertionError(f"{name}, seed {seed}: {type(error).__name__}: {error}") from error
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1:])

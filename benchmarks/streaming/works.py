"""The works: what is written, and what of it is to be delivered."""

from __future__ import annotations

import functools
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.streaming.touch import Tally

TOKENS = 2048
FLOATS = 64
FILES = 8
#: Decoded bytes of a row group.
GROUP = 16 << 20
JPEG_BYTES = 100_000
#: Different pictures; each row has one of them and a comment of its own, so that no two values are equal.
PICTURES = 16


@dataclass(frozen=True)
class Dataset:
    """Files that several works read.

    Attributes:
        make: gives a table of the rows first, first + 1, ... first + count - 1.
        row_bytes: about, of all value columns.
        codec: of Parquet.
    """

    name: str
    make: Callable[[int, int], pa.Table]
    row_bytes: int
    codec: str = "none"
    format: str = "parquet"


@dataclass(frozen=True)
class Work:
    """What is to be delivered of a dataset."""

    name: str
    dataset: Dataset
    columns: tuple[str, ...]
    batch: int
    decode: bool = False


def tokens(kind: str) -> Callable[[int, int], pa.Table]:
    """Rows of 2,048 random int32 below 50,000, as 'list', 'fixed' (fixed-size list) or 'binary' (fixed-size)."""

    def make(first: int, count: int) -> pa.Table:
        values = np.random.default_rng(first).integers(0, 50_000, count * TOKENS, dtype=np.int32)
        if kind == "list":
            offsets = np.arange(0, count * TOKENS + 1, TOKENS, dtype=np.int32)
            column: Any = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
        elif kind == "fixed":
            column = pa.FixedSizeListArray.from_arrays(pa.array(values), TOKENS)
        else:
            column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * TOKENS), count, [None, pa.py_buffer(values)])
        return pa.table({"id": _ids(first, count), "tokens": column})

    return make


def floats(first: int, count: int) -> pa.Table:
    """Rows of 64 normal float32 columns."""
    values = np.random.default_rng(first).standard_normal((FLOATS, count), dtype=np.float32)
    return pa.table({"id": _ids(first, count), **{f"x{i:02d}": values[i] for i in range(FLOATS)}})


def jpegs(first: int, count: int) -> pa.Table:
    """Rows of a JPEG of about 100 kB, whose length is a multiple of 8."""
    pictures = _pictures()
    values = [with_comment(pictures[i % PICTURES], i) for i in range(first, first + count)]
    return pa.table({"id": _ids(first, count), "image": pa.array(values, pa.binary())})


def _ids(first: int, count: int) -> Any:
    return np.arange(first, first + count)


@functools.cache
def _pictures() -> list[bytes]:
    """Pictures of 500 by 375, some smooth ground with noise on it, at the quality that makes 100 kB of them."""
    from PIL import Image

    rng = np.random.default_rng(0)
    found = []
    for _ in range(PICTURES):
        ground = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize((500, 375))
        noise = rng.integers(-24, 25, (375, 500, 1), dtype=np.int16)
        pixels = np.clip(np.asarray(ground, dtype=np.int16) + noise, 0, 255).astype(np.uint8)
        target = io.BytesIO()
        Image.fromarray(pixels).save(target, "JPEG", quality=90)
        found.append(target.getvalue())
    return found


def with_comment(picture: bytes, number: int) -> bytes:
    """A JPEG with a comment after its first marker: the number, and what makes the length a multiple of 8."""
    text = number.to_bytes(8, "little")
    text += b" " * (-(len(picture) + 4 + len(text)) % 8)
    return picture[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + picture[2:]


TOKEN_SETS = {
    f"tokens-{kind}{'-zstd' * (codec == 'zstd')}": Dataset(
        f"tokens-{kind}-{codec}", tokens(kind), 4 * TOKENS, codec
    )
    for kind in ("list", "fixed", "binary")
    for codec in ("none", "zstd")
}  # fmt: skip
PARQUET_JPEGS = Dataset("jpeg", jpegs, JPEG_BYTES)
TAR_JPEGS = Dataset("jpeg-tar", jpegs, JPEG_BYTES, format="tar")
FLOAT_TABLE = Dataset("floats", floats, 4 * FLOATS)
SOME_FLOATS = ("x03", "x17", "x31", "x60")

WORKS = {
    work.name: work
    for work in (
        *(Work(name, dataset, ("tokens",), 32) for name, dataset in TOKEN_SETS.items()),
        Work("jpeg", PARQUET_JPEGS, ("image",), 32),
        Work("jpeg-decoded", PARQUET_JPEGS, ("image",), 32, decode=True),
        Work("jpeg-tar", TAR_JPEGS, ("image",), 32),
        Work("jpeg-tar-decoded", TAR_JPEGS, ("image",), 32, decode=True),
        Work("floats-4", FLOAT_TABLE, SOME_FLOATS, 1024),
        Work("floats-64", FLOAT_TABLE, tuple(f"x{i:02d}" for i in range(FLOATS)), 1024),
    )
}


def rows_of(dataset: Dataset, megabytes: int) -> int:
    """Rows that make so many megabytes, so that each file has as many, and only whole batches."""
    least = FILES * (1024 if dataset is FLOAT_TABLE else 32)
    return max(1, round(megabytes * 1_000_000 / dataset.row_bytes / least)) * least


@dataclass(frozen=True)
class Written:
    """A dataset on disk: rows, and bytes and checksum of each value column."""

    folder: Path
    files: tuple[str, ...]
    rows: int
    payload: dict[str, int]
    checksum: dict[str, int]


def write(dataset: Dataset, folder: Path, megabytes: int) -> Written:
    """Writes a dataset into `folder`/name-megabytes, or finds it there."""
    path = folder / f"{dataset.name}-{megabytes}"
    facts = path.with_suffix(".json")
    if not facts.exists():
        path.mkdir(parents=True, exist_ok=True)
        rows = rows_of(dataset, megabytes)
        payload: dict[str, int] = {}
        checksum: dict[str, int] = {}
        for number in range(FILES):
            tallies = _write_file(dataset, path, number, rows // FILES)
            for name, tally in tallies.items():
                payload[name] = payload.get(name, 0) + tally.payload
                checksum[name] = checksum.get(name, 0) ^ tally.checksum
        facts.write_text(json.dumps({"rows": rows, "payload": payload, "checksum": checksum}))
    found = json.loads(facts.read_text())
    return Written(path, tuple(sorted(one.name for one in path.iterdir())), **found)


def _write_file(dataset: Dataset, path: Path, number: int, rows: int) -> dict[str, Tally]:
    """One file, a row group at a time; a tally for each value column."""
    tallies: dict[str, Tally] = {}
    step = max(1, GROUP // dataset.row_bytes)
    first = number * rows
    pieces = (dataset.make(at, min(step, first + rows - at)) for at in range(first, first + rows, step))
    if dataset.format == "tar":
        _write_tar(path / f"{number:02d}.tar", _counted(pieces, tallies))
    else:
        _write_parquet(path / f"{number:02d}.parquet", _counted(pieces, tallies), dataset.codec)
    return tallies


def _counted(pieces: Iterator[pa.Table], tallies: dict[str, Tally]) -> Iterator[pa.Table]:
    for piece in pieces:
        for name in piece.column_names[1:]:
            tallies.setdefault(name, Tally()).add([], [piece[name]])
        yield piece


def _write_parquet(path: Path, pieces: Iterator[pa.Table], codec: str) -> None:
    """With page checksums, as runner writes; no dictionaries, which random values do not fill."""
    writer = None
    for piece in pieces:
        writer = writer or pq.ParquetWriter(
            path, piece.schema, compression=codec, use_dictionary=False, write_page_checksum=True
        )
        writer.write_table(piece, row_group_size=len(piece))
    if writer is not None:
        writer.close()


def _write_tar(path: Path, pieces: Iterator[pa.Table]) -> None:
    with tarfile.open(path, "w") as archive:
        for piece in pieces:
            for number, value in zip(piece["id"].to_pylist(), piece["image"].to_pylist(), strict=True):
                member = tarfile.TarInfo(f"{number:08d}.jpg")
                member.size = len(value)
                archive.addfile(member, io.BytesIO(value))

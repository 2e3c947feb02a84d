"""The deterministic Parquet writer."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.files.listing import SourceFile
from runner.data.formats.formats import inspect
from runner.data.formats.parquet import units_of
from runner.data.formats.parquet_footer import Footer
from runner.data.writer import Pieces, decoded_bytes, prefix_rows, tighten, write_file

RNG = np.random.default_rng(0)
ROWS = 5000
SAMPLE = pa.table(
    {
        "id": np.arange(ROWS),
        "noise": RNG.random(ROWS, dtype=np.float32),
        "class": RNG.integers(0, 3, ROWS),
        "word": [f"w{i % 7}" for i in range(ROWS)],
        "blob": [RNG.bytes(20 + i % 5) for i in range(ROWS)],
        "tokens": [list(range(i % 4)) for i in range(ROWS)],
        "maybe": pa.array([None if i % 5 == 0 else i for i in range(ROWS)], pa.int32()),
        "flag": [i % 2 == 0 for i in range(ROWS)],
        "pair": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * ROWS, dtype=np.int16)), 2),
        "deep": [{"a": i, "b": ["x"] * (i % 3)} for i in range(ROWS)],
    }
)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """Values and types of every column survive; only not-null is added."""
    written = write_file(tmp_path / "a.parquet", SAMPLE, group_bytes=100_000)
    back = pq.read_table(tmp_path / "a.parquet")
    assert back.to_pylist() == SAMPLE.to_pylist()
    assert back.schema.names == SAMPLE.schema.names
    assert written.rows == ROWS


def test_the_hashes_are_those_of_the_file(tmp_path: Path) -> None:
    """Size, MD5 and SHA-256 that were taken while writing are those of the file on disk."""
    written = write_file(tmp_path / "a.parquet", SAMPLE)
    data = (tmp_path / "a.parquet").read_bytes()
    assert written.bytes == len(data)
    assert written.md5 == hashlib.md5(data).hexdigest()
    assert written.sha256 == hashlib.sha256(data).hexdigest()
    assert write_file(tmp_path / "b.parquet", SAMPLE, md5=False) == replace(written, md5="", metadata=ANY)


@pytest.mark.parametrize("sizes", [[5000], [1, 4999], [1000] * 5, [17] * 294 + [2]])
def test_bytes_do_not_depend_on_how_rows_arrive(tmp_path: Path, sizes: list[int]) -> None:
    """The same rows in other chunks, and with validity bitmaps or without, give the same file."""
    starts = np.cumsum([0, *sizes])
    chunks = [SAMPLE.slice(int(start), size) for start, size in zip(starts[:-1], sizes, strict=True)]
    pieces = Pieces(200_000)
    cut = [piece for chunk in chunks for piece in pieces.add(pa.table(chunk.to_pydict(), schema=chunk.schema))]
    cut += list(pieces.rest())
    whole = Pieces(200_000)
    expected = [*whole.add(SAMPLE), *whole.rest()]
    assert len(expected) > 2
    for number, (left, right) in enumerate(zip(cut, expected, strict=True)):
        one = write_file(tmp_path / f"{number}-a", left, group_bytes=50_000)
        two = write_file(tmp_path / f"{number}-b", right, group_bytes=50_000)
        assert one.sha256 == two.sha256


def test_row_groups_are_even_and_near_the_target(tmp_path: Path) -> None:
    """A file has groups of about the size asked for, and no small rest at its end."""
    table = pa.table({"x": np.arange(33_000)})  # 264 kB
    write_file(tmp_path / "a.parquet", table, group_bytes=64_000)
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    sizes = [metadata.row_group(i).num_rows * 8 for i in range(metadata.num_row_groups)]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) <= 8
    assert sum(sizes) == 264_000


def test_pages_have_checksums(tmp_path: Path) -> None:
    """A flipped byte inside a page is found when the file is read with verification."""
    write_file(tmp_path / "a.parquet", pa.table({"x": RNG.random(1000)}))
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[2000] ^= 1
    (tmp_path / "b.parquet").write_bytes(data)
    with pytest.raises(OSError, match="CRC checksum"):
        pq.read_table(tmp_path / "b.parquet", page_checksum_verification=True)


def test_encodings_fit_the_columns(tmp_path: Path) -> None:
    """Noise stays plain, few words get a dictionary, repetitive numbers a codec but no dictionary."""
    write_file(tmp_path / "a.parquet", SAMPLE.select(["noise", "word", "class", "id"]))
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    noise, word, label, number = (group.column(i) for i in range(4))
    assert noise.compression == "UNCOMPRESSED"
    assert word.has_dictionary_page
    assert label.compression in ("LZ4", "ZSTD")
    assert not any(column.has_dictionary_page for column in (noise, label, number))


def test_fields_without_nulls_are_not_null() -> None:
    """Not-null is declared exactly where there are no nulls, inside lists and structs too."""
    table = pa.table(
        {
            "a": [1, 2],
            "b": pa.array([1, None]),
            "c": [[1], [2, 3]],
            "d": [[1, None], []],
            "e": pa.array([None, [1]]),
            "f": [{"x": 1, "y": None}, {"x": 2, "y": 3}],
            "n": pa.nulls(2),
        }
    )
    schema = tighten(table).schema
    assert {name: schema.field(name).nullable for name in schema.names} == {
        "a": False,
        "b": True,
        "c": False,
        "d": False,
        "e": True,
        "f": False,
        "n": True,
    }
    assert not schema.field("c").type.value_field.nullable
    assert schema.field("d").type.value_field.nullable
    assert not schema.field("e").type.value_field.nullable
    assert [field.nullable for field in schema.field("f").type] == [False, True]
    assert tighten(table).to_pylist() == table.to_pylist()


def test_decoded_bytes_counts_values_and_offsets() -> None:
    """Sizes are those of the values, also in slices and inside lists."""
    table = pa.table({"i": pa.array(range(10), pa.int32()), "s": ["ab"] * 10, "l": [[1, 2, 3]] * 10})
    assert decoded_bytes(table) == 10 * (4 + (2 + 4) + (24 + 4))
    assert decoded_bytes(table.slice(3, 4)) == 4 * (4 + 6 + 28)
    assert prefix_rows(table, 100) == 3
    assert prefix_rows(table, 10**9) == 10
    assert prefix_rows(table, 0) == 1
    assert prefix_rows(table.slice(0, 0), 100) == 0


def test_hashes_are_those_of_the_file_however_much_is_written(tmp_path: Path) -> None:
    """Of files that are hashed beside the writing and of those that are not."""
    for rows in (10, 1_000_000):
        written = write_file(tmp_path / f"{rows}.parquet", pa.table({"x": np.random.default_rng(0).random(rows)}))
        data = (tmp_path / f"{rows}.parquet").read_bytes()
        assert (written.md5, written.sha256) == (hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest())
        assert written.bytes == len(data)
    assert not [thread for thread in threading.enumerate() if thread.name == "runner-hash"]


def test_a_prefix_has_as_many_bytes_as_asked_for() -> None:
    """By arithmetic where all rows have as many bytes, by search where they have not: both end with the same row."""
    fixed = pa.table({"x": pa.array(range(1000), pa.int32()), "b": pa.array([True] * 1000)})
    mixed = fixed.append_column("s", pa.array(["abc"] * 1000))
    for table, row in ((fixed, 5), (mixed, 5 + 4 + 3)):
        for target in (0, 1, row, row + 1, 100 * row, 100 * row + 1, 10**9):
            rows = prefix_rows(table, target)
            assert rows == min(1000, max(1, -(-target // row)))
            assert decoded_bytes(table.slice(0, rows)) == rows * row


def test_what_was_written_is_known_without_reading_it(tmp_path: Path) -> None:
    """The units that follow from the writer's own footer are those that a look at the file finds."""
    path = tmp_path / "a.parquet"
    written = write_file(path, SAMPLE, 1 << 14)
    looked, _ = inspect(SourceFile(str(path), path.name, written.bytes, f"md5:{written.md5}"), "parquet")
    told = units_of(Footer(written.metadata), written.bytes)
    assert len(looked) > 3
    assert told == looked

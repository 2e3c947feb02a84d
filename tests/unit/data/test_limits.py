"""What a file may cost: a small file that becomes a large one fails by name, and honest data is never near a limit."""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import Stream
from runner.data.formats import columns, json_shape
from runner.data.limits import limits, variables
from runner.data.manifest import Manifest, build
from runner.data.values.types import size_of
from runner.errors import DataError, SpecError
from runner.prep.stage import run_prep
from runner.spec import Dataset, Prep
from runner.worker.pool.base import InlinePool
from tests.unit.data import hostile_kit
from tests.unit.data.hostile_kit import parquet_page, plain_strings, write, zeros
from tests.unit.prep.kit import make_scope

MIB = 1 << 20


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of what is allowed otherwise."""
    limit(monkeypatch, line_bytes=MIB, at_once_bytes=MIB, ratio=1000, fields=1000)


def limit(monkeypatch: pytest.MonkeyPatch, **given: int | str) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"RUNNER_DATA_{name.upper()}", str(value))


def read(path: Path, **arguments: Any) -> tuple[int, int]:
    """Rows, and the bytes of the largest batch."""
    manifest = build(str(path), **arguments)
    batches = [batch for i in range(len(manifest.shards)) for batch in manifest.read(i)]
    return sum(batch.num_rows for batch in batches), max(map(size_of, batches), default=0)


def refused(path: Path, words: str, **arguments: Any) -> str:
    """The error says which file, what was found, what is allowed and which setting to raise."""
    with pytest.raises(DataError, match=words) as caught:
        read(path, **arguments)
    said = str(caught.value)
    assert path.name in said
    assert "RUNNER_DATA_" in said
    return said


# -- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [True, False])
@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("a.txt", b"", b""),
        ("a.txt.gz", b"short\n", b"\nshort\n"),
        ("a.jsonl", b'{"x": "', b'"}'),
        ("a.jsonl.gz", b'{"x": "', b'"}\n'),
        ("a.csv", b"x,y\n1,", b"\n2,3\n"),
        ("a.csv.gz", b'x,y\n1,"', b'"\n'),
        ("b.csv", b"x,", b"\n1,2\n"),
    ],
)
def test_long_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, start: bytes, end: bytes, count: bool
) -> None:
    """A line, or a row of CSV, that is longer than the limit is refused, and one that is not is read."""
    pack = gzip.compress if name.endswith("gz") else bytes
    path = tmp_path / name
    path.write_bytes(pack(start + b"a" * (20 * MIB) + end))
    refused(path, "a line of|a row that is longer|a header or a first row that is longer|compressed", count=count)
    path.write_bytes(pack(start + b"a" * (MIB // 2) + end))
    limit(monkeypatch, ratio=10_000)
    read(path, count=count)


def test_what_a_compressed_file_becomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed file may become so many times as large as it is, however little its rows are."""
    path = tmp_path / "a.jsonl.bz2"
    import bz2

    path.write_bytes(bz2.compress(b'{"a": 1}\n' + b"\n" * (4 * MIB)))
    refused(path, "out of .* compressed")
    limit(monkeypatch, ratio=10**8)
    assert read(path) == (1, 8)


def test_xz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """xz that wants a window larger than the limit is refused; streams in a row and zeros between them are read, and
    what follows and is none, or is cut short, is not."""
    path = tmp_path / "a.txt.xz"
    path.write_bytes(lzma.compress(b"one\n", preset=9))
    refused(path, "xz that wants more memory")
    limit(monkeypatch, at_once_bytes="100MiB")
    assert read(path)[0] == 1
    path.write_bytes(lzma.compress(b"one\n") + bytes(8) + lzma.compress(b"two\n" * 50_000) + b"\0\0\0\0")
    assert read(path)[0] == 50_001
    path.write_bytes(lzma.compress(b"one\n", format=lzma.FORMAT_ALONE))
    assert read(path)[0] == 1
    path.write_bytes(path.read_bytes() + b"what else is there")
    with pytest.raises(DataError, match=r"a\.txt\.xz.*it cannot be decoded"):
        read(path)
    path.write_bytes(lzma.compress(b"one\n" * 1000)[:-20])
    with pytest.raises(DataError, match=r"a\.txt\.xz.*ends before its end mark"):
        read(path)


def nested(kind: str, depth: int, newline: str = "") -> str:
    opened, closed = {"lists": ("[", "]"), "objects": ('{"a":', "}"), "both": ('[{"b":', "}]")}[kind]
    return '{"x":' + (opened + newline) * depth + "1" + closed * depth + "}\n"


@pytest.mark.parametrize("kind", ["lists", "objects", "both"])
@pytest.mark.parametrize("depth", [40, 400, 1500, 200_000])
@pytest.mark.parametrize("count", [True, False])
def test_deep_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, depth: int, count: bool) -> None:
    """JSON that is nested deeper than the limit is refused before it ends the process."""
    limit(monkeypatch, line_bytes="8MiB")
    path = tmp_path / "a.jsonl"
    path.write_text(nested(kind, depth))
    if depth < 100:
        assert read(path, count=count)[0] == 1
    else:
        refused(path, "inside each other", count=count)


def test_json_that_is_deep_over_several_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not help to break lines, or to hide brackets among strings; brackets in strings are none."""
    limit(monkeypatch, line_bytes="8MiB")
    path = tmp_path / "a.jsonl"
    path.write_text('{"y":2}\n' + nested("both", 100_000, "\n") + '{"y":2}\n')
    refused(path, "inside each other")
    path.write_text('{"x":"}\\n{' + '"}\r\n' + '{"x":"]]]]"}\r\n' + nested("objects", 100_000))
    refused(path, "inside each other")
    path.write_text(json.dumps({"x": "[{" * 5000 + '\\"'}) + "\n")
    assert read(path)[0] == 1


@pytest.mark.parametrize(
    "lines",
    [
        [json.dumps({f"k{i}": 1}) for i in range(1500)],
        [json.dumps({f"k{i}": 1 for i in range(1500)})],
        [json.dumps({a: {b: dict.fromkeys("abcdefghijklm", 1) for b in "abcdefghijklm"} for a in "abcdefghijklm"})],
        [json.dumps([{f"k{i}": [1]} for i in range(1500)]).join(('{"x": ', "}"))],
    ],
)
def test_many_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """JSON with more fields than the limit is refused before memory is taken for each of them in each row."""
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines) + "\n")
    refused(path, "fields")
    monkeypatch.delenv("RUNNER_DATA_FIELDS")
    monkeypatch.setenv("RUNNER_DATA_AT_ONCE_BYTES", "1GiB")
    assert read(path, count=True)[0] == len(lines)


def test_many_items_are_not_many_fields(tmp_path: Path) -> None:
    """A line with a long list of small objects has the fields of one of them; text with colons has none."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"x": [{"a": i, "b": {"c": i}} for i in range(5000)], "y": ": \\" * 5000}) + "\n")
    assert read(path)[0] == 1


def test_pieces_hold_few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is parsed without a schema has at most so many rows times keys, and together it is the block."""
    monkeypatch.setattr(json_shape, "UNKNOWN_CELLS", 100)
    block = b"".join(b"{" + b'"k":1,' * (i % 7) + b"}\n" for i in range(500)) + b'{"last":1}'
    found = list(json_shape.pieces(block))
    assert b"".join(found) == block
    assert all(piece.count(b":") * piece.count(b"\n") <= 100 for piece in found)
    assert len(found) < 200


def test_sparse_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows that lack most of many fields are read in pieces, and are refused where they become too much."""
    limit(monkeypatch, ratio=50)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({f"k{i}": i for i in range(50)}) + "\n" + "{}\n" * 20_000)
    monkeypatch.setattr(json_shape, "CELLS", 1 << 16)
    refused(path, "of values out of")
    limit(monkeypatch, ratio=1000)
    rows, largest = read(path)
    assert rows == 20_001
    assert largest < MIB


@pytest.mark.parametrize("quoted", [False, True])
def test_many_columns_of_csv(tmp_path: Path, quoted: bool) -> None:
    """A header with more columns than the limit is refused before there is a builder for each."""
    names = [f'"k,{i}\n"' if quoted else f"k{i}" for i in range(2000)]
    path = tmp_path / "a.csv"
    path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    refused(path, "columns")
    path.write_text(",".join(names[:900]) + "\n" + ",".join("1" for _ in names[:900]) + "\n")
    assert read(path)[0] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NaN", float("nan")),
        ("Infinity", float("inf")),
        ("-Infinity", float("-inf")),
        ("1e999", None),
        ("9" * 5000, None),
        ("-" + "9" * 39, None),
    ],
)
def test_numbers_beyond_all_numbers(tmp_path: Path, text: str, expected: float | None) -> None:
    """NaN and infinities of JSON are fractions; numbers that no type holds are an error with file and field, and
    nothing is taken for them."""
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"x": 0.5}}\n{{"x": {text}}}\n')
    if expected is None:
        with pytest.raises(DataError, match=r"a\.jsonl"):
            read(path)
        return
    found = [row["x"] for batch in build(str(path)).read(0) for row in batch.to_pylist()]
    assert str(found) == str([0.5, expected])


# -- Parquet ---------------------------------------------------------------------------------------------------------


def identity(batch: Any, config: Any) -> Any:
    return batch


def repeated(path: Path, size: int, rows: int, **options: Any) -> Path:
    """One long string, named by each row, or each sharing all of it with the one before."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a" * size]))
    table = pa.table({"s": words if not options else words.cast(pa.string())})
    pq.write_table(table, path, compression="zstd", row_group_size=rows, store_schema=False, **options)
    return path


ENCODINGS: dict[str, dict[str, Any]] = {
    "dictionary": {},
    "prefix": {"use_dictionary": False, "column_encoding": {"s": "DELTA_BYTE_ARRAY"}},
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_strings_that_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Few bytes that stand for many long strings are read in pieces, and refused where they become too much: by a
    Stream, which holds a block, and by a preparation, which passes them on."""
    path = repeated(tmp_path / "a.parquet", MIB // 8, 400, **ENCODINGS[encoding])
    refused(path, "of values out of")
    with pytest.raises(DataError, match=r"a\.parquet .unit 0.: (a block of|.* of values out of)"):
        next(iter(Stream(str(path), 1)))
    stage = Prep("p", fn=identity, source=Dataset(str(path)), sink="b")
    with pytest.raises(DataError, match=r"a\.parquet(.|\n)*RUNNER_DATA"):
        run_prep(stage, make_scope(tmp_path / "store", stage), InlinePool())
    limit(monkeypatch, ratio=10**9, at_once_bytes="4MiB")
    rows, largest = read(path)
    assert rows == 400
    assert largest <= 64 * MIB
    with pytest.raises(DataError, match="blocks of .* or more"):
        next(iter(Stream(str(path), 1)))
    with pytest.raises(DataError, match="a batch of .* or more"):
        run_prep(stage, make_scope(tmp_path / "store2", stage), InlinePool())


def test_strings_in_part_by_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a column falls back from its dictionary, batches are cut by the largest string in it."""
    words = ["a" * (MIB // 8)] * 200 + [f"{i}" * 500 for i in range(2000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"s": words, "l": [[word] for word in words]}), path, dictionary_pagesize_limit=MIB // 4)
    limit(monkeypatch, ratio=10**6, at_once_bytes="2MiB")
    manifest = build(str(path))
    for name in ("s", "l"):
        batches = list(manifest.read(0, columns=[name]))
        assert sum(batch.num_rows for batch in batches) == len(words)
        assert max(map(size_of, batches)) < 4 * MIB


def compressed(data: bytes) -> bytes:
    found: bytes = pa.Codec("zstd").compress(data).to_pybytes()
    return found


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_pages(tmp_path: Path, where: str) -> None:
    """A page that would be decompressed to more than the limit is refused by its header, whatever the footer says."""
    data = compressed(bytes(64 * MIB))
    for name, content in {
        "numbers": parquet_page(data, 64 * MIB, 100, rows=100, kind=1),
        "strings": parquet_page(data, 64 * MIB, 100, rows=100, kind=6),
        "claims": parquet_page(compressed(bytes(8)), 2**31 - 1, 2, rows=2, kind=1),
        "dictionary": parquet_page(
            b"\x01\xc8\x01\x00", 4, 100, rows=100, codec=0, encoding=8, kind=6, dictionary=plain_strings(bytes(2 * MIB))
        ),
    }.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        url: Any = path
        if where == "memory":
            url = f"memory://limits/{name}.parquet"
            fsspec.filesystem("memory").pipe(url, content)
        with pytest.raises(DataError, match=rf"{name}\.parquet .unit 0.: (column 'x'|a row of 2 MiB)"):
            list(build(str(url)).read(0))


def test_crafted_pages_are_read(tmp_path: Path) -> None:
    """What these tests craft is what pyarrow reads, where it does not lie."""
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_page(compressed(struct.pack("<2i", 5, 6)), 8, 2, rows=2, kind=1))
    assert [row["x"] for batch in build(str(path)).read(0) for row in batch.to_pylist()] == [5, 6]
    path.write_bytes(
        parquet_page(b"\x01\x04\x00", 3, 2, rows=2, codec=0, encoding=8, kind=6, dictionary=plain_strings(b"ab", b"c"))
    )
    assert [row["x"] for batch in build(str(path)).read(0) for row in batch.to_pylist()] == [b"ab", b"ab"]


@pytest.mark.parametrize(
    ("rows", "claimed", "words"),
    [
        (2**40, 2**40, "row group 0: .* out of"),
        (2**62, 2**62, "row group 0: .* out of"),
        (50, 2, "claims 50 rows"),
        (-5, 2, "claims -5 rows|cannot be decoded"),
        (2, -5, "claims|cannot be decoded"),
    ],
)
def test_lying_row_counts(tmp_path: Path, rows: int, claimed: int, words: str) -> None:
    """Rows that a row group cannot have are refused when the file is looked at."""
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_page(struct.pack("<2i", 5, 6), 8, 2, rows=rows, codec=0, claimed=claimed))
    with pytest.raises(DataError, match=words):
        build(str(path))


def test_values_of_one_row(tmp_path: Path) -> None:
    """A row with far too many values in a list, which runs make small, is refused by the headers of its pages."""
    path = tmp_path / "a.parquet"
    table = pa.table({"v": pa.array([[0] * (4 * MIB)], pa.list_(pa.int64()))})
    pq.write_table(table, path, compression="zstd")
    refused(path, "column 'v.list.element'|out of")


def test_schemas_and_footers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A footer that is nested too deep, claims elements that it has not, or is too long is refused by name."""
    path = tmp_path / "a.parquet"
    for levels in (120, 100_000):
        path.write_bytes(hostile_kit.deep_schema(levels))
        refused(path, "nested deeper")
    path.write_bytes(hostile_kit.many_claimed(900_000))
    with pytest.raises(DataError, match=r"a\.parquet: it cannot be decoded"):
        build(str(path))
    path.write_bytes(hostile_kit.deep_schema(10))
    limit(monkeypatch, footer_bytes=20)
    refused(path, "a footer of")
    table = pa.table({"x": [1]})
    refused(write(table, tmp_path / "a.arrow"), "a footer of")


def test_a_header_that_does_not_end(tmp_path: Path) -> None:
    """The header of a page that goes on and on, or has a field twice, is an error with the file."""
    good = parquet_page(struct.pack("<2i", 5, 6), 8, 2, rows=2, codec=6)
    start = good.index(b"\x15\x00\x15")
    for bad in (b"\x15" + b"\xff" * 12, b"\x1c" * 30, b"\x15\x00\x05\x02\x00", b"\x19\xfc\xff\xff\xff\xff\x07"):
        path = tmp_path / "a.parquet"
        path.write_bytes(good[:start] + bad + good[start + len(bad) :])
        with pytest.raises(DataError, match=r"a\.parquet"):
            list(build(str(path)).read(0))


# -- Arrow -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["disk", "memory"])
@pytest.mark.parametrize("ending", ["arrow", "arrows"])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_buffers(tmp_path: Path, ending: str, compression: str, where: str) -> None:
    """A batch whose buffers say that they become more than the limit is refused before they do."""
    for name, column in {
        "numbers": pa.array(zeros(128 * MIB)),
        "words": pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array(["a" * (128 * MIB)])),
    }.items():
        path = write(pa.table({"v": column}), tmp_path / f"{name}.{ending}", compression)
        url: Any = path
        if where == "memory":
            url = f"memory://limits/{name}.{ending}"
            fsspec.filesystem("memory").pipe(url, path.read_bytes())
        with pytest.raises(DataError, match=rf"{name}\.{ending}: .*128 MiB out of .* .iB"):
            build(str(url))


LONG, MANY = "a" * (1 << 16), 5000
FIRST = np.zeros(MANY, np.int16)
SHARED: dict[str, Callable[[], pa.Array]] = {
    "dictionary": lambda: pa.DictionaryArray.from_arrays(pa.array(FIRST), pa.array([LONG])),
    "runs": lambda: pa.RunEndEncodedArray.from_arrays(pa.array([MANY], pa.int16()), pa.array([LONG])),
    "views": lambda: pa.Array.from_buffers(
        pa.string_view(),
        MANY,
        [None, pa.py_buffer(struct.pack("<i4sii", len(LONG), b"aaaa", 0, 0) * MANY), pa.py_buffer(LONG.encode())],
    ),
    "lists": lambda: pa.ListViewArray.from_arrays(
        pa.array(FIRST.astype(np.int32)), pa.array(np.full(MANY, len(LONG), np.int32)), pa.array(zeros(len(LONG)))
    ),
    "inside": lambda: pa.ListArray.from_arrays(pa.array(np.arange(MANY + 1, dtype=np.int32)), SHARED["dictionary"]()),
}


@pytest.mark.parametrize("kind", SHARED)
def test_values_that_rows_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Entries of dictionaries, runs and views that rows share are written out in pieces, and not where that would be
    too much."""
    monkeypatch.setattr(columns, "PIECE_BYTES", MIB)
    array = SHARED[kind]()
    path = write(pa.table({"v": array.slice(0, 30)}), tmp_path / "few.arrow")
    assert read(path)[0] == 30
    path = write(pa.table({"v": array}), tmp_path / "a.arrow")
    refused(path, "of values out of")
    limit(monkeypatch, ratio=10**9)
    assert max(size_of(batch) for batch, _ in zip(build(str(path)).read(0), range(3), strict=False)) <= MIB


def test_a_row_that_shares_with_itself(tmp_path: Path) -> None:
    """One row that is a list of the same long string over and over cannot be cut, and is refused."""
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), pa.array(["a" * MIB]))
    write(pa.table({"v": pa.ListArray.from_arrays([0, 100], words)}), tmp_path / "a.arrow")
    refused(tmp_path / "a.arrow", "a row of 100 MiB")


def test_rows_of_nothing(tmp_path: Path) -> None:
    """A batch of more rows of nulls than its bytes can stand for is refused; they would be something elsewhere."""
    path = write(pa.table({"v": pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])}), tmp_path / "a.arrow")
    refused(path, "2,147,483,647 rows out of")


# of a stream the last bytes are an end mark, which may be missing
@pytest.mark.parametrize(
    ("ending", "cut"),
    [("arrow", 1), *((ending, cut) for ending in ("arrow", "arrows") for cut in (9, 50, 200, 500))],
)
def test_truncated_arrow(tmp_path: Path, ending: str, cut: int) -> None:
    """A compressed Arrow file that is cut short is an error with its name."""
    table = pa.table({"v": list(range(1000)), "s": [str(i) for i in range(1000)]})
    path = write(table, tmp_path / f"a.{ending}", "zstd")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match=rf"a\.{ending}"):
        read(path)


@pytest.mark.parametrize("ending", ["arrow", "arrows", "parquet"])
def test_damaged_bytes(tmp_path: Path, ending: str) -> None:
    """Whatever byte of a file's own description is another, reading it gives rows or an error with its name."""
    table = pa.table({"v": list(range(50)), "d": pa.array(["a", "b"] * 25).dictionary_encode()})
    good = write(table, tmp_path / f"good.{ending}", "zstd").read_bytes()
    path, random = tmp_path / f"a.{ending}", np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(good)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(0, 256)
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            read(path)
            continue
        with pytest.raises(DataError, match=rf"a\.{ending}"):
            read(path)


# -- settings, and what is honest ------------------------------------------------------------------------------------


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits are set in the environment, as sizes, and are handed on; what is none is refused by name."""
    limit(monkeypatch, at_once_bytes="3GiB")
    assert limits().at_once_bytes == 3 << 30
    assert variables()["RUNNER_DATA_AT_ONCE_BYTES"] == "3GiB"
    limit(monkeypatch, ratio="many")
    with pytest.raises(SpecError, match="RUNNER_DATA_RATIO='many'"):
        limits()


def test_honest_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of one value, sparse ones, logs that repeat themselves and long documents pass the limits by far."""
    for name in ("line_bytes", "at_once_bytes", "ratio", "fields"):
        monkeypatch.delenv(f"RUNNER_DATA_{name.upper()}")
    rows = 1_000_000
    constant = {"label": np.zeros(rows, np.int64), "lang": pa.array(["en"]).take(pa.array(np.zeros(rows, np.int64)))}
    for ending in ("parquet", "arrow"):
        assert read(write(pa.table(constant), tmp_path / f"constant.{ending}", "zstd"))[0] == rows
    (tmp_path / "log.txt.gz").write_bytes(gzip.compress(b"2026-01-01 00:00:00 INFO all is well\n" * 500_000))
    (tmp_path / "sparse.csv.gz").write_bytes(gzip.compress(b"a,b,c\n" + b"0,0,0\n" * 1_000_000))
    (tmp_path / "long.jsonl").write_text(json.dumps({"text": "word " * 6_000_000}) + "\n")
    for name in ("log.txt.gz", "sparse.csv.gz", "long.jsonl"):
        assert read(tmp_path / name, count=True)[0] >= 1


def test_a_manifest_is_small(tmp_path: Path) -> None:
    """A manifest's own file is read within limits too."""
    from runner.data import stored_manifest

    count = 3_000_000
    fields = [pa.array(np.zeros(count, np.int64)) for _ in stored_manifest.UNIT]
    units = pa.StructArray.from_arrays(fields, fields=list(stored_manifest.UNIT))
    table = pa.Table.from_arrays(
        [
            pa.array(["a"]),
            pa.array([1]),
            pa.array([""]),
            pa.array(["files"]),
            pa.array(["{}"]),
            pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), units).cast(stored_manifest.TABLE.field(5).type),
        ],
        schema=stored_manifest.TABLE.with_metadata({stored_manifest.KEY: b"{}"}),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    with pytest.raises(DataError, match=r"manifest: .*out of"):
        Manifest.from_bytes(sink.getvalue().to_pybytes())

"""Formats: what is in a file, and its rows."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from runner.data.formats import ipc, lines
from runner.data.formats.formats import READERS, inspect, read
from runner.data.manifest import Manifest, build
from runner.errors import DataError
from runner.spec.formats import ENDINGS, FORMATS
from tests.unit.data.kit import register_remote

TABLE = pa.table({"id": np.arange(100), "name": [f"n{i}" for i in range(100)]})


def write_ipc(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=30)


def write_ipc_stream(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=30)


def write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=30, write_page_checksum=True)


def write_jsonl(table: pa.Table, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


def write_csv(table: pa.Table, path: Path) -> None:
    pacsv.write_csv(table, path)


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "parquet": write_parquet,
    "arrow": write_ipc,
    "arrows": write_ipc_stream,
    "jsonl": write_jsonl,
    "csv": write_csv,
}


def rows(manifest: Manifest, **arguments: Any) -> list[dict[str, Any]]:
    return [
        row for i in range(len(manifest.shards)) for batch in manifest.read(i, **arguments) for row in batch.to_pylist()
    ]


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_round_trip(tmp_path: Path, ending: str, where: str) -> None:
    """Every format gives back the rows that were written, whole, by unit and by column, from disk and elsewhere."""
    path = tmp_path / f"a.{ending}"
    WRITERS[ending](TABLE, path)
    url = str(path)
    if where == "memory":
        url = f"memory://formats/a.{ending}"
        fsspec.filesystem("memory").pipe(url, path.read_bytes())
    manifest = build(url, count=True)
    assert manifest.rows == 100
    assert rows(manifest) == TABLE.to_pylist()
    last = len(manifest.shards[0].units) - 1
    expected = TABLE.slice(100 - manifest.shards[0].units[last].rows).select(["name"]).to_pylist()
    assert rows(manifest, units=[last], columns=["name"]) == expected


@pytest.mark.parametrize(("ending", "count"), [("parquet", 4), ("arrow", 4), ("arrows", 1), ("jsonl", 1), ("csv", 1)])
def test_units(tmp_path: Path, ending: str, count: int) -> None:
    """A unit is a row group or a record batch; a stream and a small file of lines are one."""
    WRITERS[ending](TABLE, tmp_path / f"a.{ending}")
    units = build(str(tmp_path), count=True).shards[0].units
    assert len(units) == count
    assert sum(unit.rows for unit in units) == 100
    assert all(unit.bytes > 0 for unit in units)


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_long_files_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """A long file of lines is cut into byte ranges at line ends; together they are the file, with the same rows."""
    monkeypatch.setattr(lines, "UNIT_BYTES", 300)
    WRITERS[ending](TABLE, tmp_path / f"a.{ending}")
    manifest = build(str(tmp_path), count=True)
    units, data = manifest.shards[0].units, (tmp_path / f"a.{ending}").read_bytes()
    assert len(units) >= 3
    assert [unit.start for unit in units] == [0, *np.cumsum([unit.length for unit in units])[:-1]]
    assert all(data[unit.start + unit.length - 1] == ord("\n") and unit.length <= 300 for unit in units)
    assert rows(manifest) == TABLE.to_pylist()


@pytest.mark.parametrize("where", ["disk", "remote"])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_long_streams_are_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, compression: str | None
) -> None:
    """A long stream of Arrow is cut between its batches, each unit is read by itself, and one with dictionaries stays
    whole.
    """
    monkeypatch.setattr(ipc, "UNIT_BYTES", 1000)
    url, options = f"{tmp_path}/a.arrows", pa.ipc.IpcWriteOptions(compression=compression)
    register_remote(monkeypatch)
    for table, many in ((TABLE, True), (TABLE.set_column(1, "name", TABLE["name"].dictionary_encode()), False)):
        with pa.OSFile(url, "wb") as sink, pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=10)
        place = url
        if where == "remote":
            place = "remote://lake/a.arrows"
            fsspec.filesystem("remote").pipe(place, Path(url).read_bytes())
        manifest = build(place)
        units = manifest.shards[0].units
        assert (len(units) > 3) == many
        assert rows(manifest) == TABLE.to_pylist()
        last = rows(manifest, units=[len(units) - 1], columns=["name"])
        assert last == TABLE.select(["name"]).to_pylist()[-units[-1].rows :]
        assert rows(manifest, units=[0]) == TABLE.to_pylist()[: units[0].rows]


def test_lines_longer_than_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is longer than a unit stays whole."""
    monkeypatch.setattr(lines, "UNIT_BYTES", 10)
    (tmp_path / "a.txt").write_text("short\n" + "x" * 100 + "\nend")
    assert [row["text"] for row in rows(build(str(tmp_path), count=True))] == ["short", "x" * 100, "end"]


def test_csv_with_newlines_in_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CSV file with newlines inside quotes is not cut, and its values are whole."""
    monkeypatch.setattr(lines, "UNIT_BYTES", 100)
    table = pa.table({"id": np.arange(50), "text": [f'two\nlines "{i}"' for i in range(50)]})
    write_csv(table, tmp_path / "a.csv")
    manifest = build(str(tmp_path), count=True)
    assert len(manifest.shards[0].units) == 1
    assert rows(manifest) == table.to_pylist()


def test_text(tmp_path: Path) -> None:
    """Text gives a row a line, empty ones too, with '\\n' or '\\r\\n', with or without a last line end."""
    (tmp_path / "a.txt").write_bytes("\ufeffhé\n\nx\r\nlast".encode())
    (tmp_path / "b.txt").write_bytes(b"one\ntwo\n")
    (tmp_path / "c.txt").write_bytes(b"")
    manifest = build(str(tmp_path), count=True)
    assert [row["text"] for row in rows(manifest)] == ["hé", "", "x", "last", "one", "two"]
    assert [shard.rows for shard in manifest.shards] == [4, 2, 0]


def test_text_in_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that end inside a line, or inside a line end, change nothing."""
    (tmp_path / "a.txt").write_bytes(b"".join(b"line %d\r\n" % i for i in range(200)))
    for size in (7, 8, 9, 64):
        monkeypatch.setattr(lines, "BLOCK_BYTES", size)
        assert [row["text"] for row in rows(build(str(tmp_path)))] == [f"line {i}" for i in range(200)]


def test_files(tmp_path: Path) -> None:
    """As 'files', each file is a row of its relative path and its bytes; the bytes are read only if asked for."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.bin").write_bytes(b"\x00\x01")
    (tmp_path / "e.bin").write_bytes(b"")
    manifest = build(str(tmp_path), format="files")
    assert rows(manifest) == [{"path": "d/a.bin", "bytes": b"\x00\x01"}, {"path": "e.bin", "bytes": b""}]
    (tmp_path / "e.bin").unlink()
    assert rows(manifest, columns=["path"]) == [{"path": "d/a.bin"}, {"path": "e.bin"}]


@pytest.mark.parametrize(("ending", "opened"), [("gz", gzip.open), ("bz2", bz2.open)])
def test_compressed_lines(tmp_path: Path, ending: str, opened: Callable[..., Any]) -> None:
    """A compressed file of lines is one unit with the same rows."""
    with opened(tmp_path / f"a.jsonl.{ending}", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()))
    manifest = build(str(tmp_path), count=True)
    assert len(manifest.units) == 1
    assert rows(manifest) == TABLE.to_pylist()


def test_json_lines_may_lack_a_field(tmp_path: Path) -> None:
    """Fields that some lines or files lack are null there, and whole numbers become fractions where others are."""
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"a": 2, "b": "x"}')
    (tmp_path / "b.jsonl").write_text('{"a": 0.5, "c": [1]}\n')
    assert rows(build(str(tmp_path))) == [
        {"a": 1.0, "b": None, "c": None},
        {"a": 2.0, "b": "x", "c": None},
        {"a": 0.5, "b": None, "c": [1]},
    ]


def test_partition_columns(tmp_path: Path) -> None:
    """Partition columns are filled in: whole numbers if all values are, else strings; Hive's null is null."""
    for folder in ("n=1/s=1", "n=2/s=x", "n=__HIVE_DEFAULT_PARTITION__/s=2"):
        (tmp_path / folder).mkdir(parents=True)
        write_csv(pa.table({"a": [7]}), tmp_path / folder / "f.csv")
    manifest = build(str(tmp_path))
    assert manifest.schema == pa.schema([("a", pa.int64()), ("n", pa.int64()), ("s", pa.string())])
    assert sorted(map(str, rows(manifest))) == sorted(
        map(str, [{"a": 7, "n": 1, "s": "1"}, {"a": 7, "n": 2, "s": "x"}, {"a": 7, "n": None, "s": "2"}])
    )
    assert rows(manifest, columns=["s"])[0].keys() == {"s"}


@pytest.mark.parametrize(
    "column",
    [[[1], [2]], [{"a": 1}, {"a": 2}], [dt.timedelta(1), None], [None, None]],
    ids=["list", "struct", "duration", "null"],
)
def test_a_column_that_no_folder_can_name(tmp_path: Path, column: list[Any]) -> None:
    """A key whose column in the file is of a type that no text is cast to is told with both."""
    (tmp_path / "k=1").mkdir()
    write_parquet(pa.table({"k": column, "x": [1, 2]}), tmp_path / "k=1" / "a.parquet")
    with pytest.raises(
        DataError, match=r"a\.parquet .unit 0.: the column 'k' is .* in the file and '1' in the folder's name"
    ):
        rows(build(str(tmp_path)))
    assert rows(build(str(tmp_path)), columns=["x"]) == [{"x": 1}, {"x": 2}]


def test_rows_of_a_batch(tmp_path: Path) -> None:
    """A Parquet unit can be read some rows at a time."""
    write_parquet(TABLE, tmp_path / "a.parquet")
    manifest = build(str(tmp_path))
    assert [batch.num_rows for batch in manifest.read(0, rows=20)] == [20, 10, 20, 10, 20, 10, 10]


@pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows", "jsonl"])
def test_truncated(tmp_path: Path, ending: str) -> None:
    """A file that was cut short is a DataError that names it."""
    path = tmp_path / f"a.{ending}"
    WRITERS[ending](TABLE, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"a\.{ending}"):
        build(str(path), count=True)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("content", [b"", b"x", b"PAR1" + bytes(100) + b"PAR1", b"ARROW1" + bytes(100)])
def test_garbage(tmp_path: Path, ending: str, content: bytes) -> None:
    """Bytes of no format are a DataError that names the file."""
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.{ending}: it cannot be decoded"):
        build(str(path))


def test_flipped_byte(tmp_path: Path) -> None:
    """A page that fails its checksum is a DataError with URL and unit."""
    path = tmp_path / "a.parquet"
    write_parquet(TABLE, path)
    manifest = build(str(path))
    data = bytearray(path.read_bytes())
    unit = manifest.shards[0].units[2]
    data[unit.start + unit.length // 2] ^= 1
    path.write_bytes(data)
    assert len(list(manifest.read(0, [0]))) == 1
    with pytest.raises(DataError, match=r"a\.parquet \(unit 2\).*CRC"):
        list(manifest.read(0))


def test_changed_behind_the_manifest(tmp_path: Path) -> None:
    """A file that has another size than when it was listed, or is gone, is a DataError."""
    path = tmp_path / "a.jsonl"
    write_jsonl(TABLE, path)
    manifest = build(str(path))
    path.write_text('{"id": 1, "name": "x"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl.* has changed: .* were listed") as caught:
        list(manifest.read(0))
    assert "submit the job anew" in caught.value.todo
    path.unlink()
    with pytest.raises(DataError, match=r"a\.jsonl.*gone"):
        list(manifest.read(0))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ('{"id": "text", "name": "x"}', "the field 'id' is a JSON string in row (?s:.*)leave 'id' out with columns="),
        ('{"id": 0.5, "name": "x"}', "the field 'id' is double, and int64 before"),
        ('{"id": 1, "more": 2}', "the field 'more' is new"),
        ("[1]", "JSON"),
    ],
)
def test_bad_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str, words: str) -> None:
    """A line that contradicts what was looked at is a DataError with URL, unit and field, not a null."""
    monkeypatch.setattr(lines, "SAMPLE_BYTES", 100)
    write_jsonl(TABLE, tmp_path / "a.jsonl")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(bad + "\n")
    with pytest.raises(DataError, match=rf"a\.jsonl \(unit 0\).*{words}"):
        rows(build(str(tmp_path)))


def test_not_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are a DataError with the URL."""
    (tmp_path / "a.txt").write_bytes(b"ok\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"a\.txt \(unit 0\)"):
        build(str(tmp_path), count=True)


def test_unknown_column(tmp_path: Path) -> None:
    """A column that is not there is a DataError with the near miss."""
    write_parquet(TABLE, tmp_path / "a.parquet")
    manifest = build(str(tmp_path))
    with pytest.raises(DataError, match=r"no column 'nam'(.|\n)*did you mean 'name'"):
        list(manifest.read(0, columns=["nam"]))


def test_read_without_a_manifest(tmp_path: Path) -> None:
    """A shard can be read with the schema of its own file."""
    write_csv(TABLE, tmp_path / "a.csv")
    shard = build(str(tmp_path)).shards[0]
    batches = list(read(str(tmp_path / "a.csv"), shard))
    assert pa.Table.from_batches(batches).to_pylist() == TABLE.to_pylist()


def test_inspect_knows_decoded_sizes(tmp_path: Path) -> None:
    """The size of a Parquet unit is that of its values in memory, however well they are compressed."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(64 * 100, np.uint16)), 64)
    pq.write_table(pa.table({"x": values, "f": pa.array([b"ab"] * 100, pa.binary(2))}), tmp_path / "a.parquet")
    from runner.data.files.listing import list_files

    units, _ = inspect(list_files(str(tmp_path))[0], "parquet")
    assert units[0].bytes == 100 * (64 * 2 + 2)
    assert units[0].length < 1000


def test_each_format_that_has_a_name_has_a_reader() -> None:
    """The names and endings of formats, and what reads them, are two tables with the same keys."""
    assert tuple(READERS) == FORMATS
    endings = [ending for each in ENDINGS.values() for ending in each]
    assert len(endings) == len(set(endings))


@pytest.mark.parametrize("rest", [b"\0" * 8, b"x", b"\0" * 5000, None])
def test_what_follows_a_stream_of_arrow(tmp_path: Path, rest: bytes | None) -> None:
    """Rows that pyarrow would not come to are an error: of a second stream, or behind zeros that lie where messages
    were."""
    table = pa.table({"x": [1, 2, 3]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    whole = bytes(sink.getvalue())
    (tmp_path / "a.arrows").write_bytes(whole + (whole if rest is None else rest))
    with pytest.raises(DataError, match=r"a\.arrows.*bytes behind the end of the stream"):
        build(str(tmp_path))


@pytest.mark.parametrize("end", [b"", b"\xff\xff\xff\xff\0\0\0\0", b"\0\0\0\0", b"\0" * 8])
def test_ends_of_a_stream_of_arrow(tmp_path: Path, end: bytes) -> None:
    """Each end mark that writers make is one, and none is none."""
    table = pa.table({"x": [1, 2, 3]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "a.arrows").write_bytes(bytes(sink.getvalue())[:-8] + end)
    assert [row["x"] for batch in build(str(tmp_path)).read(0) for row in batch.to_pylist()] == [1, 2, 3]

"""What a dataset declares of its files: types, CSV's dialect, unknown columns; and where its files may lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import Stream
from runner.data.formats import csv_rows, lines
from runner.data.manifest import Manifest, build
from runner.data.source_manifest import Source, key, look
from runner.errors import DataError, SpecError
from runner.prep.tasks import plan_tasks
from runner.spec import Dataset, wire


def rows(manifest: Manifest, **arguments: Any) -> list[dict[str, Any]]:
    found = Manifest.from_bytes(manifest.to_bytes())  # what is declared travels with it
    return [row for i in range(len(found.shards)) for one in found.read(i, **arguments) for row in one.to_pylist()]


def read(url: Any, **declared: Any) -> list[dict[str, Any]]:
    counted, sampled = (rows(Source.of(Dataset(url, **declared)).manifest(size)) for size in (None, 0))
    assert counted == sampled
    return counted


def write(path: Path, *objects: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in objects))


# -- CSV -------------------------------------------------------------------------------------------------------------

DIALECTS: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("a;b\n1;x\n", {"delimiter": ";"}, [{"a": 1, "b": "x"}]),
    ("a,b\n1,'x,y'\n", {"quote": "'"}, [{"a": 1, "b": "x,y"}]),
    ('a,b\n1,"x\n', {"quote": None}, [{"a": 1, "b": '"x'}]),
    ('a,b\n1,"x\\"y"\n', {"escape": "\\"}, [{"a": 1, "b": 'x"y'}]),
    ("1,x\n2,y\n", {"header": False}, [{"f0": 1, "f1": "x"}, {"f0": 2, "f1": "y"}]),
    ("1,x", {"header": False, "names": ["a", "b"]}, [{"a": 1, "b": "x"}]),
    ("q,r\n1,x\n", {"header": True, "names": ["a", "b"]}, [{"a": 1, "b": "x"}]),
    ("# made\n# today\na,b\n1,x\n", {"skip": 2}, [{"a": 1, "b": "x"}]),
    ("# made\n1,x\n", {"skip": 1, "header": False, "names": ["a", "b"]}, [{"a": 1, "b": "x"}]),
    ("a,b\n-,x\n1,-\n", {"nulls": ["-"]}, [{"a": None, "b": "x"}, {"a": 1, "b": None}]),
    ("a,b\nNA,NA\n", {"nulls": []}, [{"a": "NA", "b": "NA"}]),
    ("a;b\n1,5;1.5\n", {"delimiter": ";", "decimal": ","}, [{"a": 1.5, "b": "1.5"}]),
]


@pytest.mark.parametrize(("text", "dialect", "expected"), DIALECTS)
def test_dialects(tmp_path: Path, text: str, dialect: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    """Delimiter, quote, escape, names, skipped lines, spellings of nothing and the decimal point are as declared."""
    (tmp_path / "a.csv").write_text(text)
    assert read(str(tmp_path), csv=dialect) == expected


@pytest.mark.parametrize("quote", ["'", None])
def test_dialects_of_long_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quote: str | None) -> None:
    """A long file is cut between its rows, whatever quotes them, and each of its units is read by its dialect."""
    monkeypatch.setattr(lines, "UNIT_BYTES", 200)
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 100)
    mark = quote or ""
    text = "".join(f'{i}|{mark}"x{i}{mark}\n' for i in range(100))
    (tmp_path / "a.csv").write_text("skipped\n" + text)
    dialect = {"delimiter": "|", "quote": quote, "header": False, "names": ("a", "b"), "skip": 1}
    assert read(str(tmp_path), csv=dialect) == [{"a": i, "b": f'"x{i}'} for i in range(100)]
    assert len(look(Dataset(str(tmp_path), csv=dialect)).units) > 3


def test_a_dialect_is_part_of_what_the_data_is(tmp_path: Path) -> None:
    """The same file in another dialect is other data, to manifests, to a run's bundle and to the tasks of a stage."""
    (tmp_path / "a.csv").write_text("a\nNA\nx\n")
    one, other = Dataset(str(tmp_path)), Dataset(str(tmp_path), csv={"nulls": ["x"]})
    assert look(one).id != look(other).id
    assert key(one) != key(other)
    assert plan_tasks(look(one), "0" * 16)[0].key != plan_tasks(look(other), "0" * 16)[0].key
    assert look(Dataset(str(tmp_path), csv={})).id == look(one).id == build(str(tmp_path), count=True).id


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"csv": {"delimeter": ";"}}, "did you mean 'delimiter'"),
        ({"csv": {"delimiter": "||"}}, "one ASCII character"),
        ({"csv": {"quote": ","}, "schema": {"a": 5}}, "schema"),
        ({"csv": {"quote": ";", "delimiter": ";"}}, "different characters"),
        ({"csv": {"names": ["a", "a"]}}, "each name once"),
        ({"csv": {"names": ["a", "b"]}}, "say 'header': False or 'header': True"),
        ({"csv": {"skip": -1}}, "lines before the header"),
        ({"csv": "x"}, "a mapping"),
        ({"unknown": "ignore"}, "without schema="),
        ({"schema": {"a": "int64"}, "unknown": "drop"}, "'infer'"),
        ({"version": 3}, "format='delta'"),
        ({"snapshot": 3}, "format='iceberg'"),
        ({"version": -1, "format": "delta"}, "from 0 up"),
    ],
)
def test_bad_declarations(declared: dict[str, Any], words: str) -> None:
    """What cannot be declared is refused where it is said, by a Dataset and by a Stream."""
    with pytest.raises(SpecError, match=words):
        Dataset("a.csv", **declared)
    with pytest.raises(SpecError, match=words):
        Stream("a.csv", 1, as_="numpy", **declared)


def test_a_dialect_of_what_is_no_csv(tmp_path: Path) -> None:
    """A dialect of CSV for files of another format is refused, and not passed over."""
    write(tmp_path / "a.jsonl", {"a": 1})
    with pytest.raises(DataError, match="csv= of files of format 'jsonl'"):
        look(Dataset(str(tmp_path), csv={"delimiter": ";"}))


# -- types -----------------------------------------------------------------------------------------------------------


def test_types_of_csv(tmp_path: Path) -> None:
    """A declared column of CSV has its type whatever its values look like; the others are guessed."""
    (tmp_path / "a.csv").write_text("id,zip,day,n\n1,01001,2024-01-02,5\n2,99999,,\n")
    manifest = look(Dataset(str(tmp_path), schema={"id": "int8", "zip": "string", "day": "timestamp[s]"}))
    assert manifest.schema.types == [pa.int8(), pa.string(), pa.timestamp("s"), pa.int64()]
    assert [row["zip"] for row in rows(manifest)] == ["01001", "99999"]
    with pytest.raises(DataError, match=r"a\.csv.*'zip'.*int8"):
        rows(look(Dataset(str(tmp_path), schema={"zip": "int8"})))
    with pytest.raises(DataError, match=r"a\.csv.*'zip' declared as list"):
        look(Dataset(str(tmp_path), schema={"zip": "list<int8>"}))


def test_types_of_json(tmp_path: Path) -> None:
    """A declared field of JSON has its type, times and narrow numbers included, and one that comes late is null."""
    write(tmp_path / "a.jsonl", {"at": "2024-01-02T03:04:05", "n": 1, "more": {"x": 1}}, {"n": 2, "late": [1]})
    write(tmp_path / "b.jsonl", {"n": 3})
    types = {"at": "timestamp[us]", "n": "int8", "late": "list<float>", "never": "string"}
    manifest = look(Dataset(str(tmp_path), schema=types))
    assert manifest.schema.field("at").type == pa.timestamp("us")
    assert manifest.schema.field("n").type == pa.int8()
    found = rows(manifest)
    assert [(row["n"], row["late"], row["never"]) for row in found] == [
        (1, None, None),
        (2, [1.0], None),
        (3, None, None),
    ]
    assert found[0]["more"] == {"x": 1}
    with pytest.raises(DataError, match=r"a\.jsonl"):
        look(Dataset(str(tmp_path), schema={"at": "int8"}))
    with pytest.raises(DataError, match="declared type that JSON has no values of"):
        look(Dataset(str(tmp_path), schema={"n": "map<string, int8>"}))


def test_json_that_is_not_as_declared(tmp_path: Path) -> None:
    """A value that its declared type has no form for is an error with field, type and row, and says what to declare."""
    write(tmp_path / "a.jsonl", {"day": "2024-01-31", "n": 1}, {"day": "2024-02-01", "n": "2"})
    for name, kind, row in (("day", "date32", 0), ("n", "int64", 1)):
        with pytest.raises(DataError, match=rf"a\.jsonl .*'{name}' is declared as {kind}.* string in row {row} "):
            read(str(tmp_path), schema={name: kind}, unknown="ignore")
    write(tmp_path / "b.jsonl", {"id": 1, "k": 1}, {"id": 128, "k": 1})
    with pytest.raises(DataError, match=r"b\.jsonl .*'id' has a value that int8 does not hold .*128") as raised:
        read(str(tmp_path / "b.jsonl"), schema={"k": "int8", "id": "int8"})
    assert "schema=" in (raised.value.todo or "")
    days = read(str(tmp_path / "a.jsonl"), schema={"day": "timestamp[s]"}, unknown="ignore")
    assert [f"{row['day']:%d.%m.}" for row in days] == [
        "31.01.",
        "01.02.",
    ]


def test_late_fields_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that comes after what a run has looked at is read if it was declared, left out where unknown ones are
    ignored, and an error otherwise.
    """
    monkeypatch.setattr(lines, "SAMPLE_BYTES", 100)
    write(tmp_path / "a.jsonl", *({"a": i} for i in range(50)), {"a": 50, "late": "x"})

    def sampled(**declared: Any) -> list[dict[str, Any]]:
        return rows(Source.of(Dataset(str(tmp_path), **declared)).manifest(0))

    assert sampled(schema={"late": "string"})[-1] == {"late": "x", "a": 50}
    assert sampled(schema={"a": "int64"}, unknown="ignore")[-1] == {"a": 50}
    for declared in ({}, {"schema": {"a": "int64"}, "unknown": "error"}):
        with pytest.raises(DataError, match="'late' is new"):
            sampled(**declared)


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_unknown_columns(tmp_path: Path, ending: str) -> None:
    """Columns that nobody declared are left out or refused, where that is said."""
    table = pa.table({"b": [1], "a": [2]})
    {"jsonl": lambda path: write(path, *table.to_pylist()), "parquet": lambda path: pq.write_table(table, path),
     "csv": lambda path: path.write_text("b,a\n1,2\n")}[ending](tmp_path / f"x.{ending}")  # fmt: skip
    assert read(str(tmp_path), schema={"a": "int32"}, unknown="ignore") == [{"a": 2}]
    with pytest.raises(DataError, match="'b', int64, is not declared"):
        read(str(tmp_path), schema={"a": "int32"}, unknown="error")
    manifest = look(Dataset(str(tmp_path), schema={"a": "double", "b": "int8"}, unknown="error"))
    assert manifest.schema.names == ["a", "b"]
    assert rows(manifest) == [{"a": 2.0, "b": 1}]


def test_types_of_parquet(tmp_path: Path) -> None:
    """Files that differ in a declared column are one dataset: it is cast, and null where a file has it not; a value
    that is not of the type is an error.
    """
    pq.write_table(pa.table({"x": pa.array([1, 2], pa.int32()), "y": ["1", "2"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"x": [2**40]}), tmp_path / "b.parquet")
    declared = {"x": "int64", "y": "int64"}
    assert read(str(tmp_path), schema=declared) == [{"x": 1, "y": 1}, {"x": 2, "y": 2}, {"x": 2**40, "y": None}]
    stream = Stream(str(tmp_path), 3, schema=declared, shuffle=False, as_="numpy", columns=["x"])
    assert next(iter(stream))["x"].tolist() == [1, 2, 2**40]
    with pytest.raises(DataError, match=r"b\.parquet.*'x', int64 as int32(?s:.*)declare another type with schema="):
        rows(look(Dataset(str(tmp_path), schema={"x": "int32", "y": "string"})))
    with pytest.raises(DataError, match=r"'y' is string, and declared as list"):
        look(Dataset(str(tmp_path), schema={"x": "int64", "y": "list<int8>"}))
    with pytest.raises(DataError, match=r"no file has the declared column 'z'"):
        look(Dataset(str(tmp_path), schema={"x": "int64", "y": "string", "z": "int8"}))


def test_types_of_partitions(tmp_path: Path) -> None:
    """A hive key has its declared type, and a folder whose value is none of it is named."""
    for day in ("2024-01-02", "2024-01-03"):
        (tmp_path / f"day={day}" / "zone=07").mkdir(parents=True)
        pq.write_table(pa.table({"x": [1]}), tmp_path / f"day={day}" / "zone=07" / "a.parquet")
    manifest = look(Dataset(str(tmp_path), schema={"day": "date32", "zone": "int8"}))
    assert manifest.schema.field("day").type == pa.date32()
    assert [(str(row["day"]), row["zone"]) for row in rows(manifest)] == [("2024-01-02", 7), ("2024-01-03", 7)]
    with pytest.raises(DataError, match=r"test_types.*'day=2024-01-0.', declared as int8"):
        look(Dataset(str(tmp_path), schema={"day": "int8"}))


def test_partitions_that_are_not_declared(tmp_path: Path) -> None:
    """Hive keys are columns as others: left out, or refused, where they are not declared."""
    for folder in ("day=1", "day=2/zone=a"):
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(pa.table({"x": [1]}), tmp_path / folder / "a.parquet")
    assert read(str(tmp_path), schema={"x": "int8"}, unknown="ignore") == [{"x": 1}] * 2
    assert read(str(tmp_path), schema={"x": "int8", "day": "string"}, unknown="ignore") == [
        {"x": 1, "day": "1"},
        {"x": 1, "day": "2"},
    ]
    with pytest.raises(DataError, match="the hive partition 'day' is not declared"):
        look(Dataset(str(tmp_path), schema={"x": "int8"}, unknown="error"))


def test_types_that_hold_the_same_values(tmp_path: Path) -> None:
    """string and large_string, dictionary and plain, int32 and int64 of one column are one type, undeclared."""
    texts = [pa.array(["a"]), pa.array(["a"], pa.large_string()), pa.array(["a"]).dictionary_encode()]
    for i, (text, number) in enumerate(zip(texts, [pa.int32(), pa.int64(), pa.int8()], strict=True)):
        pq.write_table(pa.table({"s": text, "n": pa.array([i], number)}), tmp_path / f"{i}.parquet")
    assert read(str(tmp_path)) == [{"s": "a", "n": i} for i in range(3)]
    assert look(Dataset(str(tmp_path))).schema.types == [pa.string(), pa.int64()]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_columns_that_nobody_wants(tmp_path: Path, ending: str) -> None:
    """Columns that contradict each other refuse no dataset that leaves them out, of a run or of a Stream."""
    for name, bad in (("a", ["x"]), ("b", [1])):
        if ending == "jsonl":
            write(tmp_path / f"{name}.jsonl", {"x": 1, "bad": bad[0]}, {"x": 2, "bad": [[]]}, {"x": 3})
        else:
            pq.write_table(pa.table({"x": [1, 2, 3], "bad": bad * 3}), tmp_path / f"{name}.parquet")
    assert read(str(tmp_path), columns=("x",)) == [{"x": x} for x in (1, 2, 3)] * 2
    for source in (str(tmp_path), Dataset(str(tmp_path))):
        stream = Stream(source, 6, columns=["x"], shuffle=False, as_="numpy")
        assert next(iter(stream))["x"].tolist() == [1, 2, 3] * 2
    with pytest.raises(DataError, match="bad"):
        look(Dataset(str(tmp_path)))


def test_names_that_are_there_twice(tmp_path: Path) -> None:
    """Two columns of one name refuse a CSV file only where they are wanted; names of one's own tell them apart."""
    (tmp_path / "a.csv").write_text("x,x,y\n1,2,3\n")
    assert read(str(tmp_path), columns=("y",)) == [{"y": 3}]
    assert read(str(tmp_path), schema={"y": "int8"}, unknown="ignore") == [{"y": 3}]
    assert read(str(tmp_path), csv={"header": True, "names": ("a", "b", "y")}) == [{"a": 1, "b": 2, "y": 3}]
    with pytest.raises(DataError, match="two columns are called 'x'"):
        look(Dataset(str(tmp_path)))


def test_a_declaration_travels(tmp_path: Path) -> None:
    """What a Dataset declares is the same after its way through JSON, and a Stream takes it beside a URL."""
    csv = {"delimiter": ";", "header": True, "names": ("a",)}
    declared = {"schema": {"a": "decimal128(5, 2)"}, "csv": csv, "unknown": "error"}
    dataset = Dataset(("s3://b/x.csv", "s3://b/y.csv"), **declared)
    assert wire.from_json(json.loads(json.dumps(wire.to_json(dataset, tmp_path)))) == dataset
    (tmp_path / "a.csv").write_text("q\n1.5\n")
    stream = Stream(str(tmp_path / "a.csv"), 1, as_="numpy", **declared)
    assert str(next(iter(stream))["a"][0]) == "1.50"


def test_counted_later(tmp_path: Path) -> None:
    """Lines that are counted after the submission are read as declared."""
    (tmp_path / "a.csv").write_text("1;07\n2;08\n")
    declared = {"schema": {"b": "string"}, "csv": {"delimiter": ";", "header": False, "names": ("a", "b")}}
    manifest = Source.of(Dataset(str(tmp_path), **declared)).manifest(0)
    assert manifest.rows == -1
    counted = Manifest.from_bytes(manifest.to_bytes()).counted()
    assert counted.rows == 2
    assert rows(counted) == [{"a": 1, "b": "07"}, {"a": 2, "b": "08"}]


# -- several places --------------------------------------------------------------------------------------------------


def test_several_folders(tmp_path: Path) -> None:
    """Folders, files and globs are one dataset; the paths of its shards tell them apart."""
    for name in ("en", "de", "fr"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"x": [name]}), tmp_path / name / "a.parquet")
    urls = [str(tmp_path / "en"), str(tmp_path / "de" / "a.parquet"), str(tmp_path / "f*")]
    manifest = look(Dataset(urls))
    assert [shard.path for shard in manifest.shards] == ["de/a.parquet", "en/a.parquet", "fr/a.parquet"]
    assert [row["x"] for row in rows(manifest)] == ["de", "en", "fr"]
    assert Stream(urls, 3, as_="numpy").manifest.id == manifest.id
    with pytest.raises(DataError, match="the same file twice"):
        look(Dataset([urls[0], urls[0]]))


@pytest.mark.parametrize("source", [[], iter(["a.csv"]), 5, None, "", ["a.csv", ""]])
def test_no_sources(source: Any) -> None:
    """What is no source of a Stream is refused with what is."""
    with pytest.raises(SpecError, match="source="):
        Stream(source, 1, as_="numpy")


def test_several_stores(tmp_path: Path) -> None:
    """Files of different stores are refused, with both: one set of options opens a dataset."""
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    fsspec.filesystem("memory").pipe("memory://lake/b.parquet", (tmp_path / "a.parquet").read_bytes())
    with pytest.raises(DataError, match=r"files of 2 stores \(.*a\.parquet, memory:///lake/b\.parquet\)"):
        look(Dataset([str(tmp_path / "a.parquet"), "memory://lake/b.parquet"]))


def test_a_manifest_in_a_file(tmp_path: Path) -> None:
    """A manifest beside its files or above them is a source as any, also after the folder was moved; one that names
    files elsewhere is refused.
    """
    (tmp_path / "lake" / "data").mkdir(parents=True)
    pq.write_table(pa.table({"x": np.arange(5)}), tmp_path / "lake" / "data" / "a.parquet")
    manifest = build(str(tmp_path / "lake" / "data"))
    for place in ("lake/data/all.manifest", "lake/all.manifest"):
        manifest.write(tmp_path / place)
        source = Dataset(str(tmp_path / place), format="manifest")
        assert [row["x"] for row in rows(look(source))] == list(range(5))
        assert look(source).id == manifest.id
    (tmp_path / "lake" / "data" / "all.manifest").unlink()
    with pytest.raises(DataError, match="elsewhere than its data"):
        manifest.write(tmp_path / "other" / "all.manifest")
    (tmp_path / "lake").rename(tmp_path / "moved")
    moved = str(tmp_path / "moved" / "all.manifest")
    assert len(Stream(moved, 5, format="manifest", as_="numpy")) == 1
    (tmp_path / "moved" / "all.manifest").write_bytes(manifest.to_bytes())
    with pytest.raises(DataError, match="the manifest's own folder"):
        look(Dataset(moved, format="manifest"))

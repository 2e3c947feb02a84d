"""Files of lines: what is valid is read with its values, what is not is said with file, unit and column."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner.data.files import compression
from runner.data.formats import blocks, csv_rows, lines
from runner.data.formats.long_numbers import DIGITS, suspects
from runner.data.manifest import Manifest, build
from runner.errors import DataError


def rows(manifest: Manifest, **arguments: Any) -> list[dict[str, Any]]:
    return [
        row for i in range(len(manifest.shards)) for batch in manifest.read(i, **arguments) for row in batch.to_pylist()
    ]


def read(folder: Path, name: str, content: bytes | str, count: bool = True) -> list[dict[str, Any]]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    manifest = build(str(path), count=count)
    found = rows(manifest)
    assert not count or manifest.rows == len(found)
    return found


def by_pyarrow(codec: str) -> Callable[[bytes], bytes]:
    def compress(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(data)
        return bytes(sink.getvalue())

    return compress


COMPRESSIONS = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": by_pyarrow("zstd"),
    "lz4": by_pyarrow("lz4"), "br": by_pyarrow("brotli"),
}  # fmt: skip


@pytest.mark.parametrize("ending", COMPRESSIONS)
def test_compressed(tmp_path: Path, ending: str) -> None:
    """Each format of lines is read from each compression; an empty member is no row, and a cut one is an error."""
    compress = COMPRESSIONS[ending]
    assert read(tmp_path, f"a.csv.{ending}", compress(b"a,b\n1,x\n")) == [{"a": 1, "b": "x"}]
    assert read(tmp_path, f"a.tsv.{ending}", compress(b"a\tb\n1\tx\n")) == [{"a": 1, "b": "x"}]
    assert read(tmp_path, f"a.jsonl.{ending}", compress(b'{"a": 1}\n')) == [{"a": 1}]
    assert read(tmp_path, f"a.txt.{ending}", compress(b"x\n\ny")) == [{"text": "x"}, {"text": ""}, {"text": "y"}]
    with pytest.raises(DataError, match="only empty files"):
        read(tmp_path, f"b.jsonl.{ending}", compress(b""))
    with pytest.raises(DataError, match=rf"c\.jsonl\.{ending}.*: it cannot be decoded"):
        read(tmp_path, f"c.jsonl.{ending}", compress(b'{"a": "some longer text"}\n' * 100)[:-8])


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_several_members(tmp_path: Path, ending: str) -> None:
    """Compressed files that were put behind each other are one file."""
    compress = COMPRESSIONS[ending]
    assert read(tmp_path, f"a.csv.{ending}", compress(b"a\n1\n") + compress(b"2\n")) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "lz4"])
def test_empty_members(tmp_path: Path, ending: str) -> None:
    """Members without a byte, as of empty parts of a dataset, are no hindrance wherever they are."""
    one, other, nothing = (COMPRESSIONS[ending](data) for data in (b"a\n1\n", b"2\n", b""))
    content = nothing + one + nothing + nothing + other + nothing
    assert read(tmp_path, f"a.csv.{ending}", content) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("zeros", [1, 5, 100_000])
@pytest.mark.parametrize("count", [1, 50_000])
def test_zeros_behind_a_gzip(tmp_path: Path, zeros: int, count: int) -> None:
    """They are none of the data, as for gzip itself, of members before them nothing is lost, and a member behind them
    is read; what else follows is an error."""
    content = b"".join(b"%d,%d\n" % (i, i * i) for i in range(count))
    packed = gzip.compress(b"a,b\n" + content) + gzip.compress(b"-1,7\n")
    wanted = [{"a": i, "b": i * i} for i in range(count)] + [{"a": -1, "b": 7}]
    assert read(tmp_path, "a.csv.gz", packed + b"\0" * zeros) == wanted
    more = read(tmp_path, "b.csv.gz", packed + b"\0" * zeros + gzip.compress(b"5,6\n"))
    assert more == [*wanted, {"a": 5, "b": 6}]
    for damaged in (packed + b"\0" * zeros + b"x", packed[:-9] + b"\0" * zeros):
        with pytest.raises(DataError, match=r"c\.csv\.gz.*it cannot be decoded"):
            read(tmp_path, "c.csv.gz", damaged)


def test_a_gzip_that_is_shorter_when_it_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is overwritten between the two readings is an error, and not waited for without end."""
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 4096) + b"x" * 100)
    begin_again = compression._Gzip._begin_again

    def overwritten(self: Any) -> None:
        path.write_bytes(gzip.compress(b"short"))
        begin_again(self)

    monkeypatch.setattr(compression._Gzip, "_begin_again", overwritten)
    unpacked = compression.decompressed(pa.OSFile(str(path)), path.name)
    with pytest.raises(OSError, match="zlib"):
        list(iter(lambda: unpacked.read(1 << 16), b""))


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("at", [0, 2])
def test_a_second_member_whose_beginning_is_damaged(tmp_path: Path, ending: str, at: int) -> None:
    """It is not taken for something that does not count."""
    second = bytearray(COMPRESSIONS[ending](b"2\n"))
    second[at] ^= 0x20
    with pytest.raises(DataError, match=rf"a\.csv\.{ending}.*it cannot be decoded"):
        read(tmp_path, f"a.csv.{ending}", COMPRESSIONS[ending](b"a\n1\n") + second)


@pytest.mark.parametrize("ending", ["zip", "snappy"])
def test_refused_compression(tmp_path: Path, ending: str) -> None:
    """A compression that is not read is said by name, before a byte is parsed."""
    with pytest.raises(DataError, match=rf"compressed or packed as '\.{ending}'"):
        read(tmp_path, f"a.csv.{ending}", b"x")


def test_csv_is_cut_only_between_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of units, samples and blocks, quoted newlines, quotes and long rows keep their values."""
    data = [
        {"id": i, "text": f'{i}\n"second" line,\r\n' * (i % 3) + "x" * (1 + i * 7 % 150), "score": i / 8}
        for i in range(60)
    ]
    sink = io.StringIO()
    writer = csv.DictWriter(sink, ["id", "text", "score"])
    writer.writeheader()
    writer.writerows(data)
    for size in (40, 100, 333, 2000):
        monkeypatch.setattr(lines, "UNIT_BYTES", size)
        monkeypatch.setattr(lines, "BLOCK_BYTES", size)
        monkeypatch.setattr(lines, "SAMPLE_BYTES", size)
        monkeypatch.setattr(csv_rows, "BLOCK_BYTES", size)
        assert read(tmp_path, "a.csv", sink.getvalue()) == data
        assert read(tmp_path, "a.csv", sink.getvalue(), count=False) == data


def test_a_quote_inside_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quote in the middle of a value opens nothing, so it cannot hide a newline from the cut."""
    monkeypatch.setattr(lines, "UNIT_BYTES", 30)
    content = "size,text\n" + '5" pipe,"two\nlines"\n' * 10
    assert read(tmp_path, "a.csv", content) == [{"size": '5" pipe', "text": "two\nlines"}] * 10


def test_csv_headers(tmp_path: Path) -> None:
    """A header may be of any length, have newlines, lack its line end, or follow blank lines; its names are unique."""
    names = [f"column {i} {'x' * 250}" for i in range(1000)]
    (found,) = read(tmp_path, "a.csv", ",".join(names) + "\n" + ",".join("1" for _ in names))
    assert list(found) == names
    assert read(tmp_path, "a.csv", '"a\nb",c\n1,2') == [{"a\nb": 1, "c": 2}]
    assert read(tmp_path, "a.csv", "\n\na,b\n1,2\n") == [{"a": 1, "b": 2}]
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "a.csv").write_text("id,text")
    (tmp_path / "two" / "b.csv").write_text("id,text\n1,x\n")
    assert rows(build(str(tmp_path / "two"), count=True)) == [{"id": 1, "text": "x"}]
    with pytest.raises(DataError, match="two columns are called 'a'"):
        read(tmp_path, "a.csv", "a,a\n1,2\n")


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        (["1", "", "NA"], pa.int64(), [1, None, None]),
        ([" 5", "6"], pa.int64(), [5, 6]),
        (["1", "0.5"], pa.float64(), [1.0, 0.5]),
        (["01001", "1001"], pa.string(), ["01001", "1001"]),
        (["+49123456789012345", "+49123456789012346"], pa.string(), None),
        (["18446744073709551615", "-1"], pa.decimal128(38, 0), [Decimal("18446744073709551615"), Decimal(-1)]),
        (["9" * 39, "1"], pa.string(), None),
        (["9007199254740993", "0.5"], pa.string(), None),
        (["9007199254740992", "0.5"], pa.float64(), [2.0**53, 0.5]),
        (["1e400", "1"], pa.string(), None),
        (["0x1F", "1"], pa.string(), None),
        (["true", "1"], pa.string(), None),
        (["true", "False"], pa.bool_(), [True, False]),
        (["10:00", "25:00"], pa.string(), None),
        (["NA", "Nauru"], pa.string(), None),
    ],
)
def test_csv_types(tmp_path: Path, values: list[str], kind: pa.DataType, found: list[Any] | None) -> None:
    """A column of CSV has the narrowest type that gives all its values back as they were written."""
    (tmp_path / "a.csv").write_text("v,w\n" + "".join(f"{value},x\n" for value in values))
    manifest = build(str(tmp_path / "a.csv"), count=True)
    assert manifest.schema.field("v").type == kind
    assert [row["v"] for row in rows(manifest)] == (values if found is None else found)


def test_csv_types_over_files(tmp_path: Path) -> None:
    """Types of CSV files that contradict each other give way to text, which loses nothing."""
    for name, value in (("a", "1"), ("b", "x"), ("c", "2020-01-01"), ("d", "true")):
        (tmp_path / f"{name}.csv").write_text(f"v\n{value}\n")
    assert [row["v"] for row in rows(build(str(tmp_path)))] == ["1", "x", "2020-01-01", "true"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_numbers_that_a_double_would_change(tmp_path: Path, ending: str) -> None:
    """A long whole number in one file, and a fraction in the same column of another, is an error with the column."""
    written = {"csv": "v\n{}\n", "jsonl": '{{"v": {}}}\n'}[ending]
    (tmp_path / f"a.{ending}").write_text(written.format("9007199254740993"))
    (tmp_path / f"b.{ending}").write_text(written.format("0.5"))
    manifest = build(str(tmp_path), count=True)
    with pytest.raises(DataError, match=rf"a\.{ending} .unit 0.: column 'v': the whole number 9007199254740993"):
        rows(manifest)


def test_json_whole_numbers(tmp_path: Path) -> None:
    """Whole numbers beyond 64 bit keep every digit, at any depth; what no type holds is refused by name."""
    big = 18446744073709551615
    found = read(tmp_path, "a.jsonl", f'{{"a": {big}, "b": {{"c": [1, {big - 1}]}}}}\n{{"a": -1, "b": null}}\n')
    assert found == [{"a": Decimal(big), "b": {"c": [Decimal(1), Decimal(big - 1)]}}, {"a": Decimal(-1), "b": None}]
    for value in ("9" * 39, "9" * 5000):
        with pytest.raises(DataError, match="column 'a.b': the whole number 999"):
            read(tmp_path, "b.jsonl", f'{{"a": {{"b": {value}}}}}\n')


def test_suspects() -> None:
    """Every whole number of 16 digits or more is found, wherever it stands; fractions and exponents are not."""
    for before in range(40):
        for length in range(DIGITS - 2, 45):
            text = b"x" * before + b"7" * length + b","
            assert suspects(text).tolist() == ([before] if length >= DIGITS else [])
    assert not len(suspects(b"0." + b"3" * 20 + b", 1." + b"2" * 17 + b"e5, " + b"3" * 16 + b".5"))
    assert suspects(b"1" * 16).tolist() == [0]


def test_strings_of_json_stay_strings(tmp_path: Path) -> None:
    """A string that looks like a time is the string that it is."""
    values = ["2020-01-01", "2020-01-01T00:00:00Z", "2020-01-01 00:00"]
    assert [
        row["a"] for row in read(tmp_path, "a.jsonl", "".join(json.dumps({"a": v}) + "\n" for v in values))
    ] == values


def test_nulls_of_lists_in_json(tmp_path: Path) -> None:
    """Nulls in a list are kept wherever they stand, also before the first value that shows what the list holds."""
    data = [
        {"a": [None, {"b": [None, 1]}], "c": [None, "2020-01-01", None], "d": {"e": [None, [None, [3]]]}, "f": [None]},
        {"a": [None, None], "c": [], "d": None, "f": [None, None]},
        {"a": [{"b": None}], "c": None, "d": {"e": None}, "f": None},
    ]
    assert read(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in data)) == data


def test_long_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of any length are read, the first and the last too, with byte order marks, '\\r\\n' and blank lines."""
    data = [{"a": "x" * size, "b": size} for size in (300, 1, 0, 1000, 64, 5)]
    content = "\ufeff" + "\r\n\n".join(json.dumps(row) for row in data)
    for size in (16, 64, 500):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        monkeypatch.setattr(lines, "SAMPLE_BYTES", size)
        monkeypatch.setattr(lines, "UNIT_BYTES", 2 * size)
        assert read(tmp_path, "a.jsonl", content) == data
        assert read(tmp_path, "a.jsonl", content, count=False) == data


def test_late_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that comes late, or is null for long, is a column; where only the start was looked at it is an error
    that names it, unless it was not asked for."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(lines, "SAMPLE_BYTES", 64)
    content = '{"v": 1, "n": null}\n' * 20 + '{"v": 2, "n": {"x": 0.5}, "late": "y"}\n'
    found = read(tmp_path, "a.jsonl", content)
    assert found == [{"v": 1, "n": None, "late": None}] * 20 + [{"v": 2, "n": {"x": 0.5}, "late": "y"}]
    sampled = build(str(tmp_path / "a.jsonl"))
    with pytest.raises(DataError, match=r"unit 0.: the field 'n' is struct<x: double>, and null before"):
        rows(sampled)
    with pytest.raises(DataError, match="the field 'n' is"):
        rows(sampled, columns=["n"])
    assert rows(sampled, columns=["v"])[-1] == {"v": 2}
    assert rows(sampled.select(["v"]))[-1] == {"v": 2}
    assert rows(sampled.select(["v"]).counted())[-1] == {"v": 2}
    assert rows(Manifest.from_bytes(sampled.select(["v"]).to_bytes()))[-1] == {"v": 2}


@pytest.mark.parametrize("blank", [b"", b"\n", b" \n\n", gzip.compress(b"", mtime=0), gzip.compress(b"\n", mtime=0)])
@pytest.mark.parametrize(("ending", "line"), [("jsonl", '{"a": 1}\n'), ("csv", "a\n1\n")])
def test_blank_shards(tmp_path: Path, blank: bytes, ending: str, line: str) -> None:
    """A shard without rows, compressed or not, is no hindrance."""
    (tmp_path / f"a.{ending}{'.gz' if blank[:2] == gzip.compress(b'')[:2] else ''}").write_bytes(blank)
    (tmp_path / f"b.{ending}").write_text(line)
    assert rows(build(str(tmp_path), count=True)) == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"a": "café"}\n'.encode("latin-1"), "column 'a': Invalid UTF8"),
        ("a.jsonl", '{"a": 1}\n'.encode("utf-16"), "text in UTF-16"),
        ("a.jsonl", b'[{"a": 1}]\n', "no JSON object"),
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": "x"}\n',
            "the field 'a' is a JSON string in row 1 of the unit, and a number before",
        ),
        ("a.jsonl", b'{"a": [{"b": 1}, {"b": []}]}\n', r"the field 'a\[\]\.b' is a JSON array in row 0"),
        ("a.jsonl", b'{"a": 1, "a": 2}\n', "specified twice"),
        ("a.jsonl", b'{"a": 1', "JSON"),
        ("a.jsonl", b'null\n{"a": 1}\n', "it is null"),
        ("a.jsonl", b' \r\n null {"a": 1}\n', "it is null"),
        ("a.jsonl", b'{"a": 1}\n\n\tnull\n{"a": 2}\n', "it is null"),
        ("a.jsonl", b'{"a": 1}\nnull', "it is null"),
        ("a.jsonl", b'{"a": 1} null\n', "it is null"),
        ("a.jsonl", b'{"a": 1}null{"a": 2}\n', "it is null"),
        ("a.jsonl", b'{"a": 1}\n{"a": "x"} \t null', "it is null"),
        ("a.csv", b"a,b\n1\n", "Row #2(?s:.*)csv= .delimiter"),
        ("a.csv", b"a,b\n1,2\n3;4\n", "Row #3(?s:.*)csv= .delimiter"),
        ("a.csv", b'a,b\n1,"x\n2,y\n', "no quote ends it"),
        ("a.csv", b'a,b\n1,"x', "no quote ends it"),
        ("a.csv", b'a,b\n1,"', "no quote ends it"),
        ("a.csv", b'a,b\n1,"x""', "no quote ends it"),
        ("a.csv", b'a,b\n"1,x\n', "Row #2"),
        ("a.csv", b'a,b\n1,"' + b"x,\n" * 40_000, "no quote ends it"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "text in UTF-16"),
    ],
)
def test_broken_lines(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """What cannot be read is a DataError with the file and what is wrong."""
    with pytest.raises(DataError, match=rf"{name}.*{words}"):
        read(tmp_path, name, content)


def test_objects_over_several_lines(tmp_path: Path) -> None:
    """A null that begins a line inside an object is a value of it."""
    content = '{"a": [\nnull,\n null], "b":\n null\n}\n{"a": [1], "b": 2}\n'
    assert read(tmp_path, "a.jsonl", content) == [{"a": [None, None], "b": None}, {"a": [1], "b": 2}]


def test_a_null_behind_a_brace_of_a_text(tmp_path: Path) -> None:
    """What follows a brace inside of a text is text."""
    rows = [{"a": "} null", "b": '"} null'}, {"a": '\\\\"}null', "b": "{} null"}]
    assert read(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)) == rows


def test_a_null_line_among_small_files(tmp_path: Path) -> None:
    """Files that are looked at together are refused for a line that is null as one alone is."""
    for i in range(20):
        (tmp_path / f"{i:02}.jsonl").write_text(f'{{"a": {i}}}\n')
    (tmp_path / "09.jsonl").write_text('null\n{"a": 9}\n')
    with pytest.raises(DataError, match=r"09\.jsonl.*it is null"):
        build(str(tmp_path), count=True)


def test_a_null_line_that_a_sample_has_not_shown(tmp_path: Path) -> None:
    """Where only the start was looked at, a line that is null is an error of the reader, with its unit."""
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' * 600_000 + "null\n")
    with pytest.raises(DataError, match=r"a\.jsonl \(unit 0\).*it is null"):
        rows(build(str(tmp_path), count=False))


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize(
    "value",
    [
        *("", '""', '"x"', 'x"', 'x"y', '"x"y', '""""', '"x"""', '"x\n"', '"x\r\n"', '"\n"', '"\r\n"', '",\n"', '","'),
        *('"x,"",""y"', '"""\n"""', "x" * 70_000),
    ],
)
def test_quotes_at_the_end_that_are_closed(tmp_path: Path, value: str, end: str) -> None:
    """A last value is read as Python's csv does, whatever quotes it has and however the file ends."""
    content = f"a,b\r\nw,v\r\nq,{value}{end}"
    _, *expected = csv.reader(io.StringIO(content, newline=""))
    found = read(tmp_path, "a.csv", content)
    assert [[row["a"], row["b"]] for row in found] == [row for row in expected if row]


def test_a_quote_that_nothing_ends_in_a_file_that_was_not_counted(tmp_path: Path) -> None:
    """Where only the start was looked at, rows that a quote without an end would swallow are an error of the reader."""
    (tmp_path / "a.csv").write_text("a,b\n" + "word,another\n" * 400_000 + 'word,"another\n' + "word,another\n" * 1000)
    with pytest.raises(DataError, match=r"a\.csv \(unit 0\).*no quote ends it"):
        rows(build(str(tmp_path), count=False))

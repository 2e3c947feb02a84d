"""Damaged files are refused with an error, or read: Python never ends of them."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data import manifest
from runner.data.manifest import Manifest
from runner.errors import DataDamaged, DataError
from tests import ROOT
from tests.unit.data.damage_kit import KINDS, damaged, good, outcome, small_units, table
from tests.unit.data.kit import register_remote

#: Files of each format in the quick test, and of each kind in the long one, which has a process for each so many.
QUICK, LONG, EACH = 40, 5_000, 1_000
COUNTS = [40, pytest.param(5_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]


def count_of(name: str) -> int:
    """Files of a kind in the quick test."""
    format = name.partition(".")[2]
    return QUICK // sum(format.startswith(other.partition(".")[2][:5]) for other in KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_ends_nothing(tmp_path: Path, name: str) -> None:
    """Whatever is changed in a file, a Prep and a Stream have its rows, or a DataError that names it."""
    of = good(name, tmp_path / "good")
    with small_units(name):
        outcomes = Counter(outcome(of, seed, tmp_path) for seed in range(count_of(name)))
    assert outcomes["refused"] or name == "plain.files"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", KINDS)
def test_thousands_of_damaged_files_end_nothing(tmp_path: Path, name: str) -> None:
    """The same of many more, in processes of their own, which say of which file one ended."""
    for first in range(0, LONG, EACH):
        folder = tmp_path / str(first)
        folder.mkdir()
        program = [sys.executable, "-m", "tests.unit.data.damage_kit", name, str(first), str(EACH), str(folder)]
        ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
        seed = (folder / "seed").read_text()
        assert ended.returncode == 0, f"{name}, seed {seed}: {ended.returncode}, {ended.stderr[-5000:]}"


@pytest.mark.parametrize("count", COUNTS)
def test_a_damaged_manifest_ends_nothing(tmp_path: Path, count: int) -> None:
    """Whatever is changed in a stored manifest, it is read, or refused with a DataError."""
    for number in range(3):
        pq.write_table(table(number == 2), tmp_path / f"{number}.parquet", row_group_size=25)
    whole, other = manifest.build(tmp_path).to_bytes(), manifest.build(tmp_path / "1.parquet").to_bytes()
    refused = 0
    for seed in range(count):
        try:
            Manifest.from_bytes(damaged(whole, other, seed))
        except DataError:
            refused += 1
    assert refused > 0


def test_a_histogram_of_another_size_is_refused(tmp_path: Path) -> None:
    """A footer whose size statistics do not fit the column, of which pyarrow's own Python ends."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"texts": [["a"], [], None, ["b", "c"]]}), path)
    data = path.read_bytes()
    levels, fewer = b"\x19\x46\x02\x02\x00\x06", b"\x19\x36\x02\x02\x06"  # a list of 1, 1, 0, 3; of 1, 1, 3
    assert data.count(levels) == 1
    footer = (int.from_bytes(data[-8:-4], "little") - 1).to_bytes(4, "little")
    path.write_bytes(data[:-8].replace(levels, fewer) + footer + data[-4:])
    with pytest.raises(DataError, match="histogram size mismatch"):
        manifest.build(path)


@pytest.mark.parametrize("ending", ["arrow", "arrows"])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, ending: str) -> None:
    """Names of columns and of fields inside them; the names of lists' items are not kept, and may be anything."""
    for kind, refused in (
        (pa.schema([("NAME!", pa.int64())]), ""),
        (pa.schema([("column", pa.struct([("NAME!", pa.int64())]))]), "column 'column': "),
        (pa.schema([("column", pa.list_(pa.field("NAME!", pa.int64())))]), None),
    ):
        path = tmp_path / f"a.{ending}"
        opened = pa.ipc.new_file if ending == "arrow" else pa.ipc.new_stream
        sink = pa.BufferOutputStream()
        with opened(sink, kind) as writer:
            writer.write(pa.RecordBatch.from_arrays([pa.nulls(3, kind.field(0).type)], schema=kind))
        path.write_bytes(sink.getvalue().to_pybytes().replace(b"NAME!", b"N\xff\xfeE!"))
        if refused is None:
            assert manifest.build(path).rows == 3
        else:
            with pytest.raises(DataError, match=f"(?i){refused}.*utf-8"):
                manifest.build(path)


@pytest.mark.parametrize("changed", [b"*", b"="])
def test_a_damaged_schema_of_the_writer_is_refused(tmp_path: Path, changed: bytes) -> None:
    """Without it a duration would be read as a number."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"duration": pa.array([1, 2], pa.duration("us"))}), path)
    data = path.read_bytes()
    at = data.index(b"/////")
    path.write_bytes(data[: at + 40] + changed + data[at + 41 :])
    with pytest.raises(DataError, match="schema that its writer kept"):
        manifest.build(path)


def test_looking_at_a_footer_keeps_nothing_alive(tmp_path: Path) -> None:
    """What a caller holds while a footer is read goes when the caller goes: a loop left by `break` ends at once."""

    class Held:
        pass

    def look() -> weakref.ref[Held]:
        held = Held()
        manifest.build(tmp_path)
        return weakref.ref(held)

    pq.write_table(table(), tmp_path / "a.parquet")
    assert look()() is None


@pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows", "csv"])
def test_a_column_that_was_renamed_is_not_null(tmp_path: Path, ending: str) -> None:
    """A name that is another since the file was listed is an error: without it its column would be null throughout."""
    path, rows = tmp_path / f"a.{ending}", pa.table({"kept": [1, 2], "NAME!": [3, 4]})
    match ending:
        case "parquet":
            pq.write_table(rows, path)
        case "csv":
            path.write_text("kept,NAME!\n1,3\n2,4\n")
        case _:
            opened = pa.ipc.new_file if ending == "arrow" else pa.ipc.new_stream
            with opened(path, rows.schema) as writer:
                writer.write_table(rows)
    found = manifest.build(path, count=True)
    path.write_bytes(path.read_bytes().replace(b"NAME!", b"MANE!"))
    found.forget(0, 0, ["kept"])
    with pytest.raises(DataDamaged, match=rf"(?s)a\.{ending} \(unit 0\).*NAME!"):
        list(found.read(0))
    assert [batch.to_pydict() for batch in found.read(0, columns=["kept"])] == [{"kept": [1, 2]}]


def test_bytes_before_a_file_are_asked_of_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A footer that says so is refused at once: a store would be asked for them again and again."""
    store = register_remote(monkeypatch)
    with pa.ipc.new_file(tmp_path / "a.arrow", pa.schema([("x", pa.int64())])) as writer:
        writer.write_table(pa.table({"x": range(3)}))
    data = (tmp_path / "a.arrow").read_bytes()
    store().pipe_file("/d/a.arrow", data)
    found = manifest.build("remote:///d/a.arrow")
    _schema, place, *_ = (at for at in range(8, len(data), 8) if data[at : at + 4] == b"\xff" * 4)
    damaged, at = bytearray(data), data.rindex(place.to_bytes(8, "little"))
    damaged[at : at + 8] = (-place).to_bytes(8, "little", signed=True)
    store().pipe_file("/d/a.arrow", bytes(damaged))
    store.reads.clear()
    with pytest.raises(DataDamaged, match="from byte -"):
        list(found.read(0))
    assert all(start >= 0 for _, start, _ in store.reads)


@pytest.mark.parametrize("nested", [False, True])
def test_lists_of_less_than_no_items_are_refused(tmp_path: Path, nested: bool) -> None:
    """A file that claims a negative size of its lists is an error that names it and the column."""
    size = 0x0BADCAFE
    kind: pa.DataType = pa.list_(pa.int8(), size)
    kind = pa.struct([("inner", pa.list_(kind))]) if nested else kind
    sink = pa.BufferOutputStream()
    pa.ipc.new_file(sink, pa.schema([("a", pa.int8()), ("bad", kind)])).close()  # no rows that pyarrow looks at first
    data = sink.getvalue().to_pybytes()
    assert size.to_bytes(4, "little") in data
    (tmp_path / "a.arrow").write_bytes(data.replace(size.to_bytes(4, "little"), b"\xfe\xff\xff\xff"))
    with pytest.raises(DataError, match=r"a\.arrow: column 'bad': lists of -2 items"):
        manifest.build(str(tmp_path))

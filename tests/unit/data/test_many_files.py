"""Many small files: looked at together, each with what it shows by itself."""

from __future__ import annotations

import io
import json
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data import inspection
from runner.data.files.listing import SMALL_BYTES, SourceFile, list_files
from runner.data.files.small import contents
from runner.data.files.tasks import in_tasks_if_waiting
from runner.data.formats import formats
from runner.data.formats.base import Inspected, Look
from runner.data.manifest import build
from runner.errors import DataError, RunnerError

FILES = 40


def _table(number: int, rows: int = 20) -> pa.Table:
    ids = np.arange(rows * number, rows * (number + 1))
    text = [f"row {i}" if i % 3 else "" for i in ids.tolist()]
    return pa.table({"id": ids, "x": ids / 7, "text": text, "some": [i if i % 4 else None for i in range(rows)]})


def _parquet(number: int, **how: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(number, 20 + number % 3), sink, **how)
    return sink.getvalue()


def _rows(number: int) -> list[dict[str, Any]]:
    return [{"id": i, "x": i / 7, "text": f"row {i}", "ok": i % 2 == 0} for i in range(5 * number, 5 * number + 5)]


def _jsonl(number: int, **other: Any) -> bytes:
    return "".join(json.dumps({**row, **other}) + "\n" for row in _rows(number)).encode()


def _csv(number: int, head: str = "id,x,text,ok", **other: Any) -> bytes:
    rows = [{**row, "ok": str(row["ok"]).lower(), **other} for row in _rows(number)]
    return "".join(f"{line}\n" for line in [head, *(",".join(map(str, row.values())) for row in rows)]).encode()


def _text(number: int) -> bytes:
    return "".join(f"line {i} ü\n" for i in range(number % 9 + 1)).encode()


#: Ending -> a usual file by its number, and what stands between such: it shows something else, or cannot be read.
KINDS: dict[str, tuple[Callable[[int], bytes], list[bytes]]] = {
    "parquet": (
        _parquet,
        [
            _parquet(7, row_group_size=6),
            _parquet(7, use_dictionary=False),
            _parquet(7, write_statistics=False),
            _parquet(7, write_page_index=True, compression="zstd"),
            _parquet(7)[:-3],
            b"",
        ],
    ),
    "jsonl": (
        _jsonl,
        [
            _jsonl(7, x=None),
            _jsonl(7, x=3),
            _jsonl(7, text="2020-01-01"),
            _jsonl(7, text="2020-01-01 10:00:00"),
            _jsonl(7, new=[1]),
            _jsonl(7, id=2**53 + 1),
            _jsonl(7, x=2**53 + 1),
            _jsonl(7).replace(b"\n", b"", 1),
            _jsonl(7).replace(b"\n", b"\n\n", 1),
            _jsonl(7).replace(b"\n", b"\r\n"),
            _jsonl(7).replace(b"row", b"}\n{", 1),
            _jsonl(7)[:-1],
            _jsonl(7) + b'{"id": 1, "id": 2}\n',
            b'{"id": 1}\n{"id":\n2}\n',
            b'{"x": 1.0}\n{"x": 2e3}\n',
            b'{"id": ' + b"[" * 1500 + b"]" * 1500 + b"}\n",
            "{}\n".encode("utf-16"),
            b'{"text": "\xff"}\n',
            b" \n",
            b"",
        ],
    ),
    "csv": (
        _csv,
        [
            _csv(7, x=""),
            _csv(7, x=3),
            _csv(7, text="2020-01-01"),
            _csv(7, text="true"),
            _csv(7, text="NaN"),
            _csv(7, id="007"),
            _csv(7, id=" 5 "),
            _csv(7, id=2**70),
            _csv(7, text='"a\nb"'),
            _csv(7, text='"a,b"'),
            _csv(7, text='"'),
            _csv(7, head="x,id,text,ok"),
            _csv(7).replace(b"\n", b"\r\n"),
            _csv(7).replace(b"row", b"\xff"),
            _csv(7) + b"1,2\n",
            _csv(7) + b"\n\n",
            _csv(7)[:-1],
            b"id,x,text,ok\n",
            b"",
        ],
    ),
    "txt": (
        _text,
        [b"a\nb", b"a", b"\n\n", b"a\r\nb\r\n", b"a\r", b"\xef\xbb\xbfa\n", b"a\xff\n", "a\n".encode("utf-16"), b""],
    ),
}
FORMATS = {"txt": "text"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """An ending."""
    return str(request.param)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[SourceFile]:
    """The files that are looked at by themselves."""
    seen: list[SourceFile] = []
    looked = formats.looked

    def noting(asked: Look, format: str) -> Inspected:
        seen.append(asked.file)
        return looked(asked, format)

    monkeypatch.setattr(formats, "looked", noting)
    return seen


def _write(folder: Path, kind: str, odd: bytes | None = None) -> None:
    usual = KINDS[kind][0]
    folder.mkdir()
    for number in range(FILES):
        data = odd if odd is not None and number == FILES // 2 else usual(number)
        (folder / f"{number:03}.{kind}").write_bytes(data)


def _outcome(act: Callable[[], Inspected]) -> Any:
    """Units, and fields in any order; or what is wrong."""
    try:
        units, schema = act()
    except RunnerError as error:
        return type(error), str(error)
    return units, None if schema is None else {field.name: field.type for field in schema}


def _by_itself(file: SourceFile, kind: str, whole: bool, columns: Sequence[str] | None) -> Any:
    return _outcome(lambda: formats.inspect(file, FORMATS.get(kind, kind), None, whole, columns=columns))


@pytest.mark.parametrize("whole", [True, False])
def test_like_files_are_looked_at_together(kind: str, tmp_path: Path, alone: list[SourceFile], whole: bool) -> None:
    """Of files of one writer the first alone is looked at by itself, and each has the units that it shows by itself."""
    _write(tmp_path / "some", kind)
    manifest = build(str(tmp_path / "some"), count=whole)
    different = 3 if kind == "parquet" else 1  # the statistics of a column may be missing
    assert len(alone) <= different
    for file, shard in zip(list_files(str(tmp_path / "some")), manifest.shards, strict=True):
        assert (shard.path, shard.etag, shard.size) == (file.path, file.etag, file.size)
        assert shard.units == _by_itself(file, kind, whole, None)[0]


@pytest.mark.parametrize("columns", [None, ["text", "id"]])
def test_odd_ones_show_the_same_among_like_ones(kind: str, tmp_path: Path, columns: list[str] | None) -> None:
    """A file that differs, or is damaged, among others that are alike shows what it does alone, or is that error."""
    columns = ["text"] if columns and kind == "txt" else columns
    format = FORMATS.get(kind, kind)
    for number, odd in enumerate(KINDS[kind][1]):
        folder = tmp_path / str(number)
        _write(folder, kind, odd)
        files = list_files(str(folder))
        wanted = None if columns is None else tuple(columns)

        def found(files: list[SourceFile] = files, wanted: tuple[str, ...] | None = wanted) -> Inspected:
            _, seen, _ = inspection.inspected(files, format, lambda one: Look(one, None, True, columns=wanted))
            return seen[FILES // 2]

        assert _outcome(found) == _by_itself(files[FILES // 2], kind, True, columns), odd


def _mutant(data: bytes, draw: random.Random, first: int) -> bytes:
    changed, at = bytearray(data), draw.randrange(first, len(data))
    how = draw.randrange(5)
    if how == 0:
        changed[at] ^= 1 << draw.randrange(8)
    elif how == 1:
        changed[at] = draw.randrange(256)
    elif how == 2:
        del changed[at : at + draw.randrange(1, 4)]
    elif how == 3:
        changed[at:at] = draw.randbytes(draw.randrange(1, 4))
    else:
        changed[at : at + 4] = bytes([draw.choice(b'\0\xff\x7f"\n{,:')]) * 4
    return bytes(changed)


def test_what_is_found_of_damaged_files_is_what_they_show(kind: str, tmp_path: Path) -> None:
    """Of hundreds of damaged files each is left to be looked at by itself, or shows what it shows by itself."""
    draw, format = random.Random(1), FORMATS.get(kind, kind)
    _write(tmp_path / "some", kind)
    first = list_files(str(tmp_path / "some"))[0]
    data = Path(first.url).read_bytes()
    asked, found = Look(first, None, True), formats.inspect(first, format, whole=True)
    known = 0
    for number in range(300):
        alike = formats.READERS[format].alike(asked, found)
        assert alike is not None
        alike.learn(data, found)
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little") if kind == "parquet" and number % 4 else 0
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(_mutant(data, draw, start))
        (file,) = list_files(str(path))
        (seen,) = alike.look([file], [path.read_bytes()])
        if seen is not None:
            known += 1
            assert _outcome(lambda seen=seen: seen) == _by_itself(file, kind, True, None), path.read_bytes()
    assert known


def test_a_batch_of_mutants_shows_what_each_does(tmp_path: Path) -> None:
    """Lines of files that are parsed together are those of their own file, wherever one is cut off or goes on."""
    draw = random.Random(2)
    for kind in ("jsonl", "csv"):
        usual = KINDS[kind][0]
        (tmp_path / f"first.{kind}").write_bytes(usual(0))
        (first,) = list_files(str(tmp_path / f"first.{kind}"))
        asked, found = Look(first, None, True), formats.inspect(first, kind, whole=True)
        for number in range(100):
            alike = formats.READERS[kind].alike(asked, found)
            assert alike is not None
            alike.learn(usual(0), found)
            data = [_mutant(usual(i), draw, 0) if i < 2 else usual(i) for i in range(4)]
            draw.shuffle(data)
            for i, one in enumerate(data):
                (tmp_path / f"{i}.{kind}").write_bytes(one)
            files = [list_files(str(tmp_path / f"{i}.{kind}"))[0] for i in range(4)]
            for file, seen in zip(files, alike.look(files, data), strict=True):
                if seen is not None:
                    assert _outcome(lambda seen=seen: seen) == _by_itself(file, kind, True, None), (number, data)


def test_contents_are_those_of_plain_files_below_the_folder(tmp_path: Path) -> None:
    """A small file is read by one opening; links, pipes, larger files and those of another size than listed are not."""
    base, outside = tmp_path / "base", tmp_path / "outside"
    for folder in (base / "in", outside):
        folder.mkdir(parents=True)
    (base / "in" / "a").write_bytes(b"abc")
    (outside / "b").write_bytes(b"abc")
    os.symlink(outside / "b", base / "link")
    os.symlink(outside, base / "away")
    os.mkfifo(base / "pipe")
    (base / "large").write_bytes(bytes(SMALL_BYTES + 1))

    def read(path: str, size: int = 3) -> bytes | None:
        return contents(str(base), [SourceFile(f"{base}/{path}", path, size, "")])[0]

    assert read("in/a") == b"abc"
    odd = ("link", "away/b", "pipe", "in/../in/a", "gone", "gone/a", "in")
    assert [read(path) for path in odd] == [None] * len(odd)
    assert [read("in/a", 2), read("in/a", 4), read("large", SMALL_BYTES + 1)] == [None] * 3
    os.symlink(base, tmp_path / "base-link")
    assert contents(str(tmp_path / "base-link"), [SourceFile("", "in/a", 3, "")]) == [b"abc"]


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file among many that is gone before it was read is an error with its name."""
    _write(tmp_path / "some", "txt")
    gone = tmp_path / "some" / "020.txt"
    listed = list_files(str(tmp_path / "some"), hashed=False)
    gone.unlink()
    with pytest.raises(DataError, match=r"020\.txt: no such file"):
        inspection.inspected(listed, "text", lambda one: Look(one, None, True))


def test_threads_are_for_disks_that_are_waited_for() -> None:
    """Work that does not wait is done by the one who asks, in order; once it waits, several go on at a time."""
    here = threading.get_ident()
    never = threading.Event()

    def work(item: int) -> tuple[int, bool]:
        if item >= 100:
            for _ in range(40):
                never.wait(1e-4)
        return item, threading.get_ident() == here

    found = list(in_tasks_if_waiting(work, range(300), 2))
    assert [item for item, _ in found] == list(range(300))
    assert all(is_here for _, is_here in found[:96])
    assert not any(is_here for _, is_here in found[200:])
    with pytest.raises(ZeroDivisionError):
        list(in_tasks_if_waiting(lambda item: 1 // (item - 70), range(300), 2))

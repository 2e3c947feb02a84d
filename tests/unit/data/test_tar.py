"""WebDataset's tar archives: samples by key, units that are runs of samples, and archives that are refused."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from runner import Stream
from runner.data.formats import tar
from runner.data.manifest import Manifest, build
from runner.errors import DataError
from tests.unit.data.kit import register_remote

SAMPLES = [(f"s{i:04}", {"jpg": bytes([i % 256]) * (i * 37 % 900), "cls": str(i).encode()}) for i in range(100)]
MEMBERS = [(f"{key}.{ext}", body) for key, sample in SAMPLES for ext, body in sample.items()]


def packed(members: Iterable[tuple[str | tarfile.TarInfo, bytes]], format: int = tarfile.USTAR_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=format) as archive:
        for name, body in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(body) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(body))
    return sink.getvalue()


def of_kind(kind: bytes, name: str = "a.jpg") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "b.jpg"
    return info


def rows(manifest: Manifest, **arguments: Any) -> list[dict[str, Any]]:
    return [
        row for i in range(len(manifest.shards)) for one in manifest.read(i, **arguments) for row in one.to_pylist()
    ]


def read(folder: Path, data: bytes, name: str = "a.tar") -> list[dict[str, Any]]:
    (folder / name).write_bytes(data)
    return rows(build(str(folder / name)))


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz", "tar.xz"])
def test_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """A row is a sample with its key and a value for each extension; runs of whole samples are units of a plain
    archive, and a compressed one is one unit.
    """
    monkeypatch.setattr(tar, "UNIT_BYTES", 10_000)
    data = packed(MEMBERS)
    squeezed = {"tar": bytes, "tar.gz": gzip.compress, "tgz": gzip.compress, "tar.xz": lzma.compress}[ending](data)
    (tmp_path / f"a.{ending}").write_bytes(squeezed)
    manifest = build(str(tmp_path))
    assert manifest.schema.names == ["__key__", "jpg", "cls"]
    assert manifest.rows == 100
    expected = [{"__key__": key, **sample} for key, sample in SAMPLES]
    assert rows(manifest) == expected
    assert rows(manifest, columns=["cls"], rows=7) == [{"cls": row["cls"]} for row in expected]
    units = manifest.shards[0].units
    assert (len(units) > 5) == (ending == "tar")
    assert all(unit.length <= 20_000 for unit in units if ending == "tar")
    assert rows(manifest, units=[len(units) - 1]) == expected[-units[-1].rows :]


def test_remote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a remote archive the index fetches headers without large bodies, and short members many at a time; of a unit
    all is fetched at once, and nothing else.
    """
    remote = register_remote(monkeypatch)
    remote.said = {"ETag": "x"}
    large = [(f"{i}.bin", bytes([i]) * (3 << 20)) for i in range(5)]
    remote.store.clear()
    fs = remote()
    fs.pipe_file("/lake/large.tar", packed(large))
    fs.pipe_file("/lake/small.tar", packed((f"{i}.bin", b"x") for i in range(3000)))
    remote.reads.clear()
    manifest = build("remote://lake/large.tar")
    assert manifest.rows == 5
    assert sum(end - start for _, start, end in remote.reads) < 1 << 20
    remote.reads.clear()
    assert build("remote://lake/small.tar").rows == 3000
    assert len(remote.reads) < 4
    remote.reads.clear()
    list(manifest.read(0, units=[0]))
    assert sum(end - start for _, start, end in remote.reads) == manifest.shards[0].units[0].length


def test_names_and_absent_members(tmp_path: Path) -> None:
    """The key is the name up to its first dot, folders included, and the extension is in lower case; what a sample has
    not is null, and hidden files, names without a dot and folders are no members.
    """
    members: list[tuple[str | tarfile.TarInfo, bytes]] = [
        (of_kind(tarfile.DIRTYPE, "v1.0/"), b""),
        ("v1.0/x.seg.PNG", b"1"),
        ("v1.0/._x.jpg", b"?"),
        ("v1.0/x.jpg", b"2"),
        ("README", b"?"),
        ("__meta__/a.json", b"?"),
        ("./y.jpg", b""),
    ]
    assert read(tmp_path, packed(members)) == [
        {"__key__": "v1.0/x", "seg.png": b"1", "jpg": b"2"},
        {"__key__": "./y", "seg.png": None, "jpg": b""},
    ]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(tmp_path: Path, format: int) -> None:
    """Names of any length and alphabet are whole, in ustar's, GNU's and pax's way."""
    long = "folder/" * (14 if format == tarfile.USTAR_FORMAT else 60) + "ä" * 20
    members = [(f"{long}.jpg", b"1"), (f"{long}.cls", b"2"), ("b.jpg", b"3")]
    assert [row["__key__"] for row in read(tmp_path, packed(members, format))] == [long, "b"]


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [500, 512, 513, 5000])
def test_long_headers(tmp_path: Path, length: int, format: int, ending: str) -> None:
    """Names, and other things that are said of a member, are read where they take more than a block."""
    plain, named = tarfile.TarInfo("a.jpg"), tarfile.TarInfo("n" * length + ".jpg")
    plain.size = named.size = 1
    plain.pax_headers = {"SCHILY.xattr.user.note": "x" * length, "mtime": "1.5"}
    with tarfile.open(tmp_path / f"a.{ending}", "w:gz" if ending == "tar.gz" else "w", format=format) as archive:
        archive.addfile(plain, io.BytesIO(b"1"))
        archive.addfile(named, io.BytesIO(b"2"))
    manifest = build(str(tmp_path))
    found = [row for batch in manifest.read(0) for row in batch.to_pylist()]
    assert found == [{"__key__": "a", "jpg": b"1"}, {"__key__": "n" * length, "jpg": b"2"}]


def test_archives_behind_each_other(tmp_path: Path) -> None:
    """An archive that was written behind another one in the same file is not lost."""
    data = packed([("a.x", b"1")]) + packed([("b.x", b"2")])
    assert read(tmp_path, data) == [{"__key__": "a", "x": b"1"}, {"__key__": "b", "x": b"2"}]


def test_several_archives(tmp_path: Path) -> None:
    """Archives of one dataset may differ in their extensions, and a Stream gives the samples of all."""
    for name, members in (("a", [("a.x", b"1"), ("a.y", b"2")]), ("b", [("b.x", b"3")])):
        (tmp_path / f"{name}.tar").write_bytes(packed(members))
    (tmp_path / "c.tar").write_bytes(packed([]))
    expected = [{"__key__": "a", "x": b"1", "y": b"2"}, {"__key__": "b", "x": b"3", "y": None}]
    assert rows(build(str(tmp_path))) == expected
    stream = Stream(str(tmp_path), batch_size=2, shuffle=False, as_="numpy")
    assert list(next(iter(stream))["y"]) == [b"2", None]


REFUSED: list[tuple[str, bytes, str]] = [
    ("a hard link", packed([("b.jpg", b"x"), (of_kind(tarfile.LNKTYPE), b"")]), "is a hard link"),
    ("a symbolic link", packed([(of_kind(tarfile.SYMTYPE), b"")]), "is a symbolic link"),
    ("a pipe", packed([(of_kind(tarfile.FIFOTYPE), b"")]), "is a named pipe"),
    ("a sparse file", packed([(of_kind(b"S"), b"")]), "is a sparse file"),
    ("out of the folder", packed([("../a.jpg", b"x")]), "relative paths"),
    ("an absolute name", packed([("/a.jpg", b"x")]), "relative paths"),
    ("twice", packed([("a.jpg", b"x"), ("a.JPG", b"y")]), "two members '.jpg'"),
    ("apart", packed([("a.jpg", b"x"), ("b.jpg", b"y"), ("a.cls", b"z")]), "lie apart"),
    ("the key's name", packed([("a.__key__", b"x")]), "a member 'a.__key__'"),
    ("many kinds", packed((f"a.{i}.jpg", b"") for i in range(1001)), "more than 1000 kinds"),
    ("in a body", packed(MEMBERS)[:40_000], "truncated"),
    ("in a header", packed(MEMBERS)[:700], "truncated"),
    ("between members", packed([("a.jpg", b"x")])[:1024], "truncated"),
    ("nothing", b"", "an empty file"),
    ("no archive", b"x" * 5000, "no tar archive"),
]


@pytest.mark.parametrize(("data", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_refused(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    """What a row cannot be made of for certain is an error that says what it is, and names the archive."""
    squeezed = gzip.compress(data) if name.endswith("gz") and data else data
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, squeezed, name)
    assert name in str(caught.value)


def forged(**fields: bytes) -> bytes:
    """An archive of one member, with other bytes in its header and a checksum that holds."""
    places = {"name": 0, "size": 124, "type": 156}
    data = bytearray(packed([("a.jpg", b"x")]))
    for field, value in fields.items():
        data[places[field] : places[field] + len(value)] = value
    total = sum(data[:148]) + 8 * ord(" ") + sum(data[156:512])
    data[148:156] = b"%06o\0 " % total
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (forged(size=b"77777777777\0"), "truncated"),
        (forged(size=b"\xff" * 12), "a size of"),
        (forged(size=b"-0000000001\0"), "a size of"),
        (forged(size=b"\x80" + b"\x7f" * 11), "a size of"),
        (forged(name=b"\xff\xfe.jpg"), "not UTF-8"),
        (forged(type=b"L", size=b"77777777777\0"), "truncated"),
        (forged(type=b"q"), "of type b'q'"),
    ],
)
def test_hostile_headers(tmp_path: Path, data: bytes, words: str) -> None:
    """Sizes that are negative or larger than the archive, and names that are no text, are errors."""
    with pytest.raises(DataError, match=words):
        read(tmp_path, data)


def test_a_large_header_is_not_held(tmp_path: Path) -> None:
    """A long name of megabytes is refused, whatever stands behind it."""
    info = tarfile.TarInfo("a" * (2 << 20) + ".jpg")
    with pytest.raises(DataError, match="a header of"):
        read(tmp_path, packed([(info, b"x")], tarfile.GNU_FORMAT))


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small archive of a large member is refused by the limits that hold for all data."""
    monkeypatch.setenv("RUNNER_DATA_AT_ONCE_BYTES", str(1 << 20))
    monkeypatch.setenv("RUNNER_DATA_RATIO", "100")
    with pytest.raises(DataError, match="RUNNER_DATA_"):
        read(tmp_path, gzip.compress(packed([("a.jpg", bytes(64 << 20))])), "a.tar.gz")


def test_damaged(tmp_path: Path) -> None:
    """A damaged archive is an error, or gives samples of the right names: no crash, and none is lost unseen."""
    data, dice = packed(MEMBERS[:60]), random.Random(0)
    keys = [key for key, _ in SAMPLES[:30]]
    for _ in range(300):
        bad = bytearray(data)
        for _ in range(dice.randrange(1, 4)):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        try:
            found = read(tmp_path, bytes(bad))
        except DataError:
            continue
        assert [row["__key__"] for row in found] == keys


def test_matches_tarfile(tmp_path: Path) -> None:
    """For random archives in every form the samples are those that Python's tarfile shows."""
    dice = np.random.default_rng(1)
    for trial in range(30):
        members = []
        for i in range(int(dice.integers(1, 40))):
            key = f"{'d/' * int(dice.integers(0, 80))}k{i}"
            kinds = ["jpg", "cls", "json"][: int(dice.integers(1, 4))]
            members += [(f"{key}.{kind}", dice.bytes(int(dice.integers(0, 3000)))) for kind in kinds]
        form = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT][trial % 3]
        data = packed(members, form)
        found = read(tmp_path, data)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            expected = {info.name: archive.extractfile(info).read() for info in archive if info.isreg()}  # type: ignore[union-attr]
        got = {f"{row['__key__']}.{kind}": body for row in found for kind, body in row.items() if kind != "__key__"}
        assert {name: body for name, body in got.items() if body is not None} == expected


def test_types(tmp_path: Path) -> None:
    """Keys are text, and never null; values are bytes."""
    (tmp_path / "a.tar").write_bytes(packed(MEMBERS))
    assert build(str(tmp_path)).schema == pa.schema(
        [pa.field("__key__", pa.string(), False), ("jpg", pa.binary()), ("cls", pa.binary())]
    )

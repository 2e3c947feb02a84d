"""Whatever a store holds: nothing is removed or written outside of it, no code runs, and no command crashes."""

from __future__ import annotations

import io
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from runner.errors import StoreBroken
from runner.record import Bundle
from runner.record.code import unpack
from runner.store import Store
from tests.unit.store.fuzz import COMMANDS, ENDED, Fuzz, archives

SEED = 20261129


def test_no_object_harms_who_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, documents, gaps, pipes, links and files of a gibibyte; two commands look at each, by turns."""
    monkeypatch.chdir(tmp_path)
    fuzz = Fuzz(tmp_path, SEED)
    for number in range(200):
        fuzz.one(number, commands=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_object_harms_who_looks_at_great_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 of them, and every command looks at each."""
    monkeypatch.chdir(tmp_path)
    fuzz = Fuzz(tmp_path, SEED + 1)
    for number in range(20_000):
        fuzz.one(number, commands=len(COMMANDS))


@pytest.mark.parametrize("count", [200, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_no_archive_of_code_leaves_its_folder(tmp_path: Path, count: int) -> None:
    """Whatever its members are called, and whatever links they would be."""
    store = Store(str(tmp_path / "store"))
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "precious").write_text("mine")
    refused = 0
    for number, data in enumerate(archives(SEED, count)):
        store.put(f"{ENDED}/code.zip", data)
        folder = tmp_path / "out" / str(number)
        try:
            unpack(Bundle(store, ENDED), folder)
        except StoreBroken:
            refused += 1
            assert not folder.exists()
        assert (canary / "precious").read_text() == "mine"
        assert sorted(path.name for path in tmp_path.iterdir()) in (["canary", "store"], ["canary", "out", "store"])
        assert not [path for path in folder.rglob("*") if path.is_symlink()]
        shutil.rmtree(folder, ignore_errors=True)
        assert not list((tmp_path / "out").glob("*"))  # nothing lies beside it
    assert 0 < refused < count


def test_a_member_that_becomes_more_than_it_says_is_not_unpacked_beyond(tmp_path: Path) -> None:
    """256 KiB that say of themselves to be ten bytes, and become 256 MiB: ten bytes are written, no more are made. What
    zipfile unpacks at once whatever it becomes (bzip2, lzma) is refused."""
    bundle, zeros = Bundle(Store(str(tmp_path / "store")), ENDED), b"\0" * (256 << 20)
    bundle.store.put("code.zip", lying("project/a.txt", zeros, 10))
    tracemalloc.start()
    unpack(bundle, tmp_path / "out")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out/a.txt").read_bytes() == zeros[:10]
    assert most < len(zeros) // 8
    for kind in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", kind) as archive:
            archive.writestr("project/a.txt", b"x")
        bundle.store.put("code.zip", packed.getvalue())
        with pytest.raises(StoreBroken, match="a compression that is none of code"):
            unpack(bundle, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def lying(name: str, content: bytes, says: int) -> bytes:
    """An archive with one file, whose headers say that it has fewer bytes, and their checksum."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    data = packed.getvalue().replace(struct.pack("<I", len(content)), struct.pack("<I", says))
    return data.replace(struct.pack("<I", zlib.crc32(content)), struct.pack("<I", zlib.crc32(content[:says])))


def test_an_archive_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    """Bytes that are no zip, and one that says less than it holds."""
    bundle = Bundle(Store(str(tmp_path / "store")), ENDED)
    whole = next(archives(SEED, 1))
    for data in (b"", b"PK", whole[: len(whole) // 2]):
        bundle.store.put("code.zip", data)
        with pytest.raises(StoreBroken, match=r"code.zip"):
            unpack(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()

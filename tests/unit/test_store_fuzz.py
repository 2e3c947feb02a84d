"""Whatever a store holds: nothing is removed or written outside of it, no code runs, and no command crashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.bundle import Bundle
from runner.errors import StoreBroken
from runner.pack import unpack
from runner.store import Store
from tests.store_fuzz import COMMANDS, ENDED, Fuzz, archives

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


@pytest.mark.parametrize("count", [200, pytest.param(20_000, marks=pytest.mark.soak)])
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
        assert all(path.is_relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*"))
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]
    assert 0 < refused < count


def test_an_archive_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    """Bytes that are no zip, and one that says less than it holds."""
    bundle = Bundle(Store(str(tmp_path / "store")), ENDED)
    whole = next(archives(SEED, 1))
    for data in (b"", b"PK", whole[: len(whole) // 2]):
        bundle.store.put("code.zip", data)
        with pytest.raises(StoreBroken, match=r"code.zip"):
            unpack(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()

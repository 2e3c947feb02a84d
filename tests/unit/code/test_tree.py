"""Which files of a project its code may read as data, and what of them is opened."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner.code import data_files as code_tree
from runner.code import dependencies
from runner.code.archive import listed_names, pack
from runner.code.archive_names import path_of
from runner.code.data_files import HERE, TRAVELLING, Tree
from runner.code.dependencies import CHANGED, Present, told
from runner.plan.project import find_project
from runner.prep.opened_files import Opened
from runner.prep.unseen_reads import ByOthers
from runner.store import Store
from tests.unit.prep.reuse_kit import write

FILES = {
    "jobs/a.py": "", "datasets/d.py": "", "tables/a.csv": "1", "tables/.hidden": "1", "readme.md": "1",
    "big.bin": "123", ".runner/x.json": "1", "venv/y.json": "1", "ignored.bin": "1", "out/x": "1",
    ".gitignore": "ignored.bin\nout\n",
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "p", FILES)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "p", check=True)
    return tmp_path / "p"


def copy_of(root: Path, store: Store) -> Path:
    """What a run unpacks."""
    import io
    import zipfile

    copy = root.parent / "copy"
    with zipfile.ZipFile(io.BytesIO(pack(find_project(root), [root / "jobs/a.py"], store))) as archive:
        for name in archive.namelist():
            if (inside := path_of(name)) is not None:
                (copy / inside).parent.mkdir(parents=True, exist_ok=True)
                (copy / inside).write_bytes(archive.read(name))
    return copy


def test_a_run_and_who_submits_it_see_the_same_files(root: Path, tmp_path: Path) -> None:
    """What children of a run may read is as it was while no file that travels is edited, new or gone."""
    store = Store(str(root / "out"))
    copy = copy_of(root, store)
    others = ByOthers(late=False)
    others.begin(Tree(copy), elsewhere=True)
    deps = others.deps(lambda path: False)
    assert set(deps) == {TRAVELLING, "tables/a.csv", "big.bin", "venv/y.json"}

    def agrees() -> bool:
        tree = Tree(root, lambda: listed_names(find_project(root), store), store.root)
        return Present(root, tree=tree).agrees({"deps": deps})

    write(root, {"ignored.bin": "2", "out/new": "2", "jobs/b.py": "", "new.md": "", "tables/.new": ""})
    assert agrees()
    for edit in ({"tables/b.csv": ""}, {"big.bin": "124"}):
        write(root, edit)
        assert not agrees()
        (root / next(iter(edit))).unlink()
        write(root, {name: FILES[name] for name in edit if name in FILES})
        assert agrees()


def test_inline_code_may_read_what_git_ignores(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the project's own folder all data counts, but for stores; the largest by size and time."""
    monkeypatch.setattr("runner.prep.unseen_reads._LARGEST", 2)
    write(root, {"lake/r261129-160213uu-j-z4/spec.json": "", "lake/mine.csv": ""})
    tree = Tree(root, store=str(root / "lake"), inputs=["tables/a.csv"])
    others = ByOthers(late=True)
    others.begin(tree, elsewhere=False)
    found = others.deps(lambda path: False)
    assert set(found) == {HERE, "size and time of big.bin", "ignored.bin", "out/x", "lake/mine.csv"}
    assert Present(root, tree=tree).agrees({"deps": found})
    assert not Present(root, tree=Tree(root, store=str(root / "lake"))).agrees({"deps": found}), "another input"
    write(root, {"big.bin": "321"})
    assert Present(root, tree=tree).differing(found) == ["size and time of big.bin"]


def test_of_a_folder_with_too_many_files_nothing_is_certain(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody could watch there agrees with nothing, and why is said."""
    monkeypatch.setattr(code_tree, "MOST_FILES", 5)
    others = ByOthers(late=True)
    others.begin(Tree(root), elsewhere=False)
    found = others.deps(lambda path: False)
    assert found == {HERE: CHANGED}
    assert Present(root).differing(found) == [HERE]
    assert "more than" in told(HERE)


def test_the_machine_tells_what_any_process_opens(root: Path) -> None:
    """Files that a child opens below a folder are told once, those that it writes apart; hidden folders are not."""
    watch = Opened(root)
    command = "cat tables/a.csv ignored.bin .runner/x.json; echo 1 >> big.bin; cat big.bin; echo > made; ls tables"
    subprocess.run(["sh", "-c", command], cwd=root, check=True, capture_output=True)
    told = [(Path(path).relative_to(root).as_posix(), changed) for path, changed in watch.take() or ()]
    assert [name for name, changed in told if not changed][:2] == ["tables/a.csv", "ignored.bin"]
    assert {name for name, changed in told if changed} == {"big.bin", "made"}
    assert told.index(("made", True)) < told.index(("made", False))
    assert watch.take() == []
    watch.close()


def test_what_a_library_has_opened_counts_as_it_was_then(root: Path, tmp_path: Path) -> None:
    """With the names beside it that end alike: in a run's copy as it travelled, else while it stays."""
    for folder in (root, copy_of(root, Store(str(root / "out")))):
        others = ByOthers(late=False)
        others.begin(Tree(folder), elsewhere=False)
        command = "cat tables/a.csv; echo 1 > tables/made.csv; cat tables/made.csv"
        subprocess.run(["sh", "-c", command], cwd=folder, check=True, capture_output=True)
        deps = others.deps(lambda path: False)
        assert set(deps) == {"tables/a.csv", "tables/*.csv"}
        (folder / "tables/made.csv").unlink()
        assert Present(folder).agrees({"deps": deps}) is (folder != root)
        with open(folder / "tables/a.csv", "a") as file:
            file.write("2")
        assert (others.deps(lambda path: False)["tables/a.csv"] == CHANGED) is (folder == root)


def test_inputs_in_the_project_are_told_apart_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that lie in the project and are its input are named once, however many tasks ask what has been read."""
    write(root, {f"in/{number}.bin": "" for number in range(30)})
    names = frozenset(f"in/{number}.bin" for number in range(30))
    asked: list[str] = []
    name_of = dependencies.name_of
    monkeypatch.setattr(dependencies, "name_of", lambda path, root: asked.append(str(path)) or name_of(path, root))
    others = ByOthers(late=False)
    others.begin(Tree(root, inputs=names), elsewhere=False)
    subprocess.run(["sh", "-c", "cat in/*"], cwd=root, check=True, capture_output=True)
    assert others.deps(lambda path: False) == {}
    assert len(asked) == len(set(asked)) >= 30
    before = len(asked)
    for _ in range(3):
        others.begin(Tree(root, inputs=names), elsewhere=False)
        assert others.deps(lambda path: False) == {}
    assert len(asked) == before
    others.begin(Tree(root, inputs=names - {"in/7.bin"}), elsewhere=False)
    assert "in/7.bin" in others.deps(lambda path: False)


def test_too_many_folders_are_not_watched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of more folders than a machine may watch is taken for one of which nothing is told."""
    monkeypatch.setattr("runner.prep.opened_files._MOST_FOLDERS", 2)
    with pytest.raises(OSError, match="more than 2 folders"):
        Opened(root)
    others = ByOthers(late=False)
    others.begin(Tree(root), elsewhere=False)
    assert others.deps(lambda path: False) == {}
    others.child()
    assert "big.bin" in others.deps(lambda path: False)

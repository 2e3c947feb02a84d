"""What `code.zip` holds of a project."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runner.code import isolation
from runner.code.archive import pack
from runner.code.archive_names import path_of
from runner.code.hashing import identify
from runner.code.imported import import_folders, refuse_shadowed
from runner.code.listing import listed_files
from runner.code.modules import load_file
from runner.code.references import FunctionRef, reference
from runner.driver.main import unpack_code
from runner.plan.project import Project
from runner.process.code_root import OUTSIDE, Folders
from runner.record import Bundle
from runner.store import Store

RUN = "r260101-000000aa-tiny-aa"
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "p", "jobs/a.py", "import _gen, lib.ops, vendored.x\ndef f(x):\n    import lazy\n")
    for name in ("_gen.py", "lazy.py", "notes.txt", "build/__init__.py", "dist/out.whl"):
        write(tmp_path / "p", name)
    write(tmp_path / "elsewhere", "lib/ops.py")
    write(tmp_path / "elsewhere", "lake/part.parquet")
    write(tmp_path / "other", "x.py")
    (tmp_path / "p/lib").symlink_to(tmp_path / "elsewhere/lib")
    (tmp_path / "p/data").symlink_to(tmp_path / "elsewhere/lake")
    (tmp_path / "p/round").symlink_to(tmp_path / "p")
    return tmp_path / "p"


def write(folder: Path, name: str, text: str = "") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def git(folder: Path, *words: str) -> None:
    subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True)


def packed(root: Path, store: Store | None = None) -> set[str]:
    with isolation.isolated():
        load_file(root / "jobs/a.py", root)
        data = pack(Project(root, found=True), [root / "jobs/a.py"], store)
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    return {found for name in names if (found := path_of(name)) is not None and not found.startswith(".")}


@pytest.mark.parametrize("in_git", [False, True])
def test_what_the_job_imports_travels(root: Path, in_git: bool) -> None:
    """Ignored modules, linked packages, submodules and a package called `build` are there; linked data is not."""
    git(root.parent / "other", "init", "-q")
    git(root.parent / "other", "add", "-A")
    git(root.parent / "other", "commit", "-qm", "x")
    if in_git:
        git(root, "init", "-q")
        write(root, ".gitignore", "_gen.py\nlazy.py\ndist\n")
        git(root, "submodule", "add", "-q", str(root.parent / "other"), "vendored")
    else:
        git(root, "clone", "-q", str(root.parent / "other"), "vendored")
    expected = {"jobs/a.py", "_gen.py", "lazy.py", "notes.txt", "build/__init__.py", "lib/ops.py", "vendored/x.py"}
    assert packed(root) == expected


def test_no_store_travels(root: Path) -> None:
    """Neither the run's own store under whatever name, nor another one, nor a bundle that was copied somewhere."""
    (root / "vendored").mkdir()
    write(root, "vendored/x.py")
    write(root, "index/readme.md")
    store = Store(str(root / "out/runs"))
    for name in (
        "out/runs/datasets/d/_log/00000001.json",
        "copies/r1/spec.json",
        "copies/r1/code.zip",
        "copies/keep.md",
    ):
        write(root, name)
    other = Bundle(Store(str(root / "old")), "r261129-000000aa-j-aa")
    other.store.put("spec.json", b"{}")
    other.store.put("code.zip", b"")
    other.index("j", "live")
    found = packed(root, store)
    assert {name for name in found if name.split("/")[0] in ("out", "copies", "old", "index")} == {
        "copies/keep.md",
        "index/readme.md",
    }


def test_a_store_that_is_the_projects_folder_leaves_the_definitions(tmp_path: Path) -> None:
    """Where both are one folder, the definitions of datasets travel and published data does not."""
    mine = ("jobs/a.py", "datasets/d.py", "tasks/mine/t.py", "results/y", "index/x", "datasets/d/data/words.txt")
    stored = ("d/_log/00000001.json", "e/_versions/r-1/a.parquet", "f/_manifests/1.parquet")
    run, key = "r261129-160213uu-j-z4", "0a" * 10
    kept = (f"{run}/spec.json", f"index/{run}~j~live~0", f"results/{key}/1.json", f"tasks/{key}/t.json")
    for name in (*mine, *(f"datasets/{name}" for name in stored), *kept):
        write(tmp_path, name)
    assert listed_files(tmp_path, Store(str(tmp_path))) == set(map(Path, mine))


def test_what_travels_has_the_hash_that_it_had(root: Path, tmp_path: Path, store: Store) -> None:
    """Links, siblings, packages in `src/` and other names of a function are seen alike by client and driver."""
    write(root, "jobs/beside.py", "K = 1\n")
    write(root, "src/pkg/__init__.py", "from .deep import Z\n")
    write(root, "src/pkg/deep.py", "Z = 1\n")
    write(root.parent / "elsewhere", "lib/ops.py", "Y = 1\n")
    body = "import beside, pkg, lib.ops\ndef f(x): return beside.K, pkg.Z, lib.ops.Y\ng = f\ndef f(): ...\n"
    write(root.parent / "elsewhere", "b.py", body)
    (root / "jobs/b.py").symlink_to(root.parent / "elsewhere/b.py")
    with isolation.isolated():
        function = load_file(root / "jobs/b.py", root).g
        ref = reference(function, root, "here")
        before = identify([function], root)
        Bundle(store, RUN).store.put("code.zip", pack(Project(root, found=True), [root / "jobs/b.py"]))
    unpack_code(Bundle(store, RUN), tmp_path / "code")
    assert identify([ref], tmp_path / "code").parts == before.parts
    assert {"lib/ops.py", "jobs/beside.py", "src/pkg/deep.py"} <= {part.split(":")[0] for part in before.parts}


def test_what_a_library_finds_beside_a_job_shadows_nothing(root: Path) -> None:
    """A job file that is called like an optional module of some library is imported by that; its folder stays the last
    one, and a `logging.py` there is still no obstacle to anybody's `import logging`.
    """
    write(root, "jobs/a.py", "def f(x): ...\n")
    write(root, "jobs/optional.py", "K = 1\n")
    write(root, "jobs/logging.py", "import logging\n")
    with isolation.isolated():
        load_file(root / "jobs/a.py", root)
        assert importlib.import_module("optional").K == 1
        folders = import_folders(root, [Path("jobs/a.py")])
        assert (folders.first, folders.last) == (("",), ("jobs",))
        refuse_shadowed([Path("jobs/logging.py")], root)


def test_siblings_are_found_whoever_packs(root: Path, tmp_path: Path, store: Store) -> None:
    """A process that has not loaded the job (a resume with newer code) notes the same folders."""
    (root / "vendored").mkdir()
    Bundle(store, RUN).store.put("code.zip", pack(Project(root, found=True), [root / "jobs/a.py"]))
    unpack_code(Bundle(store, RUN), tmp_path / "code")
    assert Folders.of(tmp_path / "code") == Folders(("",), ("jobs",), str(root))


def test_a_name_that_is_not_utf8_comes_back_as_it_was(root: Path, tmp_path: Path, store: Store) -> None:
    """Names are bytes on a disk; the archive's are not, and the driver unpacks the same bytes."""
    (root / "vendored").mkdir()
    write(root, "vendored/x.py")
    name = os.fsdecode(b"caf\xe9.txt")
    write(root, name, "x")
    with isolation.isolated():
        load_file(root / "jobs/a.py", root)
        data = pack(Project(root, found=True), [root / "jobs/a.py"])
        bundle = Bundle(store, RUN)
        bundle.store.put("code.zip", data)
    unpack_code(bundle, tmp_path / "code")
    assert (tmp_path / "code" / name).read_text() == "x"
    assert Folders.of(tmp_path / "code").last == ("jobs",)


LIB = {
    "helper.py": "import deeper\nK = deeper.K\n", "deeper.py": "K = 1\n", "unused.py": "K = 2\n",
    "pk/__init__.py": "", "pk/ops.py": "def f(): return 1\n", "pk/data.json": "1", "pk/token": "secret",
}  # fmt: skip
WORKER = """
import sys
from pathlib import Path
from runner.code import references as capture
from runner.code.hashing import identify
root = Path(sys.argv[1])
capture.set_code_root(root)
print(identify([capture.FunctionRef("fn", "jobs/a.py", "jobs.a")], root).hash)
import helper, pk.ops
print(helper.__file__)
"""


@pytest.mark.parametrize("remote", [False, True])
def test_modules_that_only_this_process_finds_are_found_by_workers(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    """What a job file puts on the path is there for its workers: on this machine by its place, on others as a copy."""
    root, copy = tmp_path / "p", tmp_path / "copy"
    for name, text in LIB.items():
        write(tmp_path, f"lib/{name}", text)
    job = f"import sys\nsys.path.append({str(tmp_path / 'lib')!r})\nfrom pk.ops import f\nimport helper\n"
    write(root, "jobs/a.py", f"{job}def fn(b, c): return f(), helper.K\n")
    write(root, "clusters/x.py", "X = 1\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with isolation.isolated():
        for _ in range(2):  # what is loaded already puts nothing on the path again
            load_file(root / "jobs/a.py", root)
            load_file(root / "clusters/x.py", root)
            data = pack(Project(root, found=True), [root / "jobs/a.py"], store, remote=remote)
            before = identify([FunctionRef("fn", "jobs/a.py", "jobs.a")], root).hash
            isolation.leave()
    Bundle(store, RUN).store.put("code.zip", data)
    unpack_code(Bundle(store, RUN), copy)
    worker = subprocess.run([sys.executable, "-c", WORKER, copy], capture_output=True, text=True, check=True)
    brought = {path.relative_to(copy / OUTSIDE).as_posix() for path in (copy / OUTSIDE).rglob("*.*")}
    if remote:
        assert brought - {"__pycache__"} >= {"helper.py", "deeper.py", "pk/__init__.py", "pk/ops.py", "pk/data.json"}
        assert not {"unused.py", "pk/token"} & brought
        assert worker.stdout.split() == [before, str(copy / OUTSIDE / "helper.py")]
    else:
        assert not brought
        assert worker.stdout.split() == [before, str(tmp_path / "lib/helper.py")]

"""Whatever is wrong with the input: a clear error, its exit code, no traceback of ours, and nothing half-made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import runner
from runner.client.run import Run
from tests.local.helpers import remains

JOB = """
from dataclasses import dataclass
from runner import Dataset, Job, Prep, Train

@dataclass(frozen=True)
class Config:
    lr: float = 0.1

def same(batch, config):
    return batch

def fit(ctx, config):
    return None

SOURCE = Dataset(url="lake/*.parquet")
PREP = Prep("copy", fn=same, source=SOURCE, sink="copied")
TRAIN = Train("train", fn=fit, data={"train": "copied"}, workers=2)
"""

#: name -> (what the job file says, words that the error must hold). Every one is refused before anything is started.
REFUSED = {
    "a misspelt field": ('job = Job("x", stages=[Prep("copy", fn=same, sorce=SOURCE, sink="y")])', ["'source'"]),
    "an unknown dataset": (
        'job = Job("x", stages=[Prep("copy", fn=same, source="txet", sink="y")])', ["'txet'", "did you mean 'text'"],
    ),
    "a cycle": (
        'job = Job("x", stages=[Prep("one", fn=same, source="b", sink="a"), '
        'Prep("two", fn=same, source="a", sink="b")])',
        ["one", "two", "one way"],
    ),
    "two writers of one sink": (
        'job = Job("x", stages=[Prep("one", fn=same, source=SOURCE, sink="a"), '
        'Prep("two", fn=same, source=SOURCE, sink="a")])',
        ["'one' and 'two' both write"],
    ),
    "a missing file": (
        'job = Job("x", stages=[Prep("copy", fn=same, source=Dataset(url="lake/none.parquet"), sink="y")])',
        ["none.parquet"],
    ),
    "an empty dataset": (
        'job = Job("x", stages=[Prep("copy", fn=same, source=Dataset(url="empty/"), sink="y")])', ["empty"],
    ),
    "schema drift between shards": (
        'job = Job("x", stages=[Prep("copy", fn=same, source=Dataset(url="drift/"), sink="y")])',
        ["a.parquet", "b.parquet", "x"],
    ),
    "a corrupt Parquet footer": (
        'job = Job("x", stages=[Prep("copy", fn=same, source=Dataset(url="corrupt/"), sink="y")])', ["bad.parquet"],
    ),
    "a stage name that is too long": (
        'job = Job("x", stages=[Prep("much-too-long-a-name", fn=same, source=SOURCE, sink="y")])', ["14 characters"],
    ),
    "a job name with odd characters": ('job = Job("Größe 1!", stages=[PREP])', ["letters, digits"]),
    "a file that does not import": ("import nonexistent_package\n", ["nonexistent_package"]),
    "a file that is no Python": ("job = = 3\n", ["SyntaxError"]),
    "a file without a job": ("x = 1\n", ["holds no Job"]),
    "an unknown column": (
        'data = Dataset(url="lake/*.parquet", columns=("xx",))\n'
        'job = Job("x", stages=[Prep("copy", fn=same, source=data, sink="y")])',
        ["'xx'"],
    ),
    "an unknown group": (
        'job = Job("x", stages=[Prep("copy", fn=same, source=SOURCE, sink="y", on="cpus")])', ["did you mean 'cpu'"],
    ),
    "a lambda": ('job = Job("x", stages=[Prep("copy", fn=lambda b, c: b, source=SOURCE, sink="y")])', ["top level"]),
    "a scheme without create-if-absent": ('job = Job("x", stages=[PREP])', ["memory://"]),
}  # fmt: skip


def table(**columns: list[object]) -> pa.Table:
    return pa.table(columns)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose lake has good and bad data."""
    root = tmp_path / "project"
    for folder in ("jobs", "lake", "empty", "drift", "corrupt", "datasets"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b"):
        pq.write_table(table(i=list(range(10)), x=[0.5] * 10), root / f"lake/{name}.parquet")
    pq.write_table(table(i=[1], x=[0.5]), root / "drift/a.parquet")
    pq.write_table(table(i=[1], x=["text"]), root / "drift/b.parquet")
    good = (root / "lake/a.parquet").read_bytes()
    (root / "corrupt/bad.parquet").write_bytes(good[:-20] + b"\xff" * 12 + good[-8:])
    (root / "datasets/text.py").write_text('from runner import Dataset\ndata = Dataset(url="lake/*.parquet")\n')
    return root


def submit(project: Path, body: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (project / "jobs/x.py").write_text(JOB + "\n" + body + "\n")
    return subprocess.run(
        [sys.executable, "-m", "runner", "submit", "jobs/x.py", *arguments],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_spent(project: Path, name: str) -> None:
    """Exit code 2, the words that help, no traceback of ours, and no store."""
    body, words = REFUSED[name]
    environment = {"RUNNER_STORE": "memory://x"} if "scheme" in name else {}
    done = submit(project, body, **environment)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    for word in words:
        assert word in said
    assert "runner/client/" not in said
    assert not (project / ".runner").exists()


def test_a_transform_that_raises_on_one_row(project: Path) -> None:
    """Exit code 1; the row, the shard and the user's own lines are named; no result is published."""
    body = """
def picky(batch, config):
    for row in batch.to_pylist():
        if row["i"] == 7:
            raise ValueError("seven is not allowed")
    return batch

job = Job("x", stages=[Prep("copy", fn=picky, source=Dataset(url="lake/b.parquet"), sink="y")])
"""
    done = submit(project, body)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    for words in ("seven is not allowed", "row 7", "b.parquet", 'raise ValueError("seven is not allowed")'):
        assert words in said
    assert not list((project / ".runner").glob("datasets/y/data/*"))
    assert not [each for each in (project / ".runner").glob("results/*/*.json") if '"versions"' in each.read_text()]


def test_a_train_function_that_raises_on_rank_1(project: Path) -> None:
    """Exit code 1; the rank and the user's own lines are named."""
    body = """
def broken(ctx, config):
    if ctx.rank == 1:
        raise RuntimeError("rank one says no")
    for batch in ctx.batches("train", batch_size=2):
        ctx.step()

job = Job("x", stages=[Train("train", fn=broken, data={"train": SOURCE}, workers=2)])
"""
    done = submit(project, body)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    for words in ("rank one says no", "rank 1", 'raise RuntimeError("rank one says no")'):
        assert words in said


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_no_permission_on_the_store(project: Path, open_folder: Path) -> None:
    """Another user than root is told that the store may not be written, and nothing is left in it.

    That user may not be able to enter the folder of this checkout: the package is a copy, and what else is needed is
    loaded by two submits, one of which is refused for another reason, before the process becomes the other user's.
    """
    locked = open_folder / "locked"
    locked.mkdir(mode=0o555)
    (open_folder / "file").write_text("no folder")
    package = Path(runner.__file__).parent
    shutil.copytree(package, open_folder / "reach" / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    project = Path(shutil.copytree(project, open_folder / "project"))
    (project / "jobs/x.py").write_text(JOB + '\njob = Job("x", stages=[PREP])\n')
    (project / "clusters").mkdir()
    (project / "clusters/fake.py").write_text('from runner import Cluster\ncluster = Cluster(backend="fake")\n')
    script = f"""
import os, sys
os.chdir({str(project)!r})
import runner.cli.commands

def submit(store, *more):
    sys.argv = ["runner", "submit", "jobs/x.py", "--store", store, *more]
    try:
        runner.cli.commands.main()
    except SystemExit as left:
        return left.code

assert submit({str(open_folder / "store")!r}, "--cluster", "fake") == 0
assert submit({str(open_folder / "file" / "store")!r}) == 2
print("and now", flush=True)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(submit({str(locked / "store")!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(open_folder / "reach")},
        cwd=open_folder,
    )
    said = (done.stdout + done.stderr).partition("and now")[2]
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no permission" in said
    assert "Traceback" not in said
    assert list(locked.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs of a given size; needs root."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        target = tmp_path / f"disk-{size}"
        target.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            if os.environ.get("CI") == "true":
                pytest.fail(f"no tmpfs can be mounted: {done.stderr}")
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        mounted.append(target)
        return target

    yield mount
    for target in mounted:
        subprocess.run(["umount", str(target)], check=True)


def test_disk_full_at_submission(project: Path, small_disk: Callable[[str], Path]) -> None:
    """A store without room for the bundle is refused, exit code 2, and nothing of the run stays in it."""
    disk = small_disk("64k")
    done = submit(project, 'job = Job("x", stages=[PREP])', RUNNER_STORE=str(disk / "store"))
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "no space left" in said
    assert [path for path in disk.rglob("*") if path.is_file()] == []


def test_disk_full_in_the_middle(project: Path, small_disk: Callable[[str], Path]) -> None:
    """A store that fills up fails the run with a clear error; no part of a file stays, and the run's end is told."""
    disk = small_disk("3m")
    body = """
def grow(batch, config):
    import os
    import pyarrow as pa
    return pa.table({"noise": [os.urandom(1 << 20) for _ in range(batch.num_rows)]})

job = Job("x", stages=[Prep("copy", fn=grow, source=SOURCE, sink="y")])
"""
    done = submit(project, body, RUNNER_STORE=str(disk / "store"))
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "no space left" in said
    assert not [path for path in disk.rglob("*") if ".tmp-" in path.name]
    from runner.store import Store
    from tests.unit.record.index_kit import read_index

    store = Store(str(disk / "store"))
    (line,) = read_index(store)
    assert line.state == "failed"
    assert remains(Run(store, line.run_id)) == []

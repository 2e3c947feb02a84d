"""Why a preparation runs, or is skipped, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.code import packages
from runner.code.dependencies import Present, digest
from runner.data.catalog import Catalog
from runner.data.results import Results
from runner.data.versions import VersionMade
from runner.errors import InputError
from runner.plan.reasons import differences, grounds, nearest
from runner.store import Store
from tests.unit.cli.kit import call

FOLDER = "_versions/r260101-000000aa-tiny-aa-1"
RECORD: dict[str, Any] = {
    "code": {"jobs/j.py:fn": "1", "lib.py:f": "2"}, "config": {"k": 1, "kinds": ["a"]},
    "settings": {"batch_size": 4096},
    "inputs": {"": {"dataset": "in", "id": "i", "shards": {"a": "1", "b": "2"}}}, "deps": {}, "packages": {},
    "key": "c" * 20, "run": "r260101-000000aa-tiny-aa", "at": 1.0,
    "sinks": {
        "": {"dataset": "out", "id": "0" * 32, "folder": FOLDER, "rows": 1, "bytes": 1, "files": 1, "data": []}
    },
}  # fmt: skip


def changed(root: Path, then: dict[str, Any] | None = None, pinned: bool = False, **now: Any) -> list[str]:
    return list(differences({**RECORD, **(then or {})}, {**RECORD, **now}, Present(root, pinned)))


def test_every_kind_of_change_is_named(tmp_path: Path) -> None:
    """A definition, config field, setting, shard, file or package that differs is named, and nothing else."""
    assert changed(tmp_path, config={"k": 1, "kinds": ("a",)}) == []
    assert changed(tmp_path, code={"jobs/j.py:fn": "9", "lib.py:g": "2"}) == [
        "code jobs/j.py:fn changed",
        "code lib.py:f is gone",
        "code lib.py:g is new",
    ]
    assert changed(tmp_path, config={"k": 2, "kinds": ["a"]}) == ["config k was 1, is 2"]
    assert changed(tmp_path, settings={"batch_size": 8}) == ["setting batch_size was 4096, is 8"]
    other = {"": {"dataset": "in", "id": "j", "shards": {"a": "1", "b": "3", "c": "4"}}}
    assert changed(tmp_path, inputs=other) == ["input source: shard b changed", "input source: shard c is new"]
    unknown = {"": {"dataset": "in", "id": "j", "shards": None}}
    assert changed(tmp_path, inputs=unknown) == ["input source (in) is another version"]
    assert changed(tmp_path, then={"deps": {"table.txt": "0"}}) == ["file table.txt is not as it was"]
    for listed in ("*", "data/*", "data/*.csv"):
        assert changed(tmp_path, then={"deps": {listed: "0"}}) == [f"the list of files {listed} is not as it was"]
    (tmp_path / "table.txt").write_text("1")
    assert changed(tmp_path, then={"deps": {"table.txt": digest("table.txt", tmp_path)}}) == []
    packages = {"packages": {"numpy": "0.1"}}
    assert changed(tmp_path, then=packages) == []
    assert "package numpy was 0.1, is" in changed(tmp_path, then=packages, pinned=True)[0]


def test_the_nearest_record_is_compared(tmp_path: Path) -> None:
    """Of several records of a dataset the one that differs least says what has changed."""
    catalog = Catalog(Store(str(tmp_path / "store")))
    now = {**RECORD, "code": {"jobs/j.py:fn": "9", "lib.py:f": "2"}}
    assert nearest(catalog, ["out"], now, Present(tmp_path)) == ["it has not been made before"]
    for key, code in (
        ("a" * 20, {"jobs/j.py:fn": "8", "lib.py:f": "2"}),
        ("b" * 20, {"jobs/j.py:fn": "8", "lib.py:f": "3"}),
    ):
        Results(catalog.store).publish(key, {**RECORD, "code": code, "key": key})
        catalog.publish_version("out", VersionMade(key[:1] * 32, FOLDER, rows=1, bytes=1, files=1, key=key))
    assert nearest(catalog, ["out"], now, Present(tmp_path)) == ["code jobs/j.py:fn changed"]
    gone = nearest(catalog, ["out"], {**RECORD, "code": {"jobs/j.py:fn": "8", "lib.py:f": "2"}}, Present(tmp_path))
    assert "is not in the store any more" in gone[0]


def test_the_grounds_of_a_skip_are_counted(tmp_path: Path) -> None:
    """A skipped stage says which run made it, what agrees, and which packages differ without counting."""
    words = grounds({**RECORD, "packages": {"numpy": "0.1"}}, Present(tmp_path))
    assert words[0].startswith(
        "made by run r260101-000000aa-tiny-aa at 1970-01-01 00:00 UTC; the same since: 2 parts of code, 2 config fields"
    )
    assert "numpy was 0.1" in words[1]
    assert "does not count" in words[1]


def test_packages_that_the_job_brings_are_compared_as_a_run_will_have_them(tmp_path: Path) -> None:
    """Where versions count, a package that is only in the lock is the same while its version there is."""
    text = "runner-brings==1.0 \\\n    --hash=sha256:aa\nNumpy==0.1 ; python_version > '3' \\\n    --hash=sha256:bb\n"
    present = Present(tmp_path, True, packages.versions(text))
    record = {"packages": {"runner_brings": "1.0", "numpy": "0.1"}}
    assert present.agrees(record)
    assert not Present(tmp_path, True).agrees(record)
    assert present.other_versions({"runner_brings": "0.9"}) == {"runner_brings": ("0.9", "1.0")}


JOB = """
from runner import Job, Prep
def fn(batch, config): return batch
job = Job("j", stages=[Prep("p", fn=fn, source="p", sink="out")])
"""


def test_why_run_and_force_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`why-run` names the reason; `--force` takes a stage or none, and refuses one that the job does not have.

    What it reads may have the stage's name: a dataset that nobody makes is there all the same.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.runner]\n")
    (tmp_path / "in.jsonl").write_text('{"x": 1}\n')
    (tmp_path / "jobs/j.py").write_text(JOB)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/p.py").write_text("from runner import Dataset\ndata = Dataset(url='in.jsonl')\n")
    assert "not been made before" in call("why-run", "p").output
    assert "forced" in call("submit", "j", "--dry-run", "--force").output
    assert "forced" in call("submit", "j", "--force", "--dry-run").output
    assert "forced" in call("submit", "j", "--force", "p", "--dry-run").output
    assert call("why-run", "q", code=InputError.exit_code)
    assert call("submit", "j", "--force", "q", "--dry-run", code=InputError.exit_code)


def test_what_is_forced_is_not_said_to_be_skipped_after_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan leaves open whether a stage runs while its input is to be made, unless the stage is forced."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    text = JOB.replace("import Job", "import Dataset, Job").replace('source="p"', "source=Dataset(make=made)")
    (tmp_path / "jobs/j.py").write_text(text.replace("def fn", "def made(): yield {'x': [1]}\ndef fn"))
    assert "skipped after all" in call("submit", "j", "--dry-run").output
    assert "skipped after all" not in call("submit", "j", "--dry-run", "--force").output

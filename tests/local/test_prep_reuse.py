"""A result is found only while everything that its code has read is as it was."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from runner.code.dependencies import digest, name_of
from runner.prep.trace import Watch
from runner.process.code_root import FILES_NOTE
from runner.store import Store
from tests.unit.prep.kit import R2
from tests.unit.prep.reuse_kit import DATA, records, run, write

#: What the code reads -> (job file, other files, {edit of a file that counts: its new text}).
READS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "at import": (
        "import json, pathlib\nNAME = 'par' + 'ams.json'\n"
        "K = json.loads((pathlib.Path(__file__).resolve().parents[1] / NAME).read_text())['k']\n"
        "def fn(b, config): return [{'y': r['x'] * K} for r in b]\n",
        {"params.json": '{"k": 2}'},
        {"params.json": '{"k": 3}'},
    ),
    "at a call": (
        "def fn(b, config):\n    k = len(open('tab' + 'le.txt').read())\n    return [{'y': k} for r in b]\n",
        {"table.txt": "abc"},
        {"table.txt": "abcd"},
    ),
    "data of a package": (
        "import pkgutil\nK = len(pkgutil.get_data('pk', 'k' + '.txt'))\n"
        "def fn(b, config): return [{'y': r['x'] * K} for r in b]\n",
        {"pk/__init__.py": "", "pk/k.txt": "abc"},
        {"pk/k.txt": "abcd"},
    ),
    "by a module that is called like one of Python's": (
        "from pk.tokenize import f\ndef fn(b, config): return [{'y': f()} for r in b]\n",
        {"pk/__init__.py": "", "pk/tokenize.py": "def f(): return len(open('k' + '.txt').read())\n", "k.txt": "abc"},
        {"k.txt": "abcd"},
    ),
    "by a file that is not there": (
        "import pathlib\ndef fn(b, config):\n    try: k = len(open('may' + 'be').read())\n    except OSError: k = 0\n"
        "    return [{'y': k} for r in b]\n",
        {},
        {"maybe": "here"},
    ),
    "by asking for a file that is not there": (
        "import pathlib\nP = pathlib.Path(__file__).parents[1] / 'conf' / 'over.json'\n"
        "K = len(P.read_text()) if P.exists() else 1\ndef fn(b, config): return [{'y': r['x'] * K} for r in b]\n",
        {},
        {"conf/over.json": "12"},
    ),
    "names in a folder": (
        "import os\ndef fn(b, config): return [{'y': len(os.listdir('tab' + 'les'))} for r in b]\n",
        {"tables/a.txt": ""},
        {"tables/b.txt": ""},
    ),
    "a module by a name that is made": (
        "import importlib\ndef fn(b, config): return [{'y': importlib.import_module('hel' + 'per').K} for r in b]\n",
        {"helper.py": "K = 1\n"},
        {"helper.py": "K = 22\n"},
    ),
    "in a process of its own": (
        "import subprocess, sys\ndef fn(b, config):\n"
        "    n = subprocess.run(['cat', 'tab' + 'le.txt'], capture_output=True).stdout\n"
        "    return [{'y': len(n)} for r in b]\n",
        {"table.txt": "abc"},
        {"table.txt": "abcd"},
    ),
    "by a library of C": (
        "import pyarrow as pa\ndef fn(b, config):\n    with pa.OSFile('table.bin') as f: n = f.size()\n"
        "    return [{'y': n} for r in b]\n",
        {"table.bin": "abc"},
        {"table.bin": "abcd"},
    ),
    "by a library of C, a path of pieces": (
        "import pyarrow.csv, pathlib\n"
        "T = pyarrow.csv.read_csv(pathlib.Path(__file__).parents[1] / 'tables' / ('a' + '.csv'))\n"
        "def fn(b, config): return [{'y': r['x'] * T['k'][0].as_py()} for r in b]\n",
        {"tables/a.csv": "k\n1\n"},
        {"tables/a.csv": "k\n2\n"},
    ),
    "a folder by a library of C": (
        "import pyarrow.dataset\n"
        "def fn(b, config):\n    n = pyarrow.dataset.dataset('tab' + 'les', format='csv').count_rows()\n"
        "    return [{'y': n} for r in b]\n",
        {"tables/a.csv": "k\n1\n"},
        {"tables/b.csv": "k\n2\n"},
    ),
    "a folder in a process of its own": (
        "import subprocess, sys\ndef fn(b, config):\n"
        "    n = subprocess.run(['sh', '-c', 'ls tables | wc -l'], capture_output=True).stdout\n"
        "    return [{'y': int(n)} for r in b]\n",
        {"tables/a": "1"},
        {"tables/b": "2"},
    ),
    "a database": (
        "import sqlite3\ndef fn(b, config):\n    d = sqlite3.connect('d' + 'b')\n"
        "    d.execute('select 1')\n    d.close()\n    return [{'y': len(open('d' + 'b').read())} for r in b]\n",
        {"db": ""},
        {"db": " "},
    ),
}  # fmt: skip


def project(tmp_path: Path, job: str, files: dict[str, str]) -> Path:
    root = tmp_path / "p"
    write(root, {**DATA, "jobs/j.py": job, "unused.txt": "1", **files})
    return root


@pytest.mark.parametrize("kind", READS)
def test_what_the_code_has_read_counts(tmp_path: Path, kind: str) -> None:
    """An edit of a file that was read makes the result again, its old state finds the old one; others do not count."""
    job, files, edits = READS[kind]
    root = project(tmp_path, job, files)
    first = run(root)
    write(root, {"unused.txt": "2", "jobs/unused.py": "K = 1\n", "unused.md": "new"})
    second = run(root)
    assert (first["skipped"], second["skipped"], second["table"]) == (False, True, first["table"])
    write(root, edits)
    third = run(root)
    assert (third["skipped"], third["tasks_reused"]) == (False, 0)
    assert third["hash"] == first["hash"], "the code alone does not tell"
    for name in edits:
        (root / name).unlink()
    write(root, files)
    assert run(root)["skipped"]


CHILD = (
    "import subprocess\ndef fn(b, config):\n"
    "    n = subprocess.run(['sh', '-c', 'ls tab*; cat tab*/*'], capture_output=True).stdout\n"
    "    return [{'y': len(n), 'x': r['x']} for r in b]\n"
)


def test_where_nothing_tells_every_data_file_counts(tmp_path: Path) -> None:
    """Without the machine's help, any data file that is edited, new or gone makes what children have read again."""
    root = project(tmp_path, CHILD, {"tables/a.txt": "1"})
    states = [run(root, blind=True)["skipped"]]
    for edit in ({"jobs/unused.py": "", "x.md": ""}, {"tables/a.txt": "2"}, {"unused.txt": "2"}, {"tables/b": "1"}):
        write(root, edit)
        states.append(run(root, blind=True)["skipped"])
        assert run(root, blind=True)["skipped"], edit
    assert states == [False, True, False, False, False]


@pytest.mark.parametrize("blind", [False, True])
def test_what_children_write_in_a_runs_copy_does_not_count(tmp_path: Path, blind: bool) -> None:
    """There the files that travelled are those that may be read; what is new since has been made by the run."""
    root = project(tmp_path, CHILD.replace("ls tab*;", "ls tab*; echo >> out.log;"), {"tables/a.txt": "1"})
    noted = dict.fromkeys(("tables/a.txt", "unused.txt"), digest("unused.txt", root))
    write(root, {FILES_NOTE: json.dumps(noted)})
    states = [run(root, blind=blind)["skipped"], run(root, blind=blind)["skipped"]]
    write(root, {FILES_NOTE: json.dumps({**noted, "new.txt": ""}), "new.txt": ""})
    assert [*states, run(root, blind=blind)["skipped"]] == [False, True, False]


def test_a_shard_costs_that_shard_though_it_lies_in_the_project(tmp_path: Path) -> None:
    """The input's own files are not among those that children may have read besides."""
    root = project(tmp_path, CHILD, {"tables/a.txt": "1"})
    run(root)
    write(root, {"data/in2.jsonl": '{"x": 99}\n'})
    more = run(root)
    assert (more["skipped"], more["tasks"], more["tasks_reused"]) == (False, 3, 2)
    assert run(root)["skipped"]


def test_variables_of_the_environment_count(tmp_path: Path) -> None:
    """A variable that the code names counts by its value; those of the machine and credentials do not."""
    job = "import os\ndef fn(b, config): return [{'y': os.environ.get('SCALE', '1'), 'p': len(P)} for r in b]\n"
    job += "UNUSED = os.environ.get('OTHER')\nP = os.environ['HOME'], os.getenv('API_TOKEN')\n"
    root = project(tmp_path, job, {})
    states = []
    given = (("SCALE", ""), ("OTHER", "1"), ("HOME", "/x"), ("API_TOKEN", "1"), ("SCALE", "2"), ("SCALE", "3"))
    for name, value in given:
        states.append(run(root, environment={name: value} if value else {})["skipped"])
    assert states == [False, True, True, True, False, False]


CONSTANT = "def fn(b, config):\n    len(open('ta' + 'ble').read())\n    return [{'y': r['x']} for r in b]\n"


def test_files_elsewhere_count(tmp_path: Path) -> None:
    """A file outside the project that was there before is a dependency; what the code writes is none."""
    other = tmp_path / "shared" / "list.txt"
    write(tmp_path, {"shared/list.txt": "ab"})
    job = (
        f"import uuid\ndef fn(b, config):\n    open('out' + '.log', 'a').write(str(uuid.uuid4()))\n"
        f"    open('out' + '.log').read()\n    return [{{'y': len(open({str(other)!r}).read())}} for r in b]\n"
    )
    root = project(tmp_path, job, {})
    first, again = run(root), run(root)
    other.write_text("abc")
    changed = run(root)
    assert (first["skipped"], again["skipped"], changed["skipped"]) == (False, True, False)
    assert (first["table"][0]["y"], changed["table"][0]["y"]) == (2, 3)


def test_a_task_is_made_again_when_what_it_read_has_changed(tmp_path: Path) -> None:
    """A new shard costs that shard; an edited file that the tasks have read costs all of them."""
    root = project(tmp_path, CONSTANT, {"table": "1"})
    run(root)
    write(root, {"data/in2.jsonl": '{"x": 99}\n'})
    more = run(root)
    assert (more["tasks"], more["tasks_reused"]) == (3, 2)
    write(root, {"table": "22"})
    assert run(root)["tasks_reused"] == 0


def test_forced_is_made_again_under_the_same_key(tmp_path: Path) -> None:
    """A forced stage does all of its tasks again, once a run; other rows are a new version, equal ones are none."""
    root = project(tmp_path, "import time\ndef fn(b, config): return [{'y': time.time_ns()} for r in b]\n", {})
    first = run(root)
    forced = run(root, force=True, run_id=R2)
    assert (forced["skipped"], forced["tasks_reused"], forced["key"]) == (False, 0, first["key"])
    assert forced["outputs"] != first["outputs"]
    assert run(root, force=True, run_id=R2)["skipped"], "the same run, resumed"
    found = run(root)
    assert (found["skipped"], found["outputs"]) == (True, forced["outputs"])
    assert len(records(root)) == 1


def test_packages_are_kept_and_count_when_they_are_pinned(tmp_path: Path) -> None:
    """A result knows the versions of the packages that its code imports: shown when they differ, counted if asked."""
    root = project(tmp_path, "import numpy\ndef fn(b, config): return [{'y': r['x']} for r in b]\n", {})
    run(root)
    (path,) = records(root)
    record = json.loads(path.read_text())
    assert {"numpy", "pyarrow"} <= set(record["packages"])
    record["packages"]["numpy"] = "0.1"
    path.write_text(json.dumps(record))
    found = run(root)
    assert found["skipped"]
    assert any("numpy 0.1, now " in note for note in found["notes"])
    assert not run(root, pin=True)["skipped"]
    assert run(root, pin=True)["skipped"]


def test_what_a_task_has_made_with_other_packages_counts_where_they_are_pinned(tmp_path: Path) -> None:
    """Pinned, such tasks are done again; not pinned, the result that takes one of them says so of its packages."""
    root = project(tmp_path, "import numpy\ndef fn(b, config): return [{'y': r['x']} for r in b]\n", {})
    run(root)
    for path in (*records(root), *(tmp_path / "p-store").glob("tasks/*/*.json")):
        record = json.loads(path.read_text())
        record["packages"]["numpy"] = "0.1"
        path.write_text(json.dumps(record))
    write(root, {"data/in2.jsonl": '{"x": 99}\n'})
    assert run(root)["tasks_reused"] == 2
    mixed = max(map(json.loads, map(Path.read_text, records(root))), key=lambda record: float(record["at"]))
    assert mixed["packages"]["numpy"].endswith(" and 0.1")
    pinned = run(root, pin=True)
    assert (pinned["skipped"], pinned["tasks_reused"]) == (False, 1)


def test_a_store_hides_its_own_files_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a store's root, what runs have made does not count as read; all else does, the project or around it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    made = (
        "r261129-160213uu-j-z4/spec.json", "index/r261129-160213uu-j-z4~j~live~0", f"tasks/{'0a' * 10}/1.json",
        f"results/{'0a' * 10}/1.json", "datasets/d/_versions/r-1/a.parquet", "datasets/d/_log/00000001.json",
    )  # fmt: skip
    mine = ("table", "results/mine.json", "datasets/d.py", "datasets/d/words.txt", "r2d2/spec.json", "p/table")
    for store in (tmp_path, tmp_path / "p"):
        write(store, dict.fromkeys((*made, *mine), "1"))
        watch = Watch()
        with watch.at_work(Store(str(store))):
            for name in (*made, *mine):
                watch.see("open", (str(store / name), "r", 0))
        found = set(watch.deps(tmp_path / "p", frozenset()))
        assert found == {name_of(store / name, tmp_path / "p") for name in mine}


def test_made_data_follows_what_its_function_reads(tmp_path: Path) -> None:
    """A dataset's `make` is called again when a file that it has read has changed, or when it is forced."""
    root = project(tmp_path, "def fn(): return {'y': [len(open('ta' + 'ble').read())]}\n", {"table": "1"})
    states = [
        run(root, make=True)["skipped"],
        run(root, make=True)["skipped"],
        run(root, make=True, force=True)["skipped"],
    ]
    write(root, {"table": "22"})
    changed: dict[str, Any] = run(root, make=True)
    assert (states, changed["skipped"], changed["table"]) == ([False, True, False], False, [{"y": 2}])

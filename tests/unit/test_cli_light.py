from __future__ import annotations

import collections
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.store import Store
from tests.unit.cli_project import call, call_json, unstarted, write_project

ENDED = 2000


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with 2,000 runs that have ended and one that lives."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    unstarted()
    index = tmp_path / ".runner/index"
    for number in range(ENDED):
        (index / f"r2501{number // 1000 + 1:02d}-{number % 1000:06d}-tiny-abc~tiny~succeeded~{number}").touch()
    return tmp_path


@pytest.mark.parametrize("words", [["ps"], ["ps", "--all"]])
def test_ps_lists_the_index_once_and_opens_only_runs_that_live(
    crowded: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """The work of `ps` does not grow with the runs that have ended: one listing, and the live run's few entries."""
    calls: collections.Counter[str] = collections.Counter()
    for name in ("list", "get", "exists", "create", "put"):
        original = getattr(Store, name)

        def counted(self: Store, key: str = "", *rest: Any, _name: str = name, _call: Any = original) -> Any:
            calls[f"{_name} {key.split('/')[0]}"] += 1
            return _call(self, key, *rest)

        monkeypatch.setattr(Store, name, counted)
    rows = call_json(*words)
    assert len(rows) == (ENDED + 1 if "--all" in words else 21)
    assert calls["list index"] == 1
    assert sum(calls.values()) <= 8, calls


@pytest.mark.parametrize("words", [["ps"], ["--help"], ["status"], ["logs"], ["metrics"]])
def test_commands_that_look_load_nothing_heavy(crowded: Path, words: list[str]) -> None:
    """No torch, ray, pyarrow, pandas, numpy, fsspec or matplotlib is loaded to look at a run on this machine."""
    code = (
        "import sys\nfrom runner.cli import app\n"
        f"try:\n    app({words!r}, prog_name='runner')\nexcept SystemExit as left:\n    assert not left.code\n"
        "heavy = {'torch', 'ray', 'pyarrow', 'pandas', 'numpy', 'fsspec', 'matplotlib'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_runs_jobs_clusters_and_stages_complete(crowded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer's completion offers the names of the index and of the project; an unreadable store offers nothing."""

    def complete(line: str) -> list[str]:
        monkeypatch.setenv("_RUNNER_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        return call().stdout.split()

    assert complete("runner status r250101-00012") == [f"r250101-00012{n}-tiny-abc" for n in range(9, -1, -1)]
    assert complete("runner submit t") == ["tiny"]
    assert complete("runner submit jobs/t") == ["jobs/tiny.py"]
    assert complete("runner submit tiny --cluster ") == ["fake", "local", "ray_local"]
    monkeypatch.setenv("RUNNER_STORE", "ftp://nowhere")
    assert complete("runner status r") == []

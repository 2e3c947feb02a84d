from __future__ import annotations

import collections
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.store import Store
from tests.unit.cli.kit import call, call_json, unstarted, write_project

ENDED = 2000


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with 2,000 runs that have ended, on 200 days, and one that lives."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    unstarted()
    for number in range(ENDED):
        began = time.strftime("r%y%m%d-%H%M%S", time.gmtime(1735689600 + 86400 // 10 * number))
        folder = tmp_path / f".runner/index/{began[1:7]}"
        folder.mkdir(exist_ok=True)
        (folder / f"{began}-tiny-abc~tiny~succeeded~{number}").touch()
    return tmp_path


@pytest.mark.parametrize(("words", "days"), [(["ps"], 2), (["ps", "--all"], 200), (["ps", "--state", "running"], 0)])
def test_ps_lists_the_newest_days_and_opens_only_runs_that_live(
    crowded: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], days: int
) -> None:
    """The work of `ps` does not grow with the runs that have ended: a few listings, and the live run's few entries."""
    calls: collections.Counter[str] = collections.Counter()
    for name in ("list", "get", "exists", "create", "put"):
        original = getattr(Store, name)

        def counted(self: Store, key: str = "", *rest: Any, _name: str = name, _call: Any = original) -> Any:
            calls[f"{_name} {key.split('/')[0]}"] += 1
            return _call(self, key, *rest)

        monkeypatch.setattr(Store, name, counted)
    rows = call_json(*words)
    assert len(rows) == {0: 0, 2: 21, 200: ENDED + 1}[days]
    assert calls["list index"] == 3 + days
    assert sum(calls.values()) <= 10 + days, calls


#: Runs commands one after the other, in a process that nothing else has loaded modules into.
COMMANDS = """
import sys
from runner.cli.commands import app
for words in {commands!r}:
    try:
        app(words, prog_name="runner")
    except SystemExit as left:
        assert not left.code, words
    print("heavy:", words, sorted({heavy!r} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("commands", "heavy"),
    [
        (
            [["--help"], ["ps"], ["status"], ["logs"], ["metrics"]],
            {"torch", "ray", "pyarrow", "pandas", "numpy", "fsspec", "matplotlib"},
        ),
        ([["submit", "tiny"]], {"torch", "ray", "pandas", "matplotlib"}),
    ],
    ids=["looking", "submitting"],
)
def test_commands_load_nothing_heavy(crowded: Path, commands: list[list[str]], heavy: set[str]) -> None:
    """Looking at a run on this machine loads no library of data or plots; a submit none that its job does not use."""
    code = COMMANDS.format(commands=commands, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("heavy:")] == [
        f"heavy: {words} []" for words in commands
    ]


def test_runs_jobs_clusters_and_stages_complete(crowded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer's completion offers the names of the index and of the project; an unreadable store offers nothing."""

    def complete(line: str) -> list[str]:
        monkeypatch.setenv("_RUNNER_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        return call().stdout.split()

    assert complete("runner status r250101-1") == [f"r250101-{n}00-tiny-abc" for n in ("1912", "1648", "1424", "1200")]
    assert complete("runner submit t") == ["tiny"]
    assert complete("runner submit jobs/t") == ["jobs/tiny.py"]
    assert complete("runner submit tiny --cluster ") == ["fake", "local", "ray_local"]
    monkeypatch.setenv("RUNNER_STORE", "ftp://nowhere")
    assert complete("runner status r") == []

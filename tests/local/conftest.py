"""Fixtures for real runs: a small project, and the proof that nothing of a run is left."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.client.run import Run
from tests.local.helpers import JOB, NUMBERS, remains, wait_for


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the job `tiny` in its own folder, which is the current one."""
    for name, text in {"jobs/tiny.py": JOB, "datasets/numbers.py": NUMBERS}.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def nothing_left() -> Callable[[Run], None]:
    """Call it with a run that has ended: within 10 s nothing of it may be left, shared memory and Ray included."""
    shared = _shared_memory()

    def check(run: Run) -> None:
        wait_for(lambda: not remains(run), 10, f"nothing left of {run.id}")
        wait_for(lambda: not _shared_memory() - shared, 10, "no new shared memory")

    return check


def _shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()

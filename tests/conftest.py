"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.code import isolation
from runner.store import Store
from runner.untrusted import skipped


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a folder of the test's own."""
    return Store(str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of the person who runs the tests leaks into them, and none of one test into the next."""
    for name in list(os.environ):
        if name.startswith("RUNNER_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("runner.process.code_root._code_root", None)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setenv("RUNNER_CODE_ROOT", "")  # what a test sets goes with it
    monkeypatch.setenv("RUNNER_KEY", "the key of these tests, and of no person")
    skipped.forget()
    yield
    isolation.leave()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take minutes, or a GPU, run only where a marker is asked for (`make soak`, `make gpu`)."""
    if config.option.markexpr:
        return
    left = [item for item in items if item.get_closest_marker("soak") or item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]

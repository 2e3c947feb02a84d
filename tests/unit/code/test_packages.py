"""Packages that a job brings, as the rest of runner sees them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from runner.code import packages
from runner.code.slicing import files as code_files
from runner.prep import trace as prep_trace
from runner.process import code_root


def test_what_a_job_brings_counts_as_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result does not depend on its files, which are not there where the job is submitted from, as on user's code."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(packages, "_install", lambda body, folder: folder.mkdir())
    folder = packages.provide("runner-brings==1.0 \\\n    --hash=sha256:aa\n")
    assert folder is not None
    module = folder / "runner_brings.py"
    module.write_text("")
    assert code_files.is_installed(module)
    assert code_root.is_installed(module)
    watch = prep_trace.Watch()
    importlib.import_module("runner_brings")
    found = watch.deps(tmp_path / "project", frozenset())
    del sys.modules["runner_brings"]
    assert found == {}

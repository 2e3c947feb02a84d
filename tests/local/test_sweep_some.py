"""A small part of the sweep over file kinds; the whole is in tests/local/test_sweep.py."""

from __future__ import annotations

from pathlib import Path

from tests.local.sweep_kit import sweep
from tests.local.sweep_pyarrow import damaged_cases, ipc_cases, parquet_cases, write

_SOME = ("parquet-version-2.6-page-2.0", "ipc-file-lz4")


def test_some_kinds_of_files(tmp_path: Path) -> None:
    """Files of all types and of a few kinds give pyarrow's values, damaged ones a DataError; no process ends."""
    cases = {**parquet_cases(small=True), **ipc_cases(small=True), **damaged_cases()}
    chosen = (*_SOME, "damaged-parquet-cut-4", "damaged-arrows-zeros")
    verdicts = sweep(write({name: cases[name] for name in chosen}, tmp_path))
    bad = [one for one in verdicts if one.what != ("refused" if one.case.startswith("damaged") else "same")]
    assert not bad
    assert len(verdicts) == 2 * len(chosen)

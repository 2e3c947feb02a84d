"""`runner data bench` with its processes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.cli.kit import call, call_json


def test_a_stream_is_measured_in_each_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has its rates, its share of the limit and its memory; null numbers are measured as Arrow's."""
    monkeypatch.chdir(tmp_path)
    count = 200_000
    table = pa.table({"x": pa.array(range(count)), "y": pa.array([None if i % 2 else i for i in range(count)])})
    pq.write_table(table, "a.parquet", row_group_size=20_000)
    found = call_json("data", "bench", "a.parquet", "--columns", "x", "--seconds", "0.3", "--threads", "1")
    assert [(one["threads"], one["shuffle"], one["as_"]) for one in found["settings"]] == [
        (1, True, "numpy"), (1, False, "numpy"), (1, True, "arrow"),
    ]  # fmt: skip
    for one in found["settings"]:
        assert one["bytes_s"] == pytest.approx(one["rows_s"] * 8, rel=0.2)
        assert one["first_s"] > 0
        assert one["of_limit"] > 0
        assert one["cpu_s_gb"] > 0
    assert found["advice"]
    nulls = call("data", "bench", "a.parquet", "--seconds", "0.1", "--threads", "1")
    assert "arrow" in nulls.stdout
    assert "numpy" not in nulls.stdout
    assert "limit: one thread that only decodes" in nulls.stdout


@pytest.mark.parametrize("threads", ["0", "x", "", "1,,2", "1000000"])
def test_numbers_of_threads_are_checked(threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no number of threads is refused before anything is read."""
    monkeypatch.chdir(tmp_path)
    assert "--threads" in call("data", "bench", "nothing.parquet", "--threads", threads, code=2).stderr

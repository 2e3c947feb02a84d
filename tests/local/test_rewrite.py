"""`runner data rewrite`: a real run on this machine, with workers of its own."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import runner
from tests.unit.cli.kit import call_json


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    """Values that are easily lost, in several files with small row groups."""
    monkeypatch.chdir(tmp_path.resolve())
    count = 500
    table = pa.table(
        {
            "id": pa.array(range(2**63 - count, 2**63), pa.uint64()),
            "nullable": pa.array([None if i % 7 == 0 else 2**53 + i for i in range(count)]),
            "moment": pa.array([2**61 + i for i in range(count)], pa.timestamp("ns", "Europe/Berlin")),
            "day": pa.array([datetime.date(1, 1, 1)] * count),
            "price": pa.array([decimal.Decimal(i) / 1000 for i in range(count)], pa.decimal128(38, 3)),
            "x": pa.array([float("nan"), float("inf"), -0.0, 5e-324] * (count // 4)),
            "image": [bytes([i % 256]) * (i % 9) for i in range(count)],
            "text": pa.array([f"é{i % 3}" for i in range(count)]).dictionary_encode(),
            "tokens": pa.array([list(range(i % 5)) if i % 11 else None for i in range(count)], pa.list_(pa.int32())),
            "map": pa.array([[("k", i)] for i in range(count)], pa.map_(pa.string(), pa.int16())),
            "inner": pa.array([{"a": i, "b": None if i % 2 else "c"} for i in range(count)]),
        }
    )
    (tmp_path / "lake").mkdir()
    for part in range(5):
        pq.write_table(table.slice(part * 100, 100), tmp_path / f"lake/{part}.parquet", row_group_size=30)
    return table


def test_data_is_written_anew_with_every_value(odd: pa.Table) -> None:
    """A rewrite is a run that publishes a dataset of the same rows, each value as it was, with page checksums; a second
    one finds that it is done.
    """
    document = call_json("data", "rewrite", "lake", "odd", "--workers", "2")
    assert document["state"] == "succeeded"
    found = runner.dataset("odd")
    assert found.run == document["run"]
    before = runner.Stream("lake", 500, shuffle=False, as_="arrow").__next__()
    after = found.stream(500, shuffle=False, as_="arrow").__next__()
    for name in odd.column_names:
        assert after[name].type == before[name].type, name
        # as bytes, for NaN is not equal to itself
        assert after[name].type == before[name].type, name
        assert _shown(after[name]) == _shown(before[name]), name
    files = [pq.ParquetFile(file, page_checksum_verification=True).read() for file in found.files]
    assert sum(file.num_rows for file in files) == 500
    again = call_json("data", "rewrite", "lake", "odd")
    assert [stage["state"] for stage in again["stages"]] == ["skipped"]


def test_columns_are_chosen_and_a_dataset_is_rewritten(odd: pa.Table) -> None:
    """`--columns` takes some, in their order; a source may be a version in the store."""
    call_json("data", "rewrite", "lake", "odd")
    call_json("data", "rewrite", "odd", "ids", "--columns", "text,id")
    assert runner.dataset("ids").schema.names == ["text", "id"]
    assert runner.dataset("ids").to_table()["id"].to_pylist() == odd["id"].to_pylist()


def test_a_rewrite_needs_no_project(odd: pa.Table) -> None:
    """The command itself, in a folder without a project: the function is runner's own in every process."""
    command = [sys.executable, "-m", "runner", "data", "rewrite", "lake", "odd", "--columns", "id", "--store", "kept"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert runner.dataset("odd", store="kept").rows == 500


def _shown(array: pa.Array) -> str:
    """The values in Python's words, which tell all apart, NaN too. What lies under a null is nobody's."""
    return repr(array.to_pylist())

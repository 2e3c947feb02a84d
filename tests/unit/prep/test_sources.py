"""A Prep reads whatever a Dataset says: archives, tables at a version, files in a dialect of their own."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import runner
from runner.prep.stage import run_prep
from runner.spec import Dataset, Prep
from runner.worker.pool.base import InlinePool
from tests.unit.prep.kit import R2, make_scope


def same(batch: pa.RecordBatch, config: Any) -> pa.RecordBatch:
    return batch


def written(folder: Path, source: Dataset) -> list[dict[str, Any]]:
    """The rows that a stage writes which changes nothing."""
    stage = Prep("p", fn=same, source=source, sink="out")
    run_prep(stage, make_scope(folder / "store", stage, run=R2), InlinePool())
    return runner.dataset("out", store=str(folder / "store")).to_table().to_pylist()


def test_csv_in_a_dialect(tmp_path: Path) -> None:
    """The workers of a stage read CSV as it was declared."""
    (tmp_path / "a.csv").write_text("skipped\n1;07;x\n2;08;-\n")
    dialect = {"delimiter": ";", "header": False, "skip": 1, "names": ("a", "b", "c"), "nulls": ("-",)}
    source = Dataset(str(tmp_path / "a.csv"), csv=dialect, schema={"b": "string", "a": "int8"}, unknown="infer")
    assert written(tmp_path, source) == [{"a": 1, "b": "07", "c": "x"}, {"a": 2, "b": "08", "c": None}]


def test_several_folders_of_json(tmp_path: Path) -> None:
    """The workers of a stage leave out what is not declared."""
    for name in ("en", "de"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(f'{{"x": "{name}", "other": 1}}\n{{"x": null, "other": "no"}}\n')
    source = Dataset([str(tmp_path / "en"), str(tmp_path / "de")], schema={"x": "string"}, unknown="ignore")
    assert [row["x"] for row in written(tmp_path, source)] == ["de", None, "en", None]


def test_tar(tmp_path: Path) -> None:
    """A stage turns an archive of samples into rows."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name in ("b.cls", "b.txt", "c.cls"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    expected = [{"__key__": "b", "cls": b"b.cls", "txt": b"b.txt"}, {"__key__": "c", "cls": b"c.cls", "txt": None}]
    assert written(tmp_path, Dataset(str(tmp_path / "a.tar.gz"))) == expected


def test_delta(tmp_path: Path) -> None:
    """A stage reads a table at its version, also when the table has gone on."""
    deltalake = pytest.importorskip("deltalake")
    for i in range(3):
        deltalake.write_deltalake(
            str(tmp_path / "d"), pa.table({"x": [i], "p": ["a"]}), mode="append", partition_by=["p"]
        )
    found = written(tmp_path, Dataset(str(tmp_path / "d"), format="delta", version=1))
    assert sorted(row["x"] for row in found) == [0, 1]
    assert {row["p"] for row in found} == {"a"}

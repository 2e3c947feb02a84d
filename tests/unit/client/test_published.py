"""`runner.dataset`: published data from any script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import runner
from runner.errors import DataError, SpecError
from runner.prep.stage import run_prep
from runner.spec import Dataset, Prep
from runner.worker.pool.base import InlinePool
from tests.unit.prep.kit import R2, R3, RUNS, make_scope, write_shards


def double(batch: pa.RecordBatch, config: Any) -> dict[str, Any]:
    return {"y": batch.column("x").to_numpy() * 2, "s": batch.column("s")}


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with two versions of "tokens": of 20 rows and of 30."""
    for shards in (2, 3):
        stage = Prep("p", fn=double, source=Dataset(write_shards(tmp_path / "in", shards=shards)), sink="tokens")
        run_prep(stage, make_scope(tmp_path / "s", stage, run=RUNS[shards]), InlinePool())
    return str(tmp_path / "s")


def test_the_newest_version_is_opened(store: str) -> None:
    """Rows, columns, files and a stream of the newest version, which pyarrow reads by its URL as well."""
    tokens = runner.dataset("tokens", store=store)
    assert (tokens.rows, tokens.run, tokens.schema.names, len(tokens.files)) == (30, R3, ["y", "s"], 3)
    assert tokens.to_table().column("y").to_pylist() == [*range(0, 60, 2)]
    assert tokens.to_table(columns=["s"]).column_names == ["s"]
    assert pq.read_table(tokens.url).equals(tokens.to_table())
    assert pq.read_table(tokens.files).num_rows == 30
    assert sum(int(batch.mask.sum()) for batch in tokens.stream(batch_size=10)) == 30
    assert tokens.lineage()["inputs"][""]["rows"] == 30
    assert "30 rows in 3 files" in repr(tokens)


def test_an_older_version_stays_as_it_was(store: str) -> None:
    """By the beginning of its id or by its run, with its own rows."""
    newest = runner.dataset("tokens", store=store)
    older = runner.dataset("tokens", version=R2, store=store)
    assert older.to_table().column("y").to_pylist() == [*range(0, 40, 2)]
    assert runner.dataset("tokens", version=older.version[:8], store=store).version == older.version != newest.version


def test_a_version_is_a_source_of_a_stream(store: str) -> None:
    """A Stream takes what `runner.dataset` gives, and the URL of a version, which leads to that version alone."""
    for version, rows in ((None, 30), (R2, 20)):
        tokens = runner.dataset("tokens", version=version, store=store)
        for source in (tokens, tokens.url, Dataset(tokens.url)):
            with runner.Stream(source, 10, as_="numpy", shuffle=False) as stream:
                assert [y for batch in stream for y in batch["y"].tolist()] == [*range(0, 2 * rows, 2)]
        assert runner.Stream(tokens, 10, as_="numpy").manifest.id == tokens.version
    with pytest.raises(SpecError, match="say it in Dataset"):
        runner.Stream(tokens, 10, format="parquet", as_="numpy")


def test_what_is_not_there_is_named_with_what_is_near(store: str) -> None:
    """A misspelt name, version or column is an error that suggests the right one."""
    with pytest.raises(DataError, match="did you mean 'tokens'"):
        runner.dataset("tokns", store=store)
    with pytest.raises(DataError, match=runner.dataset("tokens", store=store).version[:12]):
        runner.dataset("tokens", version="zz", store=store)
    with pytest.raises(DataError, match="fits 2"):
        runner.dataset("tokens", version="", store=store)
    with pytest.raises(DataError, match="'y'"):
        runner.dataset("tokens", store=store).to_table(columns=["yy"])
    with pytest.raises(SpecError, match="columns='y'"):
        runner.dataset("tokens", store=store).to_table(columns="y")

"""Data sets of the Hugging Face hub: at the commit that was looked at, by ranges, with the hub's own hashes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import Stream
from runner.data.manifest import Manifest
from runner.data.source_manifest import look
from runner.errors import DataError, MissingPackage
from runner.spec import Dataset
from tests.unit.data.hub_kit import Hub, serve

pytest.importorskip("huggingface_hub")

NAME = "some/tokens"


@pytest.fixture(scope="module")
def running() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


@pytest.fixture
def hub(running: Hub) -> Hub:
    running.repositories.clear()
    running.ranges.clear()
    running.token = ""
    return running


def parquet(*values: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": values}), sink)
    return sink.getvalue()


def rows(manifest: Manifest) -> list[dict[str, Any]]:
    return [row for i in range(len(manifest.shards)) for one in manifest.read(i) for row in one.to_pylist()]


@pytest.mark.parametrize(
    "url",
    ["", "/data", "/data/train-*.parquet", "/data/train-0.parquet", "@main/data/train-*.parquet"],
)
def test_a_commit(hub: Hub, url: str) -> None:
    """What was looked at stays: later reads are of that commit, whatever is written to the branch, and the notes in a
    repository are no data.
    """
    first = {"README.md": b"# Tokens", ".gitattributes": b"", "data/train-0.parquet": parquet(1, 2)}
    commit = hub.commit(NAME, first)
    manifest = look(Dataset(f"hf://datasets/{NAME}{url}", options={"endpoint": hub.endpoint}))
    hub.commit(NAME, {**first, "data/train-0.parquet": parquet(9, 9), "data/train-1.parquet": parquet(3)})
    assert rows(manifest) == [{"x": 1}, {"x": 2}]
    assert f"@{commit}" in manifest.base
    assert manifest.shards[0].etag == f"etag:{hashlib.sha256(first['data/train-0.parquet']).hexdigest()}"
    again = look(Dataset(f"hf://datasets/{NAME}{url}", options={"endpoint": hub.endpoint}))
    assert len(rows(again)) == (2 if url.endswith("0.parquet") else 3)


def test_a_revision(hub: Hub) -> None:
    """A revision in the URL is the one that is read, and one that is not there is an error."""
    commit = hub.commit(NAME, {"a.jsonl": b'{"x": 1}\n'})
    hub.commit(NAME, {"a.jsonl": b'{"x": 2}\n'})
    options = {"endpoint": hub.endpoint}
    assert rows(look(Dataset(f"hf://datasets/{NAME}@{commit}", options=options))) == [{"x": 1}]
    assert next(iter(Stream(f"hf://datasets/{NAME}", 1, options=options, as_="numpy")))["x"].tolist() == [2]
    for url in (f"{NAME}@never", "some/other", f"{NAME}/nothing"):
        with pytest.raises(DataError, match="hf://datasets/some/"):
            look(Dataset(f"hf://datasets/{url}", options=options))


def test_ranges(hub: Hub) -> None:
    """Of a large file only the ranges that are wanted are fetched."""
    sink = io.BytesIO()
    noise = [bytes([i % 256, i // 256]) * 5000 for i in range(600)]
    pq.write_table(pa.table({"x": range(600), "y": noise}), sink, compression="none", row_group_size=100)
    hub.commit(NAME, {"a.parquet": sink.getvalue()})
    manifest = look(Dataset(f"hf://datasets/{NAME}", options={"endpoint": hub.endpoint}))
    assert sum(batch.num_rows for batch in manifest.read(0, columns=["x"])) == 600
    assert sum(last - first for _, first, last in hub.ranges) < len(sink.getvalue()) // 10


def test_a_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is the environment's, or is named; without it a gated data set is an error."""
    hub.commit(NAME, {"a.jsonl": b'{"x": 1}\n'})
    hub.token = "hf_abc"
    url, options = f"hf://datasets/{NAME}", {"endpoint": hub.endpoint}
    with pytest.raises(DataError, match="hf://datasets/some/tokens"):
        look(Dataset(url, options=options))
    monkeypatch.setenv("MINE", "hf_abc")
    assert rows(look(Dataset(url, options={**options, "token": "env:MINE"}))) == [{"x": 1}]
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    assert rows(look(Dataset(url, options={**options, "block_size": 1 << 20}))) == [{"x": 1}]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without huggingface_hub the error says which extra brings it."""
    monkeypatch.setattr("runner.code.extras._is_there", lambda module: module != "huggingface_hub")
    with pytest.raises(MissingPackage, match=r"lake-runner\[hf\]"):
        look(Dataset(f"hf://datasets/{NAME}"))


def test_cached_arrow_files(tmp_path: Path) -> None:
    """What Hugging Face's `datasets` keep is read as it lies: streams of Arrow with notes beside them, and types of
    theirs as what they are stored as.
    """
    table = pa.table({"x": [1, 2, 3], "text": ["a", None, "c"]})
    noted = table.replace_schema_metadata({"huggingface": '{"info": {"features": {}}}'})
    for i in range(2):
        path = str(tmp_path / f"data-0000{i}-of-00002.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, noted.schema) as to:
            to.write_table(noted, max_chunksize=2)
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "state.json").write_text("{}")
    manifest = look(Dataset(str(tmp_path)))
    assert rows(manifest) == table.to_pylist() * 2
    assert not manifest.schema.metadata

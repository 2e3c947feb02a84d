"""Archives and tables on a real S3 server: read where they lie, by ranges, as on a disk."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

import runner
from runner.data.source_manifest import look
from runner.errors import DataError
from runner.spec import Dataset
from tests.local.s3server import S3Server, serve

pytestmark = pytest.mark.timeout(900)  # the server is compiled the first time


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(autouse=True)
def environment(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user would give credentials: not in a dataset, which would keep them in the bundle."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def rows(dataset: Dataset) -> list[dict[str, Any]]:
    manifest = look(dataset)
    return [row for i in range(len(manifest.shards)) for one in manifest.read(i) for row in one.to_pylist()]


def test_tar(server: S3Server, tmp_path: Path) -> None:
    """An archive in a bucket is the same data as on a disk, with the same id, and a Stream gives its samples."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for i in range(200):
            for kind, body in (("jpg", bytes([i]) * 10_000), ("cls", str(i).encode())):
                info = tarfile.TarInfo(f"{i:03}.{kind}")
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
    (tmp_path / "a.tar").write_bytes(sink.getvalue())
    fsspec.filesystem("s3", **server.options).pipe("lake/tar/a.tar", sink.getvalue())
    remote = Dataset("s3://lake/tar")
    assert look(remote).id == look(Dataset(str(tmp_path))).id
    look(remote).write("s3://lake/all.manifest")
    kept = runner.Stream("s3://lake/all.manifest", 50, format="manifest", shuffle=False, as_="numpy")
    assert kept.manifest.id == look(remote).id
    assert sum(len(batch["cls"]) for batch in kept) == 200
    stream = runner.Stream(remote, 50, as_="numpy")
    assert sorted(int(value) for batch in stream for value in batch["cls"]) == list(range(200))


def test_delta(server: S3Server, tmp_path: Path) -> None:
    """A Delta Lake table in a bucket is read at each of its versions, by the same credentials as all data."""
    deltalake = pytest.importorskip("deltalake")
    options = {**server.environment, "AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
    for i in range(3):
        table = pa.table({"x": [i], "p": [f"a {i}/b"]})
        deltalake.write_deltalake("s3://lake/d", table, mode="append", partition_by=["p"], storage_options=options)
    for version in (0, 2, None):
        expected = [{"x": i, "p": f"a {i}/b"} for i in range(3 if version is None else version + 1)]
        assert sorted(rows(Dataset("s3://lake/d", format="delta", version=version)), key=str) == sorted(
            expected, key=str
        )
    with pytest.raises(DataError, match="say format='delta'"):
        rows(Dataset("s3://lake/d"))
    by_name = {"key": "env:AWS_ACCESS_KEY_ID", "secret": "env:AWS_SECRET_ACCESS_KEY", "endpoint_url": server.endpoint}
    assert len(rows(Dataset("s3a://lake/d", format="delta", options=by_name))) == 3


def test_iceberg(server: S3Server) -> None:
    """An Iceberg table in a bucket is read at each of its snapshots."""
    pytest.importorskip("pyiceberg")
    pytest.importorskip("sqlalchemy")
    from pyiceberg.catalog.memory import InMemoryCatalog

    catalog = InMemoryCatalog(
        "c",
        warehouse="s3://lake/ice",  # written by fsspec: pyarrow uploads in parts, which this server may refuse
        **{
            "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",
            "s3.endpoint": server.endpoint,
            "s3.access-key-id": "tester",
            "s3.secret-access-key": "tester-secret",
        },
    )
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=pa.schema([("x", pa.int64())]))
    for i in range(3):
        table.append(pa.table({"x": [i]}))
    for count, snapshot in enumerate(table.metadata.snapshots, 1):
        found = rows(Dataset("s3://lake/ice/ns/t", format="iceberg", snapshot=snapshot.snapshot_id))
        assert sorted(row["x"] for row in found) == list(range(count))
    assert len(rows(Dataset(table.metadata_location, format="iceberg"))) == 3

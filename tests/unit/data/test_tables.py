"""Delta Lake at a version and Iceberg at a snapshot: the rows that the table's own library gives, or a refusal."""

from __future__ import annotations

import datetime
import decimal
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import Stream
from runner.data.manifest import Manifest, build
from runner.data.source_manifest import look
from runner.errors import DataError, MissingPackage
from runner.spec import Dataset
from tests.unit.data.damage_kit import damaged
from tests.unit.data.test_damaged import COUNTS

deltalake = pytest.importorskip("deltalake")
pytest.importorskip("pyiceberg")
pytest.importorskip("sqlalchemy")


def rows(manifest: Manifest) -> list[dict[str, Any]]:
    return [row for i in range(len(manifest.shards)) for one in manifest.read(i) for row in one.to_pylist()]


def in_order(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda row: row["x"])


# -- Delta Lake ------------------------------------------------------------------------------------------------------


def write(path: Path, table: pa.Table, **arguments: Any) -> None:
    deltalake.write_deltalake(str(path), table, **arguments)


def changed(path: Path, *actions: dict[str, Any]) -> None:
    """One more version of a table, which this library does not write."""
    log = path / "_delta_log"
    (log / f"{len(list(log.glob('*.json'))):020}.json").write_text("".join(json.dumps(one) + "\n" for one in actions))


def test_versions(tmp_path: Path) -> None:
    """Each version has the rows that it had, the newest is taken where none is named, and files that a later version
    has given up are read by none.
    """
    table = deltalake.DeltaTable
    write(tmp_path, pa.table({"x": [1, 2, 3], "y": ["a", "b", None]}))
    write(tmp_path, pa.table({"x": [4], "y": ["d"]}), mode="append")
    table(str(tmp_path)).delete("x = 2")
    write(tmp_path, pa.table({"x": [9], "y": ["z"]}), mode="overwrite")
    for version in (0, 1, 2, 3, None):
        expected = table(str(tmp_path), version=version).to_pyarrow_table().to_pylist()
        manifest = look(Dataset(str(tmp_path), format="delta", version=version))
        assert in_order(rows(manifest)) == in_order(expected)
        assert Stream(str(tmp_path), 1, format="delta", version=version, as_="numpy").manifest.id == manifest.id
    with pytest.raises(DataError, match=r"no version 7 [^\n]*\n *allowed: versions up to 3"):
        look(Dataset(str(tmp_path), format="delta", version=7))
    with pytest.raises(DataError, match="Delta Lake table cannot be read"):
        look(Dataset(str(tmp_path / "none"), format="delta", version=7))


def test_partitions_and_types(tmp_path: Path) -> None:
    """Columns that the table is partitioned by have the table's types and values, whatever is in them; a column that
    came later is null before, and the columns are in the table's order.
    """
    day, number = datetime.date(2024, 1, 2), decimal.Decimal("1.50")
    at = datetime.datetime(2024, 1, 2, 3, 4, 5, 600, tzinfo=datetime.UTC)
    columns = {
        "p": ["a b/c=d", "ä%", None],
        "x": [1, 2, 3],
        "i": pa.array([7, None, 8], pa.int32()),
        "d": [day, day, None],
        "n": [number, number, None],
        "at": [at, at, None],
        "f": [True, False, None],
    }
    write(tmp_path, pa.table(columns), partition_by=["p", "i", "d", "n", "at", "f"])
    more = pa.table({**{name: values[:1] for name, values in columns.items()}, "new": [1.5]})
    write(tmp_path, more, mode="append", schema_mode="merge")
    expected = deltalake.DeltaTable(str(tmp_path)).to_pyarrow_table()
    manifest = look(Dataset(str(tmp_path), format="delta"))
    key = str  # two rows are of one x
    assert sorted(rows(manifest), key=key) == sorted(expected.select(manifest.schema.names).to_pylist(), key=key)
    assert manifest.schema.names == expected.schema.names
    assert manifest.schema.field("d").type == pa.date32()
    only = look(Dataset(str(tmp_path), format="delta", columns=("x",)))
    assert only.schema.names == ["x"]
    with Stream(str(tmp_path), 4, format="delta", columns=["x", "p"], as_="numpy") as stream:
        (batch,) = list(stream)
        assert sorted(zip(batch["x"].tolist(), map(str, batch["p"]), strict=True)) == [
            (1, "a b/c=d"), (1, "a b/c=d"), (2, "ä%"), (3, "None"),
        ]  # fmt: skip


def test_deletion_vectors(tmp_path: Path) -> None:
    """A version with deletion vectors is refused before a row is read; the one before it is not."""
    write(tmp_path, pa.table({"x": [1, 2, 3]}))
    add = next(one for line in (tmp_path / "_delta_log" / f"{0:020}.json").open() if "add" in (one := json.loads(line)))
    vector = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 4, "sizeInBytes": 40}
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    changed(
        tmp_path,
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}},
        {"remove": {"path": add["add"]["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": {**add["add"], "deletionVector": {**vector, "cardinality": 1}}},
    )
    with pytest.raises(DataError, match="version 1 of the Delta Lake table has deletion vectors"):
        look(Dataset(str(tmp_path), format="delta"))
    assert len(rows(look(Dataset(str(tmp_path), format="delta", version=0)))) == 3


def test_column_mapping(tmp_path: Path) -> None:
    """A table whose files have other names for its columns is refused."""
    write(tmp_path, pa.table({"x": [1]}))
    lines = [json.loads(line) for line in (tmp_path / "_delta_log" / f"{0:020}.json").open()]
    told = next(one["metaData"] for one in lines if "metaData" in one)
    field = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-1"}
    schema = json.loads(told["schemaString"])
    schema["fields"][0]["metadata"] = field
    options = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "1"}
    changed(
        tmp_path,
        {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}},
        {"metaData": {**told, "schemaString": json.dumps(schema), "configuration": options}},
    )
    with pytest.raises(DataError, match=r"has column mapping \(by name\)"):
        look(Dataset(str(tmp_path), format="delta"))


@pytest.mark.parametrize("path", ["../out.parquet", "/etc/out.parquet", "file:///etc/out.parquet"])
def test_files_elsewhere(tmp_path: Path, path: str) -> None:
    """A log that names files outside of the table's folder is refused: whoever writes it could have others read
    them.
    """
    write(tmp_path / "t", pa.table({"x": [1]}))
    pq.write_table(pa.table({"x": [2]}), tmp_path / "out.parquet")
    size = (tmp_path / "out.parquet").stat().st_size
    add = {"path": path, "partitionValues": {}, "size": size, "modificationTime": 1, "dataChange": True}
    changed(tmp_path / "t", {"add": add})
    with pytest.raises(DataError, match="elsewhere|cannot be read"):
        look(Dataset(str(tmp_path / "t"), format="delta"))


def test_lost_files(tmp_path: Path) -> None:
    """A version whose files were removed is an error that says which, and of what version."""
    write(tmp_path, pa.table({"x": [1]}))
    for file in tmp_path.glob("*.parquet"):
        file.unlink()
    with pytest.raises(DataError, match=r"version 0 .* names a file that is gone"):
        look(Dataset(str(tmp_path), format="delta"))


def test_as_plain_files(tmp_path: Path) -> None:
    """The folder of a table that is given as plain files is refused, and the error says how it is read."""
    write(tmp_path / "d", pa.table({"x": [1]}))
    with pytest.raises(DataError, match="say format='delta'"):
        build(str(tmp_path / "d"))
    with pytest.raises(DataError, match="say format='iceberg'"):
        build(str(iceberg(tmp_path)[1]))


def test_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library of a table the error says which extra brings it."""
    monkeypatch.setattr("runner.code.extras._is_there", lambda module: module not in ("deltalake", "pyiceberg"))
    for format in ("delta", "iceberg"):
        with pytest.raises(MissingPackage, match=rf"lake-runner\[{format}\]"):
            look(Dataset(str(tmp_path), format=format))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_damaged_table_ends_nothing(tmp_path: Path, kind: str, count: int) -> None:
    """Whatever is changed in a table's metadata, it is read, or refused with a DataError that names it."""
    from pyiceberg.manifest import clear_manifest_cache

    if kind == "delta":
        folder = tmp_path / "d"
        for i in range(2):
            write(folder, pa.table({"x": [i], "p": ["a"]}), mode="append", partition_by=["p"])
        places = sorted((folder / "_delta_log").glob("*.json"))
    else:
        table, folder = iceberg(tmp_path)
        newest = Path(table.metadata_location.removeprefix("file://"))
        places = [newest, *sorted((folder / "metadata").glob("*.avro"))]
    refused = []
    for place in places:
        good = place.read_bytes()
        for seed in range(count // len(places)):
            place.write_bytes(damaged(good, good[::-1], seed))
            clear_manifest_cache()  # files of a table never change, so that pyiceberg keeps what it has read
            try:
                rows(look(Dataset(str(folder), format=kind)))
            except DataError as error:
                refused.append(str(error))
        place.write_bytes(good)
    assert refused
    assert all(str(folder) in error for error in refused)


# -- Iceberg ---------------------------------------------------------------------------------------------------------


def iceberg(folder: Path, table: pa.Table | None = None, **arguments: Any) -> tuple[Any, Path]:
    """A table of a catalog, with some rows, and its folder."""
    from pyiceberg.catalog.memory import InMemoryCatalog

    catalog = InMemoryCatalog("c", warehouse=f"file://{folder}/ice")
    catalog.create_namespace_if_not_exists("ns")
    data = table if table is not None else pa.table({"x": [1, 2, 3], "y": ["a", "b", None]})
    made = catalog.create_table("ns.t", schema=data.schema, **arguments)
    made.append(data)
    return made, folder / "ice" / "ns" / "t"


def test_snapshots(tmp_path: Path) -> None:
    """Each snapshot has the rows that it had, by the table's folder and by a metadata file's URL."""
    table, folder = iceberg(tmp_path)
    table.append(pa.table({"x": [4], "y": ["d"]}))
    table.delete("x = 2")
    table.overwrite(pa.table({"x": [9], "y": ["z"]}))
    for snapshot in [*(one.snapshot_id for one in table.metadata.snapshots), None]:
        expected = table.scan(snapshot_id=snapshot).to_arrow().to_pylist()
        if not expected:  # an overwrite is two snapshots, of which the first is empty
            continue
        for url in (str(folder), table.metadata_location.removeprefix("file://")):
            manifest = look(Dataset(url, format="iceberg", snapshot=snapshot))
            assert in_order(rows(manifest)) == in_order(expected)
    with pytest.raises(DataError, match="no snapshot 5") as raised:
        look(Dataset(str(folder), format="iceberg", snapshot=5))
    assert raised.value.allowed == ", ".join(str(one.snapshot_id) for one in table.metadata.snapshots[-5:])


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is read by a path from here too, though its metadata names its files by absolute ones."""
    _, folder = iceberg(tmp_path)
    write(tmp_path / "delta", pa.table({"x": [1]}))
    monkeypatch.chdir(folder.parent)
    assert len(rows(look(Dataset(folder.name, format="iceberg")))) == 3
    assert len(rows(look(Dataset("../../delta", format="delta")))) == 1


def test_columns_that_came_later(tmp_path: Path) -> None:
    """A column that was added is null before, a type that was widened is the wider one, and a column that was renamed
    is refused.
    """
    table, folder = iceberg(tmp_path, pa.table({"x": pa.array([1], pa.int32())}))
    from pyiceberg.types import LongType, StringType

    with table.update_schema() as update:
        update.add_column("y", StringType())
        update.update_column("x", LongType())
    assert rows(look(Dataset(str(folder), format="iceberg"))) == [{"x": 1, "y": None}]
    first = table.metadata.snapshots[0].snapshot_id
    assert rows(look(Dataset(str(folder), format="iceberg", snapshot=first))) == [{"x": 1}]
    table.append(pa.table({"x": [2**40], "y": ["b"]}))
    expected = [{"x": 1, "y": None}, {"x": 2**40, "y": "b"}]
    assert in_order(rows(look(Dataset(str(folder), format="iceberg")))) == expected
    with table.update_schema() as update:
        update.rename_column("y", "z")
    with pytest.raises(DataError, match="renamed or replaced"):
        look(Dataset(str(folder), format="iceberg"))


def test_partitioned(tmp_path: Path) -> None:
    """Partitions are read, for the files hold their columns."""
    from pyiceberg.catalog.memory import InMemoryCatalog
    from pyiceberg.transforms import IdentityTransform

    data = pa.table({"x": [1, 2, 3], "p": ["a b", "c/d", None], "at": pa.array([0, 10**12, None], pa.timestamp("us"))})
    catalog = InMemoryCatalog("c", warehouse=f"file://{tmp_path}/ice")
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=data.schema)
    with table.update_spec() as update:
        update.add_field("p", IdentityTransform())
        update.add_field("at", IdentityTransform())
    table.append(data)
    assert in_order(rows(look(Dataset(str(tmp_path / "ice/ns/t"), format="iceberg")))) == data.to_pylist()


def test_files_without_their_partition(tmp_path: Path) -> None:
    """A file of Hive that was added to a table as it was has its partition's value from the table."""
    from pyiceberg.catalog.memory import InMemoryCatalog
    from pyiceberg.transforms import IdentityTransform

    def write(columns: dict[str, Any]) -> int:
        plain = {"compression": "none", "use_dictionary": False, "write_statistics": ["p", "d"], "store_schema": False}
        pq.write_table(pa.table(columns), file, **plain)
        return file.stat().st_size

    catalog = InMemoryCatalog("c", warehouse=f"file://{tmp_path}/ice")
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=pa.schema([("x", pa.string()), ("p", pa.string()), ("d", pa.date32())]))
    with table.update_spec() as update:
        update.add_field("p", IdentityTransform())
        update.add_field("d", IdentityTransform())
    file = tmp_path / "ice" / "ns" / "t" / "data" / "a.parquet"
    file.parent.mkdir(parents=True)
    day = datetime.date(2024, 1, 2)
    size = write({"x": ["a"], "p": ["v"], "d": [day]})
    table.add_files([f"file://{file}"])
    dataset = Dataset(str(tmp_path / "ice" / "ns" / "t"), format="iceberg")
    assert rows(look(dataset)) == [{"x": "a", "p": "v", "d": day}]
    shorter = write({"x": ["a"]})
    long = "a" * (1 + size - shorter)
    while write({"x": [long]}) > size:  # a file of the very size that the table knows
        long = long[1:]
    assert file.stat().st_size == size
    assert rows(look(dataset)) == [{"x": long, "p": "v", "d": day}]


def test_moved(tmp_path: Path) -> None:
    """A table whose metadata names files elsewhere is refused, also where they are there: metadata that somebody else
    writes leads nobody to other files.
    """
    _, folder = iceberg(tmp_path)
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(DataError, match="a file of the table elsewhere"):
        look(Dataset(str(tmp_path / "copy"), format="iceberg"))


def with_deletes(table: Any, *, equality: bool) -> None:
    """One more snapshot, which pyiceberg does not write: as the one before, with a file of deletes."""
    from pyiceberg import manifest

    class Deletes(manifest.ManifestWriterV2):
        def content(self) -> manifest.ManifestContent:
            return manifest.ManifestContent.DELETES

        @property
        def _meta(self) -> dict[str, str]:
            return {**super()._meta, "content": "deletes"}

    location = table.location()
    said = json.loads(Path(table.metadata_location.removeprefix("file://")).read_text())
    last, number = said["snapshots"][-1], said["last-sequence-number"] + 1
    kind = manifest.DataFileContent.EQUALITY_DELETES if equality else manifest.DataFileContent.POSITION_DELETES
    file = manifest.DataFile.from_args(
        content=kind,
        file_path=f"{location}/data/deletes.parquet",
        file_format=manifest.FileFormat.PARQUET,
        partition=manifest.Record(),
        record_count=1,
        file_size_in_bytes=100,
        equality_ids=[1] if equality else None,
    )
    file.spec_id = 0
    entry = manifest.ManifestEntry.from_args(
        status=manifest.ManifestEntryStatus.ADDED, snapshot_id=7, sequence_number=number, data_file=file
    )
    output = table.io.new_output(f"{location}/metadata/deletes-m0.avro")
    with Deletes(table.spec(), table.schema(), output, 7, "deflate") as writer:
        writer.add_entry(entry)
    manifests = [*table.current_snapshot().manifests(table.io), writer.to_manifest_file()]
    listed = f"{location}/metadata/snap-7.avro"
    with manifest.write_manifest_list(2, table.io.new_output(listed), 7, last["snapshot-id"], number, "deflate") as out:
        out.add_manifests(manifests)
    said["snapshots"].append({**last, "snapshot-id": 7, "sequence-number": number, "manifest-list": listed})
    said |= {"current-snapshot-id": 7, "last-sequence-number": number}
    said["refs"]["main"]["snapshot-id"] = 7
    newest = Path(table.metadata_location.removeprefix("file://"))
    newest.with_name("00099-0aaaaaaa-0000-0000-0000-000000000000.metadata.json").write_text(json.dumps(said))


@pytest.mark.parametrize("equality", [False, True])
def test_deletes(tmp_path: Path, equality: bool) -> None:
    """A snapshot with deletes beside its files is refused before a row is read; the one before it is not."""
    table, folder = iceberg(tmp_path)
    before = table.current_snapshot().snapshot_id
    with_deletes(table, equality=equality)
    with pytest.raises(DataError, match=r"snapshot 7 .* has (deletes beside its files|equality deletes)"):
        look(Dataset(str(folder), format="iceberg"))
    assert len(rows(look(Dataset(str(folder), format="iceberg", snapshot=before)))) == 3


def test_metadata_names_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table's own properties do not decide which code opens its files."""
    table, folder = iceberg(tmp_path)
    newest = Path(table.metadata_location.removeprefix("file://"))
    said = json.loads(newest.read_text())
    said["properties"]["py-io-impl"] = "os.system"
    newest.write_text(json.dumps(said))
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("it ran"))
    assert len(rows(look(Dataset(str(folder), format="iceberg")))) == 3


def test_no_columns(tmp_path: Path) -> None:
    """A table whose schema has no column is refused."""
    table, folder = iceberg(tmp_path)
    newest = Path(table.metadata_location.removeprefix("file://"))
    said = json.loads(newest.read_text())
    said["schemas"][0]["fields"] = []
    newest.write_text(json.dumps(said))
    with pytest.raises(DataError, match="columns that cannot be read"):
        look(Dataset(str(folder), format="iceberg"))


def test_several_newest(tmp_path: Path) -> None:
    """Where two metadata files may be the current one the table is refused, and a file's URL decides."""
    table, folder = iceberg(tmp_path)
    newest = Path(table.metadata_location.removeprefix("file://"))
    other = newest.with_name(f"{newest.name[:6]}0aaaaaaa-0000-0000-0000-000000000000.metadata.json")
    shutil.copy(newest, other)
    with pytest.raises(DataError, match="2 metadata files that may be the current one"):
        look(Dataset(str(folder), format="iceberg"))
    assert len(rows(look(Dataset(str(newest), format="iceberg")))) == 3
    (folder / "metadata" / "version-hint.text").write_text(newest.name)
    assert len(rows(look(Dataset(str(folder), format="iceberg")))) == 3

"""Files that cannot be read are refused by name, before anything decodes them; none ends the process."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from runner import Stream
from runner.data.manifest import build
from runner.errors import DataError


class Kms(pe.KmsClient):  # type: ignore[misc]
    """Keeps keys in the open."""

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64decode(key)


@pytest.mark.parametrize(("plain", "words"), [(True, "encrypted columns"), (False, "an encrypted footer")])
def test_encrypted(tmp_path: Path, plain: bool, words: str) -> None:
    """An encrypted Parquet file is refused by its footer; to ask for more would end the process."""
    table = pa.table({"x": [1, 2], "secret": [3, 4]})
    keys = pe.EncryptionConfiguration(footer_key="f", column_keys={"k": ["secret"]}, plaintext_footer=plain)
    properties = pe.CryptoFactory(lambda _: Kms()).file_encryption_properties(pe.KmsConnectionConfig(), keys)
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=rf"a\.parquet: {words}"):
        build(str(tmp_path))


def union(kind: str) -> pa.Array:
    types = pa.array([0, 1], pa.int8())
    if kind == "sparse":
        return pa.UnionArray.from_sparse(types, [pa.array([1, 2]), pa.array(["a", "b"])])
    return pa.UnionArray.from_dense(types, pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["b"])])


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("nested", [False, True])
def test_unions(tmp_path: Path, kind: str, nested: bool) -> None:
    """Unions are read from files with empty batches; pyarrow's own count of their bytes would end the process."""
    column = union(kind)
    empty = pa.RecordBatch.from_arrays([column], ["u"]).slice(0, 0)
    if nested:
        column = pa.ListArray.from_arrays(pa.array([0, 2, 2], pa.int32()), column)
        empty = pa.RecordBatch.from_arrays([pa.ListArray.from_arrays([0, 0, 0], column.values.slice(0, 0))], ["u"])
    batch = pa.RecordBatch.from_arrays([column], ["u"])
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        for one in (batch, empty, batch):
            writer.write_batch(one)
    found = [value for one in Stream(str(tmp_path), 1, shuffle=False) for value in one["u"]]
    assert found == column.to_pylist() + empty.column(0).to_pylist() + column.to_pylist()


def test_which_columns_are_broken(tmp_path: Path) -> None:
    """A damaged page is an error that names the column; the others can be read."""
    path = tmp_path / "a.parquet"
    table = pa.table({"a": list(range(1000)), "b": list(range(1000)), "c": list(range(1000))})
    pq.write_table(table, path, write_page_checksum=True, use_dictionary=False)
    start = pq.read_metadata(path).row_group(0).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start + 300] ^= 255
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.parquet .unit 0.: .*column 'b'"):
        list(Stream(str(path), 10))
    assert len(list(Stream(str(path), 10, columns=["a", "c"]))) == 100


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([{"t": 10**15}], pa.struct([("t", pa.timestamp("ms"))])), "a value that Python cannot hold"),
        (pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers()), "a value that Python cannot hold"),
        (pa.array([None], pa.int64()), "1 nulls"),
        (pa.array([None], pa.list_(pa.int64())), "1 nulls"),
    ],
)
def test_values_that_cannot_be_had(tmp_path: Path, column: pa.Array, words: str) -> None:
    """A value that has no form in a batch is an error with file, unit and column."""
    good = pa.nulls(0, column.type)
    for name, part in (("a", pa.array([1], pa.int64())), ("b", pa.array([2], pa.int64()))):
        good = pa.array([{}], column.type) if pa.types.is_struct(column.type) else pa.nulls(0, column.type)
        rows = column if name == "b" else good
        pq.write_table(pa.table({"v": rows, "x": part.slice(0, len(rows))}), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=rf"b\.parquet .unit 0.: column 'v': {words}"):
        list(Stream(str(tmp_path), 1, tail="wrap"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.feather", b"FEA1" + bytes(100), "Feather version 1"),
        ("a.parquet", b"", "it cannot be decoded"),
        ("a.parquet", b"just text, of some length", "it cannot be decoded"),
        ("a.arrow", b"just text, of some length", "it cannot be decoded"),
        ("a.arrows", b"", "it cannot be decoded"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """A file that is not what its ending says is refused by name."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: {words}"):
        build(str(tmp_path))


def test_a_choice_of_columns_decodes_only_them(tmp_path: Path) -> None:
    """Of a compressed Arrow file only the columns asked for are decoded, so that another may be damaged."""
    table: Any = pa.table({"a": list(range(1000)), "b": ["some text"] * 1000})
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    manifest = build(str(path))
    assert [batch.schema.names for batch in manifest.read(0, columns=["b"])] == [["b"]]
    assert [batch.num_rows for batch in manifest.read(0, columns=[])] == [1000]

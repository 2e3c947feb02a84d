"""Data runs no code: extension types are replaced by their storage before pyarrow hears of them."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import runner
from runner.data.manifest import Manifest, build
from runner.errors import DataError
from runner.prep.files import OutputFile
from runner.prep.ray_data import _Reading
from runner.prep.stage import run_prep
from runner.prep.tasks import plan_tasks
from runner.spec import Dataset, Prep
from runner.worker.pool.base import InlinePool
from tests.unit.data import hostile_kit
from tests.unit.data.hostile_kit import METADATA, NAME, marked_table, registered, trapped, trapped_columns, write
from tests.unit.prep.kit import make_scope, rows_of

COLUMNS = trapped_columns()


@pytest.mark.parametrize("column", COLUMNS)
def test_pyarrow_alone_runs_the_code(tmp_path: Path, column: str) -> None:
    """What is refused here is what pyarrow does with these files."""
    field, array = COLUMNS[column]
    path = write(marked_table(field, array), tmp_path / "a.parquet")
    with registered() as called:
        pq.read_table(path)
    assert called


@pytest.mark.parametrize("where", ["disk", "memory"])
@pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows"])
@pytest.mark.parametrize("column", COLUMNS)
def test_no_code_of_a_type_runs(tmp_path: Path, column: str, ending: str, where: str) -> None:
    """Wherever in a column the type is, reading gives the storage, and nothing of the type is called."""
    field, array = COLUMNS[column]
    path = write(marked_table(field, array), tmp_path / f"a.{ending}")
    url = str(path)
    if where == "memory":
        url = f"memory://extension/{column}.{ending}"
        fsspec.filesystem("memory").pipe(url, path.read_bytes())
    with registered() as called:
        manifest = build(url)
        found = pa.Table.from_batches(list(manifest.read(0)), schema=manifest.schema)
        batches = list(runner.Stream(manifest, batch_size=1, shuffle=False))
        assert str(found.schema) == str(manifest.schema)
    assert called == []
    assert found.column("v").to_pylist() == array.to_pylist()
    assert len(batches) == 2


def identity(batch: Any, config: Any) -> Any:
    return batch


@pytest.mark.parametrize("form", ["arrow", "pandas", "numpy", "rows"])
def test_no_code_of_a_type_runs_in_a_prep(tmp_path: Path, form: str) -> None:
    """A preparation gives its function the storage in every form, writes it, and another process reads it."""
    for number, (field, array) in enumerate(COLUMNS.values()):
        write(marked_table(field, array), tmp_path / f"{number}.parquet")
        stage = Prep(
            "p", fn=identity, source=Dataset(str(tmp_path / f"{number}.parquet")), sink=f"b{number}", batch_format=form
        )
        with registered() as called:
            run_prep(stage, make_scope(tmp_path / "store", stage, run=f"r261123-181119k4-p-x{number}"), InlinePool())
            found = rows_of(tmp_path / "store", f"b{number}")
        assert called == []
        assert found.column("v").to_pylist() == array.to_pylist()
        (written,) = (tmp_path / "store/datasets").glob(f"b{number}/data/*")
        assert NAME not in (pq.read_schema(written).field("v").metadata or {})


def test_what_a_store_says_of_schemas_runs_no_code() -> None:
    """The schemas of manifests and of tasks' records are read in the same way."""
    schema = pa.schema([trapped("v"), pa.field("l", pa.list_(trapped("i")))])
    data = schema.serialize().to_pybytes()
    head = {"version": 1, "base": "", "options": {}, "lanes": 1, "block_bytes": 1}
    sink = pa.BufferOutputStream()
    from runner.data import stored_manifest

    table = stored_manifest.TABLE.empty_table().replace_schema_metadata(
        {stored_manifest.KEY: json.dumps({**head, "schema": base64.b64encode(data).decode()})}
    )
    pq.write_table(table, sink)
    file = OutputFile(
        "a.parquet", "_versions/r261123-181119k4-p-x1-1", 1, 1, "", "", [], base64.b64encode(data).decode(), ""
    )
    with registered() as called:
        assert str(Manifest.from_bytes(sink.getvalue().to_pybytes()).schema.field("v").type) == "binary"
        assert str(file.arrow_schema.field("v").type) == "binary"
    assert called == []


def test_a_footer_that_hides_the_type(tmp_path: Path) -> None:
    """A footer that has the schema twice, or its value before its key, makes no type; a badly encoded one refused."""
    field, array = COLUMNS["plain"]
    write(marked_table(field, array), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    body, footer = data[4 : -8 - length], data[-8 - length : -8]
    stored = pq.read_metadata(tmp_path / "a.parquet").metadata[b"ARROW:schema"]
    at, behind = footer.index(b"ARROW:schema"), footer.index(stored)
    harmless = base64.b64encode(pa.schema([("x", pa.int64()), ("v", pa.binary())]).serialize().to_pybytes())
    key = lambda text: b"\x18" + hostile_kit.varint(len(text)) + text  # noqa: E731
    entries = {
        "twice": [key(b"ARROW:schema") + key(harmless) + b"\0", key(b"ARROW:schema") + key(stored) + b"\0"],
        "after": [key(b"ARROW:schema") + key(stored) + b"\0", key(b"ARROW:schema") + key(harmless) + b"\0"],
        "reversed": [b"\x28" + key(stored)[1:] + b"\x08\x02" + key(b"ARROW:schema")[1:] + b"\0"],
        "decoy": [
            b"\x28" + key(stored)[1:] + b"\x08\x02" + key(b"ARROW:schema")[1:] + b"\0",
            key(b"other") + key(b"ARROW:schema" + key(harmless)) + b"\0",
        ],
        "noise": [key(b"ARROW:schema") + key(stored[:8] + b"\n!" + stored[8:]) + b"\0"],
    }
    start = footer.rindex(b"\x19\x1c", 0, at)  # a list of one struct
    rest = footer[behind + len(stored) + 1 :]
    for name, made in entries.items():
        changed = footer[:start] + b"\x19" + bytes([len(made) << 4 | 12]) + b"".join(made) + rest
        (tmp_path / f"{name}.parquet").write_bytes(hostile_kit.parquet_file(changed, body))
        with registered() as called:
            if name == "noise":
                with pytest.raises(DataError, match="schema that its writer kept"):
                    build(str(tmp_path / "noise.parquet"))
                continue
            manifest = build(str(tmp_path / f"{name}.parquet"))
            rows = [row for batch in manifest.read(0) for row in batch.to_pylist()]
        assert called == [], name
        assert rows == [{"x": 1, "v": b"a"}, {"x": 2, "v": b"b"}], name


def test_an_arrow_file_that_hides_the_type(tmp_path: Path) -> None:
    """A dictionary block that points at the footer itself brings the type back no more than the footer does."""
    field, array = COLUMNS["dictionary"]
    path = write(marked_table(field, array), tmp_path / "a.arrow")
    data = bytearray(path.read_bytes())
    footer = len(data) - 10 - int.from_bytes(data[-10:-6], "little")
    for at in range(footer, len(data) - 24):
        place = int.from_bytes(data[at : at + 8], "little")
        if 0 < place < footer and data[place : place + 4] == b"\xff\xff\xff\xff":
            data[at : at + 8] = footer.to_bytes(8, "little")
            break
    path.write_bytes(data)
    with registered() as called, pytest.raises(DataError, match=r"a\.arrow"):
        build(f"file://{path}")
    assert called == []


def test_pickles_of_ray_stay_bytes(tmp_path: Path) -> None:
    """What Ray would unpickle is read as the bytes that it is, in a process that has imported Ray Data too."""
    import ray.data  # noqa: F401

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    data = pickle.dumps(Bomb())
    marks = {NAME: b"ray.data.arrow_pickled_object", METADATA: b""}
    schema = pa.schema([pa.field("v", pa.large_binary(), metadata=marks)])
    for ending in ("parquet", "arrow"):
        write(pa.Table.from_arrays([pa.array([data], pa.large_binary())], schema=schema), tmp_path / f"a.{ending}")
        batches = list(runner.Stream(str(tmp_path / f"a.{ending}"), batch_size=1))
        assert batches[0]["v"] == [data]
    assert not (tmp_path / "ran").exists()


TENSORS = np.arange(12).reshape(2, 3, 2)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize(
    ("name", "told", "storage"),
    [
        (b"arrow.fixed_shape_tensor", b'{"shape": [3, 2]}', pa.list_(pa.int64(), 6)),
        (b"ray.data.arrow_tensor", b"[3, 2]", pa.list_(pa.int64())),
        (b"ray.data.arrow_tensor_v2", b"[3, 2]", pa.large_list(pa.int64())),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_tensors_have_their_shape(
    tmp_path: Path, name: bytes, told: bytes, storage: pa.DataType, ending: str, nested: bool
) -> None:
    """A tensor of Arrow's or of Ray's is read with its shape, whether or not anybody has registered its type, also
    where some are null; what says something else of its shape is read as lists."""
    rows = [TENSORS[0].ravel().tolist(), None, TENSORS[1].ravel().tolist()]
    for told_here, expected in (
        (told, [TENSORS[0].tolist(), None, TENSORS[1].tolist()]),
        (b"[7]" if storage.num_fields and pa.types.is_fixed_size_list(storage) else b"\x80\x05K\x01.", rows),
        (b"[" * 5000, rows),
        (b"[0, 2]", rows),
    ):
        field = pa.field("v", storage, metadata={NAME: name, METADATA: told_here})
        array = pa.array(rows, storage)
        if nested:
            field, array = pa.field("s", pa.struct([field])), pa.StructArray.from_arrays([array], fields=[field])
        path = write(pa.Table.from_arrays([array], schema=pa.schema([field])), tmp_path / f"a.{ending}")
        found = [row for batch in build(str(path)).read(0) for row in batch.to_pylist()]
        assert found == [{"s": {"v": value}} if nested else {"v": value} for value in expected]


def test_a_tensor_of_another_size(tmp_path: Path) -> None:
    """A row that has not the values of its shape is an error, though all rows together had as many."""
    marks = {NAME: b"ray.data.arrow_tensor", METADATA: b"[2]"}
    field = pa.field("v", pa.list_(pa.int64()), metadata=marks)
    write(pa.Table.from_arrays([pa.array([[1], [2, 3, 4]])], schema=pa.schema([field])), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="a tensor that has not the 2 values of its shape"):
        list(build(str(tmp_path)).read(0))


@pytest.mark.parametrize("column", COLUMNS)
def test_what_ray_data_is_given(tmp_path: Path, column: str) -> None:
    """The blocks that a whole-dataset stage gives to Ray Data hold the storage."""
    field, array = COLUMNS[column]
    write(marked_table(field, array), tmp_path / "a.parquet")
    with registered() as called:
        manifest = build(str(tmp_path))
        blocks = [block for task in plan_tasks(manifest, "") for block in _Reading(manifest, task)()]
        assert "extension" not in str(pa.concat_tables(blocks).schema)
    assert called == []
    assert pa.concat_tables(blocks).column("v").to_pylist() == array.to_pylist()

"""Every kind of file that pyarrow writes, as cases of the sweep."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 40


def columns() -> dict[str, pa.Array]:
    """A column of each type that Parquet can hold, some with nulls, of ROWS rows."""
    numbers = list(range(ROWS))
    some = [None if i % 7 == 3 else i for i in numbers]
    days = [dt.date(2000, 1, 1) + dt.timedelta(i) for i in numbers]
    times = [dt.datetime(2000, 1, 1, 12, 30, 1, 123_000) + dt.timedelta(hours=i) for i in numbers]
    text = [f"text {i % 5} é" for i in numbers]
    found: dict[str, pa.Array] = {
        f"{kind}": pa.array(numbers, kind)
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    }
    found |= {
        "large": pa.array([2**63 + i for i in numbers], pa.uint64()),
        "nullable": pa.array(some, pa.int64()),
        "half": pa.array(np.arange(ROWS, dtype=np.float16)),
        "single": pa.array([i / 3 for i in numbers], pa.float32()),
        "double": pa.array([float("nan") if i == 2 else None if i == 5 else i / 3 for i in numbers], pa.float64()),
        "flag": pa.array([i % 3 == 0 for i in numbers]),
        "string": pa.array(text),
        "large_string": pa.array(text, pa.large_string()),
        "binary": pa.array([bytes([i, 255 - i]) for i in numbers]),
        "fixed": pa.array([bytes([i, 1, 2]) for i in numbers], pa.binary(3)),
        "decimal": pa.array([Decimal(i) / 100 for i in numbers], pa.decimal128(9, 2)),
        "long_decimal": pa.array([Decimal(10**37 + i) for i in numbers], pa.decimal128(38, 0)),
        "decimal256": pa.array([Decimal(10**60 + i) for i in numbers], pa.decimal256(70, 0)),
        "date": pa.array(days),
        "time_ms": pa.array([time.time() for time in times], pa.time32("ms")),
        "time_us": pa.array([time.time() for time in times], pa.time64("us")),
        "timestamp_ms": pa.array(times, pa.timestamp("ms")),
        "timestamp_us": pa.array(times, pa.timestamp("us")),
        "zoned": pa.array(times, pa.timestamp("us", "Europe/Berlin")),
        "nothing": pa.nulls(ROWS),
        "words": pa.array(text).dictionary_encode(),
        "lists": pa.array([list(range(i % 4)) for i in numbers]),
        "null_lists": pa.array([None if i % 5 == 0 else [None, i] for i in numbers]),
        "nested": pa.array([[{"a": i, "b": [f"{i}"]}] * (i % 3) for i in numbers]),
        "struct": pa.array([None if i == 4 else {"item": i, "list": {"x": None}} for i in numbers]),
        "map": pa.array([[(f"k{i}", i)] for i in numbers], pa.map_(pa.string(), pa.int64())),
        "vectors": pa.FixedSizeListArray.from_arrays(pa.array(range(3 * ROWS), pa.float32()), 3),
        "dotted.name": pa.array(numbers),
        "": pa.array(numbers),
    }
    return found


def table(nanoseconds: bool = True) -> pa.Table:
    """All of them."""
    found = columns()
    if nanoseconds:
        times = pa.array([10**18 + i for i in range(ROWS)], pa.int64())
        found |= {
            "timestamp_ns": times.view(pa.timestamp("ns")),
            "time_ns": pa.array([i + 1 for i in range(ROWS)], pa.time64("ns")),
        }
    return pa.table(found)


def only_ipc() -> dict[str, pa.Array]:
    """Columns of types that only Arrow's own files hold."""
    numbers = list(range(ROWS))
    return {
        "view": pa.array([f"text {i} that is longer than twelve bytes" for i in numbers], pa.string_view()),
        "binary_view": pa.array([bytes([i]) * 20 for i in numbers], pa.binary_view()),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([10, ROWS], pa.int32()), pa.array(["a", "b"])),
        "duration": pa.array([dt.timedelta(seconds=i) for i in numbers]),
        "interval": pa.array([pa.MonthDayNano([1, i, 3]) for i in numbers]),
        "list_view": pa.array([[i] * (i % 3) for i in numbers], pa.list_view(pa.int64())),
        "large_list": pa.array([[i] * (i % 3) for i in numbers], pa.large_list(pa.int64())),
        "sparse_union": pa.UnionArray.from_sparse(
            pa.array([i % 2 for i in numbers], pa.int8()), [pa.array(numbers), pa.array(list(map(str, numbers)))]
        ),
        "date64": pa.array([dt.date(2000, 1, 1)] * ROWS, pa.date64()),
        "seconds": pa.array([dt.time(1, 2, 3)] * ROWS, pa.time32("s")),
        "timestamp_s": pa.array([dt.datetime(2000, 1, 1)] * ROWS, pa.timestamp("s")),
        "tensors": pa.FixedShapeTensorArray.from_numpy_ndarray(
            np.arange(4 * ROWS, dtype=np.float32).reshape(ROWS, 2, 2)
        ),
    }


Writes = Callable[[Path], Any]


def parquet_cases(small: bool) -> dict[str, Writes]:
    """Name -> what writes the files into the data folder."""
    whole = table()
    cases: dict[str, Writes] = {}

    def case(name: str, rows: pa.Table = whole, **options: Any) -> None:
        cases[f"parquet-{name}"] = lambda folder: pq.write_table(rows, folder / "a.parquet", **options)

    for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
        case(f"codec-{codec}", compression=codec)
    for version, page in itertools.product(("1.0", "2.4", "2.6"), ("1.0", "2.0")):
        case(f"version-{version}-page-{page}", table(version == "2.6"), version=version, data_page_version=page)
    case("plain", use_dictionary=False)
    case("small-pages", data_page_size=64, write_batch_size=4, dictionary_pagesize_limit=64)
    case("page-index", write_page_index=True, write_page_checksum=True)
    case("no-arrow-schema", store_schema=False)
    case("no-statistics", write_statistics=False)
    case("small-groups", row_group_size=3)
    case("empty", whole.slice(0, 0))
    case("no-columns", whole.select([]))
    case("int96", whole.select(["timestamp_us", "timestamp_ns"]), use_deprecated_int96_timestamps=True)
    case("int96-no-schema", whole.select(["timestamp_us"]), use_deprecated_int96_timestamps=True, store_schema=False)
    case("not-compliant-nested", use_compliant_nested_type=False)
    if small:
        return cases
    for encoding, names in {
        "DELTA_BINARY_PACKED": ["int32", "int64"],
        "DELTA_LENGTH_BYTE_ARRAY": ["string", "binary"],
        "DELTA_BYTE_ARRAY": ["string", "binary", "fixed"],
        "BYTE_STREAM_SPLIT": ["single", "double", "int32", "fixed"],
        "RLE": ["flag"],
        "PLAIN": ["int64", "string", "flag"],
    }.items():
        rows = whole.select(names)
        case(f"encoding-{encoding}", rows, use_dictionary=False, column_encoding=dict.fromkeys(names, encoding))
        case(
            f"encoding-{encoding}-v2",
            rows,
            use_dictionary=False,
            data_page_version="2.0",
            row_group_size=7,
            column_encoding=dict.fromkeys(names, encoding),
        )
    for name in whole.schema.names:
        case(f"column-{name}", whole.select([name]), row_group_size=9)
        case(f"empty-{name}", whole.select([name]).slice(0, 0))
        case(f"sliced-{name}", whole.select([name]).slice(5, 11))
    cases["parquet-empty-groups"] = lambda folder: _groups(folder / "a.parquet", whole)
    cases["parquet-many-files"] = lambda folder: [
        pq.write_table(whole.slice(i, i % 3), folder / f"{i:02}.parquet") for i in range(12)
    ]
    cases["parquet-partitioned"] = lambda folder: pq.write_to_dataset(
        pa.table({"x": range(20), "k": ["a", "b c", "d=e", "ü", "01"] * 4}), folder, partition_cols=["k"]
    )
    cases["parquet-huge-footer"] = lambda folder: pq.write_table(
        pa.table({f"c{i}": [1, 2] for i in range(3000)}), folder / "a.parquet", row_group_size=1
    )
    return cases


def _groups(path: Path, rows: pa.Table) -> None:
    with pq.ParquetWriter(path, rows.schema) as writer:
        for start, stop in ((0, 0), (0, 5), (5, 5), (5, 40), (40, 40)):
            writer.write_table(rows.slice(start, stop - start))


def ipc_cases(small: bool) -> dict[str, Writes]:
    """Name -> what writes the files into the data folder."""
    most = {name: column for name, column in only_ipc().items() if name not in ("interval", "sparse_union")}
    whole = pa.table({**dict(zip(table().schema.names, table().columns, strict=True)), **most})
    cases: dict[str, Writes] = {}

    def case(name: str, rows: pa.Table, stream: bool = False, chunk: int = 9, **options: Any) -> None:
        ending = "arrows" if stream else "arrow"
        cases[f"ipc-{name}"] = lambda folder: _ipc(folder / f"a.{ending}", rows, stream, chunk, **options)

    for stream, codec in itertools.product((False, True), (None, "lz4", "zstd")):
        case(f"{'stream' if stream else 'file'}-{codec}", whole, stream, compression=codec)
    case("unified", whole, unify_dictionaries=True)
    case("deltas", whole.select(["words"]), True, emit_dictionary_deltas=True)
    case("empty", whole.slice(0, 0))
    case("empty-stream", whole.slice(0, 0), True)
    case("version-4", table(), metadata_version=pa.ipc.MetadataVersion.V4)
    growing = [pa.array(["a", "b", "c"][: i + 1]).dictionary_encode() for i in range(3)]
    cases["ipc-growing-dictionaries"] = lambda folder: _batches(folder / "a.arrow", growing, False, True)
    cases["ipc-replaced-dictionaries"] = lambda folder: _batches(folder / "a.arrows", growing[::-1], True, False)
    if not small:
        every = pa.table({**dict(zip(table().schema.names, table().columns, strict=True)), **only_ipc()})
        for name in every.schema.names:
            case(f"column-{name}", every.select([name]), compression="zstd")
            case(f"sliced-{name}", every.select([name]).slice(5, 11), True)
    return cases


def _ipc(path: Path, rows: pa.Table, stream: bool, chunk: int, **options: Any) -> None:
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with (
        pa.OSFile(str(path), "wb") as sink,
        make(sink, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer,
    ):
        writer.write_table(rows, max_chunksize=chunk)


def _batches(path: Path, arrays: list[pa.Array], stream: bool, deltas: bool) -> None:
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    schema = pa.schema([("words", arrays[0].type)])
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
    with pa.OSFile(str(path), "wb") as sink, make(sink, schema, options=options) as writer:
        for array in arrays:
            writer.write_batch(pa.RecordBatch.from_arrays([array], schema=schema))


def damaged_cases() -> dict[str, Writes]:
    """Good files made bad: cut, emptied, of another ending, with flipped bytes all over."""
    rows = table().select(["int64", "string", "lists", "struct", "words"])

    def change(name: str, alter: Callable[[bytes], bytes]) -> Writes:
        def write(folder: Path) -> None:
            path = folder / name
            if name.endswith("parquet"):
                pq.write_table(rows, path, write_page_checksum=True)
            else:
                _ipc(path, rows, name.endswith("arrows"), 9)
            path.write_bytes(alter(path.read_bytes()))

        return write

    cases: dict[str, Writes] = {}
    for name in ("a.parquet", "a.arrow", "a.arrows"):
        kind = name[2:]
        cases[f"damaged-{kind}-zeros"] = change(name, lambda data: bytes(len(data)))
        cases[f"damaged-{kind}-empty"] = change(name, lambda _: b"")
        cases[f"damaged-{kind}-text"] = change(name, lambda data: b"some text\n" * 100)
        for part in range(1, 8):
            cases[f"damaged-{kind}-cut-{part}"] = change(name, lambda data, part=part: data[: len(data) * part // 8])  # type: ignore[misc]
        for seed in range(40):
            cases[f"damaged-{kind}-flip-{seed}"] = change(name, lambda data, seed=seed: _flipped(data, seed))  # type: ignore[misc]
    return cases


def _flipped(data: bytes, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    changed = bytearray(data)
    for place in random.integers(0, len(data), 1 + seed % 3).tolist():
        changed[place] ^= int(random.integers(1, 256))
    return bytes(changed)


def write(cases: dict[str, Writes], root: Path) -> list[Path]:
    """Writes the cases; one that pyarrow itself does not write is left out. Returns their folders."""
    folders = []
    for name, writes in cases.items():
        folder = root / name.replace("/", "_")
        (folder / "data").mkdir(parents=True)
        try:
            writes(folder / "data")
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            continue
        folders.append(folder)
    return folders

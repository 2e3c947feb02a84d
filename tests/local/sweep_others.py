"""Every kind of file that DuckDB, Polars and Spark write, and text as others write it, as cases of the sweep."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import itertools
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

Writes = Callable[[Path], Any]
ROWS = 30

#: Rows whose values CSV and JSON can both say.
PLAIN = [
    {
        "id": i,
        "big": 2**53 + i,
        "text": f'line {i}\nwith "quotes", é' if i % 3 else "",
        "flag": i % 2 == 0,
        "score": i / 8,
        "code": f"{i:05}",
        "maybe": None if i % 4 == 1 else i,
        "day": "2024-02-29",
    }
    for i in range(ROWS)
]


def expect(folder: Path, rows: pa.Table) -> None:
    """Says what the rows of a case are, where pyarrow is not to be asked."""
    with pa.OSFile(str(folder.parent / "expected.arrow"), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)


def text_cases() -> dict[str, Writes]:
    """CSV, JSON lines and text of Python's own writers, compressed and cut in several ways."""
    rows = pa.Table.from_pylist([{**row, "day": dt.date(2024, 2, 29)} for row in PLAIN])
    lines = pa.Table.from_pylist(PLAIN)
    cases: dict[str, Writes] = {}

    def csv_case(name: str, ending: str = "csv", **options: Any) -> None:
        def write(folder: Path) -> None:
            sink = io.StringIO()
            writer = csv.DictWriter(sink, list(PLAIN[0]), **options)
            writer.writeheader()
            writer.writerows(PLAIN)
            (folder / f"a.{ending}").write_bytes(sink.getvalue().encode("utf-8-sig" if name == "bom" else "utf-8"))
            expect(folder, rows)

        cases[f"csv-{name}"] = write

    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC):
        for end in ("\n", "\r\n"):
            csv_case(f"quoting-{quoting}-{len(end)}", quoting=quoting, lineterminator=end)
    csv_case("bom")
    csv_case("tabs", "tsv", delimiter="\t")

    def json_case(name: str, ending: str, change: Callable[[bytes], bytes], **options: Any) -> None:
        def write(folder: Path) -> None:
            content = "\n".join(json.dumps(row, **options) for row in PLAIN).encode()
            (folder / f"a.{ending}").write_bytes(change(content))
            expect(folder, lines)

        cases[f"json-{name}"] = write

    json_case("plain", "jsonl", lambda data: data)
    json_case("unescaped", "ndjson", lambda data: data + b"\n", ensure_ascii=False)
    json_case("windows", "json", lambda data: data.replace(b"\n", b"\r\n"))
    json_case("gzip", "jsonl.gz", gzip.compress)
    json_case("members", "jsonl.gz", lambda data: gzip.compress(data + b"\n") + gzip.compress(b""))
    return cases


# -- DuckDB ----------------------------------------------------------------------------------------------------------

_DUCK = {
    "numbers": "i::tinyint a, i::smallint b, i::integer c, i::bigint d, i::utinyint e, i::usmallint f, "
    "i::uinteger g, i::ubigint h",
    "fractions": "i::float a, i / 3::double b, (i / 4)::decimal(9, 2) c, i::decimal(38, 0) d",
    "hugeint": "i::hugeint a",
    "text": "'text ' || i a, encode('b' || i) b, (i % 2 = 0) c, uuid() d, ('x' || (i % 3))::enum_of_three e",
    "times": "date '2020-01-01' + i::integer a, time '10:00:00' b, timestamp '2020-01-01 10:00:00.123456' c, "
    "timestamptz '2020-01-01 10:00:00' d, timestamp_ns '2020-01-01 10:00:00.123456789' e, "
    "timestamp_s '2020-01-01 10:00:00' f, timestamp_ms '2020-01-01 10:00:00' g, to_days(i) h",
    "nested": "[i, null] a, {'item': i, 'b': [{'c': i}]} b, map {'k' || i: i} c, [1.0, 2.0]::float[2] d",
    "nulls": "case when i % 3 = 0 then null else i end a, null::varchar b, "
    "case when i % 5 = 0 then null else [i] end c",
    "json": "json_object('a', i) a",
}


def duckdb_cases() -> dict[str, Writes]:
    """What COPY writes."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("create type enum_of_three as enum ('x0', 'x1', 'x2')")
    cases: dict[str, Writes] = {}

    def case(name: str, select: str, file: str, options: str, rows: str = "true") -> None:
        query = f"select {select} from range({ROWS}) t(i) where {rows} order by i"
        cases[f"duckdb-{name}"] = lambda folder: connection.execute(f"copy ({query}) to '{folder}/{file}' ({options})")

    for name, select in _DUCK.items():
        case(f"parquet-{name}", select, "a.parquet", "format parquet")
        case(f"parquet-v2-{name}", select, "a.parquet", "format parquet, parquet_version v2, compression zstd")
        case(f"parquet-empty-{name}", select, "a.parquet", "format parquet", "false")
    for codec in ("uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4", "lz4_raw"):
        case(
            f"parquet-{codec}", _DUCK["text"], "a.parquet", f"format parquet, compression {codec}, row_group_size 2048"
        )
    partitioned = "i x, 'a' || (i % 3) k, i % 2 n"
    for extra in ("", ", write_partition_columns true"):
        case(f"partitioned{len(extra)}", partitioned, "", f"format parquet, partition_by (k, n), overwrite{extra}")
        case(f"csv-partitioned{len(extra)}", partitioned, "", f"format csv, partition_by (k, n), overwrite{extra}")
        case(f"json-partitioned{len(extra)}", partitioned, "", f"format json, partition_by (k, n), overwrite{extra}")
    case("per-thread", "i x", "", "format parquet, per_thread_output true, overwrite")
    simple = "i id, 18446744073709551610::ubigint + (i % 5)::ubigint big, 'a\nb,\"' || i t, i / 8 score"
    whole = pa.Table.from_pylist(
        [
            {"id": i, "big": Decimal(18446744073709551610 + i % 5), "t": f'a\nb,"{i}', "score": i / 8}
            for i in range(ROWS)
        ]
    )

    def told(name: str, file: str, options: str) -> None:
        case(name, simple, file, options)
        write = cases[f"duckdb-{name}"]
        cases[f"duckdb-{name}"] = lambda folder: (write(folder), expect(folder, whole))

    for ending, codec in (("", "none"), (".gz", "gzip"), (".zst", "zstd")):
        told(f"csv-{codec}", f"a.csv{ending}", f"format csv, header, compression {codec}")
        told(f"json-{codec}", f"a.json{ending}", f"format json, compression {codec}")
    told("csv-quoted", "a.csv", "format csv, header, force_quote *")
    told("json-array", "a.json", "format json, array true")
    return cases


# -- Polars ----------------------------------------------------------------------------------------------------------


def _frame() -> Any:
    import polars as pl

    numbers = list(range(ROWS))
    days = [dt.date(2020, 1, 1) + dt.timedelta(i) for i in numbers]
    times = [dt.datetime(2020, 1, 1, 10, 0, 0, 123456) for _ in numbers]
    frame = {str(kind): pl.Series(numbers, dtype=kind) for kind in (pl.Int8, pl.Int16, pl.Int32, pl.Int64)}
    frame |= {str(kind): pl.Series(numbers, dtype=kind) for kind in (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)}
    frame |= {
        "f32": pl.Series(numbers, dtype=pl.Float32),
        "f64": pl.Series([i / 3 for i in numbers]),
        "nulls": pl.Series([None if i % 3 == 0 else i for i in numbers]),
        "flag": pl.Series([i % 2 == 0 for i in numbers]),
        "text": pl.Series([f"text {i} of more than twelve bytes" for i in numbers]),
        "binary": pl.Series([bytes([i]) for i in numbers]),
        "date": pl.Series(days),
        "ms": pl.Series(times, dtype=pl.Datetime("ms")),
        "us": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
        "ns": pl.Series(times, dtype=pl.Datetime("ns")),
        "duration": pl.Series([dt.timedelta(seconds=i) for i in numbers]),
        "time": pl.Series([time.time() for time in times]),
        "decimal": pl.Series([Decimal(i) / 100 for i in numbers], dtype=pl.Decimal(20, 2)),
        "words": pl.Series([f"w{i % 3}" for i in numbers], dtype=pl.Categorical),
        "enum": pl.Series([f"w{i % 3}" for i in numbers], dtype=pl.Enum(["w0", "w1", "w2"])),
        "lists": pl.Series([[i] * (i % 3) for i in numbers]),
        "array": pl.Series([[i, i] for i in numbers], dtype=pl.Array(pl.Int64, 2)),
        "struct": pl.Series([{"item": i, "b": [f"{i}"]} for i in numbers]),
        "nothing": pl.Series([None] * ROWS),
    }
    return pl.DataFrame(frame)


def polars_cases() -> dict[str, Writes]:
    """What write_parquet, write_ipc, write_csv and write_ndjson write."""
    import polars as pl

    whole = _frame()
    cases: dict[str, Writes] = {}
    for codec in ("uncompressed", "snappy", "gzip", "brotli", "zstd", "lz4"):
        cases[f"polars-parquet-{codec}"] = lambda folder, codec=codec: whole.write_parquet(
            folder / "a.parquet", compression=codec, row_group_size=7
        )
    cases["polars-parquet-pages"] = lambda folder: whole.write_parquet(folder / "a.parquet", data_page_size=64)
    cases["polars-parquet-pyarrow"] = lambda folder: whole.write_parquet(folder / "a.parquet", use_pyarrow=True)
    for codec, level in itertools.product(("uncompressed", "lz4", "zstd"), ("oldest", "newest")):
        compat = getattr(pl.CompatLevel, level)()
        cases[f"polars-ipc-{codec}-{level}"] = lambda folder, codec=codec, compat=compat: whole.write_ipc(
            folder / "a.arrow", compression=codec, compat_level=compat
        )
        cases[f"polars-stream-{codec}-{level}"] = lambda folder, codec=codec, compat=compat: whole.write_ipc_stream(
            folder / "a.arrows", compression=codec, compat_level=compat
        )
    for name in whole.columns:
        one = whole.select(name)
        cases[f"polars-parquet-column-{name}"] = lambda folder, one=one: one.write_parquet(folder / "a.parquet")
        cases[f"polars-ipc-column-{name}"] = lambda folder, one=one: one.write_ipc(
            folder / "a.arrow", compat_level=pl.CompatLevel.newest()
        )
        cases[f"polars-empty-{name}"] = lambda folder, one=one: one.head(0).write_parquet(folder / "a.parquet")
    plain = pl.DataFrame(PLAIN)
    rows = pa.Table.from_pylist([{**row, "day": dt.date(2024, 2, 29)} for row in PLAIN])
    for style in ("necessary", "always", "non_numeric"):
        cases[f"polars-csv-{style}"] = lambda folder, style=style: (
            plain.write_csv(folder / "a.csv", quote_style=style, include_bom=style == "always"),
            expect(folder, rows),
        )
    cases["polars-ndjson"] = lambda folder: (
        plain.write_ndjson(folder / "a.ndjson"),
        expect(folder, pa.Table.from_pylist(PLAIN)),
    )
    cases["polars-partitioned"] = lambda folder: pl.DataFrame({"x": range(9), "k": ["a", "b", "ü"] * 3}).write_parquet(
        folder, partition_by="k"
    )
    return cases


# -- Spark -----------------------------------------------------------------------------------------------------------

_SPARK = {
    "numbers": "cast(id as tinyint) a, cast(id as smallint) b, cast(id as int) c, id d",
    "fractions": "cast(id as float) a, id / 3D b, cast(id / 4 as decimal(9, 2)) c, cast(id as decimal(38, 0)) d",
    "text": "concat('text ', id) a, cast(concat('b', id) as binary) b, id % 2 = 0 c",
    "times": "date_add(date'2020-01-01', cast(id as int)) a, timestamp'2020-01-01 10:00:00.123456' b, "
    "timestamp_ntz'2020-01-01 10:00:00.123456' c",
    "intervals": "interval '1' day a, interval '1' month b",
    "nested": "array(id, null) a, struct(id as item, array(struct(id as c)) as b) b, map(concat('k', id), id) c",
    "nulls": "if(id % 3 = 0, null, id) a, cast(null as string) b, if(id % 5 = 0, null, array(id)) c",
    "variant": "parse_json(concat('{\"a\":', id, '}')) a",
}


def spark_cases(spark: Any) -> dict[str, Writes]:
    """What DataFrame.write writes."""
    cases: dict[str, Writes] = {}

    def case(name: str, select: str, form: str, rows: int = ROWS, keys: tuple[str, ...] = (), **options: str) -> None:
        def write(folder: Path) -> None:
            for key, value in options.items():
                if key.startswith("spark_"):
                    spark.conf.set(key.replace("_", "."), value)
            frame = spark.range(rows).selectExpr(*_split(select)).repartition(2)
            writer = frame.write.mode("overwrite").partitionBy(*keys) if keys else frame.write.mode("overwrite")
            own = {key: value for key, value in options.items() if not key.startswith("spark_")}
            writer.format(form).options(**own).save(str(folder))
            for key in options:
                if key.startswith("spark_"):
                    spark.conf.unset(key.replace("_", "."))

        cases[f"spark-{name}"] = write

    for name, select in _SPARK.items():
        case(f"parquet-{name}", select, "parquet")
        case(f"legacy-{name}", select, "parquet", spark_sql_parquet_writeLegacyFormat="true")
        case(f"empty-{name}", select, "parquet", 0)
    for codec in ("none", "snappy", "gzip", "zstd", "lz4", "lz4_raw"):
        case(f"parquet-{codec}", _SPARK["text"], "parquet", compression=codec)
    for kind in ("INT96", "TIMESTAMP_MICROS", "TIMESTAMP_MILLIS"):
        case(f"parquet-{kind}", _SPARK["times"], "parquet", spark_sql_parquet_outputTimestampType=kind)
    partitioned = "id x, concat('a', id % 3) k, id % 2 n"
    for form in ("parquet", "json"):
        case(f"{form}-partitioned", partitioned, form, keys=("k", "n"))
    case("csv-partitioned", partitioned, "csv", keys=("k", "n"), header="true")
    simple = "id, concat('a\\n,\"', id) t, id / 8D score"
    for codec in ("none", "gzip", "bzip2", "deflate", "snappy", "lz4"):  # zstd of text wants Hadoop's native library
        case(f"json-{codec}", simple, "json", compression=codec)
        case(f"csv-{codec}", simple, "csv", compression=codec, header="true", escape='"')
        case(f"text-{codec}", "concat('line ', id) value", "text", compression=codec)
    case("csv-empty", simple, "csv", 0, header="true")
    case("orc", simple, "orc")
    return cases


def _split(select: str) -> list[str]:
    """The expressions of a list; commas inside of brackets and quotes are not between them."""
    found, depth, quoted, start = [], 0, False, 0
    for i, letter in enumerate(select):
        quoted ^= letter == "'"
        depth += 0 if quoted else (letter == "(") - (letter == ")")
        if letter == "," and not depth and not quoted:
            found.append(select[start:i])
            start = i + 1
    return [*found, select[start:]]

"""Every kind of file that pandas, Dask, Ray Data, Hugging Face and WebDataset write, as cases of the sweep."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.local.sweep_others import PLAIN, ROWS, expect

Writes = Callable[[Path], Any]


def _frame() -> Any:
    import pandas as pd

    times = pd.date_range("2020-01-01", periods=ROWS, freq="h")
    return pd.DataFrame(
        {
            "int": np.arange(ROWS),
            "small": np.arange(ROWS, dtype=np.int8),
            "unsigned": np.arange(ROWS, dtype=np.uint64),
            "float": np.arange(ROWS) / 3,
            "nullable": pd.array([None if i % 3 else i for i in range(ROWS)], dtype="Int64"),
            "flag": np.arange(ROWS) % 2 == 0,
            "text": [f"text {i}" for i in range(ROWS)],
            "words": pd.Categorical([f"w{i % 3}" for i in range(ROWS)]),
            "ns": times,
            "zone": times.tz_localize("Europe/Berlin"),
            "delta": times - times[0],
            "day": [dt.date(2020, 1, 1)] * ROWS,
            "decimal": [Decimal(i) / 100 for i in range(ROWS)],
            "binary": [bytes([i]) for i in range(ROWS)],
            "lists": [[i] * (i % 3) for i in range(ROWS)],
            "dict": [{"a": i, "b": str(i)} for i in range(ROWS)],
        }
    )


def _plain() -> Any:
    """`PLAIN`, whole numbers with gaps as such."""
    import pandas as pd

    return pd.DataFrame(PLAIN).astype({"maybe": "Int64"})


def pandas_cases() -> dict[str, Writes]:
    """What to_parquet, to_feather, to_csv and to_json write."""
    whole = _frame()
    plain = _plain()
    rows = pa.Table.from_pylist([{**row, "day": dt.date(2024, 2, 29)} for row in PLAIN])
    cases: dict[str, Writes] = {
        f"pandas-parquet-{codec}": lambda folder, codec=codec: whole.to_parquet(
            folder / "a.parquet", compression=None if codec == "none" else codec
        )
        for codec in ("none", "snappy", "gzip", "zstd")
    }
    named = whole.set_index("text")
    cases["pandas-parquet-index"] = lambda folder: named.to_parquet(folder / "a.parquet")
    cases["pandas-parquet-partitioned"] = lambda folder: whole[["int", "words"]].to_parquet(
        folder, partition_cols=["words"]
    )
    cases["pandas-feather"] = lambda folder: whole.to_feather(folder / "a.feather")
    cases["pandas-csv"] = lambda folder: (plain.to_csv(folder / "a.csv", index=False), expect(folder, rows))
    for codec in ("gzip", "bz2", "xz", "zstd"):
        ending = {"gzip": "gz", "zstd": "zst"}.get(codec, codec)
        cases[f"pandas-csv-{codec}"] = lambda folder, codec=codec, ending=ending: (
            plain.to_csv(folder / f"a.csv.{ending}", index=False, compression=codec),
            expect(folder, rows),
        )
    cases["pandas-json"] = lambda folder: (
        plain.to_json(folder / "a.jsonl", orient="records", lines=True),
        expect(folder, pa.Table.from_pylist(PLAIN)),
    )
    return cases


def dask_cases() -> dict[str, Writes]:
    """What to_parquet, to_csv and to_json of a Dask data frame write: a file for each partition."""
    import dask
    import dask.dataframe as dd

    dask.config.set(scheduler="synchronous")
    whole = dd.from_pandas(_frame(), npartitions=3)
    plain = dd.from_pandas(_plain(), npartitions=3)
    rows = pa.Table.from_pylist([{**row, "day": dt.date(2024, 2, 29)} for row in PLAIN])
    return {
        "dask-parquet": lambda folder: whole.to_parquet(folder),
        "dask-parquet-no-index": lambda folder: whole.to_parquet(folder, write_index=False, compression="zstd"),
        "dask-parquet-metadata": lambda folder: whole.to_parquet(folder, write_metadata_file=True),
        "dask-parquet-partitioned": lambda folder: whole[["int", "words"]].to_parquet(folder, partition_on=["words"]),
        "dask-csv": lambda folder: (plain.to_csv(folder / "*.csv", index=False), expect(folder, rows)),
        "dask-json": lambda folder: (
            plain.to_json(folder / "*.jsonl"),
            expect(folder, pa.Table.from_pylist(PLAIN)),
        ),
    }


_SAMPLES = [{"__key__": f"{i:03}", "cls": i, "txt": f"text {i}"} for i in range(ROWS)]


def _bytes(row: dict[str, Any]) -> dict[str, bytes]:
    """The members of a sample, as they are packed."""
    return {name: str(value).encode() for name, value in row.items() if name != "__key__"}


def ray_cases(data: Any) -> dict[str, Writes]:
    """What Ray Data writes.

    Args:
        data: the module `ray.data`, of a Ray that is up.
    """
    columns = _frame().drop(columns=["delta", "words"])
    rows = pa.Table.from_pylist([{**row, "day": dt.date(2024, 2, 29)} for row in PLAIN])

    def plain() -> Any:
        return data.from_items(PLAIN, override_num_blocks=1)

    images = {"image": np.arange(ROWS * 12, dtype=np.float32).reshape(ROWS, 3, 4), "label": np.arange(ROWS)}
    return {
        "ray-parquet": lambda folder: data.from_pandas(columns).write_parquet(str(folder)),
        "ray-parquet-tensors": lambda folder: (
            data.from_numpy(images["image"]).write_parquet(str(folder)),
            expect(folder, pa.table({"data": [image.tolist() for image in images["image"]]})),
        ),
        "ray-parquet-partitioned": lambda folder: data.from_items(
            [{"x": i, "k": f"a{i % 3}"} for i in range(ROWS)], override_num_blocks=1
        ).write_parquet(str(folder), partition_cols=["k"]),
        "ray-csv": lambda folder: (plain().write_csv(str(folder)), expect(folder, rows)),
        "ray-json": lambda folder: (plain().write_json(str(folder)), expect(folder, pa.Table.from_pylist(PLAIN))),
        "ray-webdataset": lambda folder: (
            data.from_items(
                [{"__key__": f"{i:03}", "cls": i, "txt": f"text {i}"} for i in range(ROWS)]
            ).write_webdataset(str(folder)),
            expect(folder, pa.Table.from_pylist([{**row, **_bytes(row)} for row in _SAMPLES])),
        ),
    }


def hub_cases() -> dict[str, Writes]:
    """What Hugging Face's `datasets` write: streams of Arrow, and what their own types are stored as."""
    import datasets

    frame = {
        "id": list(range(ROWS)),
        "text": [f"text {i}" for i in range(ROWS)],
        "label": [i % 3 for i in range(ROWS)],
        "ids": [[i] * (i % 4) for i in range(ROWS)],
        "grid": [[[float(i), 1.0]] * 2 for i in range(ROWS)],
    }
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["a", "b", "c"]),
            "ids": datasets.Sequence(datasets.Value("int32")),
            "grid": datasets.Array2D((2, 2), "float32"),
        }
    )
    made = datasets.Dataset.from_dict(frame, features=features)
    kinds = {"ids": pa.list_(pa.int32()), "grid": pa.list_(pa.list_(pa.float32()))}
    rows = pa.table({name: pa.array(values, kinds.get(name)) for name, values in frame.items()})
    return {
        "datasets-disk": lambda folder: (made.save_to_disk(str(folder), num_shards=2), expect(folder, rows)),
        "datasets-parquet": lambda folder: (made.to_parquet(folder / "a.parquet"), expect(folder, rows)),
        "datasets-json": lambda folder: (
            made.remove_columns("grid").to_json(folder / "a.jsonl"),
            expect(folder, rows.drop_columns("grid")),
        ),
    }


def webdataset_cases() -> dict[str, Writes]:
    """What WebDataset's own writer packs, which turns values into bytes by their extensions."""
    import webdataset

    def write(folder: Path, ending: str) -> None:
        with webdataset.TarWriter(str(folder / f"a.{ending}")) as sink:
            for i in range(ROWS):
                sample = {"__key__": f"some/folder/{i:03}", "cls": i, "json": {"a": i}, "jpg": bytes([i]) * 100}
                sink.write({name: value for name, value in sample.items() if name != "json" or i % 2})
        found = [dict(sample) for sample in webdataset.WebDataset(str(folder / f"a.{ending}"), shardshuffle=False)]
        own = [{name: value for name, value in row.items() if name not in _ABOUT} for row in found]
        expect(folder, pa.Table.from_pylist([{"json": None, **row} for row in own]))

    return {f"webdataset-{ending}": lambda folder, ending=ending: write(folder, ending) for ending in ("tar", "tar.gz")}


#: What WebDataset says of a sample beside what is in it.
_ABOUT = ("__url__", "__local_path__")

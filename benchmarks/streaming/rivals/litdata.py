"""LitData, with a worker a core. Options: workers, form.

form=parquet: the same Parquet files through `ParquetLoader`, whole files mapped and read by Polars
(``low_memory=False``); form=rows: the same by `low_memory=True`, its default; form=own: its own chunks (`optimize`),
which the conversion writes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.streaming.case import Case

ENVIRONMENT = "rivals"


def refuses(case: Case) -> str | None:
    """Parquet, or what was made of it."""
    return None if case.format == "parquet" else "reads no tar"


def shuffles(case: Case) -> bool:
    """Whether the rows come in another order in each epoch."""
    return True


def load(case: Case) -> None:
    """litdata with torch."""
    import litdata
    import torch

    assert litdata.StreamingDataset
    torch.set_num_threads(1)
    _allow_http()


def _allow_http() -> None:
    """It has no setting for a server without TLS, and fetches by a client that wants to be told."""
    from litdata.streaming import downloader

    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True


def convert(case: Case, folder: str) -> None:
    """Its own chunks of 64 MB; of the same Parquet only an index is needed, in a folder of links."""
    import litdata

    form = case.option("form", "parquet")
    if form == "own":
        litdata.optimize(
            fn=_Rows(case.columns),
            inputs=list(case.files),
            output_dir=folder,
            chunk_bytes="64MB",
            num_workers=case.cores,
            start_method="spawn",
        )
        return
    for file in case.files:
        os.symlink(file, Path(folder) / Path(file).name)
    litdata.index_parquet_dataset(folder, num_workers=case.cores)


class _Rows:
    """The samples of a file; a class, so that workers can be given it."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns

    def __call__(self, path: str) -> Iterator[dict[str, Any]]:
        import numpy as np
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                for row in file.read_row_group(group).to_pylist():
                    values = {name: row[name] for name in self.columns}
                    yield {
                        "id": row["id"],
                        **{k: np.asarray(v, np.int32) if isinstance(v, list) else v for k, v in values.items()},
                    }


class Reader:
    """Its loader, with a collation that keeps what it is given, as its numbers differ from numpy's only by that."""

    def __init__(self, case: Case) -> None:
        import litdata
        from litdata.streaming.item_loader import ParquetLoader

        self.case = case
        form = case.option("form", "parquet")
        loader = None
        if form != "own":
            whole = form == "parquet"
            loader = ParquetLoader(pre_load_chunk=whole, low_memory=not whole, columns=["id", *case.columns])
        where = {"input_dir": case.converted_url}
        if form != "own" and case.server:
            where = {"input_dir": case.url, "index_path": str(case.converted)}
        data = litdata.StreamingDataset(**where, cache_dir=tempfile.mkdtemp(), item_loader=loader, shuffle=True)
        workers = int(case.option("workers", str(case.cores)))
        ahead: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
        if workers and form != "own":
            ahead["multiprocessing_context"] = "spawn"  # Polars does not survive a fork
        self.loader = litdata.StreamingDataLoader(
            data, batch_size=case.batch, num_workers=workers, collate_fn=_Collate(case), **ahead
        )

    def state(self, seen: int) -> Any:
        """Of the loader."""
        return self.loader.state_dict()

    def restore(self, state: Any) -> None:
        """Goes there."""
        self.loader.load_state_dict(state)

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """All rows."""
        yield from self.loader


class _Collate:
    """Rows to (ids, values): arrays of numbers, lists of bytes, or decoded crops."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _allow_http()  # in a worker

    def __call__(self, rows: list[dict[str, Any]]) -> tuple[Any, list[Any]]:
        import numpy as np

        from benchmarks.streaming.images import crops

        values: list[Any] = []
        for name in self.case.columns:
            column = [row[name] for row in rows]
            if self.case.decode:
                values.append(crops(column))
            elif isinstance(column[0], bytes):
                values.append(column)
            else:
                values.append(np.array(column, np.float32 if isinstance(column[0], float) else np.int32))
        return np.array([row["id"] for row in rows]), values

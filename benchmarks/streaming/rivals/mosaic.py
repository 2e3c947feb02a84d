"""MosaicML Streaming on its own shards (MDS, which the conversion writes), with a worker a core. Options: workers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks.streaming.case import Case
from benchmarks.streaming.touch import flat_bytes

ENVIRONMENT = "mosaic"


def refuses(case: Case) -> str | None:
    """Rows of Parquet can be converted."""
    if case.format != "parquet":
        return "converted from Parquet alone"
    return "64 columns a sample; not converted" if len(case.columns) > 16 else None


def shuffles(case: Case) -> bool:
    """Whether the rows come in another order in each epoch."""
    return True


def load(case: Case) -> None:
    """streaming with torch."""
    import torch

    import streaming

    assert streaming.StreamingDataset
    torch.set_num_threads(1)


def convert(case: Case, folder: str) -> None:
    """Shards of 64 MB; every value as bytes, which is the least that it can be asked to decode."""
    import pyarrow.parquet as pq

    from streaming import MDSWriter

    columns = {"id": "int", **dict.fromkeys(case.columns, "bytes")}
    with MDSWriter(out=folder, columns=columns, size_limit=64 << 20) as out:
        for path in case.files:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=["id", *case.columns])
                    for at, row_id in enumerate(table["id"].to_pylist()):
                        values = {name: _bytes(table[name].slice(at, 1)) for name in case.columns}
                        out.write({"id": row_id, **values})


def _bytes(value: Any) -> bytes:
    return b"".join(bytes(one) for one in flat_bytes(value))


class Reader:
    """Its dataset in a DataLoader."""

    def __init__(self, case: Case) -> None:
        from torch.utils.data import DataLoader

        from streaming import StreamingDataset

        where = (
            {"remote": case.converted_url, "local": tempfile.mkdtemp()} if case.server else {"local": case.converted}
        )
        data = StreamingDataset(**where, shuffle=True, batch_size=case.batch)
        self.data = data
        self.loader = DataLoader(
            data,
            batch_size=case.batch,
            num_workers=int(case.option("workers", str(case.cores))),
            collate_fn=_Collate(case),
            persistent_workers=True,
            prefetch_factor=4,
        )

    def state(self, seen: int) -> Any:
        """Of the dataset, which is told how many rows were seen."""
        return self.data.state_dict(num_samples=seen, from_beginning=True)

    def restore(self, state: Any) -> None:
        """Goes there."""
        self.data.load_state_dict(state)

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """All rows."""
        yield from self.loader


class _Collate:
    """Rows to (ids, a tensor for each column, or a list of bytes, or crops)."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def __call__(self, rows: list[dict[str, Any]]) -> tuple[Any, list[Any]]:
        import numpy as np
        import torch

        from benchmarks.streaming.images import crops

        values: list[Any] = []
        for name in self.case.columns:
            column = [row[name] for row in rows]
            if self.case.decode:
                values.append(torch.from_numpy(crops(column)))
            elif name == "image":
                values.append(column)
            else:
                values.append(torch.from_numpy(np.frombuffer(b"".join(column), np.int32).reshape(len(rows), -1)))
        return torch.tensor([row["id"] for row in rows]), values

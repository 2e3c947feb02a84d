"""Hugging Face `datasets`, streaming, in a DataLoader with a worker a core, batches as Arrow tables.

What its documentation tells for speed: batches in Arrow's form, Parquet's ranges prefetched (`fragment_scan_options`),
workers that share the files. Options: workers, buffer (of its shuffle; 0: file order, which is far faster for it, as a
shuffled stream goes through single rows). Forms of numpy and torch were slower, and make 64 bits of all whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.streaming.case import Case

ENVIRONMENT = "rivals"


def refuses(case: Case) -> str | None:
    """Parquet, and tar by its WebDataset builder."""
    return "its reader of tar decodes by its own ways; not measured" if case.format == "tar" else None


def shuffles(case: Case) -> bool:
    """Whether the rows come in another order in each epoch."""
    return case.option("buffer", "0") != "0"


def load(case: Case) -> None:
    """datasets and torch."""
    import torch.utils.data  # noqa: F401

    import datasets

    assert datasets.load_dataset


class Reader:
    """A streaming dataset in a loader."""

    def __init__(self, case: Case) -> None:
        import pyarrow as pa
        import pyarrow.dataset as ds
        from torch.utils.data import DataLoader

        from datasets import load_dataset

        self.case = case
        scan = ds.ParquetFragmentScanOptions(
            cache_options=pa.CacheOptions(prefetch_limit=1, range_size_limit=128 << 20)
        )
        data = load_dataset(
            "parquet",
            data_files=list(case.files),
            split="train",
            streaming=True,
            columns=["id", *case.columns],
            fragment_scan_options=scan,
            storage_options=_s3fs(case),
        )
        if buffer := int(case.option("buffer", "0")):
            data = data.shuffle(seed=0, buffer_size=buffer)
        self.data = data.with_format("arrow")
        workers = int(case.option("workers", str(case.cores)))
        self.loader: Any = None
        if workers:
            self.loader = DataLoader(
                self.data.batch(case.batch),
                batch_size=None,
                num_workers=workers,
                persistent_workers=True,
                prefetch_factor=4,
            )

    def state(self, seen: int) -> Any:
        """Of the dataset itself, without a loader's workers."""
        return self.data.state_dict()

    def restore(self, state: Any) -> None:
        """Goes there."""
        self.data.load_state_dict(state)

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """All rows."""
        self.data.set_epoch(number)
        batches = self.data.iter(self.case.batch) if self.loader is None else self.loader
        for batch in batches:
            yield _delivered(batch, self.case)


def _delivered(batch: Any, case: Case) -> tuple[Any, list[Any]]:
    ids, *values = [_flat(batch[name]) for name in ("id", *case.columns)]
    if case.decode:
        from benchmarks.streaming.images import crops

        values = [crops(value) for value in values]
    return ids, values


def _flat(column: Any) -> Any:
    """What `batch` has made one list of."""
    first = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return first.flatten() if len(first) == 1 and str(first.type).startswith("list") else first


def _s3fs(case: Case) -> dict[str, Any]:
    if case.server is None:
        return {}
    return {
        "key": case.server.key,
        "secret": case.server.secret,
        "client_kwargs": {"endpoint_url": case.server.endpoint, "region_name": case.server.region},
    }

"""torch's DataLoader over pyarrow: as many workers as cores, each with its share of the row groups, shuffled inside.

This is what the documentation of torch shows for data that are read in sequence: an IterableDataset which asks
`get_worker_info` for its share and gives whole batches (``batch_size=None``), workers that persist.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.streaming.case import Case
from benchmarks.streaming.rivals.storage import arrow_files

ENVIRONMENT = "ours"


def refuses(case: Case) -> str | None:
    """Parquet alone."""
    return None if case.format == "parquet" else "reads Parquet alone"


def shuffles(case: Case) -> bool:
    """Whether the rows come in another order in each epoch."""
    return True


def load(case: Case) -> None:
    """torch and pyarrow."""
    import torch.utils.data  # noqa: F401


class Reader:
    """A loader; options: workers."""

    def __init__(self, case: Case) -> None:
        from torch.utils.data import DataLoader, IterableDataset

        class Groups(IterableDataset):
            """The row groups of a worker's share."""

            def __iter__(self) -> Iterator[tuple[Any, list[Any]]]:
                self.number = getattr(self, "number", -1) + 1
                return _share(case, self.number)

        workers = int(case.option("workers", str(case.cores)))
        self.loader = DataLoader(
            Groups(), batch_size=None, num_workers=workers, persistent_workers=True, prefetch_factor=8
        )

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """All rows; workers take turns."""
        yield from self.loader


def _share(case: Case, number: int) -> Iterator[tuple[Any, list[Any]]]:
    """Batches of the worker's row groups: ids, and a flat tensor for each column."""
    import numpy as np
    import pyarrow.parquet as pq
    import torch
    from torch.utils.data import get_worker_info

    torch.set_num_threads(1)
    info = get_worker_info()
    me, of = (info.id, info.num_workers) if info else (0, 1)
    filesystem, paths = arrow_files(case)
    files = [pq.ParquetFile(path, filesystem=filesystem, pre_buffer=filesystem is not None) for path in paths]
    groups = [(file, group) for file in files for group in range(file.num_row_groups)]
    rng = np.random.default_rng(number)
    for at in rng.permutation(len(groups))[me::of]:
        file, group = groups[at]
        table = file.read_row_group(group, columns=["id", *case.columns], use_threads=False)
        order = rng.permutation(len(table))
        for begin in range(0, len(order), case.batch):
            yield _tensors(case, table.take(order[begin : begin + case.batch]))


def _tensors(case: Case, batch: Any) -> tuple[Any, list[Any]]:
    import numpy as np
    import torch

    from benchmarks.streaming.touch import flat_bytes

    ids = torch.from_numpy(batch["id"].to_numpy().copy())
    values = []
    for name in case.columns:
        if case.decode:
            from benchmarks.streaming.images import crops

            values.append(torch.from_numpy(crops(batch[name])))
        else:
            pieces = list(flat_bytes(batch[name]))
            values.append(torch.from_numpy(pieces[0].copy() if len(pieces) == 1 else np.concatenate(pieces)))
    return ids, values

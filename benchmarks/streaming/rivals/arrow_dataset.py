"""pyarrow.dataset: a scan with its own threads and read-ahead, in file order (it cannot shuffle)."""

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
    return False


def load(case: Case) -> None:
    """pyarrow."""
    import pyarrow.dataset  # noqa: F401


class Reader:
    """A scanner of all files; the batches it gives are cut into the wanted size, which copies nothing."""

    def __init__(self, case: Case) -> None:
        import pyarrow.dataset as ds

        self.case = case
        filesystem, paths = arrow_files(case)
        self.dataset = ds.dataset(paths, format="parquet", filesystem=filesystem)

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """All rows, in the order of the files."""
        for piece in self.dataset.to_batches(columns=["id", *self.case.columns], use_threads=True):
            for at in range(0, len(piece), self.case.batch):
                batch = piece.slice(at, self.case.batch)
                values = [batch[name] for name in self.case.columns]
                if self.case.decode:
                    from benchmarks.streaming.images import crops

                    values = [crops(value) for value in values]
                yield batch["id"], values

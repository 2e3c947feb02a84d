"""Ray Data on a Ray of this machine; its start is counted as import. Options: form (pyarrow or numpy), buffer.

Files are shuffled and rows by its local buffer, as its documentation tells for training (buffer=0: not).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.streaming.case import Case
from benchmarks.streaming.rivals.storage import arrow_files

ENVIRONMENT = "rivals"


def refuses(case: Case) -> str | None:
    """Parquet alone: its reader of tar decodes by its own ways."""
    return None if case.format == "parquet" else "its reader of tar decodes by its own ways; not measured"


def shuffles(case: Case) -> bool:
    """Whether the rows come in another order in each epoch."""
    return True


def load(case: Case) -> None:
    """Ray, started."""
    import ray
    import ray.data

    ray.init(num_cpus=case.cores, include_dashboard=False, log_to_driver=False, configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False


class Reader:
    """A dataset, lazily executed in each epoch."""

    def __init__(self, case: Case) -> None:
        import ray

        self.case = case
        filesystem, paths = arrow_files(case)
        self.data = ray.data.read_parquet(paths, columns=["id", *case.columns], filesystem=filesystem, shuffle="files")
        if case.decode:
            self.data = self.data.map_batches(_Decode(case), batch_size=case.batch, batch_format="numpy")

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """All rows."""
        buffer = int(self.case.option("buffer", str(8 * self.case.batch)))
        form = "numpy" if self.case.decode else self.case.option("form", "pyarrow")
        for batch in self.data.iter_batches(
            batch_size=self.case.batch,
            batch_format=form,
            prefetch_batches=4,
            local_shuffle_buffer_size=buffer or None,
            local_shuffle_seed=number if buffer else None,
        ):
            yield batch["id"], [batch[name] for name in self.case.columns]


class _Decode:
    """A batch with its images decoded."""

    def __init__(self, case: Case) -> None:
        self.columns = case.columns

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from benchmarks.streaming.images import crops

        return {**batch, **{name: crops(batch[name]) for name in self.columns}}

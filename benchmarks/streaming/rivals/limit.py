"""The bare limit: pyarrow decodes row groups in file order, page checksums verified, on threads that share nothing.

Options: threads (1, or `all`), pieces (rows decoded at a time, 0: whole row groups), map (yes: files are mapped).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.streaming.case import Case
from benchmarks.streaming.rivals.storage import arrow_files
from benchmarks.streaming.touch import Tally

ENVIRONMENT = "ours"


def refuses(case: Case) -> str | None:
    """Parquet alone."""
    return None if case.format == "parquet" else "reads Parquet alone"


def load(case: Case) -> None:
    """pyarrow."""
    import pyarrow.parquet  # noqa: F401


class Reader:
    """One decoding loop a thread; the row groups are dealt out by a counter."""

    def __init__(self, case: Case) -> None:
        self.case = case
        threads = case.option("threads", "1")
        self.threads = case.cores if threads == "all" else int(threads)
        self.pieces = int(case.option("pieces", "0"))
        self.columns = ["id", *case.columns]
        self.filesystem, self.paths = arrow_files(case)
        self.footers = [self._open(path).metadata for path in self.paths]

    def consume(self, number: int, tally: Tally, begun: Callable[[], None]) -> None:
        """Touches all row groups, each in the thread that decoded it."""
        groups = [(at, group) for at, footer in enumerate(self.footers) for group in range(footer.num_row_groups)]
        counter = itertools.count()
        failures: list[BaseException] = []

        def work(own: Tally) -> None:
            try:
                while (turn := next(counter)) < len(groups):
                    for ids, values in self._decode(*groups[turn]):
                        begun()
                        own.add(ids, values)
            except BaseException as error:
                failures.append(error)

        if self.threads == 1:
            work(tally)
        else:
            tallies = [Tally() for _ in range(self.threads)]
            workers = [threading.Thread(target=work, args=(own,)) for own in tallies]
            for worker in workers:
                worker.start()
            for worker, own in zip(workers, tallies, strict=True):
                worker.join()
                tally.merge(own)
        if failures:
            raise failures[0]

    def _open(self, path: str, footer: Any = None) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(
            path,
            filesystem=self.filesystem,
            metadata=footer,
            page_checksum_verification=True,
            memory_map=self.case.option("map", "no") == "yes",
            pre_buffer=self.case.server is not None,
        )

    def _decode(self, at: int, group: int) -> Iterator[tuple[Any, list[Any]]]:
        with self._open(self.paths[at], self.footers[at]) as file:
            if self.pieces:
                batches = file.iter_batches(self.pieces, row_groups=[group], columns=self.columns, use_threads=False)
            else:
                batches = [file.read_row_group(group, columns=self.columns, use_threads=False)]
            for batch in batches:
                yield _delivered(batch, self.case)


def _delivered(batch: Any, case: Case) -> tuple[Any, list[Any]]:
    values = [batch[name] for name in case.columns]
    if case.decode:
        from benchmarks.streaming.images import crops

        values = [crops(value) for value in values]
    return batch["id"], values

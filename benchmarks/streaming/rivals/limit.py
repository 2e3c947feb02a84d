"""The bare limit: pyarrow decodes row groups in file order, page checksums verified, on threads that share nothing.

It reads the local files whatever the source is, so that beside S3 it tells what decoding alone would take. Of tar,
whole files are read, and cut at their headers.

Options: threads (1, or `all`), pieces (rows decoded at a time, 0: whole row groups), map (yes: files are mapped).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.streaming.case import Case
from benchmarks.streaming.images import crops
from benchmarks.streaming.touch import Tally

ENVIRONMENT = "ours"


def refuses(case: Case) -> str | None:
    """Nothing; of tar there is one way."""
    return "pieces are of Parquet" if case.format == "tar" and case.option("pieces", "0") != "0" else None


def shuffles(case: Case) -> bool:
    """Whether the rows come in another order in each epoch."""
    return False


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
        self.paths = case.files
        self.footers = []
        if case.format == "parquet":
            self.footers = [self._open(path).metadata for path in self.paths]

    def consume(self, number: int, tally: Tally, begun: Callable[[], None]) -> None:
        """Touches all row groups, each in the thread that decoded it."""
        groups = [(at, group) for at, footer in enumerate(self.footers) for group in range(footer.num_row_groups)]
        groups = groups or [(at, 0) for at in range(len(self.paths))]
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
            metadata=footer,
            page_checksum_verification=True,
            memory_map=self.case.option("map", "no") == "yes",
        )

    def _decode(self, at: int, group: int) -> Iterator[tuple[Any, list[Any]]]:
        if self.case.format == "tar":
            ids, values = tar_members(self.paths[at])
            yield ids, [crops(values) if self.case.decode else values]
            return
        with self._open(self.paths[at], self.footers[at]) as file:
            if self.pieces:
                batches = file.iter_batches(self.pieces, row_groups=[group], columns=self.columns, use_threads=False)
            else:
                batches = [file.read_row_group(group, columns=self.columns, use_threads=False)]
            for batch in batches:
                yield _delivered(batch, self.case)


def tar_members(path: str) -> tuple[list[int], list[memoryview]]:
    """The numbers in the names of the members of an archive of plain files, and their bytes."""
    with open(path, "rb") as file:
        whole = memoryview(file.read())
    ids, values, at = [], [], 0
    while whole[at]:
        size = int(bytes(whole[at + 124 : at + 135]), 8)
        ids.append(int(bytes(whole[at : at + 8])))
        values.append(whole[at + 512 : at + 512 + size])
        at += 512 + -(-size // 512) * 512
    return ids, values


def _delivered(batch: Any, case: Case) -> tuple[Any, list[Any]]:
    values = [batch[name] for name in case.columns]
    if case.decode:
        values = [crops(value) for value in values]
    return batch["id"], values

"""What the module of a contestant has.

    ENVIRONMENT: 'ours', or the name of a requirements file beside `main`: where it is installed.
    refuses(case) -> str | None: why it cannot do a case.
    shuffles(case) -> bool: whether rows come in a random order, or in that of the files.
    load(case): imports what it needs; this is timed apart.
    convert(case, folder): writes its own form of the data into a folder; only where it needs one.
    Reader(case): opens the data.
    Reader.epoch(number): yields (ids, [values of each column]) for each batch; values are whatever `touch` takes.

    Reader.state(seen), Reader.restore(state): the place in an epoch after so many rows; only where it can resume.

A reader that works in several threads may have `consume(number, tally)` instead, which touches in these threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from benchmarks.streaming.case import Case
from benchmarks.streaming.touch import Tally


class Reader(Protocol):
    """Delivers epochs of a case."""

    def __init__(self, case: Case) -> None: ...

    def epoch(self, number: int) -> Iterator[tuple[Any, list[Any]]]:
        """One pass over all rows."""


def consume(reader: Any, number: int, tally: Tally, begun: Any) -> None:
    """One pass into a tally; `begun` is called when the first batch is there."""
    if hasattr(reader, "consume"):
        reader.consume(number, tally, begun)
        return
    for ids, values in reader.epoch(number):
        begun()
        tally.add(ids, values)

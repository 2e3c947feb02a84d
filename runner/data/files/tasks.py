"""Work on each of very many files in threads: a task of its own for each would take as long as a tiny file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Items of a task, at most.
_MOST = 64
#: Tasks that each thread has at least, so that all end at about the same time.
_EACH = 16


def in_tasks(work: Callable[[T], R], items: Sequence[T], threads: int) -> Iterator[R]:
    """What `work` gives of each item, in their order. Raises what it raises of the first that it raises of."""
    step = min(_MOST, max(1, len(items) // (_EACH * threads)))
    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(
            lambda start: [work(item) for item in items[start : start + step]], range(0, len(items), step)
        ):
            yield from found

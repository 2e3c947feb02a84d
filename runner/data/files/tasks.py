"""Work on each of very many files in threads: a task of its own for each would take as long as a tiny file."""

from __future__ import annotations

import itertools
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Items of a task, at most.
_MOST = 64
#: Tasks that each thread has at least, so that all end at about the same time.
_EACH = 16
#: How often work on an item waits at least, where other threads should go on meanwhile.
_WAITS = 16
_always = itertools.count(step=_WAITS * _EACH)


def in_tasks(work: Callable[[T], R], items: Sequence[T], threads: int) -> Iterator[R]:
    """What `work` gives of each item, in their order. Raises what it raises of the first that it raises of."""
    step = min(_MOST, max(1, len(items) // (_EACH * threads)))
    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(
            lambda start: [work(item) for item in items[start : start + step]], range(0, len(items), step)
        ):
            yield from found


def in_tasks_if_waiting(work: Callable[[T], R], items: Sequence[T], threads: int) -> Iterator[R]:
    """The same of work on this machine's disks: in this thread for as long as it waits for them but seldom.

    What is in the operating system's cache is read at once, and Python does one thing at a time: several threads would
    hand its lock to each other at every reading, which takes as long again.
    """
    done = 0
    while done < len(items):
        before = _waits()
        some = items[done : done + _EACH]
        for item in some:
            yield work(item)
        done += len(some)
        if _waits() - before >= _WAITS * len(some):
            break
    yield from in_tasks(work, items[done:], threads)


def _waits() -> int:
    """How often this thread has had to wait so far; where the system does not say it, ever more often."""
    if sys.platform == "linux":
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return next(_always)

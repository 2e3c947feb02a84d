"""A function mapped over items by workers: in this process, in local processes, or in Ray actors.

All three do the same: at most one item per worker is under way, results come as they are completed, an error of the
function comes out of ``map`` as itself, and a worker that dies without a word is WorkerLost. The function must be
importable by name, function and items must be picklable (inline excepted). What the function object keeps on itself
stays in its worker for the length of one ``map``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from runner.errors import Interrupted
from runner.worker.pool.local import ProcessPool
from runner.worker.pool.ray import RayPool

__all__ = ["InlinePool", "Pool", "ProcessPool", "RayPool"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pool(Protocol):
    """What the stages need of a pool; also a context manager that closes it."""

    def map(
        self, fn: Callable[[Item], Result], items: Iterable[Item], timeout_s: float | None = None
    ) -> Iterator[tuple[int, Result]]:
        """Call `fn` on every item; yield (index of the item, result) as they are completed.

        Leaving the iteration early ends the workers that are still busy.

        Raises:
            WorkerLost: a worker died; the message names the item and the signal.
            StageTimeout: not all was done within `timeout_s`.
            Interrupted: the pool's `stop` event was set.
        """
        ...

    def close(self) -> None:
        """End the workers. Busy ones are killed."""
        ...

    def __enter__(self) -> Pool: ...

    def __exit__(self, *exc: object) -> None: ...


class InlinePool:
    """One worker: this process. Errors are the very objects that were raised.

    Args:
        stop: when set, no further item is begun.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()

    def map(
        self, fn: Callable[[Item], Result], items: Iterable[Item], timeout_s: float | None = None
    ) -> Iterator[tuple[int, Result]]:
        """As Pool.map; the timeout does not apply, so that a debugger may take its time."""
        for index, item in enumerate(items):
            if self._stop.is_set():
                raise Interrupted("stopped before all items were done")
            yield index, fn(item)

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

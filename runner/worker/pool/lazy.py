"""A pool that is started by its first item: a stage whose result exists starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.worker.pool.base import Pool


class LazyPool:
    """Stands for the pool that `make` will give.

    Args:
        make: starts the pool.
        start_ray: initialises Ray in this process, for what is more than a function mapped over items.
    """

    def __init__(self, make: Callable[[], Pool], start_ray: Callable[[], None]) -> None:
        self._make, self.start_ray = make, start_ray
        self._pool: Pool | None = None

    def map(
        self, fn: Callable[[Any], Any], items: Iterable[Any], timeout_s: float | None = None
    ) -> Iterator[tuple[int, Any]]:
        """As of every pool; the first item starts it."""
        waiting = list(items)
        if not waiting:
            return iter(())
        if self._pool is None:
            self._pool = self._make()
        return self._pool.map(fn, waiting, timeout_s)

    def close(self) -> None:
        """End the pool, if an item has started it."""
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> LazyPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

"""A Ray: tasks for pools, Ray Train as the launcher of gangs. The same code serves a laptop's Ray and a cluster's."""

from __future__ import annotations

import threading

from runner.train.gang.base import Gang
from runner.worker import ray_session
from runner.worker.pool.base import Pool, RayPool
from runner.worker.scope import Scope


class RayEngine:
    """Args:
    workers: the most that any stage of the leg needs.
    trains: whether the leg has a training stage.
    """

    def __init__(self, workers: int, *, trains: bool) -> None:
        self._workers = workers
        self._started = threading.Lock()

    def pool(self, stage: str, workers: tuple[int, int], scope: Scope) -> Pool:
        """See `Engine`."""
        self.ray(scope, workers[1])
        return RayPool(workers, scope, stage)

    def gang(self) -> Gang:
        """See `Engine`."""
        from runner.train.gang.ray import RayGang

        return RayGang()

    def ray(self, scope: Scope, workers: int) -> None:
        """See `Engine`."""
        ray_session.start(scope.scratch, max(workers, self._workers))

    def close(self) -> None:
        """See `Engine`."""
        ray_session.stop()

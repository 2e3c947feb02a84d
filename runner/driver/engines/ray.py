"""A Ray: tasks for pools, Ray Train as the launcher of gangs. The same code serves a laptop's Ray and a cluster's."""

from __future__ import annotations

from runner.train.gang.base import Gang
from runner.worker import ray_session
from runner.worker.pool.base import Pool, RayPool
from runner.worker.scope import Scope


class RayEngine:
    """Stages run in a Ray: actors for pools, Ray Train for gangs.

    Args:
        workers: the most that any stage of the leg needs.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def pool(self, stage: str, workers: tuple[int, int], scope: Scope) -> Pool:
        """Actors of Ray: of a range as many as there is room for."""
        self.ray(scope, workers[1])
        return RayPool(workers, scope, stage)

    def gang(self) -> Gang:
        """The launcher of ranks by Ray Train."""
        from runner.train.gang.ray import RayGang

        return RayGang()

    def ray(self, scope: Scope, workers: int) -> None:
        """Start the run's own Ray, or join that of the cluster."""
        ray_session.start(scope.scratch, max(workers, self._workers))

    def close(self) -> None:
        """Leave the Ray; one that was started here ends."""
        ray_session.stop()

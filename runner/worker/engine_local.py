"""Plain processes on this machine, forked from servers that have imported what is heavy: a pool, and a gang."""

from __future__ import annotations

from runner.worker import forkserver, gang
from runner.worker.gang import Gang
from runner.worker.pool import Pool, ProcessPool
from runner.worker.scope import Scope


class LocalEngine:
    """Both servers begin to import at once, beside whatever the driver does next.

    Args:
        preps: whether the leg has a stage that needs a pool.
        trains: whether the leg has a training stage.
    """

    def __init__(self, *, preps: bool, trains: bool) -> None:
        if trains:
            gang.warm_up()
        if preps:
            forkserver.start(forkserver.PREP)
        self._ray = False

    def pool(self, stage: str, workers: int, scope: Scope) -> Pool:
        """See `Engine`."""
        forkserver.start(forkserver.PREP)
        return ProcessPool(workers, scope, stage)

    def gang(self) -> Gang:
        """See `Engine`."""
        from runner.worker.gang_local import LocalGang

        return LocalGang()

    def ray(self, scope: Scope, workers: int) -> None:
        """A Ray of this run's own, for the stages that use Ray Data."""
        from runner.worker import ray_session

        ray_session.start(scope.scratch, workers)
        self._ray = True

    def close(self) -> None:
        """See `Engine`."""
        if self._ray:
            from runner.worker import ray_session

            ray_session.stop()

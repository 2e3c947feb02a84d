"""No processes: pool and gang are the calling process; only whole-dataset transforms start a Ray, being made of one."""

from __future__ import annotations

from runner.train.gang.base import Gang
from runner.worker.pool.base import InlinePool, Pool
from runner.worker.ray_session import RayOnDemand
from runner.worker.scope import Scope


class InlineEngine(RayOnDemand):
    """An `Engine` for this process."""

    def pool(self, stage: str, workers: tuple[int, int], scope: Scope) -> Pool:
        """The calling process, which does one item after another."""
        return InlinePool(scope.stop)

    def gang(self) -> Gang:
        """The calling process, as the only rank."""
        from runner.train.gang.inline import InlineGang

        return InlineGang()

"""Plain processes on this machine, forked from servers that have imported what is heavy: a pool, and a gang."""

from __future__ import annotations

import os

from runner.prep.preload import MODULES
from runner.train.gang import base as gang
from runner.train.gang.base import Gang
from runner.worker import forkserver
from runner.worker.pool.base import Pool, ProcessPool
from runner.worker.ray_session import RayOnDemand
from runner.worker.scope import Scope


class LocalEngine(RayOnDemand):
    """Both servers begin to import at once, beside whatever the driver does next.

    Args:
        preps: whether the leg has a stage that needs a pool.
        trains: whether the leg has a training stage.
    """

    def __init__(self, *, preps: bool, trains: bool) -> None:
        if trains:
            gang.warm_up()
        if preps:
            forkserver.start(MODULES)

    def pool(self, stage: str, workers: tuple[int, int], scope: Scope) -> Pool:
        """See `Engine`: of a range, as many workers as there are cores."""
        forkserver.start(MODULES)
        fewest, most = workers
        return ProcessPool(min(most, max(fewest, os.cpu_count() or 1)), scope, stage)

    def gang(self) -> Gang:
        """The launcher of ranks that are forked from a server with torch imported."""
        from runner.train.gang.local import LocalGang

        return LocalGang()

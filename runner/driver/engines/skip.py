"""No machines: for a leg whose results all exist, so that its stages only have to say so."""

from __future__ import annotations

from typing import NoReturn

from runner.errors import WorkerLost
from runner.train.gang.base import Gang
from runner.worker.pool.base import Pool
from runner.worker.scope import Scope


class SkipEngine:
    """See `Engine`; whoever asks it for processes learns that the leg needs machines after all."""

    def pool(self, stage: str, workers: tuple[int, int], scope: Scope) -> Pool:
        """None: whoever asks for one learns that the leg needs machines after all."""
        _needed(stage)

    def gang(self) -> Gang:
        """None: whoever asks for one learns that the leg needs machines after all."""
        _needed("a training")

    def ray(self, scope: Scope, workers: int) -> None:
        """None: whoever asks for one learns that the leg needs machines after all."""
        _needed("a whole-dataset transform")

    def close(self) -> None:
        """Nothing was started."""


def _needed(what: str) -> NoReturn:
    raise WorkerLost(f"{what} was to be skipped, and its result is not there any more: it needs machines")

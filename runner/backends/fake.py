"""A backend that starts nothing, for unit tests, runner's own and its users'.

Every check before a run, the plan, the bundle, the log and the supervisor are the real ones; only the functions of the
stages are never called. What happens to a stage can be told beforehand:

    FakeBackend.outcomes["my-job"] = {"train": "ValueError: loss is nan"}
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from runner.backends.base import ClientSide, DriverState
from runner.backends.kind import Kind
from runner.errors import UserCodeError
from runner.record import Bundle, fold
from runner.record.endings import Ending
from runner.record.entries import LegDone, StageDone, StageFailed, StageResult, StageStarted
from runner.record.failures import failed
from runner.record.history import fence
from runner.spec import Cluster
from runner.store import Store


class FakeBackend:
    """Args: as `LocalBackend`.

    Attributes:
        outcomes: job name -> stage name -> the message with which the stage fails, or None where the driver dies
            without a word. Stages that are not named succeed.
        started: (run id, leg, attempt) of every start, in order.
    """

    outcomes: ClassVar[dict[str, dict[str, str | None]]] = {}
    started: ClassVar[list[tuple[str, int, int]]] = []

    def __init__(self, store_url: str, options: dict[str, Any], run_id: str) -> None:
        self._bundle = Bundle(Store(store_url, options), run_id)
        self._state, self._exit = DriverState.NONE, ""

    def attach(self, leg: int, attempt: int) -> None:
        """Nothing is ever there."""

    def endings(self) -> list[Ending]:
        """Nothing ends machines that are none."""
        return []

    def loss(self) -> str:
        """They are never lost."""
        return ""

    def prepare(self, leg: int) -> None:
        """They need no asking."""

    def start(self, leg: int, attempt: int) -> None:
        """Write to the log what a driver would have written."""
        self.started.append((self._bundle.run_id, leg, attempt))
        view = fold(self._bundle.log.read())
        check = fence(leg, attempt)
        outcomes = self.outcomes.get(view.job, {})
        self._state = DriverState.EXITED
        for stage in view.legs[leg]:
            if view.stages[stage].state in ("done", "skipped"):
                continue
            self._bundle.log.append(StageStarted(stage, attempt), check)
            if stage in outcomes:
                self._fail(stage, attempt, outcomes[stage])
                return
            done = StageDone(stage, StageResult.from_json({"fake": True}), attempt)
            self._bundle.log.append(done, check)
        self._bundle.log.append(LegDone(leg, attempt), check)
        self._exit = "exit code 0"

    def _fail(self, stage: str, attempt: int, message: str | None) -> None:
        self._exit = "signal 9 (SIGKILL)" if message is None else "exit code 1"
        if message is not None:
            self._bundle.log.append(StageFailed(stage, failed(UserCodeError, message), attempt))

    def observe(self) -> tuple[DriverState, str]:
        """The driver's state, and how it ended, in words."""
        return self._state, self._exit

    def wait(self, timeout_s: float) -> None:
        """Nothing to wait for: `start` does everything at once."""

    def wake(self) -> None:
        """Nobody waits."""

    def stop(self, grace_s: float) -> None:
        """It ends at once."""
        self._state = DriverState.EXITED

    def clean(self) -> dict[str, Any]:
        """There is nothing to remove."""
        return {"processes": 0, "scratch_folders": 0}


class FakeKind(Kind):
    """Machines of any shape that are only counted; the supervisor is the process that submits."""

    supervised_here = True

    def environment(self, cluster: Cluster) -> Mapping[str, str]:
        """None."""
        return os.environ

    def open(self, bundle: Bundle) -> FakeBackend:
        """The machines of a run, for its supervisor."""
        return FakeBackend(bundle.root.url, bundle.root.options, bundle.run_id)

    def client(self, bundle: Bundle) -> ClientSide:
        """This process is on this machine."""
        from runner.backends.local.client import LocalClient

        return LocalClient(bundle)


FAKE = FakeKind()

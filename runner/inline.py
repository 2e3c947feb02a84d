"""Every stage in the calling process: a debugger works, and an exception is the user's own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from runner import capture
from runner.backends import processes
from runner.lifecycle import RunState
from runner.resolve import Resolved
from runner.run import Run
from runner.supervisor import end_run

if TYPE_CHECKING:
    from runner.worker.gang import Gang
    from runner.worker.pool import Pool
    from runner.worker.scope import Scope


def run_inline(run: Run, resolved: Resolved) -> None:
    """Run the stages of a submitted job here, at world size 1 with the same global batch.

    Raises:
        whatever the user's functions raise, unchanged.
    """
    from runner.worker.driver import run_leg
    from runner.worker.scope import Scope

    log = run.bundle.log
    log.append("supervisor", {**processes.identity(), "inline": True})
    capture.set_code_root(resolved.project.root)
    state, error = RunState.FAILED, None
    with tempfile.TemporaryDirectory(prefix="runner-inline-") as scratch:
        engine = InlineEngine()
        try:
            for leg in range(len(run.view().legs)):
                log.append("attempt", {"leg": leg, "attempt": 1})
                scope = Scope(resolved.store, run.id, leg, 1, Path(scratch), inline=True, job=resolved.job)
                run_leg(scope, engine)
            state = RunState.SUCCEEDED
        except KeyboardInterrupt:
            state = RunState.CANCELLED
            raise
        except BaseException:
            error = run.view().error
            raise
        finally:
            engine.close()
            _ship(run, Path(scratch))
            end_run(run.bundle, state, error, {"processes": 0, "scratch_folders": 0})


def _ship(run: Run, scratch: Path) -> None:
    from runner.ship import Shipper

    Shipper(scratch / "spool", run.bundle).ship()


class InlineEngine:
    """An `Engine` without processes; only a whole-dataset transform starts a Ray, because it is made of one."""

    def __init__(self) -> None:
        self._ray = False

    def pool(self, stage: str, workers: int, scope: Scope) -> Pool:
        """See `Engine`."""
        from runner.worker.pool import InlinePool

        return InlinePool()

    def gang(self) -> Gang:
        """See `Engine`."""
        from runner.worker.gang_inline import InlineGang

        return InlineGang()

    def ray(self, scope: Scope, workers: int) -> None:
        """See `Engine`."""
        from runner.worker import ray_session

        ray_session.start(scope.scratch, workers)
        self._ray = True

    def close(self) -> None:
        """See `Engine`."""
        if self._ray:
            from runner.worker import ray_session

            ray_session.stop()

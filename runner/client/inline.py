"""Every stage in the calling process: a debugger works, and an exception is the user's own."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from runner.backends.local import liveness
from runner.client.run import Run
from runner.code import packages, references
from runner.plan.resolve import Resolved
from runner.process import interrupts
from runner.process.code_root import code_root_at
from runner.record import RunState
from runner.record.entries import AttemptBegan
from runner.record.failures import Failure
from runner.record.receipt import end_run
from runner.worker import processes


def run_inline(run: Run, resolved: Resolved) -> None:
    """Run the stages of a submitted job here, at world size 1 with the same global batch.

    Raises:
        whatever the user's functions raise, unchanged.
    """
    from runner.driver.engines.inline import InlineEngine
    from runner.driver.main import run_leg
    from runner.worker.scope import Scope

    log = run.bundle.log
    log.append(replace(liveness.identity(run.bundle.held()), inline=True))
    processes.note_supervisor(run.id, os.getpid())
    lock = run.bundle.lock()
    if lock is not None:
        packages.provide(lock)
    state, error = RunState.FAILED, None
    with tempfile.TemporaryDirectory(prefix="runner-inline-") as scratch, code_root_at(resolved.project.root):
        engine = InlineEngine()
        try:
            for leg in range(len(run.view().legs)):
                log.append(AttemptBegan(leg, 1))
                scope = Scope(resolved.store, run.id, leg, 1, Path(scratch), inline=True, job=resolved.job)
                run_leg(scope, engine)
            state = RunState.SUCCEEDED
        except BaseException as raised:
            if isinstance(raised, KeyboardInterrupt) and interrupts.by_user():
                state = RunState.CANCELLED
            else:
                error = run.view().error or Failure.of(references.as_ours(raised))
            raise
        finally:
            engine.close()
            _ship(run, Path(scratch))
            left = int(processes.remove_scratch(run.id))
            end_run(run.bundle, state, error, {"processes": 0, "scratch_folders": left})
            liveness.release(run.bundle.held())


def _ship(run: Run, scratch: Path) -> None:
    from runner.record.shipping import Shipper

    Shipper(scratch / "spool", run.bundle).ship()

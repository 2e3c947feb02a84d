"""Runs one leg: its stages one after the other, in a process of its own (or, inline, in the user's).

python -m runner.driver.main '{"store": ..., "run_id": ..., "leg": 0, "attempt": 1, "scratch": ..., "parent": pid}'
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from runner.code import optimized, packages, references
from runner.code.modules import set_main
from runner.driver import stages
from runner.driver.engines.skip import SkipEngine
from runner.errors import Fenced, StoreError, WorkerLost
from runner.process.private import argument_of
from runner.record import Bundle, fold
from runner.record.code import unpack
from runner.record.entries import (
    AttemptBegan,
    DriverBegan,
    DriverFailed,
    DriverLeft,
    Ended,
    LegDone,
    Resumed,
    StageDone,
    StageFailed,
    StageResult,
    StageStarted,
)
from runner.record.failures import Failure, failed
from runner.record.history import fence
from runner.record.shipping import Shipper
from runner.spec import Stage
from runner.store import Entry, Store
from runner.store.retry import PATIENCE_S
from runner.untrusted import logger, switches
from runner.worker import processes
from runner.worker.scope import Scope

_log = logging.getLogger("runner.driver")  # this module may be the program
#: Seconds between looks at the log where the supervisor is on another machine.
LOG_LOOK_S = 1.0
#: Seconds that a driver waits for the supervisor to begin its attempt.
BEGIN_S = 600.0


class Stopped(BaseException):
    """SIGTERM reached the driver: unwind, close everything, leave."""


def main(argv: list[str]) -> int:
    """The driver's process."""
    logger.configure()
    argument = argument_of(argv)
    parent = argument.get("parent")
    if parent is not None:
        processes.die_with_parent(parent)
        processes.adopt_orphans()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = Store(argument["store"], argument["options"], PATIENCE_S)
    bundle = Bundle(store, argument["run_id"], argument.get("sealed"))
    if parent is None and not _is_first(bundle, argument["leg"], argument["attempt"]):
        return 1
    scratch = Path(argument["scratch"])
    scratch.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)  # what libraries leave there goes with the run
    fenced = fence(argument["leg"], argument["attempt"])
    try:
        return _drive(argument, store, bundle, scratch)
    except (Stopped, Fenced) as left:
        return 1 if isinstance(left, Fenced) else 128 + signal.SIGTERM
    except Exception as error:
        _log.error("the driver failed", exc_info=error)
        with contextlib.suppress(Fenced):  # its end is told by whoever fenced it
            bundle.log.append(DriverFailed(argument["leg"], argument["attempt"], describe(error)), fenced)
        return 1


def _drive(argument: dict[str, Any], store: Store, bundle: Bundle, scratch: Path) -> int:
    """Make everything ready, and run the leg."""
    switches.check(os.environ, "the environment of the driver")
    parent = argument.get("parent")
    optimized.check(bundle.spec().optimized, "the driver")
    legs = bundle.spec().legs
    leg = legs[argument["leg"]]
    _bring_packages(bundle)
    engine = SkipEngine() if argument.get("skip") else stages.open_engine(bundle, leg)
    unpacked = references.code_folder()
    code = scratch / "code" if unpacked is None else unpacked / "project"
    if unpacked is None:
        unpack_code(bundle, code)
    references.set_code_root(code)
    os.chdir(code)
    scope = Scope(store, argument["run_id"], argument["leg"], argument["attempt"], scratch, sealed=bundle.sealed)
    shipper = Shipper(scratch / "spool", bundle)
    shipper.start()
    if parent is None:
        threading.Thread(target=_watch_log, args=(scope,), daemon=True, name="watch-log").start()
    try:
        return 0 if run_leg(scope, engine) else 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        engine.close()
        shipper.close()
        if parent is None:
            with contextlib.suppress(Fenced):
                scope.record(DriverLeft(scope.leg, scope.attempt))
        if parent is not None and os.getppid() != parent:
            _end_without_supervisor(scope)


def _bring_packages(bundle: Bundle) -> None:
    """Here, and (beside the code, which Ray carries) on every other machine."""
    lock = bundle.lock()
    if lock is None:
        return
    packages.provide(lock)
    packages.leave_for_nodes(lock)


def _is_first(bundle: Bundle, leg: int, attempt: int) -> bool:
    """Whether this is the only driver of its attempt: KubeRay submits again when a head is lost."""

    def alone(entries: list[Entry]) -> None:
        fence(leg, attempt)(entries)
        began = [entry.event for entry in entries if isinstance(entry.event, DriverBegan)]
        if any((event.leg, event.attempt) == (leg, attempt) for event in began):
            raise Fenced(f"attempt {attempt} has had its driver")

    deadline = time.monotonic() + BEGIN_S
    while not _is_decided(bundle.log.read(), leg, attempt) and time.monotonic() < deadline:
        time.sleep(LOG_LOOK_S)  # machines may come before the attempt that they are for
    try:
        bundle.log.append(DriverBegan(leg, attempt, os.uname().nodename), alone)
    except Fenced as error:
        _log.warning("leaving: %s", error)
        return False
    return True


def _is_decided(entries: list[Entry], leg: int, attempt: int) -> bool:
    """Whether the attempt has begun (and may be over), or never will."""
    begun = ended = False
    for entry in entries:
        event = entry.event
        if isinstance(event, AttemptBegan):
            begun = begun or (event.leg, event.attempt) >= (leg, attempt)
        elif isinstance(event, Ended | Resumed):
            ended = isinstance(event, Ended)
    return begun or ended


def _watch_log(scope: Scope) -> None:
    """A supervisor on another machine cannot send a signal: a cancel, or a newer attempt, in the log ends this one."""
    while True:
        time.sleep(LOG_LOOK_S)
        try:
            entries = scope.bundle.log.read()
            fence(scope.leg, scope.attempt)(entries)
            over = fold(entries).cancel is not None
        except Fenced:
            over = True
        except StoreError:
            continue  # what is written next will meet the same error, and raise it
        if over:
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def unpack_code(bundle: Bundle, folder: Path) -> None:
    """The project's files as they were at submission (or at the resume that brought newer ones)."""
    done = folder.parent / f"{folder.name}.done"
    key = bundle.newest_code()
    if done.exists() and done.read_text() == key:
        return
    unpack(bundle, folder)
    done.write_text(key)


def run_leg(scope: Scope, engine: stages.Engine) -> bool:
    """Run the stages of a leg that are not done yet. Returns whether all of them are done now.

    Inline, the user's own exception passes through (after it was recorded).
    """
    view = fold(scope.bundle.log.read())
    by_name = {stage.name: stage for stage in scope.job.stages}
    for name in view.legs[scope.leg]:
        if view.stages[name].state in ("done", "skipped"):
            continue
        if not _run_stage(scope, engine, by_name[name]):
            return False
    scope.record(LegDone(scope.leg, scope.attempt))
    return True


def _run_stage(scope: Scope, engine: stages.Engine, stage: Stage) -> bool:
    scope.record(StageStarted(stage.name, scope.attempt))
    started = time.monotonic()
    try:
        result = stages.run(stage, scope, engine)
    except (Stopped, KeyboardInterrupt, Fenced):
        raise
    except BaseException as error:
        scope.record(StageFailed(stage.name, describe(error), scope.attempt))
        if scope.inline:
            raise
        if not isinstance(error, Exception):
            raise
        return False
    result.setdefault("seconds", round(time.monotonic() - started, 3))
    scope.record(StageDone(stage.name, StageResult.from_json(result), scope.attempt))
    return True


def describe(error: BaseException) -> Failure:
    """An error as the log keeps it."""
    return Failure.of(references.as_ours(error))


def _end_without_supervisor(scope: Scope) -> None:
    """The supervisor died: end the run in its place, so that nothing is left and the log says what happened."""
    from runner.record.history import end_of_lost
    from runner.record.receipt import end_run

    view = fold(scope.bundle.log.read())
    left = processes.end_all(scope.run_id, grace_s=2.0, below=True, from_inside=True)
    remains = {"processes": left, "scratch_folders": int(processes.remove_scratch(scope.run_id))}
    error = failed(WorkerLost, "the supervisor of the run was killed; the driver ended the run")
    end_run(scope.bundle, *end_of_lost(view, error), remains)


if __name__ == "__main__":
    set_main(ModuleType("__main__"))  # workers need not import this program
    code = main(sys.argv[1:])
    alive = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    sys.stdout.flush()
    if alive:  # a thread of a library must not hold back the end of the run
        os._exit(code)
    sys.exit(code)

"""The loop that observes, decides and acts: one small process a run, the same code on every backend.

python -m runner.control.supervisor '{"store": ..., "options": ..., "run_id": ...}'
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
from types import FrameType

from runner.backends.base import Backend, DriverState
from runner.backends.local import liveness
from runner.backends.registry import kind_of_run, open_backend, place
from runner.control.decide import Action, End, Leave, Observation, Prepare, StartAttempt, StopDriver, Wait, decide
from runner.errors import Fenced, RunnerError, internal
from runner.process.private import argument_of
from runner.process.wakeup import Wakeup
from runner.record import Bundle, RunState, View, fold
from runner.record.endings import Ending
from runner.record.entries import AttemptBegan, CancelAsked, Failing, Prepared, SupervisorBegan, SupervisorFailed
from runner.record.failures import Failure, kept
from runner.record.history import unchanged
from runner.record.index import LIVE, Doing
from runner.record.receipt import end_run
from runner.record.shipping import Shipper
from runner.store import Store
from runner.store.events import Event
from runner.store.retry import PATIENCE_S, Retry
from runner.untrusted import logger
from runner.worker import processes

_log = logging.getLogger("runner.control")  # this module may be the program
#: Seconds between looks at the log while nothing happens (another machine may have written to it).
LOOK_S = 0.5
STOP_GRACE_S = 3.0
#: Seconds that a client may take between making the supervisor and the first entry of the log.
SUBMIT_S = 60.0
#: A store, or an API, that does not answer is no fault of the run.
POLICY = Retry(PATIENCE_S)
#: Supervisors that may fail one after the other without anything having happened in between.
MOST_ERRORS = 6


class Supervisor:
    """Sees one run to its end.

    Args:
        bundle: of the run.
        backend: its machines.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle, self.backend = bundle, backend
        stages = bundle.spec().job.stages
        self.timeouts = {stage.name: stage.timeout_s for stage in stages if stage.timeout_s is not None}
        self._place = place(bundle)
        self._shown: Doing | None = None
        self._over_since: float | None = None
        self._interrupted: str | None = None
        self._to_start: tuple[int, int] | None = None  # begun in the log, and not yet on the machines
        self._number = 0  # of our entry in the log
        self._woken = Wakeup()

    def run(self) -> RunState:
        """Observe, decide and act until the run has ended."""
        try:
            trouble = POLICY.trouble(pause=self._woken.wait)
            POLICY(self._take_up, trouble)
            while (state := POLICY(self._step, trouble)) is None:
                pass
            return state
        finally:
            liveness.release(self.bundle.held())

    def _take_up(self) -> None:
        self._number = self.bundle.log.append(liveness.identity(self.bundle.held())).number
        begun = fold(self.bundle.log.read())
        if begun.attempt_open or begun.error is not None:
            self.backend.attach(begun.leg, begun.attempt)

    def _step(self) -> RunState | None:
        """One round. Returns the run's state once it has ended."""
        if self._to_start is not None:
            self._start(*self._to_start)
        seen = self.backend.observe()  # before the log, which then has all that a driver wrote before it ended
        view = fold(self.bundle.log.read())
        if view.supervisor_number > self._number:
            return self._stand_by(view)
        if self._interrupted is not None and view.cancel is None and not view.state.ended:
            self.bundle.log.append(CancelAsked(self._interrupted))
            return None
        self._show(view)
        observed = self._observation(view, *seen)
        if observed.loss:
            view = fold(self.bundle.log.read())  # finding it out may have taken its time
        action = decide(view, observed, self.timeouts)
        if not isinstance(action, Wait):
            _log.info("next: %s", type(action).__name__)
        if isinstance(action, Leave):
            return view.state
        if isinstance(action, End):
            return self._end(view, action)
        self._act(view, action)
        return None

    def _stand_by(self, view: View) -> RunState | None:
        """Another supervisor has taken up the run: this one's node was given up too early. Were it to leave, its Job
        would count as done, or start it again.
        """
        self.backend.wait(LOOK_S)
        return view.state if view.state.ended else None

    def _record(self, view: View, event: Event) -> bool:
        """Add an entry that was decided on `view`. Returns False if anything has come after that: decide again."""
        try:
            self.bundle.log.append(event, unchanged(view))
        except Fenced:
            return False
        return True

    def interrupted(self, number: int, frame: FrameType | None) -> None:
        """Ask for the run's end, as `runner cancel` does; a signal handler."""
        self._interrupted = signal.Signals(number).name
        self.backend.wake()
        self._woken.wake()

    def _show(self, view: View) -> None:
        """Tell the index what the run does, where a list of runs need not read its log then."""
        doing = Doing(str(view.state), view.running.name if view.running else "", self._place)
        if self._place and not view.state.ended and doing != self._shown:
            self.bundle.index(view.job, LIVE, view.resumed or view.created, doing)
            self._shown = doing

    def _observation(self, view: View, state: DriverState, words: str) -> Observation:
        if view.driver_left and state is DriverState.RUNNING:
            state = DriverState.EXITED
        now = time.time()
        over = view.attempt > 0 and not view.attempt_open and state is DriverState.RUNNING
        self._over_since = (self._over_since or now) if over else None
        open_end = view.attempt_open or view.error is not None
        loss = self.backend.loss() if state is DriverState.EXITED and open_end else ""
        return Observation(state, now, words, now - (self._over_since or now), loss)

    def _act(self, view: View, action: Action) -> None:
        if isinstance(action, StartAttempt):
            causes = tuple(each.words for each in self.backend.endings()) if action.because else ()
            if self._record(view, AttemptBegan(action.leg, action.attempt, action.because, causes)):
                self._start(action.leg, action.attempt)
        elif isinstance(action, Prepare):
            if self._record(view, Prepared(action.leg)):
                self.backend.prepare(action.leg)
        elif isinstance(action, StopDriver):
            self.backend.stop(STOP_GRACE_S)
        else:
            self.backend.wait(LOOK_S)

    def _start(self, leg: int, attempt: int) -> None:
        self._to_start = (leg, attempt)
        self.backend.start(leg, attempt)
        self._to_start = None

    def _end(self, view: View, action: End) -> RunState | None:
        """Save the last logs, clean up, write the receipt. The receipt comes last: it says that all of it is done."""
        self._ship_the_rest()
        error = action.error
        if error is not None and action.state is RunState.FAILED and view.failing is None:
            error = error.explained(self._endings(view))
            # What failed is seen only now; a supervisor that goes on from here would begin another attempt.
            if not self._record(view, Failing(error)):
                return None
        asked = time.time()
        remains = self.backend.clean()
        asked = remains.pop("asked_at", asked)
        end_run(self.bundle, action.state, error, remains, (asked, time.time()))
        return action.state

    def _endings(self, view: View) -> list[Ending]:
        """What ended processes of the current attempt, as the machines and the processes beside them tell it."""
        names = view.legs[view.leg] if view.legs else ()
        told = [each for name in names for each in self.bundle.stage_files.endings(name, view.attempt)]
        return [*told, *self.backend.endings()]

    def _ship_the_rest(self) -> None:
        spool = processes.scratch_path(self.bundle.run_id) / "spool"
        if spool.is_dir():
            Shipper(spool, self.bundle).ship()


def main(argv: list[str]) -> int:
    """The supervisor's process."""
    logger.configure()
    argument = argument_of(argv)
    store = Store(argument["store"], argument["options"])
    bundle = Bundle(store, argument["run_id"], argument.get("sealed"))
    kind = kind_of_run(bundle)
    if kind.launches_early and not _submitted(bundle) and kind.abandon(bundle):
        return 0
    supervisor = None
    try:
        supervisor = Supervisor(bundle, open_backend(bundle))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _leave if kind.restarts else supervisor.interrupted)
        state = supervisor.run()
    except Exception as error:
        _log.error("the supervisor failed", exc_info=error)
        told = error if isinstance(error, RunnerError) else internal(error)  # no code of the user runs here
        return _failed(bundle, told, supervisor, again=kind.restarts)
    return 0 if kind.restarts or state is RunState.SUCCEEDED else 1


def _failed(bundle: Bundle, error: RunnerError, supervisor: Supervisor | None, *, again: bool) -> int:
    """Say so in the log, for what a supervisor prints goes with its machine.

    Args:
        again: its Job starts another, which may have more luck: only after MOST_ERRORS in a row without anything else
            the run is over, and its machines go now or with the Job.

    Returns:
        The exit code: 0 ends a Job.
    """
    told = Failure.of(error)
    trace = told.trace or kept("".join(traceback.format_exception(error)))
    bundle.log.append(SupervisorFailed(told.message, told.name, trace[-4000:], parts=told.parts, named=told.named))
    errors = 0
    for entry in reversed(bundle.log.read()):
        if not isinstance(entry.event, SupervisorBegan | SupervisorFailed):
            break
        errors += isinstance(entry.event, SupervisorFailed)
    if again and errors < MOST_ERRORS:
        return 1
    try:
        remains = supervisor.backend.clean() if supervisor is not None else {}
    except Exception as refused:  # whatever it was that failed may fail here too, and the run must end all the same
        remains = {"unknown": f"{type(refused).__name__}: {refused}"}
    often = f" {errors} times in a row" if errors > 1 else ""
    end_run(bundle, RunState.FAILED, told.amended(before=f"its supervisor failed{often}"), remains)
    return 0 if again else 1


def _leave(number: int, frame: FrameType | None) -> None:
    """Its pod is moved or deleted, which is no cancel: the next supervisor goes on from the log."""
    os._exit(128 + number)


def _submitted(bundle: Bundle) -> bool:
    """Whether the run exists, or comes to exist in time: its client may have died before it wrote the first entry."""
    deadline = time.monotonic() + SUBMIT_S
    while not bundle.log.read():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The client's side of runs on this machine: the supervisor is a process that outlives the one that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import Any

import psutil

from runner.backends.entry import PROGRAMS
from runner.backends.local import liveness
from runner.backends.local.machines import driver_environment
from runner.code import optimized
from runner.process import private
from runner.record import Bundle, View, fold
from runner.record.reasons import Reason
from runner.untrusted import logger
from runner.worker import processes

#: Seconds after which a run that no supervisor has taken up counts as lost.
TAKE_UP_S = 30.0
#: A file in the run's scratch folder that takes what its supervisor prints, and how much of its end is told.
_OUT, _LAST_WORDS = "supervisor.out", 4000


class LocalClient:
    """A run on this machine: its supervisor is a process."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._supervisor: subprocess.Popen[bytes] | None = None  # where it was this process that launched it,
        self._resumed: float | None = None  # for which resume

    def launch(self) -> None:
        """Start the supervisor as a process of its own session, which outlives this one."""
        root = self._bundle.root
        argument = {"store": root.url, "options": root.options, "run_id": self._bundle.run_id}
        argument["sealed"] = self._bundle.sealed
        environment = driver_environment(self._bundle.run_id)
        environment = optimized.environment(environment, self._bundle.spec().optimized)
        environment.pop(processes.MARK)  # the mark is for what the supervisor ends; it is not among those
        self._resumed = fold(self._bundle.log.read()).resumed
        with open(processes.scratch_folder(self._bundle.run_id) / _OUT, "wb") as out:
            self._supervisor = private.start_module(
                PROGRAMS["supervisor"],
                argument,
                self._bundle.run_id,
                env=environment,
                cwd="/",
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        processes.note_supervisor(self._bundle.run_id, self._supervisor.pid)

    def is_lost(self, view: View) -> bool:
        """Whether the supervisor is gone; of a process on another machine nothing may be known."""
        if view.supervisor is None:
            return self._exit_code(view) is not None or time.time() - (view.resumed or view.created) > TAKE_UP_S
        return liveness.is_alive(view.supervisor, self._bundle.held()) is False

    def _exit_code(self, view: View) -> int | None:
        """Of the run's supervisor, where it was launched here and has ended; not of one before a resume."""
        return self._supervisor.poll() if self._supervisor is not None and self._resumed == view.resumed else None

    def nudge(self, view: View) -> None:
        """Interrupt its wait by a signal."""
        who = view.supervisor
        if who is not None and liveness.is_here(who) and processes.is_noted(self._bundle.run_id, who.pid):
            os.kill(who.pid, signal.SIGTERM)

    def await_change(self, view: View, seconds: float) -> None:
        """Return when the supervisor ends, which is an event where it is on this machine, or after so many seconds."""
        if view.supervisor is None or not liveness.is_here(view.supervisor):
            time.sleep(seconds)
            return
        with contextlib.suppress(psutil.TimeoutExpired, psutil.NoSuchProcess):
            psutil.Process(view.supervisor.pid).wait(seconds)

    def why(self) -> list[Reason]:
        """Nothing: processes of this machine wait for no machines."""
        return []

    def is_here(self) -> bool:
        """Always: it is this machine."""
        return True

    def how_lost(self) -> str:
        """What is known of how a lost run's supervisor ended."""
        code = self._exit_code(fold(self._bundle.log.read()))
        return "killed, or the machine restarted" if code is None else processes.exit_words(code)

    def last_words(self) -> str:
        """What it printed: nothing but what ended it."""
        out = processes.scratch_path(self._bundle.run_id) / _OUT
        printed = out.read_text(errors="replace") if out.exists() else ""
        return logger.undemanded(printed).strip()[-_LAST_WORDS:]

    def remove(self) -> dict[str, Any]:
        """End every process that the run has left, and remove its scratch folder."""
        left = processes.end_all(self._bundle.run_id, grace_s=2.0)
        return {"processes": left, "scratch_folders": int(processes.remove_scratch(self._bundle.run_id))}

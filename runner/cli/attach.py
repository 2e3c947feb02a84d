"""Attached to a run: look, draw, listen for Ctrl-C, until it has ended or the person leaves."""

from __future__ import annotations

import os
import select
import signal
import time
from types import FrameType

from runner.cli.rank_output import Prints
from runner.cli.screens import Screen, shortened
from runner.client.patience import Patience
from runner.client.run import Run
from runner.process.interrupts import presses
from runner.record import RunState, View
from runner.untrusted.visible import log_line
from runner.views.following import Following

#: Seconds between two looks at a store on this machine, and at one behind a network.
LOOK_S, REMOTE_LOOK_S = 0.2, 1.0
#: Characters of a line that are shown here; `logs` has the whole of it.
LONGEST_LINE = 4000


class Detached(Exception):
    """The user has left a run that goes on."""


class Attached:
    """Follows one run on a screen.

    Args:
        run: to follow.
        screen: to draw on.
        from_now: do not show what was printed before (a run that is resumed).
    """

    def __init__(self, run: Run, screen: Screen, from_now: bool = False) -> None:
        self.run, self._screen = run, screen
        self._woken: list[int] = []  # the end of a pipe that Ctrl-C writes to, while the run is followed
        self._patience = Patience(run.id, screen.line, self._pause)
        stages = self._patience.through(run.spec)["job"]["stages"]
        self._following = Following(run, {stage["name"]: stage["kind"].lower() for stage in stages}, from_now)
        self._prints = Prints()
        self._presses = 0
        self._cancelled = self._is_told = False

    @property
    def interrupted(self) -> bool:
        """Whether the user has pressed Ctrl-C."""
        return self._presses > 0

    def follow(self) -> View:
        """Until the run has ended; Ctrl-C once cancels it.

        Raises:
            Detached: Ctrl-C twice.
            RunnerError: the store, or the API of the machines, has not answered for 10 minutes; the run goes on.
        """
        woken, self._wake = os.pipe()
        self._woken = [woken]
        os.set_blocking(self._wake, False)
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            with self._screen:
                return self._until_the_end()
        except KeyboardInterrupt:
            raise Detached from None
        finally:
            signal.signal(signal.SIGINT, before)
            self._woken = []
            os.close(woken)
            os.close(self._wake)

    def _until_the_end(self) -> View:
        pause = LOOK_S if self.run.bundle.root.kind == "file" else REMOTE_LOOK_S
        while not (view := self._patience.through(self._round)).state.ended:
            self._pause(pause)
        return view

    def _round(self) -> View:
        """Cancel the run if that was asked for, and look."""
        if self._presses and not self._cancelled:
            if not self._is_told:
                self._screen.line("cancelling; Ctrl-C again leaves at once")
            self._is_told = True
            self.run.cancel(by="Ctrl-C")
            self._cancelled = True
        return self.look(time.time())

    def _pause(self, seconds: float) -> None:
        """For so long, or until Ctrl-C is pressed."""
        for woken in select.select(self._woken, [], [], seconds)[0]:
            os.read(woken, 1)

    def look(self, now: float) -> View:
        """Read what is new and draw it. What a run prints is complete when its log says that it has ended."""
        seen = self._following.look(now)
        view = seen.view
        failed = view.state in (RunState.FAILED, RunState.CANCELLED)
        for line in self._prints.pass_on(seen.printed, now, failed, view.state.ended):
            self._screen.line(shortened(log_line(line), LONGEST_LINE))
        self._screen.unfinished(shortened(log_line(seen.unfinished), LONGEST_LINE))
        self._screen.waits(seen.waits_for)
        self._screen.update(view, seen.progress, now)
        return view

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Runs between any two instructions of the main thread, so it takes no lock."""
        if not presses.count():
            return
        self._presses += 1
        os.write(self._wake, b"x")
        if self._presses > 1:
            raise KeyboardInterrupt

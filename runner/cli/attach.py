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
from runner.errors import ApiError, StoreError
from runner.process.interrupts import presses
from runner.record.history import RunState, View
from runner.record.reading import Tail
from runner.untrusted.visible import log_line
from runner.views.documents import reasons
from runner.views.progress import Progress

#: Seconds between two looks at a store on this machine, and at one behind a network.
LOOK_S, REMOTE_LOOK_S = 0.2, 1.0
#: Seconds between two questions of why nothing happens, and while a stage is at work.
WHY_S, WORKING_WHY_S = 5.0, 15.0
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
        self._patience = Patience(run.id, screen.line)
        stages = self._patience.through(run.spec)["job"]["stages"]
        self.progress = {stage["name"]: Progress(stage["name"], stage["kind"].lower()) for stage in stages}
        self._printed = Tail(run.bundle, "logs", writer="rank0")
        self._measured = [Tail(run.bundle, "metrics", writer=writer) for writer in ("driver", "rank0")]
        if from_now:
            for tail in (self._printed, *self._measured):
                tail.skip()
        self._prints = Prints()
        self._presses = 0
        self._cancelled = False
        self._next_why = 0.0

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
        os.set_blocking(self._wake, False)
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            with self._screen:
                return self._until_the_end(woken)
        except KeyboardInterrupt:
            raise Detached from None
        finally:
            signal.signal(signal.SIGINT, before)
            os.close(woken)
            os.close(self._wake)

    def _until_the_end(self, woken: int) -> View:
        pause = LOOK_S if self.run.bundle.root.kind == "file" else REMOTE_LOOK_S
        told = False
        while True:
            try:
                if self._presses and not self._cancelled:
                    if not told:
                        self._screen.line("cancelling; Ctrl-C again leaves at once")
                    told = True
                    self.run.cancel(by="Ctrl-C")
                    self._cancelled = True
                view = self.look(time.time())
            except (StoreError, ApiError) as error:
                wait = self._patience.pause(error)
            else:
                self._patience.answered()
                wait = pause
                if view.state.ended:
                    return view
            if select.select([woken], [], [], wait)[0]:
                os.read(woken, 1)

    def look(self, now: float) -> View:
        """Read what is new and draw it. What a run prints is complete when its log says that it has ended."""
        view = self.run.view()
        for stage in view.stages.values():
            self.progress.setdefault(stage.name, Progress(stage.name, "train")).begin(stage.attempt)
        for tail in self._measured:
            for label, row in tail.rows():
                stage_name = label.split("/")[0]
                if stage_name in self.progress:
                    self.progress[stage_name].add(row)
        lines = (line.text for line in self._printed.records(final=view.state.ended))
        failed = view.state in (RunState.FAILED, RunState.CANCELLED)
        for line in self._prints.pass_on(lines, now, failed, view.state.ended):
            self._screen.line(shortened(log_line(line), LONGEST_LINE))
        self._screen.unfinished(shortened(log_line(self._printed.unfinished()), LONGEST_LINE))
        self._say_why(view, now)
        self._screen.update(view, self.progress, now)
        return view

    def _say_why(self, view: View, now: float) -> None:
        """What the run waits for; less often while a stage is at work, which may be stuck or lack some machines."""
        states = {stage.state for stage in view.stages.values()}
        if view.state.ended or states <= {"done", "skipped"}:  # the machines are on their way out
            self._screen.waits("")
            return
        if now < self._next_why:
            return
        asked = time.monotonic()
        found = reasons(self.run, view)
        took = time.monotonic() - asked  # an API that does not answer must not keep the screen from what the run does
        self._next_why = now + max(WORKING_WHY_S if "running" in states else WHY_S, 5 * took)
        words = found[0].waits_for.replace(f"{self.run.id}-", "") if found else ""  # of its own objects, in short
        self._screen.waits(" ".join(words.split()))

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Runs between any two instructions of the main thread, so it takes no lock."""
        if not presses.count():
            return
        self._presses += 1
        os.write(self._wake, b"x")
        if self._presses > 1:
            raise KeyboardInterrupt

"""A run while it goes on: what is new at each look, for whoever shows it. Reading it changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from runner.client.run import Run
from runner.record import View
from runner.record.reading import Tail
from runner.views.progress import Progress
from runner.views.run import reasons

#: Seconds between two questions of why nothing happens, and while a stage is at work.
WHY_S, WORKING_WHY_S = 5.0, 15.0


@dataclass(frozen=True)
class Look:
    """What one look has found.

    Args:
        progress: of each stage.
        printed: by rank 0 since the last look; complete when the log says that the run has ended.
        unfinished: what stands on its last line, which has no end yet (a progress bar).
        waits_for: what the run waits for, without its own id in the names of its objects; "" for nothing.
    """

    view: View
    progress: Mapping[str, Progress]
    printed: list[str]
    unfinished: str
    waits_for: str


class Following:
    """Looks at one run again and again.

    Args:
        run: to follow.
        kinds: stage -> 'prep' or 'train'.
        from_now: leave out what was printed and measured before (of a run that is resumed).
    """

    def __init__(self, run: Run, kinds: Mapping[str, str], from_now: bool = False) -> None:
        self._run = run
        self.progress = {name: Progress(name, kind) for name, kind in kinds.items()}
        self._printed = Tail(run.bundle, "logs", writer="rank0")
        self._measured = [Tail(run.bundle, "metrics", writer=writer) for writer in ("driver", "rank0")]
        if from_now:
            for tail in (self._printed, *self._measured):
                tail.skip()
        self._waits_for = ""
        self._next_why = 0.0

    def look(self, now: float) -> Look:
        """What is new, at a moment in seconds since 1970."""
        view = self._run.view()
        for stage in view.stages.values():
            self.progress.setdefault(stage.name, Progress(stage.name, "train")).begin(stage.attempt)
        for tail in self._measured:
            for label, row in tail.rows():
                stage_name = label.split("/")[0]
                if stage_name in self.progress:
                    self.progress[stage_name].add(row)
        printed = [line.text for line in self._printed.records(final=view.state.ended)]
        return Look(view, self.progress, printed, self._printed.unfinished(), self._why(view, now))

    def _why(self, view: View, now: float) -> str:
        """Asked less often while a stage is at work, which may be stuck or lack some machines."""
        states = {stage.state for stage in view.stages.values()}
        if view.state.ended or states <= {"done", "skipped"}:  # the machines are on their way out
            self._waits_for = ""
        elif now >= self._next_why:
            asked = time.monotonic()
            found = reasons(self._run, view)
            took = time.monotonic() - asked  # an API that does not answer must not keep others from what the run does
            self._next_why = now + max(WORKING_WHY_S if "running" in states else WHY_S, 5 * took)
            words = found[0].waits_for.replace(f"{self._run.id}-", "") if found else ""
            self._waits_for = " ".join(words.split())
        return self._waits_for

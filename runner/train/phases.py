"""Phases: the parts of a training besides its steps, such as a validation."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from runner.errors import RunnerError, SpecError
from runner.train.watchdog import Watchdog

if TYPE_CHECKING:
    from runner.data.stream import Batch, Stream
    from runner.train.loop import Loop


class Phases:
    """The phases of one rank.

    Args:
        stage: its name, for words.
        by_force: ends a rank that is stuck in a call after a phase's timeout; None where it waits on.

    Attributes:
        name: of the phase that it is in.
    """

    def __init__(self, stage: str, loop: Loop, by_force: Callable[[RunnerError], None] | None) -> None:
        self._stage, self._loop, self._by_force = stage, loop, by_force
        self.name: str | None = None
        self._rows = 0  # that this rank has read in the phase
        self._logged: dict[str, int] = {}  # name -> of those, the rows that its values have counted for

    @contextlib.contextmanager
    def enter(self, name: str, timeout_s: float | None) -> Iterator[None]:
        """All ranks are in the phase at once, and its values are reduced at its end. Raises StageTimeout."""
        outer = self.name
        self._begin(name)
        started = time.monotonic()
        try:
            with Watchdog(f"phase '{name}' of stage '{self._stage}'", timeout_s, self._by_force):
                self._loop.metrics.peers.meet(f"the start of phase '{name}'")
                yield
                self._loop.paused(f"phase '{name}'", started)
                self._loop.exchange(f"the end of phase '{name}'")
        finally:
            self._begin(outer)
        self._loop.after_phase(name, round(time.monotonic() - started, 3))

    def _begin(self, name: str | None) -> None:
        self.name, self._rows, self._logged = name, 0, {}

    def read(self, stream: Stream) -> Iterator[Batch]:
        """The batches of a stream that no checkpoint knows; their rows are the weight of what is logged."""
        with stream:
            for batch in stream:
                self._rows += int(batch.mask.sum())
                yield batch

    def weight(self, name: str) -> int:
        """The rows that this rank has read in the phase since it last logged this name."""
        rows = self._rows - self._logged.get(name, 0)
        self._logged[name] = self._rows
        return rows

    def step_refused(self) -> SpecError:
        """The error for a step in this phase."""
        return SpecError(
            f"a step in phase '{self.name}'",
            allowed="steps outside phases, whose streams no checkpoint knows",
            todo="leave the phase before, or do without it",
            where="ctx.step",
        )

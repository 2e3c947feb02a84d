"""The seams to machines: what the supervisor does with them from within, and what a client does from outside."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from runner.record import View
    from runner.record.endings import Ending
    from runner.record.reasons import Reason


class DriverState(enum.StrEnum):
    """What the backend sees of the driver."""

    NONE = "none"
    RUNNING = "running"
    EXITED = "exited"


class Backend(Protocol):
    """Machines for one run, as its supervisor uses them: start a driver, watch it, end it, prove that it is gone.

    One attempt at one leg at a time.
    """

    def attach(self, leg: int, attempt: int) -> None:
        """Take up what an earlier supervisor of this run began, if it is still there."""

    def prepare(self, leg: int) -> None:
        """Ask for the machines of a later leg; whatever runs goes on. They are taken up, or let go, by `start`."""

    def start(self, leg: int, attempt: int) -> None:
        """Start a driver for an attempt at a leg."""

    def observe(self) -> tuple[DriverState, str]:
        """The driver's state, and how it ended, in words."""

    def endings(self) -> list[Ending]:
        """What ended machines against their will; the driver may not know it."""

    def loss(self) -> str:
        """LOST or EVICTED if machines of the current attempt went away through no fault of the job; "" otherwise."""

    def wait(self, timeout_s: float) -> None:
        """Return when the driver ends, when `wake` is called, or after `timeout_s` seconds."""

    def wake(self) -> None:
        """Make a `wait` in another thread, or a signal handler's main thread, return."""

    def stop(self, grace_s: float) -> None:
        """Ask the driver to end, and make it after `grace_s` seconds."""

    def clean(self) -> dict[str, Any]:
        """Remove everything of the run from the machines; what remains, counted, goes into the receipt.

        "asked_at", if it is there: since when machines had been asked to go already; seconds since 1970.
        """


class ClientSide(Protocol):
    """One run as a client sees it, which may be on another machine than the supervisor."""

    def launch(self) -> None:
        """Start the run's supervisor, which outlives the client."""

    def is_lost(self, view: View) -> bool:
        """Whether nothing works on the run any more although its log has no end."""

    def nudge(self, view: View) -> None:
        """Tell the supervisor to read the log now; it would do so by itself in a moment."""

    def await_change(self, view: View, seconds: float) -> None:
        """Return when the supervisor ends, where that can be seen, or after so many seconds."""

    def why(self) -> list[Reason]:
        """What its machines wait for, the most telling first."""

    def is_here(self) -> bool:
        """Whether what the run is on can be asked from here."""

    def how_lost(self) -> str:
        """What is known of how a lost run's supervisor ended."""

    def last_words(self) -> str:
        """The end of what a lost run's supervisor printed, such as its traceback, where that can still be read."""

    def remove(self) -> dict[str, Any]:
        """Remove what a lost run has left; what remains, counted, goes into the receipt."""

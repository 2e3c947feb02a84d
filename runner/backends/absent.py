"""The client's side of runs on a kind of machines that is not known here: another installation may have added it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runner.errors import Cause, InputError
from runner.record.reasons import Reason

if TYPE_CHECKING:
    from runner.record import View


class AbsentClient:
    """A run that can be read, as its bundle has it, and of whose machines nothing can be seen.

    Args:
        error: why not; raised where something is to be done with them.
    """

    def __init__(self, error: InputError) -> None:
        self._error = error

    def launch(self) -> None:
        """Raise why its machines cannot be asked."""
        raise self._error

    def is_lost(self, view: View) -> bool:
        """Never: nothing is known."""
        return False

    def nudge(self, view: View) -> None:
        """Nothing to do: the supervisor looks at the log by itself."""

    def await_change(self, view: View, seconds: float) -> None:
        """Return after so many seconds."""
        time.sleep(seconds)

    def why(self) -> list[Reason]:
        """That nothing can be seen from here."""
        words = f"nothing that can be seen from here: {self._error.found}"
        helps = f"{self._error.todo}; if its machines are gone for good: runner cancel --gone"
        return [Reason(words, None, helps, cause=Cause.API_AWAY)]

    def is_here(self) -> bool:
        """No."""
        return False

    def how_lost(self) -> str:
        """Nothing is known."""
        return ""

    def last_words(self) -> str:
        """Nothing is known."""
        return ""

    def remove(self) -> dict[str, Any]:
        """Raise why its machines cannot be asked."""
        raise self._error

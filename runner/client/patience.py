"""A moment without the store, or without the API of the machines, does not end who only looks on: the run goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from runner.errors import RunnerError, StoreError, passes
from runner.store.retry import PATIENCE_S, Retry
from runner.untrusted.visible import one_line

T = TypeVar("T")
_log = logging.getLogger(__name__)
#: How long a client goes on asking.
POLICY = Retry(PATIENCE_S)


class Patience:
    """How long to go on looking at a run that cannot be seen.

    Args:
        run_id: of the run.
        say: takes the notice that there is trouble, once each time; the logger by default.
        pause: waits for so many seconds, or until there is something else to do.
    """

    def __init__(
        self, run_id: str, say: Callable[[str], None] | None = None, pause: Callable[[float], None] | None = None
    ) -> None:
        self._run_id, self._say = run_id, say or _warn
        self._trouble = POLICY.trouble(pause=pause, tell=self._tell)
        self._is_told = False

    def over(self) -> None:
        """The trouble, if there was any, is over."""
        self._trouble.over()
        self._is_told = False

    def wait(self, error: RunnerError) -> None:
        """Return when it is time for another try.

        Raises:
            RunnerError: it has lasted too long; or `error` itself, which another try would meet again.
        """
        try:
            self._trouble.wait(error)
        except RunnerError:
            if not passes(error):
                raise
            raise RunnerError(
                f"{_words(error)}, for {POLICY.for_s / 60:g} minutes now. The run goes on without this command.\n"
                f"  to do:   `runner status {self._run_id}` shows it when there is an answer"
            ) from error

    def through(self, act: Callable[[], T]) -> T:
        """What `act` returns, tried again while there is no answer. Raises as `wait`."""
        while True:
            try:
                done = act()
            except RunnerError as error:
                self.wait(error)
            else:
                self.over()
                return done

    def _tell(self, error: RunnerError) -> None:
        if not self._is_told:
            self._say(f"{_words(error)}; the run goes on, trying again")
        self._is_told = True


def _words(error: RunnerError) -> str:
    if isinstance(error, StoreError):
        return f"the store does not answer: {error.found}"
    return " ".join(str(error).split())


def _warn(words: str) -> None:
    _log.warning("%s", one_line(words))

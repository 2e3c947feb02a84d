"""A moment without the store, or without the API of the machines, does not end who only looks on: the run goes on."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from runner.errors import ApiError, RunnerError, StoreAway, StoreError
from runner.store.store import LONGEST_PAUSE_S, PATIENCE_S
from runner.untrusted.visible import one_line

T = TypeVar("T")
#: Seconds before the second try.
FIRST_PAUSE_S = 0.5
#: What a folder on another machine says while that does not answer.
_AWAY = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH)


def passes(error: RunnerError) -> bool:
    """Whether the same may succeed in a moment. A right that is missing stays missing."""
    if isinstance(error, ApiError):
        return error.status not in (401, 403)
    if isinstance(error, StoreAway):
        return True
    cause = error.__cause__
    return isinstance(error, StoreError) and isinstance(cause, OSError) and cause.errno in _AWAY


class Patience:
    """How long to go on looking at a run that cannot be seen.

    Args:
        run_id: of the run.
        say: takes the notice that there is trouble, once each time; standard error by default.
    """

    def __init__(self, run_id: str, say: Callable[[str], None] | None = None) -> None:
        self._run_id, self._say = run_id, say or _to_standard_error
        self._since: float | None = None
        self._pause = FIRST_PAUSE_S

    def answered(self) -> None:
        """The trouble, if there was any, is over."""
        self._since, self._pause = None, FIRST_PAUSE_S

    def pause(self, error: RunnerError) -> float:
        """Seconds until the next try.

        Raises:
            RunnerError: it has lasted too long; or `error` itself, which another try would meet again.
        """
        if not passes(error):
            raise error
        now, words = time.monotonic(), _words(error)
        if self._since is None:
            self._since = now
            self._say(f"{words}; the run goes on, trying again")
        if now - self._since > PATIENCE_S:
            minutes = f"{PATIENCE_S / 60:g} minutes"
            raise RunnerError(
                f"{words}, for {minutes} now. The run goes on without this command.\n"
                f"  to do:   `runner status {self._run_id}` shows it when there is an answer"
            ) from error
        chosen, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE_S)
        return chosen

    def through(self, act: Callable[[], T]) -> T:
        """What `act` returns, tried again while there is no answer. Raises as `pause`."""
        while True:
            try:
                done = act()
            except (StoreError, ApiError) as error:
                time.sleep(self.pause(error))
            else:
                self.answered()
                return done


def _words(error: RunnerError) -> str:
    if isinstance(error, StoreError):
        return f"the store does not answer: {error.found}"
    return " ".join(str(error).split())


def _to_standard_error(words: str) -> None:
    print(f"runner: {one_line(words)}", file=sys.stderr, flush=True)

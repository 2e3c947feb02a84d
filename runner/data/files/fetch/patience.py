"""How long a read goes on, and how often a process may try again in all."""

from __future__ import annotations

import os
import threading

from runner.errors import RunnerError, passes
from runner.store.retry import Retry

#: Seconds from the first failure of a request to its last try, and bounds of the pauses between.
RETRY_S, FIRST_PAUSE_S, LONGEST_PAUSE_S = 120.0, 0.1, 5.0
#: Seconds that a reader waits for a range, whatever happens to it.
READ_S = 300.0
#: Tries that a process may add to its requests: at the beginning, and for each request that succeeds.
TRIES, TRIES_EARNED = 1000.0, 0.2


class Budget:
    """The tries that a process has left: a store that fails most requests is not asked ever more often."""

    def __init__(self) -> None:
        self._left, self._lock = TRIES, threading.Lock()

    def earn(self) -> None:
        """A request has succeeded."""
        with self._lock:
            self._left = min(TRIES, self._left + TRIES_EARNED)

    def spend(self) -> bool:
        """Whether there is another try."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


_budget = Budget()


def _anew() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _budget
    _budget = Budget()


os.register_at_fork(after_in_child=_anew)


def budget() -> Budget:
    """That of this process."""
    return _budget


def policy() -> Retry:
    """How a request is tried again."""
    return Retry(RETRY_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, _again)


def _again(error: RunnerError) -> bool:
    return passes(error) and _budget.spend()

"""Trying again what may succeed in a moment: one policy for stores, and for the APIs of machines.

Whether another try may help is told by the error alone (`runner.errors.passes`), not by where a store lies. Pauses are
drawn between nothing and a bound that doubles, so that many processes do not ask at the same moment. Each pause is said
to the logger, and ends at once where an event is set.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from runner.errors import RunnerError, passes
from runner.untrusted.visible import one_line

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")
_log = logging.getLogger(__name__)
_random = random.SystemRandom()  # ranks are forks of one process, and a training's own numbers stay as they are
#: Seconds for which the processes of a run go on asking a store, or an API, that does not answer.
PATIENCE_S = 600.0
#: Bounds of the first pause, and of the longest one.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0


@dataclass(frozen=True)
class Retry:
    """What is tried again, and for how long.

    Args:
        for_s: seconds from the first failure to the last try; 0: there is no other.
        first_s, longest_s: bounds of the first pause and of the longest one.
        again: whether another try may help, by the error.
    """

    for_s: float
    first_s: float = FIRST_PAUSE_S
    longest_s: float = LONGEST_PAUSE_S
    again: Callable[[RunnerError], bool] = passes

    def __call__(self, act: Callable[[], T], trouble: Trouble | None = None) -> T:
        """What `act` returns. Raises what it raised last, if another try does not help or there is no time for it.

        Args:
            trouble: how to wait, if not for an event of its own.
        """
        while True:
            try:
                done = act()
            except RunnerError as error:
                trouble = trouble or self.trouble()
                trouble.wait(error)
            else:
                if trouble is not None:
                    trouble.over()
                return done

    def trouble(
        self,
        stop: threading.Event | None = None,
        pause: Callable[[float], None] | None = None,
        tell: Callable[[RunnerError], None] | None = None,
    ) -> Trouble:
        """For who tries again in a loop of his own. See `Trouble`."""
        return Trouble(self, stop or threading.Event(), pause, tell or _tell)


class Trouble:
    """One spell of failures after another.

    Args:
        policy: how long a spell may last.
        stop: ends the pause and the spell: there is one more try.
        pause: waits for so many seconds, or until there is something else to do; for `stop` if it is None.
        tell: takes each error that is followed by another try.
    """

    def __init__(
        self,
        policy: Retry,
        stop: threading.Event,
        pause: Callable[[float], None] | None,
        tell: Callable[[RunnerError], None],
    ) -> None:
        self._policy, self._stop, self._pause, self._tell = policy, stop, pause or self._rest, tell
        self._tries: Iterator[tenacity.AttemptManager] | None = None

    def wait(self, error: RunnerError) -> None:
        """Return when it is time for another try. Raises `error` if it does not help, or there is no time for it."""
        if self._policy.for_s <= 0 or self._stop.is_set() or not self._policy.again(error):
            raise error
        if self._tries is None:
            self._tries = self._begin()
            self._try = next(self._tries)
        with self._try:
            raise error
        self._try = next(self._tries)

    def _rest(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def over(self) -> None:
        """It has succeeded: the next failure is the first of another spell."""
        self._tries = None

    def _begin(self) -> Iterator[tenacity.AttemptManager]:
        import tenacity  # takes 30 ms, which only trouble is worth

        policy = self._policy
        bound = tenacity.wait_exponential(multiplier=policy.first_s, max=policy.longest_s)

        def wait(state: tenacity.RetryCallState) -> float:
            left = max(0.0, policy.for_s - (state.seconds_since_start or 0.0))
            return min(_random.uniform(0.0, bound(state)), left)

        def tell(state: tenacity.RetryCallState) -> None:
            failed = state.outcome.exception() if state.outcome is not None else None
            if isinstance(failed, RunnerError):
                self._tell(failed)

        return iter(
            tenacity.Retrying(
                stop=tenacity.stop_any(
                    tenacity.stop_after_delay(policy.for_s), tenacity.stop_when_event_set(self._stop)
                ),
                wait=wait,
                sleep=self._pause,
                before_sleep=tell,
                reraise=True,
            )
        )


def _tell(error: RunnerError) -> None:
    _log.warning("trying again: %s", one_line(str(error).partition("\n")[0]))

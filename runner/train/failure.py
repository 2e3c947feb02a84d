"""What a rank tells of an exception: whose it is, and whether it is a cause or the echo of another rank's end."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.code import references
from runner.errors import Cause, RunnerError
from runner.train import peer_words

if TYPE_CHECKING:
    from runner.train.place import Place

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """How one rank failed.

    Args:
        at: seconds since 1970. A rank reports before it closes its connections, so what it causes comes later.
        error: an exception of runner that can be pickled.
        cause: what made it fail; that of the error if nothing else is known.
    """

    rank: int
    at: float
    error: RunnerError
    cause: Cause

    @classmethod
    def now(cls, rank: int, error: RunnerError) -> Failure:
        """At this moment, for the error's own cause."""
        return cls(rank, time.time(), error, error.cause)

    @property
    def is_echo(self) -> bool:
        """Whether it tells of another rank's end (a lost connection), and not why that one ended."""
        return self.cause is Cause.PEER_AWAY


def first_failure(failures: list[Failure]) -> RunnerError:
    """The failure to show: the earliest cause; where there are only echoes, the earliest of them."""
    causes = [failure for failure in failures if not failure.is_echo]
    return min(causes or failures, key=lambda failure: failure.at).error


def failure(rank: int, error: BaseException) -> Failure:
    """The report of `error`; also prints the whole traceback to the rank's log."""
    at = time.time()
    traceback.print_exception(error, file=sys.stderr)
    told = as_runner_error(rank, error)
    return Failure(rank, at, told, peer_words.of_exception(error) or told.cause)


def as_runner_error(rank: int, error: BaseException) -> RunnerError:
    """An exception of ours as it is; anything else is the user's, with the user's frames only."""
    return references.as_users(error, rank=rank)


def end_by_force(place: Place) -> Callable[[RunnerError], None]:
    """Tell the launcher and end this process: for a rank that is stuck in a call."""

    def end(error: RunnerError) -> None:
        _log.error("%s; this rank is stuck in a call and is ended", error)
        if place.reports is not None:
            place.reports.send(("failure", Failure.now(place.rank, error)))
        os._exit(1)

    return end

"""What a rank tells of an exception: whose it is, and whether it is a cause or the echo of another rank's end."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.code import references
from runner.errors import RunnerError

if TYPE_CHECKING:
    from runner.train.place import Place

#: Words of gloo, NCCL and the store for a peer that went away.
_ECHOES = ("connection closed by peer", "connection reset by peer", "broken pipe", "gloo/", "nccl error", "tcpstore")


@dataclass(frozen=True)
class Failure:
    """How one rank failed.

    Args:
        at: seconds since 1970. A rank reports before it closes its connections, so what it causes comes later.
        error: an exception of runner that can be pickled.
        echo: it looks like the consequence of another rank's end (a lost connection), not like a cause.
    """

    rank: int
    at: float
    error: RunnerError
    echo: bool = False


def first_failure(failures: list[Failure]) -> RunnerError:
    """The failure to show: the earliest cause; where there are only echoes, the earliest of them."""
    causes = [failure for failure in failures if not failure.echo]
    return min(causes or failures, key=lambda failure: failure.at).error


def failure(rank: int, error: BaseException) -> Failure:
    """The report of `error`; also prints the whole traceback to the rank's log."""
    at = time.time()
    traceback.print_exception(error, file=sys.stderr)
    return Failure(rank, at, as_runner_error(rank, error), is_echo(error))


def as_runner_error(rank: int, error: BaseException) -> RunnerError:
    """An exception of ours as it is; anything else is the user's, with the user's frames only."""
    return references.as_users(error, rank=rank)


def is_echo(error: BaseException) -> bool:
    """Whether the exception, or one that it was raised from, tells of a lost connection between ranks."""
    import torch.distributed as dist

    return any(
        isinstance(e, dist.DistError)
        or (isinstance(e, RuntimeError | ConnectionError) and any(word in str(e).lower() for word in _ECHOES))
        for e in _chain(error)
    )


def end_by_force(place: Place) -> Callable[[RunnerError], None]:
    """Tell the launcher and end this process: for a rank that is stuck in a call."""

    def end(error: RunnerError) -> None:
        print(f"runner: {error}; this rank is stuck in a call and is ended", file=sys.stderr, flush=True)
        if place.reports is not None:
            place.reports.send(("failure", Failure(place.rank, time.time(), error)))
        os._exit(1)

    return end


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__

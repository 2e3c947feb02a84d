"""What a stream has read so far, and what it waited for."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Stats:
    """Sums of one stream in one process since it was made, or between two moments (``after - before``).

    What is fetched before the first batch (listing, footers, lines and filters that are counted) is not in it.

    Args:
        rows, bytes: decoded; more than was handed out where rows are skipped on the way to a resume, or read ahead.
        seconds: from where a pass began to the last batch that was handed out; of all passes.
        wait_s: of these, for which the consumer waited for data.
        requests: sent for files of other machines, second ones and those that failed included.
        retries: of them those that followed a failure.
        hedges: of them those that were sent because the first was late.
        fetched_bytes: that came with answers and were used.
        cached_bytes: that came from a cache on this machine instead.
    """

    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0
    requests: int = 0
    retries: int = 0
    hedges: int = 0
    fetched_bytes: int = 0
    cached_bytes: int = 0

    @property
    def wait_share(self) -> float:
        """The part of the time that was spent waiting for data, from 0 to 1."""
        return min(1.0, self.wait_s / self.seconds) if self.seconds > 0 else 0.0

    def __sub__(self, before: Stats) -> Stats:
        return Stats(*(getattr(self, one.name) - getattr(before, one.name) for one in fields(self)))

    def __add__(self, more: Stats) -> Stats:
        return Stats(*(getattr(self, one.name) + getattr(more, one.name) for one in fields(self)))


NOTHING = Stats()

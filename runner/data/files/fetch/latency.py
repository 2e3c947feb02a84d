"""How long requests of a size take, and when one is late."""

from __future__ import annotations

import math
import threading
from collections import deque

#: Requests that are remembered for each size (a power of two), and the fewest from which something follows.
_REMEMBERED, _FEWEST = 200, 20
#: Seconds before which no request is late, and after which one is where nothing follows from others.
LEAST_S, UNKNOWN_S = 0.05, 2.0
#: Times the 95th percentile after which a request is late: one of twenty is that late by nature.
FACTOR = 1.5
#: Of all requests, the share that may be sent a second time, and how many more at the beginning.
SHARE, FIRST = 0.05, 4


class Latencies:
    """Those of one server."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[float]] = {}
        self._late: dict[int, tuple[int, float]] = {}
        self._lock = threading.Lock()
        self._requests = self._hedges = 0

    def add(self, size: int, seconds: float) -> None:
        """A request of so many bytes was answered."""
        with self._lock:
            self._seen.setdefault(size.bit_length(), deque(maxlen=_REMEMBERED)).append(seconds)
            self._requests += 1

    def late_after(self, size: int) -> float:
        """Seconds after which a request is far later than 19 of 20 of about its size were."""
        with self._lock:
            seen = self._seen.get(size.bit_length(), ())
            if len(seen) < _FEWEST:
                return UNKNOWN_S
            return max(LEAST_S, FACTOR * sorted(seen)[math.ceil(0.95 * len(seen)) - 1])

    def may_hedge(self) -> bool:
        """Whether one more may be sent a second time; it is then counted as sent."""
        with self._lock:
            if self._hedges >= FIRST + SHARE * self._requests:
                return False
            self._hedges += 1
            return True

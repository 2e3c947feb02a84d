"""How a stream reads: what has no part in the order of its samples."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: Decoded bytes that are ready ahead of the trainer.
READY_BYTES = 16 << 20
#: Decoded bytes of blocks that nobody has begun to consume.
AHEAD_BYTES = 16 << 20
#: Seconds that data may take before it is an error.
LONGEST_WAIT_S = 900.0
#: Threads that decode, at most, where nobody says how many.
_MOST_THREADS = 2


@dataclass(frozen=True)
class Reading:
    """How a stream reads.

    Args:
        columns: in the order wanted.
        as_: 'torch', 'numpy' or 'arrow'.
        threads: that decode.
        ready_bytes: decoded, that may be ready ahead of the consumer.
        ahead_bytes: decoded, of blocks that nobody has begun to consume.
        timeout_s: seconds that data may take before it is an error.
    """

    columns: tuple[str, ...]
    as_: str = "torch"
    threads: int = 1
    ready_bytes: int = READY_BYTES
    ahead_bytes: int = AHEAD_BYTES
    timeout_s: float = LONGEST_WAIT_S


def default_threads() -> int:
    """Threads that decode where nobody says how many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_THREADS, cores)

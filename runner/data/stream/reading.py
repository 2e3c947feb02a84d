"""How a stream reads: what has no part in the order of its samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.data import lanes
from runner.data.limits import shown_bytes
from runner.data.shards import AllUnits, Unit
from runner.errors import SpecError

#: Decoded bytes that are ready ahead of the trainer.
READY_BYTES = 16 << 20
#: Decoded bytes of blocks that nobody has begun to consume.
AHEAD_BYTES = 16 << 20
#: Bytes in remote files, of units that are fetched before anybody decodes them.
FETCH_BYTES = 64 << 20
#: Bytes in its file of a unit that is held while its rows are read; a larger one goes through a temporary file.
HELD_BYTES = 64 << 20
#: Seconds that data may take before it is an error.
LONGEST_WAIT_S = 900.0
#: The same, at most: a clock counts no further.
MOST_WAIT_S = 1e9
#: Threads that decode, at most, where nobody says how many.
_MOST_THREADS = 2
#: The least that is held of a unit, and read ahead, where memory is short.
_LEAST_HELD, _LEAST_AHEAD = 4 << 20, 4 << 20


@dataclass(frozen=True)
class Reading:
    """How a stream reads.

    Args:
        columns: in the order wanted.
        as_: 'torch', 'numpy' or 'arrow'.
        threads: that decode.
        ready_bytes: decoded, that may be ready ahead of the consumer.
        ahead_bytes: decoded, of blocks that nobody has begun to consume.
        fetch_bytes: in remote files, of units that are fetched before they are decoded.
        held_bytes: in the file, of a unit that is held while its rows are read.
        timeout_s: seconds that data may take before it is an error.
        cache: the folder, and the most bytes, of what is kept of remote files on this machine.
        verify: whether the content of each file is compared with what was listed before a unit of it is read.
    """

    columns: tuple[str, ...]
    as_: str = "torch"
    threads: int = 1
    ready_bytes: int = READY_BYTES
    ahead_bytes: int = AHEAD_BYTES
    fetch_bytes: int = FETCH_BYTES
    held_bytes: int = HELD_BYTES
    timeout_s: float = LONGEST_WAIT_S
    cache: tuple[Path, int] | None = None
    verify: bool = False

    def within(self, memory_bytes: int, units: AllUnits | Sequence[Unit], open_lanes: int, block_bytes: int) -> Reading:
        """The same within so many bytes of memory.

        Raises:
            SpecError: the open blocks alone need more.
        """
        least = open_lanes * (block_bytes + _LEAST_HELD) + 3 * _LEAST_AHEAD + 2 * self.threads * block_bytes
        if memory_bytes < least:
            raise SpecError(
                f"memory_bytes={memory_bytes}",
                allowed=f"at least {least} ({shown_bytes(least)}): {open_lanes} lane{'s' * (open_lanes > 1)}, each "
                f"with a block of {shown_bytes(block_bytes)} and a part of a unit, and what is read ahead",
                todo="give it more" + (", or use more ranks: each then has fewer lanes" if open_lanes > 1 else ""),
                where="Stream",
            )
        spare = memory_bytes - least
        held = min(lanes.held(units, self.held_bytes), _LEAST_HELD + spare // (2 * open_lanes))
        spare -= open_lanes * max(0, held - _LEAST_HELD)
        ahead = _LEAST_AHEAD + max(0, spare) // 4
        return replace(
            self,
            ready_bytes=min(self.ready_bytes, ahead),
            ahead_bytes=min(self.ahead_bytes, ahead),
            fetch_bytes=min(self.fetch_bytes, ahead),
            held_bytes=held,
        )


def default_threads() -> int:
    """Threads that decode where nobody says how many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_THREADS, cores)

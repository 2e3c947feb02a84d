"""How long Arrow keeps memory that it has freed, in this process and those that it starts."""

from __future__ import annotations

import os

_NAME, _MILLISECONDS = "MIMALLOC_PURGE_DELAY", 60_000


def keep_freed_memory() -> None:
    """Have Arrow's allocator keep freed memory for a minute; by itself it gives it back to the system after a second.

    A stream frees what was decoded some seconds later, as quickly as batches are consumed, and decodes into as much
    anew: to have each page cleared and mapped once more costs 4 to 10 % of a pass. Arrow's allocator
    (mimalloc) reads this when Arrow is loaded, so whoever has imported pyarrow before runner keeps what it had, and so
    does whoever has set the variable.
    """
    os.environ.setdefault(_NAME, str(_MILLISECONDS))

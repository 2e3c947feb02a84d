"""How the helpers of a stage are shared among its ranks. Light: the driver imports it."""

from __future__ import annotations


def share(helpers: int, rank: int, world_size: int) -> int:
    """How many helpers a rank has, of so many for all: they differ by one at most."""
    return helpers * (rank + 1) // world_size - helpers * rank // world_size

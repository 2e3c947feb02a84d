"""Sums over the ranks of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, distributed

if TYPE_CHECKING:
    from runner import TrainContext


def total(ctx: TrainContext, values: Tensor) -> Tensor:
    """The sum of `values` over all ranks, in place. Every rank calls it; on a GPU, `values` lies there."""
    if ctx.world_size > 1:
        distributed.all_reduce(values)
    return values

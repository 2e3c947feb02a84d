"""What ranks say to each other about a training: small Python values, gathered in the order of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

#: Collectives for CPU tensors (and for our own small objects) beside those of the accelerator.
GPU_BACKEND, CPU_BACKEND = "cpu:gloo,cuda:nccl", "gloo"
#: Seconds after which a rank gives up a collective that the others do not join.
COLLECTIVE_TIMEOUT_S = 1800.0

Value = TypeVar("Value")


class Peers:
    """The ranks of a gang. A rank alone talks to itself, and no process group is needed."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, on every rank, in the order of ranks. A collective."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Value | None) -> Value:
        """The value of rank 0, on every rank. A collective."""
        values: list[Any] = [value]
        if self.world_size > 1:
            import torch.distributed as dist

            dist.broadcast_object_list(values, src=0)
        return values[0]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every rank's tensor, in a tensor of its own. A collective."""
        total = values.detach().clone()
        if self.world_size > 1:
            import torch.distributed as dist

            dist.all_reduce(total)
        return total

    def barrier(self) -> None:
        """Return when every rank has come here."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.barrier()

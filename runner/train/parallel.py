"""Models on their device and spread over ranks: DDP, or FSDP by a word."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from runner.errors import SpecError

STRATEGIES = ("ddp", "fsdp", None)


def prepare(
    model: nn.Module, strategy: str | None, device: torch.device, world_size: int, options: dict[str, Any]
) -> nn.Module:
    """The model on `device`, wrapped where there are other ranks to agree with.

    Args:
        options: for DistributedDataParallel or fully_shard.

    Raises:
        SpecError: an unknown strategy, or not a module.
    """
    if not isinstance(model, nn.Module):
        raise SpecError(f"a {type(model).__name__}", allowed="a torch.nn.Module", where="ctx.prepare")
    if strategy not in STRATEGIES:
        raise SpecError(f"strategy={strategy!r}", allowed="'ddp', 'fsdp' or None", where="ctx.prepare")
    model = model.to(device)
    if world_size == 1 or strategy is None or not any(p.requires_grad for p in model.parameters()):
        return model
    return _sharded(model, device, world_size, options) if strategy == "fsdp" else _replicated(model, device, options)


def _sharded(model: nn.Module, device: torch.device, world_size: int, options: dict[str, Any]) -> nn.Module:
    """FSDP2. The members of every ModuleList (the blocks of a transformer) are gathered one at a time."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    options = {"mesh": init_device_mesh(device.type, (world_size,)), **options}
    for part in list(model.modules()):
        if isinstance(part, nn.ModuleList):
            for member in part:
                if any(True for _ in member.parameters()):
                    fully_shard(member, **options)
    fully_shard(model, **options)
    return model


def _replicated(model: nn.Module, device: torch.device, options: dict[str, Any]) -> nn.Module:
    ids = [device.index] if device.type == "cuda" else None
    replicated = DistributedDataParallel(model, device_ids=ids, **options)
    if torch.distributed.get_world_size() > 2 and may_settle(options):
        settle_buckets(replicated)
    return replicated


#: Options of DDP beside which discarded backwards change nothing that it does later.
_HARMLESS = frozenset(
    {
        "broadcast_buffers",
        "bucket_cap_mb",
        "dim",
        "gradient_as_bucket_view",
        "init_sync",
        "output_device",
    }
)


def may_settle(options: dict[str, Any]) -> bool:
    """Whether buckets can be settled without DDP taking the discarded backwards for the user's.

    With `static_graph` it would record of them which parameters are used, and how often. With `find_unused_parameters`
    it never moves a gradient into another bucket, so there is nothing to settle.
    """
    return all(name in _HARMLESS or not value for name, value in options.items())


class _TouchAll(nn.Module):
    """A stand-in for the user's module: a zero that depends on every parameter, in the order of their definition."""

    def __init__(self, user: nn.Module) -> None:
        super().__init__()
        self.user = user  # never called; DDP looks for its buffers
        self.sparse = {id(part.weight) for part in user.modules() if _is_sparse(part)}

    def forward(self) -> torch.Tensor:
        parameters = [p for p in self.user.parameters() if p.requires_grad]
        total = torch.zeros((), device=parameters[0].device)
        for parameter in parameters:
            total = total + self._sum(parameter).float() * 0.0
        return total

    def _sum(self, parameter: torch.Tensor) -> torch.Tensor:
        if id(parameter) in self.sparse:  # its gradient must be a sparse one
            first = torch.zeros(1, dtype=torch.long, device=parameter.device)
            return nn.functional.embedding(first, parameter, sparse=True).sum()
        return (torch.view_as_real(parameter) if parameter.is_complex() else parameter).sum()


def _is_sparse(part: nn.Module) -> bool:
    return isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.sparse


def settle_buckets(model: DistributedDataParallel) -> None:
    """Have DDP settle the order in which it sums gradients, before the first step.

    DDP groups gradients into buckets in the order of definition, and again, after its first backward, in the order in
    which they came. From three ranks on, other buckets mean another order of summation, so the first step after a
    resume would differ in its last bits from the same step of a training that was not cut. (Of two ranks there is one
    order of summation: nothing is done, and the bits are those of plain DDP.) Two backwards through a
    stand-in leave every attempt with the same buckets. It takes no input and draws no random number, it runs no layer
    of the model (so no running mean moves), and the gradients, all zero, are dropped.
    """
    user = model.module
    model.module = _TouchAll(user)
    try:
        for _ in range(2):
            model().backward()
    finally:
        model.module = user
        for parameter in user.parameters():
            parameter.grad = None


@contextlib.contextmanager
def accumulating(models: Sequence[nn.Module], last: bool) -> Iterator[None]:
    """Gradients are added up on each rank, and meet those of the other ranks at the last batch of a step only."""
    with contextlib.ExitStack() as stack:
        for model in () if last else models:
            stack.enter_context(_unsynchronized(model))
        yield


@contextlib.contextmanager
def _unsynchronized(model: nn.Module) -> Iterator[None]:
    """Gradients stay on their rank. DDP may lie under or over `torch.compile`."""
    inner: Any = model
    while isinstance(getattr(inner, "_orig_mod", None), nn.Module):
        inner = inner._orig_mod
    if isinstance(inner, DistributedDataParallel):
        with inner.no_sync():
            yield
        return
    sharded = [part for part in inner.modules() if isinstance(part, FSDPModule)]
    for part in sharded:
        part.set_requires_gradient_sync(False, recurse=False)
    try:
        yield
    finally:
        for part in sharded:
            part.set_requires_gradient_sync(True, recurse=False)

"""Models that DDP treats each in its own way, trained through `ctx.prepare` and through plain DDP in the same ranks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint


class Shared(nn.Module):
    """A layer that is used twice, and one that is used never unless `all_used`."""

    def __init__(self, all_used: bool = True) -> None:
        super().__init__()
        self.twice, self.last = nn.Linear(4, 4), nn.Linear(4, 1)
        if not all_used:
            self.never = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        return self.last(self.twice(torch.relu(self.twice(x))))


class Alternating(nn.Module):
    """Another layer at every other step, and not the same on each rank."""

    def __init__(self) -> None:
        super().__init__()
        self.odd, self.even, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        rank = torch.distributed.get_rank()
        return self.last((self.odd if (step + rank) % 2 else self.even)(x))


class Tied(nn.Module):
    """Weights under two names, a frozen layer and a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.norm = nn.Linear(4, 4).requires_grad_(False), nn.BatchNorm1d(4)
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        return self.last(self.second(self.first(self.norm(self.frozen(x))).tanh()))


class Sparse(nn.Module):
    """An embedding whose gradients are sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(11, 4, sparse=True), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        return self.last(self.table((x[:, 0] * 5).long().abs() % 11) + x)


class Checkpointed(nn.Module):
    """Activations that are computed again in the backward."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first, self.block, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, step: int) -> torch.Tensor:
        hidden = checkpoint(lambda h: self.block(h).relu(), self.first(x), use_reentrant=self.reentrant)
        return self.last(hidden)


@dataclass
class Kind:
    """A model and DDP's options for it; of each step `micro` backwards, each of `forwards` forwards."""

    make: Callable[[], nn.Module]
    options: dict[str, Any] = field(default_factory=dict)
    micro: int = 1
    forwards: int = 1


KINDS = {
    "several buckets": Kind(lambda: Checkpointed(False), {"bucket_cap_mb": 0.0001}),
    "static graph, a shared layer": Kind(Shared, {"static_graph": True}),
    "static graph, an unused layer": Kind(lambda: Shared(False), {"static_graph": True}),
    "static graph, several buckets": Kind(Shared, {"static_graph": True, "bucket_cap_mb": 0.0001}),
    "a shared layer": Kind(Shared),
    "an unused layer": Kind(lambda: Shared(False), {"find_unused_parameters": True}),
    "alternating layers": Kind(Alternating, {"find_unused_parameters": True}),
    "tied, frozen and normed": Kind(Tied),
    "sparse": Kind(Sparse),
    "checkpointed": Kind(lambda: Checkpointed(False)),
    "checkpointed, reentrant": Kind(lambda: Checkpointed(True)),
    "checkpointed, reentrant, static graph": Kind(lambda: Checkpointed(True), {"static_graph": True}),
    "several forwards": Kind(Alternating, {"find_unused_parameters": True}, forwards=2),
    "views of buckets": Kind(Shared, {"gradient_as_bucket_view": True}),
    "accumulated": Kind(Shared, micro=3),
}


def as_plain_ddp(ctx: Any, config: Any) -> None:
    """Train every kind both ways, and keep the names of those of which a loss or a gradient differs in a bit."""
    differing = []
    for name, kind in KINDS.items():
        torch.manual_seed(1)
        ours = kind.make()
        plain = copy.deepcopy(ours)
        found = [_train(ctx, kind, ctx.prepare(ours, **kind.options))]
        found.append(_train(ctx, kind, DistributedDataParallel(plain, **kind.options)))
        if not all(torch.equal(a, b) for a, b in zip(*found, strict=True)):
            differing.append(name)
    ctx.save("differing", {"rank 0": differing, "kinds": len(KINDS)})
    assert not differing, differing


def _train(ctx: Any, kind: Kind, model: Any) -> list[torch.Tensor]:
    """The loss and every gradient of some steps."""
    seen: list[torch.Tensor] = []
    draw = torch.Generator().manual_seed(ctx.rank)
    for step in range(4):
        model.zero_grad()
        for micro in range(kind.micro):
            model.require_backward_grad_sync = micro == kind.micro - 1
            x = torch.randn(8, 4, generator=draw)
            out = [model(x * (n + 1), step) for n in range(kind.forwards)]
            loss = torch.stack([part.square().mean() for part in out]).sum()
            loss.backward()
        grads = [p.grad.to_dense().clone() for p in model.parameters() if p.grad is not None]
        seen += [loss.detach(), *grads]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad.to_dense()
    return seen

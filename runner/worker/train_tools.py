"""What a training loop asks for besides batches and steps: its length, when gradients meet, the bare module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from runner.checks import Fields
from runner.data.stream import as_whole
from runner.errors import SpecError
from runner.spec import Train
from runner.worker import checkpoint_state, train_data
from runner.worker.scope import Scope


class TrainTools:
    """Part of `TrainContext`."""

    _stage: Train
    _scope: Scope

    def rows(self, name: str) -> int:
        """How many rows a dataset of the stage has.

        Args:
            name: of the stage's `data`.
        """
        return train_data.pinned(self._stage, name, self._scope).rows

    def total_steps(
        self, name: str, batch_size: int | None = None, *, global_batch_size: int | None = None, epochs: int = 1,
        tail: str = "drop", accumulate: int = 1,
    ) -> int:  # fmt: skip
        """How many steps a loop over `batches` with these arguments makes; known before the first of them, so a
        schedule can be built with it. The same on every rank, and in a training that goes on from a checkpoint.

        Args:
            accumulate: batches of one step. Batches that are left over when the data ends fill no step.
        """
        whole = self._global_batch(f"ctx.total_steps('{name}')", batch_size, global_batch_size)
        if accumulate < 1 or epochs < 0:
            raise SpecError(
                f"accumulate={accumulate}, epochs={epochs}", allowed="accumulate from 1 up, epochs from 0 up",
                where=f"ctx.total_steps('{name}')",
            )  # fmt: skip
        rows = self.rows(name)
        batches = rows // whole if tail == "drop" else -(-rows // whole)
        return batches * epochs // accumulate

    def _global_batch(self, call: str, batch_size: int | None, global_batch_size: int | None) -> int:
        """The rows of all ranks, from the one of the two that was given.

        Raises:
            SpecError: not one of them was given, or no number of rows.
        """
        if (batch_size is None) == (global_batch_size is None):
            raise SpecError(
                f"batch_size={batch_size}, global_batch_size={global_batch_size}", allowed="one of the two", where=call
            )
        field = "batch_size" if batch_size is not None else "global_batch_size"
        rows = as_whole(batch_size if batch_size is not None else global_batch_size)
        Fields(call).integer(field, rows, 1)
        return int(rows) * (self._stage.workers if batch_size is not None else 1)

    @contextlib.contextmanager
    def accumulate(self, *models: torch.nn.Module, last: bool) -> Iterator[None]:
        """Forward and backward of one of the batches of a step:

            for i, batch in enumerate(ctx.batches("train", batch_size=8)):
                last = (i + 1) % 4 == 0
                with ctx.accumulate(model, last=last):
                    (loss_of(model(batch["x"])) / 4).backward()
                if last: ...  # optimizer.step(), ctx.step()

        Args:
            models: what `prepare` gave, bare, in DDP, sharded by FSDP or compiled. One rank alone has nobody to meet.
            last: whether it is the last batch of the step. Only then are gradients reduced over ranks; before, they are
                added up on each.
        """
        with contextlib.ExitStack() as stack:
            for model in () if last else models:
                stack.enter_context(_unsynchronized(model))
            yield

    def unwrap(self, model: torch.nn.Module) -> torch.nn.Module:
        """The module that was given to `prepare`, under DDP and `torch.compile`. What FSDP shards has no wrapper."""
        return checkpoint_state.unwrapped(model)


@contextlib.contextmanager
def _unsynchronized(model: torch.nn.Module) -> Iterator[None]:
    """Gradients stay on their rank. DDP may lie under or over `torch.compile`."""
    inner: Any = model
    while isinstance(getattr(inner, "_orig_mod", None), torch.nn.Module):
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

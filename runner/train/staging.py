"""Batches on their way to a GPU: copied ahead of the rank, from pinned memory and on a stream of their own.

A copy from ordinary memory keeps the rank until it is done, and behind the kernels of the step before it. From pinned
memory (of PyTorch's caching host allocator) the GPU copies by itself, and on a stream of its own beside those kernels;
the rank's stream only has to wait for what is mostly there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch

from runner.data.stream import Batch, Stream
from runner.data.stream.ragged import Ragged
from runner.data.stream.steps import Ready


class Copies(Protocol):
    """How tensors come to a device."""

    def begin(self) -> None:
        """The calling thread is the one that copies."""
        ...

    def copied(self, value: torch.Tensor) -> torch.Tensor:
        """A tensor on the device, which may be on its way there."""
        ...

    def taken(self, values: list[torch.Tensor]) -> None:
        """These are used from now on by what the calling thread has the device do."""
        ...


class CudaCopies:
    """Copies to a GPU of NVIDIA's, or of AMD's with ROCm.

    Args:
        device: with its index.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def begin(self) -> None:
        torch.cuda.set_device(self._device)

    def copied(self, value: torch.Tensor) -> torch.Tensor:
        with torch.cuda.stream(self._stream):
            return value.pin_memory().to(self._device, non_blocking=True)

    def taken(self, values: list[torch.Tensor]) -> None:
        here = torch.cuda.current_stream(self._device)
        here.wait_stream(self._stream)
        for value in values:
            value.record_stream(here)  # its memory is the copies' again only once the kernels here are done with it


class Staging:
    """The batches of one stream on their way to a device. It copies in the stream's thread that is ahead.

    Args:
        stream: of numpy's arrays.
    """

    def __init__(self, stream: Stream, device: torch.device, copies: Copies | None = None) -> None:
        self._device = device
        self._copies = CudaCopies(device) if copies is None else copies
        stream.pass_through(self)

    def transformed(self, steps: Iterator[tuple[Ready, int]]) -> Iterator[tuple[Ready, int]]:
        """The same batches with their columns on the device."""
        self._copies.begin()
        try:
            for ready, size in steps:
                yield replace(ready, columns={name: self._moved(each) for name, each in ready.columns.items()}), size
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()

    def stop(self) -> None:
        """Nothing is waited for."""

    def arrived(self, read: Iterator[Batch]) -> Iterator[Batch]:
        """What is read of the stream, as batches of tensors that may be used."""
        for batch in read:
            self._copies.taken([part for value in batch.values() for part in _tensors(value)])
            made = Batch(batch)
            made.weight, made.epoch = batch.weight, batch.epoch
            made.positions = torch.from_numpy(batch.positions)
            made.mask, made.sources = self._to_device(batch.mask), self._to_device(batch.sources)
            yield made

    def _to_device(self, array: Any) -> Any:
        """What is small, and used on both sides: it is copied when the batch is taken."""
        return None if array is None else torch.from_numpy(array).to(self._device, non_blocking=True)

    def _moved(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._copies.copied(torch.from_numpy(value))
        if isinstance(value, torch.Tensor):
            return self._copies.copied(value)
        if isinstance(value, list) and value and isinstance(value[0], np.ndarray):  # pictures of different sizes
            return [self._moved(each) for each in value]
        if isinstance(value, Ragged):
            there = value.tensors(torch)
            if there.kind != "list":
                return there  # of use to the processor alone
            parts = self._copies.copied(there.values), self._copies.copied(there.offsets)
            return Ragged(*parts, there.kind, there.valid, value.offsets)
        return value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors on the device that a column is made of."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Ragged) and value.kind == "list":
        yield from (value.values, value.offsets)
    elif isinstance(value, list):
        for each in value:
            yield from _tensors(each) if isinstance(each, torch.Tensor) else ()

"""Batches on their way to a device, with a device that is this machine's memory; on a GPU where there is one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from runner.data.stream import Stream
from runner.data.stream.ragged import Ragged
from runner.train.staging import Copies, CudaCopies, Staging


class Here:
    """Copies within this machine's memory, and notes what is asked of it."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.under_way: list[torch.Tensor] = []
        self.used = 0

    def begin(self) -> None:
        self.threads.add(threading.current_thread().name)

    def copied(self, value: torch.Tensor) -> torch.Tensor:
        self.threads.add(threading.current_thread().name)
        self.under_way.append(value.clone())
        return self.under_way[-1]

    def taken(self, values: list[torch.Tensor]) -> None:
        assert all(any(value is one for one in self.under_way) for value in values)
        self.used += len(values)


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Numbers, lists, text, and a column of structures."""
    lists = [list(range(i % 5)) for i in range(300)]
    columns: dict[str, Any] = {"id": list(range(300)), "list": lists, "text": [f"t{i}" for i in range(300)]}
    columns["x"] = np.arange(300, dtype=np.float32)
    columns["structure"] = [{"a": i} for i in range(300)]
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=64)
    return str(tmp_path)


def streams(data: str) -> tuple[Stream, Stream]:
    """One of tensors, and the same of arrays."""
    made = [Stream(data, 32, seed=3, tail="wrap", as_=as_) for as_ in ("torch", "numpy")]
    return made[0], made[1]


def plain(value: Any) -> Any:
    """As Python's values."""
    return value.tolist() if isinstance(value, torch.Tensor | Ragged) else list(value)


@pytest.mark.parametrize("kind", ["here", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_batches_are_those_of_the_stream(data: str, kind: str) -> None:
    """Every column, position, mask, weight and place is what it is without a device."""
    device = torch.device("cpu" if kind == "here" else "cuda:0")
    copies: Copies = Here() if kind == "here" else CudaCopies(device)
    reference, stream = streams(data)
    staging = Staging(stream, device, copies)
    count = 0
    for wanted, found in zip(reference, staging.arrived(iter(stream)), strict=True):
        assert {name: plain(value) for name, value in found.items()} == {n: plain(v) for n, v in wanted.items()}
        assert found["x"].device == found.mask.device == found["list"].values.device == device
        assert found.positions.tolist() == wanted.positions.tolist()
        assert found.mask.tolist() == wanted.mask.tolist()
        assert (found.weight, found.epoch) == (wanted.weight, wanted.epoch)
        assert stream.state_dict() == reference.state_dict()
        count += 1
    assert count == 10


def test_copies_are_made_ahead(data: str) -> None:
    """What is copied is copied in the thread that reads ahead, and is told to the rank's side before it is used."""
    copies = Here()
    stream = streams(data)[1]
    staging = Staging(stream, torch.device("cpu"), copies)
    batch = next(staging.arrived(iter(stream)))
    assert copies.threads == {"runner-prefetch"}
    assert copies.used == 4  # id, x, and the two of a list
    assert batch["x"].shape == (32,)
    stream.close()


def test_an_error_comes_after_the_batches_before_it(data: str, tmp_path: Path) -> None:
    """A stream that is broken off, or fails, does so at the same batch as without a device."""

    class Fails(Here):
        def copied(self, value: torch.Tensor) -> torch.Tensor:
            if len(self.under_way) == 8:
                raise RuntimeError("CUDA error: out of memory")
            return super().copied(value)

    stream = streams(data)[1]
    read: Iterator[Any] = Staging(stream, torch.device("cpu"), Fails()).arrived(iter(stream))
    assert [len(next(read)["x"]) for _ in range(2)] == [32, 32]
    with pytest.raises(RuntimeError, match="out of memory"):
        next(read)
    assert stream.state_dict()["samples_seen"] == 64

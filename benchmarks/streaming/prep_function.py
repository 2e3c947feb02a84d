"""One is added to every token: the function that all contestants of `prep` are given, and runner's job with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Rows a call.
BATCH = 2048


@dataclass(frozen=True)
class Config:
    """Nothing that the function depends on."""

    unused: int = 0


def add_one(batch: Any, config: Any = None) -> pa.Table:
    """A record batch, or a table, with id and lists of tokens; a table with one more for each token."""
    tokens = batch.column("tokens")
    if isinstance(tokens, pa.ChunkedArray):
        tokens = tokens.combine_chunks()
    values = pc.add(tokens.flatten(), pa.scalar(1, pa.int32()))
    lengths = np.frombuffer(pc.list_value_length(tokens).buffers()[1], np.int32)[: len(tokens)]
    offsets = np.zeros(len(tokens) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    lists = pa.ListArray.from_arrays(pa.array(offsets), values)
    return pa.table({"id": batch.column("id"), "tokens": lists})


def job(url: str, workers: int) -> Any:
    """runner's job: the same on so many workers of this machine."""
    from runner import Cluster, Dataset, Group, Job, Prep

    stage = Prep("plus", fn=add_one, source=Dataset(url), sink="plus", workers=workers, batch_size=BATCH)
    return Job("plus", [stage], config=Config(), cluster=Cluster(backend="local", groups={"cpu": Group(cpu=1)}))

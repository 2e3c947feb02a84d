"""A batch: a dict of tensors, or of numpy's arrays, that knows where its rows stand in the order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from runner.data.stream.ragged import Ragged
from runner.errors import listed

if TYPE_CHECKING:
    import torch


Array = np.ndarray[Any, Any]


class Batch(dict[str, Any]):
    """Column -> torch tensor [B, ...], numpy array [B, ...] (``Stream(as_="numpy")``) or Arrow array (``as_="arrow"``).

    Strings, binary and lists of numbers are a `Ragged`; structures, maps and other lists are lists of Python values.
    With ``as_="arrow"`` every column is an Arrow array [B] of the type that the manifest's schema has.

    Attributes:
        positions: int64 [B]: epoch times rows of the dataset, plus the position in the epoch's order.
        mask: bool [B]: False for rows that were taken once more to fill the last batch (``tail="wrap"``).
        weight: by which this rank's mean loss (over its rows with mask True) is multiplied so that the mean
            over ranks is the mean over the global batch; 1.0 where all ranks have the same number of rows.
        epoch: of these rows.
        sources: int64 [B]: of a mixture, which of ``stream.sources`` each row is of; else None.
    """

    positions: torch.Tensor | Array
    mask: torch.Tensor | Array
    weight: float
    epoch: int
    sources: torch.Tensor | Array | None = None
    _late: dict[str, Array]

    def __getattr__(self, name: str) -> Any:
        """The tensor of an attribute, made when it is first asked for: many loops never do, and each costs a call."""
        late = self.__dict__.get("_late", {})
        if name not in late:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        import torch

        value = torch.from_numpy(late[name])
        setattr(self, name, value)
        return value

    def __missing__(self, name: str) -> Any:
        """A column that is not there is a KeyError that names those that are."""
        raise KeyError(f"no column {name!r}; there are {listed(self)}")

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """The batch with its tensors on another device; `positions` stays where it is.

        Raises:
            TypeError: it holds numpy's arrays.
        """
        if isinstance(self.mask, np.ndarray):
            raise TypeError("a batch of arrays is on no device; torch's tensors are what as_='torch' gives")
        moved = Batch({name: _moved(value, device, non_blocking) for name, value in self.items()})
        moved.positions, moved.weight, moved.epoch = self.positions, self.weight, self.epoch
        moved.mask = self.mask.to(device, non_blocking=non_blocking)
        moved.sources = _moved(self.sources, device, non_blocking)
        return moved


def make_batch(
    columns: dict[str, Any],
    positions: Array,
    mask: Array,
    weight: float,
    epoch: int,
    as_: str = "torch",
    sources: Array | None = None,
) -> Batch:
    """A batch of what was gathered, without copies.

    Args:
        as_: 'torch' imports torch and makes tensors of the arrays; 'numpy' and 'arrow' leave them as they are.
    """
    if as_ != "torch":
        batch = Batch(columns)
        batch.positions, batch.mask, batch.sources = positions, mask, sources
    else:
        import torch

        batch = Batch({name: _tensor(torch, value) for name, value in columns.items()})
        batch._late = {"positions": positions, "mask": mask}
        batch.sources = None if sources is None else torch.from_numpy(sources)
    batch.weight, batch.epoch = weight, epoch
    return batch


def as_torch(batch: Batch) -> Batch:
    """A batch of arrays as one of tensors, without copies. Raises TypeError for an array that no tensor can be."""
    return make_batch(batch, batch.positions, batch.mask, batch.weight, batch.epoch, sources=batch.sources)  # type: ignore[arg-type]


def _tensor(torch: Any, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):  # pictures of different sizes
        return [_of_numbers(torch, one) for one in value]
    return value.tensors(torch) if isinstance(value, Ragged) else value


def _of_numbers(torch: Any, value: Any) -> Any:
    is_numbers = isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
    return torch.from_numpy(value) if is_numbers else value


def _moved(value: Any, device: Any, non_blocking: bool) -> Any:
    if isinstance(value, list):
        return [one.to(device, non_blocking=non_blocking) if hasattr(one, "to") else one for one in value]
    return value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value

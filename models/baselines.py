"""What a network for delays has to beat: a mean or median for each group of rows, and a linear model.

All three are made from sums: ranks that have each seen a part of the data add theirs up, and have the baselines of the
whole data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

#: Whole minutes that are told apart; the flights of 2013 left 43 minutes early to 1,301 minutes late.
EARLIEST, LATEST = -120, 1500


class Baselines:
    """Sums over rows of (categories [rows, c] of `sizes`, numbers [rows, n], delay in whole minutes [rows]).

    Groups are pairs of the first two categories.

    Attributes:
        counts: int64 [groups, minutes]: how many rows of a group had which delay.
        gram: float64 [k + 1, k + 1]: the products of the linear model's k inputs and the delay, with each other.
    """

    def __init__(self, sizes: Sequence[int], numbers: int, device: torch.device | str = "cpu") -> None:
        self.sizes = tuple(sizes)
        inputs = sum(sizes) + numbers
        self.counts = torch.zeros(sizes[0] * sizes[1], LATEST - EARLIEST, dtype=torch.int64, device=device)
        self.gram = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64, device=device)

    def add(self, categories: Tensor, numbers: Tensor, delay: Tensor) -> None:
        """Count more rows."""
        cell = self._group(categories) * self.counts.shape[1] + (delay.long() - EARLIEST)
        self.counts += torch.bincount(cell, minlength=self.counts.numel()).view_as(self.counts)
        rows = torch.cat([self._inputs(categories, numbers), delay[:, None].double()], dim=1)
        self.gram += rows.T @ rows

    def predictors(self) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
        """Name -> function of (categories, numbers) that gives minutes [rows]. New groups get the overall value."""
        minutes = torch.arange(EARLIEST, LATEST, device=self.counts.device)
        everything = self.counts.sum(dim=0, keepdim=True)
        counts = torch.where(self.counts.sum(dim=1, keepdim=True) > 0, self.counts, everything)
        means = (counts * minutes).sum(dim=1) / counts.sum(dim=1)
        past_half = counts.cumsum(dim=1) * 2 >= counts.sum(dim=1, keepdim=True)
        medians = minutes[past_half.int().argmax(dim=1)].double()
        # least squares; the inputs of a category always add up to 1, so the shortest of the solutions is taken
        weights = torch.linalg.pinv(self.gram[:-1, :-1], hermitian=True) @ self.gram[:-1, -1]
        return {
            "group_mean": lambda categories, numbers: means[self._group(categories)],
            "group_median": lambda categories, numbers: medians[self._group(categories)],
            "linear": lambda categories, numbers: self._inputs(categories, numbers) @ weights,
        }

    def _group(self, categories: Tensor) -> Tensor:
        return categories[:, 0].long() * self.sizes[1] + categories[:, 1].long()

    def _inputs(self, categories: Tensor, numbers: Tensor) -> Tensor:
        flags = [F.one_hot(categories[:, i].long(), size) for i, size in enumerate(self.sizes)]
        return torch.cat([*flags, numbers], dim=1).double()

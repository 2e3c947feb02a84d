"""The order of a mixture: that of its schedule, and of each source by itself, from epoch to epoch without end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from runner.data.manifest import Manifest
from runner.data.stream.mixing.schedule import Schedule
from runner.data.stream.order import ORDER_VERSION, Ints, Order


class MixedOrder:
    """The order of a mixture, whose lanes are those of all sources, one source after the other.

    An epoch of a mixture has as many positions as its sources have rows together. Behind its last position the sequence
    goes on; no source begins anew.

    Args:
        manifests: of the sources, in the schedule's order.
        seed: of the mixture; each source has an order of its own, by its name.
        shuffle: False keeps the file order of each.

    Attributes:
        orders: of the sources.
        first_lanes: the first lane of each source, and behind the last the number of all.
    """

    def __init__(self, manifests: Mapping[str, Manifest], schedule: Schedule, seed: int, shuffle: bool) -> None:
        self.schedule, self.seed, self.shuffle = schedule, seed, shuffle
        self.orders = [Order(manifests[name], seed_of(seed, name), shuffle) for name in schedule.names]
        self.rows = sum(order.rows for order in self.orders)
        self.first_lanes = np.cumsum([0, *(order.lanes for order in self.orders)])
        self.lanes = int(self.first_lanes[-1])
        self.row_bytes = max(order.row_bytes for order in self.orders)
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def _epoch(self, number: int) -> MixedEpoch:
        return MixedEpoch(self, number)

    def shape(self, position: int) -> dict[str, Any]:
        """Everything besides the data and the seed that the sequence up to a position depends on; small and JSON."""
        shapes = {name: order.shape for name, order in zip(self.schedule.names, self.orders, strict=True)}
        said = {
            name: hashlib.sha256(str(sorted(one.items())).encode()).hexdigest()[:16] for name, one in shapes.items()
        }
        return {
            "order_version": ORDER_VERSION,
            "shuffle": self.shuffle,
            "shapes": said,
            "quotas": self.schedule.until(position),
        }

    def listed(self, lanes: Ints, low: int, high: int) -> Ints:
        """Of the rows of each step, int64 [steps, rows] by their lanes, those that come to stand at [low, high).

        Rows are listed source by source and lane by lane; then the sources are laid into each other by shares, so that
        each stretch of the list, the rows of a rank, has its share of each. A rank's rows come source by source.
        """
        by_lane = np.argsort(lanes, axis=1, kind="stable")
        steps, rows = lanes.shape
        source = self.source_of(np.take_along_axis(lanes, by_lane, axis=1))
        many = len(self.orders)
        cells = source + many * np.arange(steps)[:, None]
        counts = np.bincount(cells.ravel(), minlength=many * steps).reshape(steps, many)
        nth = np.arange(rows) - np.take_along_axis(np.cumsum(counts, axis=1) - counts, source, axis=1)
        share = (2 * nth + 1) / (2 * np.take_along_axis(counts, source, axis=1))
        mine = np.sort(np.argsort(share, axis=1, kind="stable")[:, low:high], axis=1)
        return np.take_along_axis(by_lane, mine, axis=1)

    def source_of(self, lanes: Ints) -> Ints:
        """The source of each lane; same shape as given."""
        return np.searchsorted(self.first_lanes, lanes, side="right") - 1


class MixedEpoch:
    """The order of one epoch of a mixture."""

    def __init__(self, order: MixedOrder, number: int) -> None:
        self._order, self._start = order, number * order.rows

    def locate(self, positions: Ints) -> tuple[Ints, Ints]:
        """Lane and index of each position; same shape as given.

        The index is the source's epoch, times its rows, plus the index in the lane of that epoch.
        """
        order = self._order
        sources, at = order.schedule.locate(positions + self._start)
        lanes, indexes = np.empty_like(at), np.empty_like(at)
        for source in np.unique(sources).tolist():
            own = order.orders[source]
            epochs, places = np.divmod(at, own.rows)
            mine = sources == source
            for epoch in np.unique(epochs[mine]).tolist():
                here = mine & (epochs == epoch)
                lane, index = own.epoch(epoch).locate(places[here])
                lanes[here] = lane + order.first_lanes[source]
                indexes[here] = index + epoch * own.rows
        return lanes, indexes


def seed_of(seed: int, name: str) -> int:
    """The seed of a source, so that sources of the same shape have different orders."""
    return int.from_bytes(hashlib.blake2b(f"runner mix 1: {seed}, {name}".encode(), digest_size=7).digest(), "little")

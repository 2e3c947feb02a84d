"""What is streamed: the rows of one manifest, or a mixture of several. Both have an order, and a reader of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from runner.data.manifest import Manifest
from runner.data.source_manifest import resolve
from runner.data.stream.mixing.order import MixedOrder
from runner.data.stream.mixing.reader import MixedReader
from runner.data.stream.mixing.schedule import Schedule
from runner.data.stream.mixing.sources import among, reconciled
from runner.data.stream.order import Ints, Order
from runner.data.stream.quarantine import Quarantine
from runner.data.stream.reader import Reader
from runner.data.stream.reading import Reading
from runner.data.stream.steps import steps_in
from runner.data.stream.views.seen import asked, seen
from runner.errors import SpecError
from runner.spec.mixing import Mix
from runner.spec.packing import Pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.data.stream.views.filters import Filter

#: The least that is decoded ahead of each source.
_LEAST_AHEAD = 4 << 20


class _Ordered:
    """What a copy in another process makes again, rather than carries with it."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "order"}


@dataclass(frozen=True)
class Plain(_Ordered):
    """The rows of one manifest.

    Args:
        seed, shuffle: of the order.
        quarantines: what is set aside, by the names of `manifests`; without one a unit that cannot be read is an error.
    """

    manifest: Manifest
    seed: int
    shuffle: bool
    quarantines: dict[str, Quarantine] = field(default_factory=dict, compare=False)

    @property
    def manifests(self) -> dict[str, Manifest]:
        """It alone, without a name."""
        return {"": self.manifest}

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.manifest.schema

    @property
    def where(self) -> str:
        """For errors."""
        return self.manifest.base

    @cached_property
    def order(self) -> Order:
        """The order of its rows."""
        return Order(self.manifest, self.seed, self.shuffle)

    def identity(self, position: int) -> dict[str, Any]:
        """What the positions below this one depend on, as values of JSON."""
        return {"manifest_id": self.manifest.id, "seed": self.seed, **self.order.shape}

    def place(self, epoch: int, position: int) -> str:
        """File, unit and row of a position of an epoch, for errors."""
        return _place(self.manifest, *self.order.epoch(epoch).rows(np.array([position])), self.quarantines.get(""))

    def readings(self, reading: Reading, memory_bytes: int | None, world_size: int) -> tuple[Reading, ...]:
        """How it is read within so many bytes of memory. Raises SpecError where they are too few."""
        if memory_bytes is None:
            return (reading,)
        order = self.order
        open_lanes = min(order.lanes, -(-order.lanes // world_size) + 1)
        return (reading.within(memory_bytes, self.manifest.units, open_lanes, order.block_bytes),)

    def opens(self, readings: Sequence[Reading]) -> Callable[[], Reader]:
        """Opens a reader."""
        return partial(Reader, self.manifest, self.order, readings[0], self.quarantines.get(""))


@dataclass(frozen=True)
class Mixture(_Ordered):
    """The rows of several manifests by a schedule.

    Args:
        manifests: by the names of the sources.
        seed, shuffle: of the order.
        quarantines: as of `Plain`.
    """

    manifests: dict[str, Manifest]
    schedule: Schedule
    seed: int
    shuffle: bool
    quarantines: dict[str, Quarantine] = field(default_factory=dict, compare=False)

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return next(iter(self.manifests.values())).schema

    @property
    def where(self) -> str:
        """For errors."""
        return f"Mix of {', '.join(self.manifests)}"

    @cached_property
    def order(self) -> MixedOrder:
        """The order of its rows."""
        return MixedOrder(self.manifests, self.schedule, self.seed, self.shuffle)

    def identity(self, position: int) -> dict[str, Any]:
        """What the positions below this one depend on, as values of JSON."""
        ids = [[name, manifest.id] for name, manifest in self.manifests.items()]
        return {"sources": ids, "seed": self.seed, **self.order.shape(position)}

    def place(self, epoch: int, position: int) -> str:
        """File, unit and row of a position of an epoch, for errors."""
        lanes, indexes = self.order.epoch(epoch).locate(np.array([position]))
        source = int(self.order.source_of(lanes)[0])
        own = self.order.orders[source]
        of, at = divmod(int(indexes[0]), own.rows)
        found = own.epoch(of).written_out(lanes - self.order.first_lanes[source], np.array([at]))
        name = self.order.schedule.names[source]
        return _place(self.manifests[name], *found, self.quarantines.get(name))

    def readings(self, reading: Reading, memory_bytes: int | None, world_size: int) -> tuple[Reading, ...]:
        """How each source is read; together they take what one dataset does, or so many bytes of memory.

        Args:
            world_size: of no account, for each rank comes to touch all lanes of a source.

        Raises:
            SpecError: the bytes are too few.
        """
        many = len(self.manifests)
        each = replace(
            reading,
            threads=max(1, reading.threads // many),
            ready_bytes=max(1, reading.ready_bytes // many),
            ahead_bytes=max(_LEAST_AHEAD, reading.ahead_bytes // many),
            fetch_bytes=max(_LEAST_AHEAD, reading.fetch_bytes // many),
        )
        if memory_bytes is None:
            return (each,) * many
        return tuple(
            each.within(memory_bytes // many, manifest.units, own.lanes, own.block_bytes)
            for manifest, own in zip(self.manifests.values(), self.order.orders, strict=True)
        )

    def opens(self, readings: Sequence[Reading]) -> Callable[[], MixedReader]:
        """Opens a reader."""
        return partial(MixedReader, self.manifests, self.order, tuple(readings), self.quarantines)


def _place(manifest: Manifest, units: Ints, rows: Ints, quarantine: Quarantine | None) -> str:
    number = int(units[0])
    shard, unit = manifest.units[number if quarantine is None else quarantine.standing_in(number)]
    return f"{manifest.url(manifest.shards[shard])} (unit {unit.index}, row {int(rows[0]) % unit.rows})"


def found(
    source: Any,
    columns: Sequence[str] | None,
    keep: Filter,
    pack: Pack | None,
    cut: tuple[int, str],
    seed: int,
    shuffle: bool,
    max_quarantine: float = 0.0,
    **said: Any,
) -> Plain | Mixture:
    """What a Stream is given, looked at.

    Args:
        keep: the filter.
        cut: the global batch, and what becomes of rows that fill none.
        seed, shuffle: of the order.
        max_quarantine: the share of the rows of each manifest that may be in units that cannot be read.
        said: see `resolve`.

    Raises:
        SpecError: an argument cannot be.
        DataError: data cannot be read, or the sources of a mixture do not fit together.
    """
    wanted = asked(columns, keep, pack)
    if not isinstance(source, Mix):
        data = resolve(source, said.pop("format"), said.pop("options"), wanted, **said)
        manifest = seen(data, keep, pack)
        return Plain(manifest, seed, shuffle, _quarantines({"": manifest}, max_quarantine))
    if source.sources is None:
        raise SpecError(
            f"a Mix of {', '.join(source.names)} without sources",
            allowed="Mix(weights, sources), but for the inputs of a stage in ctx.batches",
            where="Stream",
        )
    for name, value in said.items():
        if value is not None:
            raise SpecError(
                f"{name}={value!r}", allowed="of one URL", todo=f"say it in Dataset({name}=...)", where="Mix"
            )
    manifests = {name: resolve(source.sources[name], columns=wanted) for name in source.names}
    manifests = reconciled(manifests, columns if pack is None else pack.columns)
    manifests = {name: seen(one, keep, pack) for name, one in manifests.items()}
    return mixed(source, manifests, cut, seed, shuffle, max_quarantine)


def _quarantines(manifests: Mapping[str, Manifest], most: float) -> dict[str, Quarantine]:
    return {name: Quarantine(manifest, most, name) for name, manifest in manifests.items()} if most else {}


def mixed(
    mix: Mix,
    manifests: Mapping[str, Manifest],
    cut: tuple[int, str],
    seed: int,
    shuffle: bool,
    max_quarantine: float = 0.0,
) -> Mixture:
    """A mixture of manifests that have the same columns; see `found`."""
    global_batch, tail = cut
    rows = sum(manifest.rows for manifest in manifests.values())
    steps = max(1, steps_in(rows, global_batch, tail))  # of an epoch

    def position(step: int) -> int:
        return step // steps * rows + step % steps * global_batch

    kept = among(manifests)
    quarantines = _quarantines(kept, max_quarantine)
    return Mixture(kept, Schedule(mix.names, mix.phases(position)), seed, shuffle, quarantines)

"""The batches of one rank: which rows they have, and how many there will be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.data.stream import Batch, Stream
from runner.data.stream.stream import as_whole
from runner.data.stream.views.seen import seen
from runner.errors import SpecError
from runner.spec import Train
from runner.spec.checks import Fields
from runner.spec.mixing import Mix
from runner.train import inputs
from runner.train.feeding.feeding import Feeding
from runner.train.staging import Staging
from runner.worker.scope import Scope

if TYPE_CHECKING:
    from runner.data.manifest import Manifest
    from runner.spec.media import Declared
    from runner.spec.packing import Pack
    from runner.train.loop import Loop
    from runner.train.phases import Phases
    from runner.train.rank import Place


class Loader:
    """Reads the data of a stage for one rank.

    Args:
        loop: whose steps consume what is read outside of phases.
    """

    def __init__(self, stage: Train, scope: Scope, place: Place, loop: Loop, phases: Phases) -> None:
        self._stage, self._scope, self._loop, self._phases = stage, scope, loop, phases
        self._rank, self._world_size, self._device = place.rank, place.world_size, place.device
        self._feeding = None if stage.transform is None else Feeding(stage, scope, place.helpers)

    def rows(self, data: str | Mix, filter: Any = None, pack: Pack | None = None) -> int:
        """How many rows one of the stage's datasets has, or several have together, behind a filter and packed."""
        names = data.names if isinstance(data, Mix) else (data,)
        return sum(seen(self._pinned(name), filter, pack).rows for name in names)

    def _pinned(self, name: str) -> Manifest:
        return inputs.pinned(self._stage, name, self._scope)

    def _source(self, data: str | Mix) -> Manifest | Mix:
        """What a stream reads of the stage's datasets. Raises SpecError for a mixture of others."""
        if isinstance(data, str):
            return self._pinned(data)
        if not isinstance(data, Mix) or data.sources is not None:
            raise SpecError(
                f"{data!r}"[:200],
                allowed="a name, or Mix({name: weight, ...}) of names, in Train(data=...)",
                todo="give the sources of the mixture to Train(data=...): a run fixes what it reads",
                where="ctx.batches",
            )
        return replace(data, sources={name: self._pinned(name) for name in data.names})

    def global_batch(self, call: str, batch_size: int | None, global_batch_size: int | None) -> int:
        """The rows of all ranks, from the one of the two that was given.

        Args:
            call: of the user's, for words.

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

    def total_steps(
        self,
        data: str | Mix,
        global_batch: int,
        epochs: int,
        tail: str,
        accumulate: int,
        filter: Any = None,
        pack: Pack | None = None,
    ) -> int:
        """How many steps of `accumulate` batches there are in so many epochs."""
        if accumulate < 1 or epochs < 0:
            raise SpecError(
                f"accumulate={accumulate}, epochs={epochs}",
                allowed="accumulate from 1 up, epochs from 0 up",
                where=f"ctx.total_steps('{name_of(data)}')",
            )
        rows = self.rows(data, filter, pack)
        batches = rows // global_batch if tail == "drop" else -(-rows // global_batch)
        return batches * epochs // accumulate

    def batches(
        self,
        data: str | Mix,
        global_batch: int,
        epochs: int | None,
        steps: int | None,
        *,
        shuffle: bool,
        seed: int | None,
        columns: Sequence[str] | None,
        filter: Any,
        pack: Pack | None,
        decode: Mapping[str, Declared] | None,
        tail: str,
        transform: bool,
        **how: Any,
    ) -> Iterator[Batch]:
        """This rank's slice of every global batch. Those that are read outside of phases have their place in
        checkpoints.

        Args:
            steps: that the training has made at the end, as often over the data as it takes.
            how: it is read, as a Stream is told it.
        """
        loop, recorded, name = self._loop, self._phases.name is None, name_of(data)
        if steps is not None and (epochs not in (1, None) or not recorded):
            raise SpecError(
                f"steps={steps}", allowed="without epochs=, and outside a phase", where=f"ctx.batches('{name}')"
            )
        epochs = epochs if steps is None else None
        feeding = self._feeding if transform else None
        staged = self._device.type == "cuda" and (feeding is None or feeding.is_ahead)
        stream = Stream(
            self._source(data),
            global_batch_size=global_batch,
            seed=self._stage.seed if seed is None else seed,
            rank=self._rank,
            world_size=self._world_size,
            columns=columns,
            filter=filter,
            pack=pack,
            decode=decode,
            shuffle=shuffle,
            epochs=epochs,
            tail=tail,
            start_epoch=loop.streams.next_epoch(name) if recorded else 0,
            as_="torch" if feeding is None and not staged else "numpy",
            **how,
        )
        if feeding is not None:
            feeding.attach(stream)
        staging = Staging(stream, self._device) if staged else None
        left = None if steps is None else lambda: steps - loop.step
        loop.aside.watch(name, stream)
        read = loop.streams.read(name, stream, epochs, left) if recorded else self._phases.read(stream)
        if staging is not None:
            return staging.arrived(read)
        if feeding is not None:
            read = feeding.finished(read, loop.streams.waited if recorded else lambda seconds: None)
        return read if self._device.type == "cpu" else (b.to(self._device, non_blocking=True) for b in read)

    def close(self) -> None:
        """End what transforms batches beside the rank."""
        if self._feeding is not None:
            self._feeding.close()


def name_of(data: str | Mix) -> str:
    """What checkpoints and errors call the data of a stream."""
    return "+".join(data.names) if isinstance(data, Mix) else str(data)

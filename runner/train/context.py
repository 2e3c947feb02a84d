"""What a train function is given: its place among the ranks, its data, and the services around a step.

for batch in ctx.batches("train", batch_size=32, epochs=2):
    ...                      # forward, backward, optimizer.step(): ordinary PyTorch
    ctx.step(loss=loss)      # counts, keeps metrics; a checkpoint that is due is made before the next batch
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner.data.stream import Batch
from runner.data.stream.reading import LONGEST_WAIT_S
from runner.errors import SpecError
from runner.spec import Train
from runner.train import artefacts, parallel
from runner.train.checkpoint import start as train_start
from runner.train.checkpoint import state as checkpoint_state
from runner.train.checkpoint.published import Checkpoints
from runner.train.checkpoint.saver import Saver
from runner.train.checkpoint.tracked import TrackedObjects
from runner.train.failure import end_by_force
from runner.train.loader import Loader, name_of
from runner.train.loop import Loop
from runner.train.metrics import Metrics
from runner.train.metrics_rows import Item
from runner.train.peers import Peers
from runner.train.phases import Phases
from runner.train.randomness import Randomness
from runner.train.timers import Timers
from runner.worker.scope import Scope

if TYPE_CHECKING:
    from runner.spec.media import Declared
    from runner.spec.mixing import Mix
    from runner.spec.packing import Pack
    from runner.train.place import Place


class TrainContext:
    """The training as one rank sees it.

    Attributes:
        rank, world_size: this rank and how many there are; local_rank: among those of this machine.
        device: where models and batches go.
        config: the job's config.
        step_number: steps made, earlier attempts included.
        epoch: of the last batch, from 0.
        resumed: whether this training goes on from a checkpoint.
    """

    def __init__(self, place: Place, stage: Train, scope: Scope, argument: dict[str, Any], peers: Peers) -> None:
        self.rank, self.world_size, self.local_rank = place.rank, place.world_size, place.local_rank
        self.device, self.config = place.device, scope.config
        self._stage, self._scope, self._peers = stage, scope, peers
        rows = scope.spool(stage.name, "metrics", f"rank{self.rank}") if self.rank == 0 else None
        self._loop = loop = Loop(Metrics(peers, rows))
        self._phases = Phases(stage.name, loop, end_by_force(place) if not scope.inline else None)
        self._loader = Loader(stage, scope, place, loop, self._phases)
        self._timers = Timers()
        self._begin(Checkpoints(scope, stage), argument)

    def _begin(self, checkpoints: Checkpoints, argument: dict[str, Any]) -> None:
        """Find where the training begins, and tell the hooks in their order."""
        loop, stage = self._loop, self._stage
        loaded, damaged = train_start.newest(checkpoints, argument["checkpoints"], self._peers)
        for words in damaged:
            loop.metrics.event(event=words)
            loop.say(f"{words}; going back to the one before it")
        other = argument.get("start") if loaded is None else None
        start = train_start.Start(self._scope, stage, other) if other else None
        self._objects = TrackedObjects(loop, start)
        self._randomness = Randomness(stage.seed, self.rank, self.world_size, self.device, loop)
        self._saver = Saver(stage, checkpoints, self._objects, self._randomness, loop)
        hooks = (
            self._peers,  # first, so that the others know where this rank is whatever follows
            loop.streams,
            loop.aside,
            loop.metrics,  # before checkpoints, whose exchange takes the last step along
            self._objects,
            self._saver,
            self._randomness,  # a checkpoint has the states of before the next batch
            self._timers,
        )
        loop.begin(hooks, loaded)
        if loaded is not None:
            loop.say(f"going on from step {loop.step} ({loaded.entry.key})")

    # -- models and data -----------------------------------------------------------------------------------------

    def prepare(self, model: torch.nn.Module, strategy: str | None = "ddp", **options: Any) -> torch.nn.Module:
        """Move a model to `device` and, with more than one rank, wrap it.

        Args:
            strategy: 'ddp' (each rank has the whole model), 'fsdp' (each has a part of it) or None (moved only).
            options: for `DistributedDataParallel` or `fully_shard`.
        """
        return parallel.prepare(model, strategy, self.device, self.world_size, options)

    def unwrap(self, model: torch.nn.Module) -> torch.nn.Module:
        """The module that was given to `prepare`, under DDP and `torch.compile`. What FSDP shards has no wrapper."""
        return checkpoint_state.unwrapped(model)

    def batches(
        self,
        name: str | Mix,
        batch_size: int | None = None,
        *,
        global_batch_size: int | None = None,
        epochs: int | None = 1,
        steps: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        columns: Sequence[str] | None = None,
        filter: Any = None,
        pack: Pack | None = None,
        decode: Mapping[str, Declared] | None = None,
        tail: str = "drop",
        transform: bool = True,
        threads: int | None = None,
        memory_bytes: int | str | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int | str | None = None,
        timeout_s: float = LONGEST_WAIT_S,
        max_quarantine: float = 0.0,
        verify: bool = False,
    ) -> Iterator[Batch]:
        """This rank's slice of every global batch, on `device`.

        Args:
            name: of the stage's `data`; or a Mix of such names: ``Mix({"web": 0.7, "code": 0.3})``.
            batch_size: rows of each rank; or `global_batch_size`: rows of all ranks together.
            epochs: how many times over the data; None never ends.
            steps: instead of `epochs`: as often over the data as it takes, until the training has made so many steps.
            shuffle, seed: of the order; the stage's seed is the default.
            columns: to read; None reads all.
            filter, pack: which rows are kept, and documents as rows of one length; see `Stream`.
            decode: columns of pictures, sounds and videos; see `Stream`.
            tail: 'drop' leaves out the rows that fill no global batch, 'wrap' fills it up with masked rows.
            transform: whether the stage's transform is applied, if it has one.
            threads, memory_bytes: of this rank, that decode, and that the reading may take; see `Stream`.
            cache, cache_bytes: a folder on a disk of the rank's machine where what is fetched of remote files is kept,
                for all ranks there and for later runs, and how much of it; see `Stream`.
            timeout_s: seconds after which data that does not come is an error.
            max_quarantine: the largest share of the rows that may be in units that cannot be read; the rows of others
                stand in for them, and the run's summary names them. See `Stream`.
            verify: whether each rank compares the content of the files that it reads with what was listed.

        Outside a phase the place in the data belongs to the checkpoint, and opening a name again goes on with the next
        epochs. How it is read (`threads` and what follows) has no part in the order: a resume may change it.

        Raises:
            SpecError, DataError: as `Stream`.
        """
        whole = self._loader.global_batch(f"ctx.batches('{name_of(name)}')", batch_size, global_batch_size)
        return self._loader.batches(
            name,
            whole,
            epochs,
            steps,
            shuffle=shuffle,
            seed=seed,
            columns=columns,
            filter=filter,
            pack=pack,
            decode=decode,
            tail=tail,
            transform=transform,
            threads=threads,
            memory_bytes=memory_bytes,
            cache=cache,
            cache_bytes=cache_bytes,
            timeout_s=timeout_s,
            max_quarantine=max_quarantine,
            verify=verify,
        )

    def epochs(self, number: int) -> Iterator[int]:
        """Epoch numbers, for a loop that has more in it than batches:

            for epoch in ctx.epochs(10):
                for batch in ctx.batches("train", batch_size=32): ...
                with ctx.phase("validation"): ...

        In a training that goes on from a checkpoint it begins with the epoch that was under way. After
        ``for epoch in range(10)`` what follows the inner loop would be done again for the epochs that had ended.
        """
        return self._loop.streams.epochs(number)

    def rows(self, name: str | Mix, *, filter: Any = None, pack: Pack | None = None) -> int:
        """How many rows a dataset of the stage has.

        Args:
            name, filter, pack: as for `batches`.
        """
        return self._loader.rows(name, filter, pack)

    def total_steps(
        self,
        name: str | Mix,
        batch_size: int | None = None,
        *,
        global_batch_size: int | None = None,
        epochs: int = 1,
        filter: Any = None,
        pack: Pack | None = None,
        tail: str = "drop",
        accumulate: int = 1,
    ) -> int:
        """How many steps a loop over `batches` with these arguments makes; known before the first of them, so a
        schedule can be built with it. The same on every rank, and in a training that goes on from a checkpoint.

        Args:
            accumulate: batches of one step. Batches that are left over when the data ends fill no step.
        """
        whole = self._loader.global_batch(f"ctx.total_steps('{name_of(name)}')", batch_size, global_batch_size)
        return self._loader.total_steps(name, whole, epochs, tail, accumulate, filter, pack)

    def track(self, **objects: Any) -> None:
        """Name what checkpoints hold: modules, optimizers, anything with state_dict() and load_state_dict(), and dicts
        or lists of values. In a training that goes on from a checkpoint they are restored here, in place. Every rank
        must track the same names: rank 0's objects are kept, and each rank's are restored.

        Raises:
            SpecError: an object that cannot be restored in place, or a name that the checkpoint does not have.
            RunFailed: ranks do not track the same.
        """
        self._peers.meet(f"ctx.track({', '.join(objects)})")
        self._objects.track(objects)
        self._randomness.after_track()

    # -- steps ---------------------------------------------------------------------------------------------------

    def step(self, **metrics: Any) -> None:
        """Say that the optimizer has made a step. Touches no gradient and, but for a moment a few times a second, waits
        for nobody.

        Args:
            metrics: numbers or one-element tensors, each the mean over this rank's rows. They are reduced to the mean
                over all rows of the step.

        Raises:
            SpecError: in a phase, whose streams no checkpoint knows; or something is no number.
            RunFailed: ranks have not made the same steps.
        """
        if self._phases.name is not None:
            raise self._phases.step_refused()
        self._loop.make_step(metrics)

    def log(self, **values: Any) -> None:
        """Keep values besides those of steps, such as a validation loss.

        In a phase a value counts for the rows that this rank has read since it last logged the same name, so that both
        a value per batch and one at the end become the mean over all rows of all ranks. Elsewhere ranks count the same.
        """
        loop = self._loop
        for name, value in values.items():
            rows = self._phases.weight(name)
            loop.metrics.add_logged(Item(loop.step, loop.epoch, time.time(), rows, {name: value}))

    def every(self, steps: int | None = None, seconds: float | None = None) -> bool:
        """Whether something is due after this step: each `steps` steps, or about each `seconds` seconds.

        The answer is the same on every rank. Seconds are those of rank 0's clock, which ranks learn a few times in one.
        """
        if (steps is None) == (seconds is None):
            raise SpecError(f"steps={steps}, seconds={seconds}", allowed="one of the two, above 0", where="ctx.every")
        if steps is not None:
            return self.step_number > 0 and self.step_number % steps == 0
        assert seconds is not None
        return self._timers.fired(seconds, self.step_number)

    def phase(self, name: str, timeout_s: float | None = None) -> AbstractContextManager[None]:
        """A part of the training besides its steps, such as a validation; every rank takes part.

        Its streams are not recorded, its time does not count in the rates, and at its end the values that were logged
        in it are reduced: a best one makes a checkpoint of this step.

        Raises:
            StageTimeout: it took longer than `timeout_s`.
        """
        return self._phases.enter(name, timeout_s)

    def accumulate(self, *models: torch.nn.Module, last: bool) -> AbstractContextManager[None]:
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
        return parallel.accumulating(models, last)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Make a checkpoint now. Every rank must call it.

        Raises:
            StoreError: it cannot be written; earlier checkpoints are untouched.
        """
        self._saver.make("ctx.checkpoint()")

    def save(self, name: str, value: Any) -> str:
        """Keep something as an artefact of the run; rank 0's value is kept.

        Args:
            name: its file name; without an ending it gets one by its kind.
            value: text, bytes, JSON values, a module, or tensors in dicts and lists.

        Returns:
            Its URL.
        """
        return artefacts.keep(self._scope.bundle, self._stage.name, name, value, self.rank)

    # -- small things --------------------------------------------------------------------------------------------

    @property
    def step_number(self) -> int:
        """Steps made, earlier attempts included."""
        return self._loop.step

    @property
    def epoch(self) -> int:
        """The epoch of the last batch, from 0."""
        return self._loop.epoch

    @property
    def resumed(self) -> bool:
        """Whether this training goes on from a checkpoint."""
        return self._loop.loaded is not None

    @property
    def scratch(self) -> Path:
        """A local folder for temporary files; it goes with the run."""
        folder = self._scope.scratch / "user" / self._stage.name / f"rank{self.rank}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def metrics(self) -> dict[str, float]:
        """The newest values by name, reduced over all ranks, the same on each. A phase's are there at its end."""
        return dict(self._loop.metrics.latest)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` over all ranks, on each. Every rank must call it; on a GPU, `values` lies there."""
        return self._peers.sum(values)

    def barrier(self) -> None:
        """Return when every rank has come here."""
        self._peers.meet("ctx.barrier()")

    def print(self, *values: Any) -> None:
        """Print on rank 0 only."""
        if self.rank == 0:
            print(*values, flush=True)

    # -- for the rank that runs the function ---------------------------------------------------------------------

    def finish(self) -> dict[str, Any]:
        """After the function has returned: the last metrics, the last checkpoint, and the result of the stage."""
        loop = self._loop
        loop.end()
        return {
            "steps": loop.step,
            "epochs": loop.epoch + 1 if loop.metrics.samples else 0,
            "samples": loop.metrics.samples,
            "metrics": self.metrics,
            "world_size": self.world_size,
            **self._saver.result(),
            **loop.aside.result(),
        }

    def close(self) -> None:
        """The training is over, however it ended."""
        self._loop.close()
        self._loader.close()

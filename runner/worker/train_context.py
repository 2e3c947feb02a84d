"""What a train function is given: its place among the ranks, its data, and the services around a step.

for batch in ctx.batches("train", batch_size=32, epochs=2):
    ...                      # forward, backward, optimizer.step(): ordinary PyTorch
    ctx.step(loss=loss)      # counts, keeps metrics; a checkpoint that is due is made before the next batch
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner.data.batch import Batch
from runner.data.stream import Stream
from runner.errors import SpecError, listed
from runner.spec import Train
from runner.worker import checkpoint_state, train_artefacts, train_data, train_model, train_random
from runner.worker.metrics import Metrics
from runner.worker.metrics_rows import Item
from runner.worker.rank_errors import end_by_force
from runner.worker.scope import Scope
from runner.worker.train_board import RETURNED
from runner.worker.train_peers import Peers
from runner.worker.train_phase import Watchdog
from runner.worker.train_saver import Saver
from runner.worker.train_streams import Streams
from runner.worker.train_tools import TrainTools

if TYPE_CHECKING:
    from runner.worker.rank import Place


class TrainContext(TrainTools):
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
        self.step_number = 0
        self._place, self._stage, self._scope, self._peers = place, stage, scope, peers
        self._rows_path = scope.spool(stage.name, "metrics", f"rank{self.rank}") if self.rank == 0 else None
        self._metrics = Metrics(peers, self._rows_path)
        self._streams = Streams(self._between_steps)
        self._saver = Saver(scope, stage, peers, self.device)
        self._phase: str | None = None
        self._phase_rows = 0  # that this rank has read in the phase
        self._logged: dict[str, int] = {}  # name -> of those, the rows that its values have counted for
        self._clock = 0.0
        self._timers: dict[float, float] = {}  # every(seconds=): when it last fired, by rank 0's clock
        self._fired: dict[float, int] = {}  # and at which step
        self._seeded = self._untracked_told = False
        self._restore(argument["checkpoints"])
        if argument.get("start") and not self.resumed:
            self._saver.begin_from(scope, argument["start"])

    # -- models and data -----------------------------------------------------------------------------------------

    def prepare(self, model: torch.nn.Module, strategy: str | None = "ddp", **options: Any) -> torch.nn.Module:
        """Move a model to `device` and, with more than one rank, wrap it.

        Args:
            strategy: 'ddp' (each rank has the whole model), 'fsdp' (each has a part of it) or None (moved only).
            options: for `DistributedDataParallel` or `fully_shard`.
        """
        return train_model.prepare(model, strategy, self.device, self.world_size, options)

    def batches(
        self,
        name: str,
        batch_size: int | None = None,
        *,
        global_batch_size: int | None = None,
        epochs: int | None = 1,
        steps: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        columns: Sequence[str] | None = None,
        tail: str = "drop",
    ) -> Iterator[Batch]:
        """This rank's slice of every global batch, on `device`.

        Args:
            name: of the stage's `data`.
            batch_size: rows of each rank; or `global_batch_size`: rows of all ranks together.
            epochs: how many times over the data; None never ends.
            steps: instead of `epochs`: as often over the data as it takes, until the training has made so many steps.
            shuffle, seed: of the order; the stage's seed is the default.
            columns: to read; None reads all.
            tail: 'drop' leaves out the rows that fill no global batch, 'wrap' fills it up with masked rows.

        Outside a phase the place in the data belongs to the checkpoint, and opening a name again goes on with the next
        epochs.
        """
        whole = self._global_batch(f"ctx.batches('{name}')", batch_size, global_batch_size)
        recorded, left = self._phase is None, None
        if steps is not None:
            if epochs not in (1, None) or not recorded:
                raise SpecError(
                    f"steps={steps}", allowed="without epochs=, and outside a phase", where=f"ctx.batches('{name}')"
                )
            epochs, left = None, lambda: steps - self.step_number
        stream = Stream(
            train_data.pinned(self._stage, name, self._scope),
            global_batch_size=whole,
            seed=self._stage.seed if seed is None else seed,
            rank=self.rank,
            world_size=self.world_size,
            columns=columns,
            shuffle=shuffle,
            epochs=epochs,
            tail=tail,
            start_epoch=self._streams.next_epoch(name) if recorded else 0,
        )
        read = self._streams.read(name, stream, epochs, left) if recorded else self._unrecorded(stream)
        return (batch if self.device.type == "cpu" else batch.to(self.device, non_blocking=True) for batch in read)

    def epochs(self, number: int) -> Iterator[int]:
        """Epoch numbers, for a loop that has more in it than batches:

            for epoch in ctx.epochs(10):
                for batch in ctx.batches("train", batch_size=32): ...
                with ctx.phase("validation"): ...

        In a training that goes on from a checkpoint it begins with the epoch that was under way. After
        ``for epoch in range(10)`` what follows the inner loop would be done again for the epochs that had ended.
        """
        return self._streams.epochs(number)

    def _unrecorded(self, stream: Stream) -> Iterator[Batch]:
        with stream:
            for batch in stream:
                self._phase_rows += int(batch.mask.sum())
                yield batch

    def track(self, **objects: Any) -> None:
        """Name what checkpoints hold: modules, optimizers, anything with state_dict() and load_state_dict(), and dicts
        or lists of values. In a training that goes on from a checkpoint they are restored here, in place. Every rank
        must track the same names: rank 0's objects are kept, and each rank's are restored.

        Raises:
            SpecError: an object that cannot be restored in place, or a name that the checkpoint does not have.
            RunFailed: ranks do not track the same.
        """
        self._peers.meet(f"ctx.track({', '.join(objects)})")
        self._saver.track(objects)

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
        if self._phase is not None:
            raise SpecError(
                f"a step in phase '{self._phase}'", allowed="steps outside phases, whose streams no checkpoint knows",
                todo="leave the phase before, or do without it", where="ctx.step",
            )  # fmt: skip
        if not self._untracked_told:  # no batch was asked for at all
            self._tell_untracked()
        late = self._saver.pending  # no batch was asked for since: the function does not read its data by `batches`
        self.step_number += 1
        if self.step_number == 1 and not self._saver.holds_any:
            self.print(
                "runner: nothing is tracked, so checkpoints hold no weights, and a resume has none to go on with; "
                "to do: call ctx.track(model=model, optimizer=optimizer) before the loop"
            )
        self._peers.step = self.step_number
        self._add(metrics)
        if late:
            self._checkpoint("ctx.step() with a checkpoint")
        every = self._stage.checkpoint_every_steps
        if every is not None and self.step_number % every == 0:
            self._saver.pending = True
        if self._metrics.due(self.step_number):
            self._exchange("ctx.step()")

    def _add(self, metrics: dict[str, Any]) -> None:
        rows = self._streams.mark()
        left = self._streams.steps_left
        total = None if left is None else self.step_number + left
        self._metrics.add_step(Item(self.step_number, self._streams.epoch, time.time(), rows, metrics, total))

    def log(self, **values: Any) -> None:
        """Keep values besides those of steps, such as a validation loss.

        In a phase a value counts for the rows that this rank has read since it last logged the same name, so that both
        a value per batch and one at the end become the mean over all rows of all ranks. Elsewhere ranks count the same.
        """
        for name, value in values.items():
            rows = self._phase_rows - self._logged.get(name, 0)
            self._logged[name] = self._phase_rows
            self._metrics.add_logged(Item(self.step_number, self.epoch, time.time(), rows, {name: value}))

    def every(self, steps: int | None = None, seconds: float | None = None) -> bool:
        """Whether something is due after this step: each `steps` steps, or about each `seconds` seconds.

        The answer is the same on every rank. Seconds are those of rank 0's clock, which ranks learn a few times in one.
        """
        if (steps is None) == (seconds is None):
            raise SpecError(f"steps={steps}, seconds={seconds}", allowed="one of the two, above 0", where="ctx.every")
        if steps is not None:
            return self.step_number > 0 and self.step_number % steps == 0
        assert seconds is not None
        self._timers.setdefault(seconds, self._clock)
        return self._fired.get(seconds) == self.step_number

    @contextlib.contextmanager
    def phase(self, name: str, timeout_s: float | None = None) -> Iterator[None]:
        """A part of the training besides its steps, such as a validation; every rank takes part.

        Its streams are not recorded, its time does not count in the rates, and at its end the values that were logged
        in it are reduced: a best one makes a checkpoint of this step.

        Raises:
            StageTimeout: it took longer than `timeout_s`.
        """
        outer, self._phase, self._phase_rows, self._logged = self._phase, name, 0, {}
        started = time.monotonic()
        by_force = end_by_force(self._place) if not self._scope.inline else None
        try:
            with Watchdog(f"phase '{name}' of stage '{self._stage.name}'", timeout_s, by_force):
                self._peers.meet(f"the start of phase '{name}'")
                yield
                self._metrics.idle_from(started)
                self._exchange(f"the end of phase '{name}'")
        finally:
            self._phase, self._phase_rows, self._logged = outer, 0, {}
        seconds = round(time.monotonic() - started, 3)
        self._metrics.event(step=self.step_number, epoch=self.epoch, phase=name, seconds=seconds)
        self._saver.consider(self._metrics.latest)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Make a checkpoint now. Every rank must call it.

        Raises:
            StoreError: it cannot be written; earlier checkpoints are untouched.
        """
        self._checkpoint("ctx.checkpoint()")

    def _checkpoint(self, where: str, *, if_changed: bool = False) -> None:
        self._exchange(where)
        started = time.monotonic()
        content = {
            "epoch": self.epoch, "samples": self._metrics.samples, "streams": self._streams.state(),
            "loop": self._streams.loop, "seeded": self._seeded,
        }  # fmt: skip
        self._saver.save(self.step_number, content, self._metrics.latest, if_changed=if_changed)
        self._metrics.idle_from(started)

    def save(self, name: str, value: Any) -> str:
        """Keep something as an artefact of the run; rank 0's value is kept.

        Args:
            name: its file name; without an ending it gets one by its kind.
            value: text, bytes, JSON values, a module, or tensors in dicts and lists.

        Returns:
            Its URL.
        """
        if isinstance(value, torch.nn.Module):
            value = checkpoint_state.take(checkpoint_state.tracked(name, value), [])
        key = self._scope.bundle.artefact(self._stage.name, train_artefacts.file_name(name, value))
        if self.rank == 0:
            train_artefacts.write(self._scope.bundle.store, key, value)
        return f"{self._scope.bundle.store.url}/{key}"

    # -- small things --------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch of the last batch, from 0."""
        return self._streams.epoch

    @property
    def resumed(self) -> bool:
        """Whether this training goes on from a checkpoint."""
        return self._saver.loaded is not None

    @property
    def scratch(self) -> Path:
        """A local folder for temporary files; it goes with the run."""
        folder = self._scope.scratch / "user" / self._stage.name / f"rank{self.rank}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def metrics(self) -> dict[str, float]:
        """The newest values by name, reduced over all ranks, the same on each. A phase's are there at its end."""
        return dict(self._metrics.latest)

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
        if self.step_number == 0 and self._streams.batches:
            self.print(
                f"runner: {self._streams.batches:,} batches were taken and no step was made, so there are no metrics "
                "and nothing to go on from; to do: call ctx.step(loss=loss) after optimizer.step()"
            )
        self._checkpoint(RETURNED, if_changed=self._saver.is_at(self.step_number))
        return {
            "steps": self.step_number,
            "epochs": self.epoch + 1 if self._metrics.samples else 0,
            "samples": self._metrics.samples,
            "metrics": dict(self._metrics.latest),
            "world_size": self.world_size,
            **self._saver.result(),
        }

    def close(self) -> None:
        """Stop reading ahead."""
        self._streams.close()

    # -- inside --------------------------------------------------------------------------------------------------

    def _restore(self, entries: list[dict[str, Any]]) -> None:
        """Find the newest whole checkpoint and take from it all that is not the user's."""
        damaged = self._saver.load(entries)
        for words in damaged:
            self._metrics.event(event=words)
            self.print(f"runner: {words}; going back to the one before it")
        if self._saver.loaded is None:
            return
        made = self._saver.loaded.manifest
        self.step_number = self._peers.step = made["step"]
        self._streams.epoch = made["epoch"]
        self._metrics.samples, self._metrics.latest = made["samples"], dict(made["metrics"])
        self._streams.restored, self._streams.restored_loop = made["streams"], made["loop"]
        self.print(f"runner: going on from step {self.step_number} ({self._saver.loaded.entry['key']})")

    def _between_steps(self) -> None:
        """Before each recorded batch: the last step is over, with all that the function did after it."""
        if self._saver.pending:
            self._checkpoint("the next batch, with a checkpoint before it")
        if not self._untracked_told:
            self._tell_untracked()
        if self._saver.loaded is not None and not self._streams.handed_out:
            self._saver.restore_random()  # at each stream that has ended too: the function may draw numbers in between
            self._seeded = self._saver.loaded.manifest["seeded"]
        if not self._seeded:
            train_random.seed_all(train_random.rank_seed(self._stage.seed, self.rank))
            self._seeded = True

    def _tell_untracked(self) -> None:
        """Once, before the first batch or, with a loader of the function's own, at its first step: code that is newer
        than the checkpoint may have lost something."""
        names = [] if self._untracked_told else self._saver.untracked()
        self._untracked_told = True
        self._saver.check_start()
        if names:
            words = f"the checkpoint has {listed(names)}, which ctx.track was not given: left out from here on"
            self._metrics.event(event=words)
            self.print(f"runner: {words}")

    def _exchange(self, where: str) -> None:
        """Meet the other ranks: metrics, rank 0's clock, and whether a checkpoint is due."""
        self._metrics.wait_s += self._streams.take_wait_s()
        told = self._metrics.exchange(self.step_number, self._saver.is_due(), where)
        self._clock = told.clock
        for seconds, last in self._timers.items():
            if self._clock - last >= seconds:
                self._timers[seconds], self._fired[seconds] = self._clock, self.step_number
        if told.save:
            self._saver.pending = True

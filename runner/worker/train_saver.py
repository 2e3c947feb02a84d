"""When a training makes checkpoints, what goes into them, and how it goes on from one. One of these on every rank."""

from __future__ import annotations

import math
import shutil
import time
from typing import Any

import torch

from runner.errors import RunnerError, SpecError, StoreError, listed, suggest
from runner.names import FILE
from runner.spec import Train
from runner.worker import checkpoint_files, checkpoint_state, train_random
from runner.worker.checkpoint import Checkpoints, Damaged, Loaded
from runner.worker.checkpoint_state import MODULE, Tracked
from runner.worker.scope import Scope
from runner.worker.train_peers import Peers
from runner.worker.train_start import Start
from runner.worker.train_streams import check_places

#: Users' names come from keyword arguments, so a name with '-' is ours.
RANDOM = "random-states"


class Saver:
    """The checkpoints of one training, from one rank.

    Attributes:
        pending: a checkpoint is made as soon as the function asks for its next batch. The same on every rank.
        loaded: the checkpoint that this attempt goes on from.
    """

    def __init__(self, scope: Scope, stage: Train, peers: Peers, device: torch.device) -> None:
        self._stage, self._peers, self._device = stage, peers, device
        self._checkpoints = Checkpoints(scope, stage)
        self._tracked: dict[str, Tracked] = {}
        self._last: dict[str, Any] | None = None  # entry of the last one made or loaded
        self._last_at = time.monotonic()
        self._best: dict[str, Any] | None = None  # {"value", "step", "key"}
        self.pending = False
        self.loaded: Loaded | None = None
        self.start: Start | None = None

    # -- going on ------------------------------------------------------------------------------------------------

    def load(self, entries: list[dict[str, Any]]) -> list[str]:
        """Choose the checkpoint to go on from; all ranks take rank 0's choice.

        Args:
            entries: the published ones, newest first.

        Returns:
            Words about damaged ones that were passed over.

        Raises:
            StoreError: all of them are damaged.
        """
        if not entries:
            return []
        found: tuple[Any, ...] | None = None
        if self._peers.rank == 0:
            try:
                chosen, damaged = self._checkpoints.newest(entries)
                found = (chosen and (chosen.entry, chosen.manifest), damaged)
            except RunnerError as error:
                found = (error, [])
        choice, damaged = self._peers.meet("the start, with its checkpoint", found, lambda told: told[0])
        if isinstance(choice, RunnerError):
            raise choice
        if choice is not None:
            self.loaded = Loaded(choice[0], choice[1], self._checkpoints)
            self._last, self._best = choice[0], choice[1]["best"]
        return list(damaged)

    def begin_from(self, scope: Scope, given: dict[str, Any]) -> None:
        """Begin with another run's weights; see `train_start`."""
        self.start = Start(scope, self._stage, given)

    def check_start(self) -> None:
        """Raise SpecError if nothing of the other run's checkpoint was tracked."""
        if self.start is not None:
            self.start.check(list(self._tracked))

    @property
    def holds_any(self) -> bool:
        """Whether anything was tracked, which checkpoints then hold."""
        return bool(self._tracked)

    def track(self, objects: dict[str, Any]) -> None:
        """See `TrainContext.track`."""
        new = [checkpoint_state.tracked(name, value) for name, value in objects.items()]
        for item in sorted(new, key=lambda item: item.kind != MODULE):  # FSDP's optimizers need their module
            if item.name in self._tracked or item.name == "manifest" or not FILE.fits(item.name):
                allowed = "a name of a file (no '/', no '.' in front) that is not taken"
                raise SpecError(f"the name {item.name!r}", allowed=allowed, where="ctx.track")
            self._tracked[item.name] = item
            if self.loaded is not None:
                self._restore(item, self.loaded)
            elif self.start is not None and self.start.put(item, self._modules()) and self._peers.rank == 0:
                print(f"runner: '{item.name}' begins as in {self.start.words}", flush=True)
        if self.loaded is not None and not self.loaded.manifest["streams"]:
            self.restore_random()

    def _restore(self, item: Tracked, loaded: Loaded) -> None:
        known = loaded.manifest["objects"]
        if item.name not in known:
            raise SpecError(
                f"'{item.name}' is not in the checkpoint {loaded.entry['key']}", allowed=listed(known),
                todo=suggest(item.name, known) or "resume with the code that the run was started with",
                where="ctx.track",
            )  # fmt: skip
        checkpoint_state.put(item, self._read(loaded, known[item.name]["file"]), self._modules())

    def untracked(self) -> list[str]:
        """What the checkpoint holds and the function does not track: it is not restored, nor kept from here on."""
        return [] if self.loaded is None else [n for n in self.loaded.manifest["objects"] if n not in self._tracked]

    def restore_random(self) -> None:
        """Put the random states back, where this gang has as many ranks as the one that saved them."""
        assert self.loaded is not None
        if self.loaded.manifest["world_size"] == self._peers.world_size:
            states = self._read(self.loaded, f"{RANDOM}.pt")
            train_random.set_state(states[self._peers.rank], self._device)
        else:  # nothing to go on from: new states, the same whenever this is done again
            seed = train_random.rank_seed(self._stage.seed, self._peers.rank)
            train_random.seed_all(train_random.rank_seed(seed, self.loaded.manifest["step"]))

    def _read(self, loaded: Loaded, file: str) -> Any:
        try:
            return loaded.read(file)
        except Damaged as error:
            raise StoreError(f"checkpoint {loaded.entry['key']}: {error}", todo="resume again") from None

    # -- deciding ------------------------------------------------------------------------------------------------

    def is_due(self) -> bool:
        """Whether rank 0's clock asks for a checkpoint."""
        every = self._stage.checkpoint_every_s
        return every is not None and not self.pending and time.monotonic() - self._last_at >= every

    def consider(self, latest: dict[str, float]) -> None:
        """After a phase: a value that is the best so far makes a checkpoint of this step."""
        if self._is_best(latest):
            self.pending = True

    def _is_best(self, latest: dict[str, float]) -> bool:
        if self._stage.best is None or self._stage.best[0] not in latest:
            return False
        name, direction = self._stage.best
        value = latest[name]
        if self._best is None:
            return not math.isnan(value)
        return value < self._best["value"] if direction == "min" else value > self._best["value"]

    def is_at(self, step: int) -> bool:
        """Whether the last checkpoint is of this step, and nothing has asked for another."""
        return not self.pending and self._last is not None and self._last["step"] == step

    # -- saving --------------------------------------------------------------------------------------------------

    def save(self, step: int, content: dict[str, Any], metrics: dict[str, float], *, if_changed: bool = False) -> None:
        """Write and publish a checkpoint. Every rank must come, and every rank raises what rank 0 does.

        Args:
            content: the same on every rank, and with "streams", the places in the data.
            if_changed: only if a tracked object is not as the last checkpoint has it, byte for byte, or `metrics` are
                the best so far.

        Raises:
            RunFailed: ranks are at different places in the data.
        """
        self.pending = False
        best = self._is_best(metrics)
        writer = _Writer(self._checkpoints, step) if self._peers.rank == 0 else None
        objects: dict[str, dict[str, str]] = {}
        for item in self._tracked.values():
            state = checkpoint_state.take(item, self._modules())
            if writer is not None:
                objects[item.name] = {"kind": item.kind, "file": writer.write(item.name, item.kind, state)}

        def publish(theirs: list[Any]) -> tuple[Any, Any]:
            assert writer is not None
            check_places([places for _, places in theirs])
            randoms = [states for states, _ in theirs]
            if if_changed and not best and self._last is not None and writer.is_same(self._last):
                return self._last, self._best
            writer.write(RANDOM, checkpoint_state.STATE, dict(enumerate(randoms)))
            if best:
                assert self._stage.best is not None
                self._best = {"value": metrics[self._stage.best[0]], "step": step}
            fields = {
                **content, "objects": objects, "world_size": self._peers.world_size, "metrics": metrics,
                "best": self._best, "torch": str(torch.__version__),
            }  # fmt: skip
            return writer.publish(fields, metrics, best), self._best

        mine = (train_random.get_state(self._device), content["streams"])
        outcome, self._best = self._peers.meet("a checkpoint", mine, publish)
        if isinstance(outcome, BaseException):
            raise outcome
        self._last, self._last_at = outcome, time.monotonic()

    def _modules(self) -> list[torch.nn.Module]:
        return [item.object for item in self._tracked.values() if item.kind == MODULE]

    def result(self) -> dict[str, Any]:
        """What the stage's result says of checkpoints."""
        best = next((e["key"] for e in self._checkpoints.published() if e["best"]), None)
        return {
            "checkpoint": self._last["key"] if self._last is not None else None,
            "best": best,
            "resumed_from": self.loaded.entry["step"] if self.loaded is not None else None,
        }


class _Writer:
    """Rank 0's side of a save. The first error is kept for the end, so that collectives of other ranks stay in step."""

    def __init__(self, checkpoints: Checkpoints, step: int) -> None:
        self._checkpoints, self._step = checkpoints, step
        self._error: Exception | None = None
        self._folder = checkpoints.scratch(step)

    def write(self, name: str, kind: str, state: Any) -> str:
        """One object's file; returns its name."""
        if self._error is None:
            try:
                return checkpoint_files.write(self._folder, name, kind, state)
            except Exception as error:
                self._error = self._explained(error)
        return ""

    def is_same(self, last: dict[str, Any]) -> bool:
        """Whether the files written so far are those of the checkpoint `last`; if so they are removed."""
        if self._error is not None or not self._checkpoints.has_same_files(last, self._folder, besides=f"{RANDOM}.pt"):
            return False
        shutil.rmtree(self._folder, ignore_errors=True)
        return True

    def publish(self, content: dict[str, Any], metrics: dict[str, float], best: bool) -> dict[str, Any] | Exception:
        """The entry of the published checkpoint, or the error that came in between."""
        if self._error is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            return self._error
        try:
            entry = self._checkpoints.publish(self._step, self._folder, content, metrics, best)
        except Exception as error:
            return self._explained(error)
        try:
            self._checkpoints.prune()
        except (RunnerError, OSError) as error:
            print(f"runner: an old checkpoint could not be removed: {error}", flush=True)
        return entry

    def _explained(self, error: Exception) -> Exception:
        """An error of the operating system as one that says what to do. torch and safetensors raise their own kinds."""
        if isinstance(error, RunnerError):
            return error
        if isinstance(error, OSError | RuntimeError) or type(error).__name__ == "SafetensorError":
            return StoreError(
                f"the checkpoint of step {self._step} cannot be written: {error}",
                allowed=f"room for it at {self._folder.parent} and in the store",
                todo="free space; then `runner resume` goes on from the checkpoint before it",
            )
        return error

"""Where a training begins: at its own newest checkpoint, or at step 0 with the weights of another run's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from runner.errors import RunnerError, SpecError, StoreError, listed, suggest
from runner.record import Bundle
from runner.record.entries import CheckpointPublished
from runner.record.run_spec import Beginning
from runner.spec import Train
from runner.train.checkpoint import state as checkpoint_state
from runner.train.checkpoint.published import Checkpoints, Damaged, Loaded
from runner.train.checkpoint.state import MODULE, Tracked
from runner.worker.scope import Scope

if TYPE_CHECKING:
    from runner.train.peers import Peers

_MOST = 4


def newest(
    checkpoints: Checkpoints, entries: list[CheckpointPublished], peers: Peers
) -> tuple[Loaded | None, list[str]]:
    """The checkpoint to go on from, and words about damaged ones that were passed over. All ranks take rank 0's choice.

    Args:
        entries: the published ones, newest first.

    Raises:
        StoreError: all of them are damaged.
    """
    if not entries:
        return None, []
    found: tuple[Any, ...] | None = None
    if peers.rank == 0:
        try:
            chosen, damaged = checkpoints.newest(entries)
            found = (chosen and (chosen.entry, chosen.manifest), damaged)
        except RunnerError as error:
            found = (error, [])
    choice, damaged = peers.meet("the start, with its checkpoint", found, lambda told: told[0])
    if isinstance(choice, RunnerError):
        raise choice
    return (None if choice is None else Loaded(choice[0], choice[1], checkpoints)), list(damaged)


class Start:
    """Another run's checkpoint, as the beginning of this one. One of these on every rank.

    Args:
        given: which; and whether what is no module (optimizers, schedulers, values) begins from it as well.

    Raises:
        StoreError: the checkpoint is gone, or is not what was published.
    """

    def __init__(self, scope: Scope, stage: Train, given: Beginning) -> None:
        self.words = f"{given.run}, step {given.step}"
        self._all = given.all
        self._begun: list[str] = []
        theirs = CheckpointPublished(stage.name, given.step, given.key, {}, False, given.sha256)
        checkpoints = Checkpoints(scope, stage, Bundle(scope.store, given.run).store)
        try:
            self._loaded: Loaded = checkpoints.opened(theirs)
        except Damaged as error:
            raise self._gone(error) from None

    def put(self, item: Tracked, modules: list[torch.nn.Module]) -> bool:
        """Give a tracked object what the checkpoint has of it. Returns whether it has.

        Raises:
            SpecError: names or shapes of parameters differ; they are named.
        """
        known = self._loaded.manifest["objects"]
        if item.name not in known or (item.kind != MODULE and not self._all):
            return False
        try:
            state = self._loaded.read(known[item.name]["file"])
        except Damaged as error:
            raise self._gone(error) from None
        if item.kind == MODULE:
            self._check(item, state)
        checkpoint_state.put(item, state, modules)
        self._begun.append(item.name)
        return True

    def check(self, tracked: list[str]) -> None:
        """Before the first batch: something must have begun from the checkpoint. Raises SpecError."""
        known = list(self._loaded.manifest["objects"])
        if not self._begun:
            near = next(filter(None, (suggest(name, known) for name in tracked)), "")
            raise SpecError(
                f"nothing of the checkpoint of {self.words} is tracked: ctx.track was given {listed(tracked)}",
                allowed=f"at least one module by its name there: {listed(known)}",
                todo=near or "give the module that name in ctx.track, or submit without --from",
                where="ctx.track",
            )

    def _check(self, item: Tracked, state: Mapping[str, Any]) -> None:
        here = {name: _shape(value) for name, value in item.object.state_dict().items()}
        there = {name: _shape(value) for name, value in state.items()}
        shapes = [f"{n} is {here[n]} here and {there[n]} there" for n in here if n in there and here[n] != there[n]]
        lacking = [f"{name} is only here" for name in here if name not in there]
        more = [f"{name} is only there" for name in there if name not in here]
        differing = [*shapes, *lacking, *more]
        if differing:
            rest = f" and {len(differing) - _MOST} more" if len(differing) > _MOST else ""
            raise SpecError(
                f"'{item.name}' does not fit the checkpoint of {self.words}: {'; '.join(differing[:_MOST])}{rest}",
                allowed="parameters of the same names and shapes",
                todo="make the model as it was, or track the part that is the same under the name that it has there",
                where="ctx.track",
            )

    def _gone(self, error: Damaged) -> StoreError:
        return StoreError(
            f"the checkpoint of {self.words}: {error}",
            allowed="the checkpoint that --from named",
            todo="name another with --from",
            where="start_from",
        )


def _shape(value: Any) -> list[int] | None:
    return list(value.shape) if isinstance(value, torch.Tensor) else None

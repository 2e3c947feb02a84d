"""What `ctx.track` was given: what a checkpoint holds, and what is restored from one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from runner.errors import SpecError, listed, suggest
from runner.train.checkpoint import state as checkpoint_state
from runner.train.checkpoint.state import MODULE, Tracked
from runner.train.hooks import StepHook
from runner.untrusted.names import FILE

if TYPE_CHECKING:
    from runner.train.checkpoint.published import Loaded
    from runner.train.checkpoint.start import Start
    from runner.train.loop import Loop
    from runner.train.metrics_rows import Item


class TrackedObjects(StepHook):
    """The tracked objects of one rank, by name.

    Args:
        start: another run's checkpoint, with which the training begins.
    """

    def __init__(self, loop: Loop, start: Start | None) -> None:
        self._loop, self._start = loop, start
        self._items: dict[str, Tracked] = {}
        self._checked = False  # whether it is the right objects that are tracked

    def track(self, objects: dict[str, Any]) -> None:
        """Keep objects from here on, and restore those that a checkpoint has."""
        new = [checkpoint_state.tracked(name, value) for name, value in objects.items()]
        for item in sorted(new, key=lambda item: item.kind != MODULE):  # FSDP's optimizers need their module
            if item.name in self._items or item.name == "manifest" or not FILE.fits(item.name):
                allowed = "a name of a file (no '/', no '.' in front) that is not taken"
                raise SpecError(f"the name {item.name!r}", allowed=allowed, where="ctx.track")
            self._items[item.name] = item
            if self._loop.loaded is not None:
                self._restore(item, self._loop.loaded)
            elif self._start is not None and self._start.put(item, self._modules()):
                self._loop.say(f"'{item.name}' begins as in {self._start.words}")

    def _restore(self, item: Tracked, loaded: Loaded) -> None:
        known = loaded.manifest["objects"]
        if item.name not in known:
            raise SpecError(
                f"'{item.name}' is not in the checkpoint {loaded.entry.key}",
                allowed=listed(known),
                todo=suggest(item.name, known) or "resume with the code that the run was started with",
                where="ctx.track",
            )
        checkpoint_state.put(item, loaded.required(known[item.name]["file"]), self._modules())

    def states(self) -> Iterator[tuple[Tracked, Any]]:
        """Each object with its state. Every rank must take them: a part may lie on each."""
        for item in self._items.values():
            yield item, checkpoint_state.take(item, self._modules())

    def _modules(self) -> list[torch.nn.Module]:
        return [item.object for item in self._items.values() if item.kind == MODULE]

    # -- around the first step -----------------------------------------------------------------------------------

    def before_batch(self) -> None:
        """Before the first batch all is tracked that will be."""
        if not self._checked:
            self._check()

    def after_step(self, step: Item) -> None:
        """With a loader of the function's own, the first step is the first that is heard of it."""
        if not self._checked:
            self._check()
        if step.step == 1 and not self._items:
            self._loop.say(
                "nothing is tracked, so checkpoints hold no weights, and a resume has none to go on with; "
                "to do: call ctx.track(model=model, optimizer=optimizer) before the loop"
            )

    def _check(self) -> None:
        """Code that is newer than the checkpoint may have lost something: say what is left out from here on."""
        self._checked = True
        if self._start is not None:
            self._start.check(list(self._items))
        loaded = self._loop.loaded
        names = [] if loaded is None else [n for n in loaded.manifest["objects"] if n not in self._items]
        if names:
            words = f"the checkpoint has {listed(names)}, which ctx.track was not given: left out from here on"
            self._loop.metrics.event(event=words)
            self._loop.say(words)

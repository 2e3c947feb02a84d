"""Hooks around the steps of a training: what takes part in it besides the user's function.

Metrics, checkpoints, random states and the ranks' meetings are hooks themselves. `TrainContext` declares them in the
order in which they hear of each event, which is the same on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.train.checkpoint.published import Loaded
    from runner.train.metrics import Exchanged
    from runner.train.metrics_rows import Item


class StepHook:
    """A part of the training on one rank. It overrides the events that concern it; the others cost nothing.

    All ranks run the same hooks at the same events, so a hook may meet the other ranks in any of them but `close`.
    """

    def begin(self, loaded: Loaded | None) -> None:
        """The function is about to be called. `loaded`: the checkpoint that the training goes on from."""

    def before_batch(self) -> None:
        """The function asks for a batch: the last step is over, with all that was done after it. With several batches
        in a step it is called before each; with a loader of the function's own, never."""

    def after_step(self, step: Item) -> None:
        """The function has called `ctx.step`."""

    def announce(self) -> dict[str, Any]:
        """What all ranks are to hear at the exchange that begins now, by name. Rank 0's counts."""
        return {}

    def tell(self) -> dict[str, Any]:
        """What this rank tells all ranks at the exchange that begins now, by name; nothing costs nothing."""
        return {}

    def exchanged(self, told: Exchanged) -> None:
        """Ranks have met, and all of them know the same."""

    def paused(self, what: str, started: float) -> None:
        """From `started` (of time.monotonic) until now the training made no steps, for a checkpoint or a phase."""

    def after_phase(self, name: str, seconds: float) -> None:
        """A phase is over, and the values logged in it are reduced."""

    def state(self) -> dict[str, Any]:
        """Fields for the manifest of the checkpoint that is being made; `begin` finds them there."""
        return {}

    def end(self) -> None:
        """The function has returned."""

    def close(self) -> None:
        """The training is over, however it ended."""


def overriding(hooks: Sequence[StepHook], event: str) -> list[Callable[..., Any]]:
    """The methods of those hooks that do something at an event, in their order."""
    nothing = getattr(StepHook, event)
    return [getattr(hook, event) for hook in hooks if getattr(type(hook), event) is not nothing]

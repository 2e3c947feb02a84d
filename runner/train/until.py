"""Whether a training that was done, and was asked to go further (`resume --until`), did."""

from __future__ import annotations

from collections.abc import Iterable

from runner.errors import SpecError
from runner.record.entries import Resumed, StageDone
from runner.store import Entry


def check(stage: str, steps: int, entries: Iterable[Entry], run_id: str) -> None:
    """To be called when a training has ended, before that is recorded.

    Args:
        steps: that it has made, earlier attempts included.
        entries: of the run's log.

    Raises:
        SpecError: it was asked to go further and made no step, nor did the others that were asked with it. Of several
            the last one says so: what was asked for may concern only one of them.
    """
    before, since = _asked(entries)
    if stage not in before:
        return
    since[stage] = steps
    if len(since) < len(before) or any(made > before[name] for name, made in since.items()):
        return
    raise SpecError(
        f"nothing was trained: '{stage}' was done at step {before[stage]}, was asked to go further, and ended at step "
        f"{steps} again",
        allowed="a function that is told how far it goes by ctx.batches(epochs= or steps=) or ctx.epochs; a loop that "
        "was left by `break` or `return` is over, and so is one whose end does not depend on what --until named",
        todo="name the config field that says how far it goes; or begin another run with its weights: "
        f"runner submit JOB --from {run_id}. Its checkpoints are as they were",
        where="resume --until",
    )


def _asked(entries: Iterable[Entry]) -> tuple[dict[str, int], dict[str, int]]:
    """The trainings that were last asked to go further with the steps that they had made then, and those of them that
    have ended since with the steps that they have made.
    """
    made: dict[str, int] = {}
    before: dict[str, int] = {}
    since: dict[str, int] = {}
    for entry in entries:
        event = entry.event
        if isinstance(event, StageDone) and event.result.steps is not None:
            made[event.stage] = since[event.stage] = event.result.steps
        elif isinstance(event, Resumed) and event.again:
            before, since = {name: made.get(name, 0) for name in event.again}, {}
    return before, {name: steps for name, steps in since.items() if name in before}

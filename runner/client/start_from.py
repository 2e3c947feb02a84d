"""Training that begins from another run's checkpoint: which one, looked up at submission."""

from __future__ import annotations

from typing import Any

from runner.client.run import Run
from runner.errors import InputError, listed
from runner.plan.resolve import Resolved
from runner.record import kept
from runner.record.finding import find_run
from runner.spec import Train


def beginning(resolved: Resolved, start_from: str, start_with: str) -> dict[str, Any]:
    """Which checkpoint each training stage begins with: that of the stage of its name, or of the only one that has any.

    Raises:
        InputError: no such run or checkpoint, or none that belongs to a stage of the job.
    """
    if start_with not in ("weights", "all"):
        raise InputError(f"start_with={start_with!r}", allowed="'weights' or 'all'", todo="choose one of them")
    name, _, which = start_from.partition(":")
    run = Run(resolved.store, find_run(resolved.store, name))
    trainings = [stage.name for stage in resolved.job.stages if isinstance(stage, Train)]
    found = run.checkpoints()
    there = list(dict.fromkeys(each.stage for each in found))
    if not there:
        raise InputError(
            f"the run {run.id} has no checkpoints",
            allowed="a run whose training has published one",
            todo="see `runner checkpoints` of another run",
            where="start_from",
        )
    pairs = {stage: stage for stage in trainings if stage in there}
    if not pairs and len(there) == len(trainings) == 1:
        pairs = {trainings[0]: there[0]}
    if not pairs:
        raise InputError(
            f"the run {run.id} has checkpoints of {listed(there)}",
            allowed=f"a stage of this job: {listed(trainings)}",
            todo="name the training stage so, or begin from another run",
            where="start_from",
        )
    stages = {}
    for stage, other in pairs.items():
        chosen = kept.choose([each for each in found if each.stage == other], which or "last", run.id)
        stages[stage] = {
            "run": run.id, "stage": other, "key": chosen.key, "step": chosen.step, "sha256": chosen.sha256,
            "all": start_with == "all",
        }  # fmt: skip
    return {"run": run.id, "stages": stages}

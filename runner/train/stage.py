"""A training stage, from the driver's side: fix its data, start its gang, hand back its result.

The function's side is `context.TrainContext`. Nothing here imports torch: the driver stays light.
"""

from __future__ import annotations

import time
from typing import Any

from runner.spec import Train
from runner.train import inputs, until
from runner.train.checkpoint.published import Checkpoints
from runner.train.gang.base import Gang
from runner.worker.scope import Scope


def run_train(stage: Train, scope: Scope, gang: Gang) -> dict[str, Any]:
    """Train on a gang, from the newest checkpoint of the run if it has one.

    Returns:
        steps, epochs, samples; metrics: the last value of each; checkpoint, best: keys in the bundle; resumed_from: the
        step, or None; world_size; seconds.

    Raises:
        DataError: the data is missing, empty or unreadable; no rank is started then.
        SpecError: a training that was done was asked to go further (`resume --until`), and made no step.
        UserCodeError, WorkerLost, StageTimeout, StoreError, ...: see `Gang.run`.
    """
    started = time.monotonic()
    inputs.pin(stage, scope)
    argument = {"checkpoints": Checkpoints(scope, stage).published(), "start": scope.spec.beginning(stage.name)}
    result = gang.run(stage, scope, argument)
    until.check(stage.name, result["steps"], scope.bundle.log.read(), scope.run_id)
    return {**result, "seconds": round(time.monotonic() - started, 3)}

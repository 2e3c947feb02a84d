"""runner: one Python file from raw shards to a trained model, on a laptop or a KubeRay cluster.

The public names load what they need when they are first used, so that ``import runner`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from runner.api import get_run, resume, runs, submit
    from runner.data.stream import Batch, Stream
    from runner.errors import InputError, RunFailed, RunnerError, UserCodeError
    from runner.published import dataset
    from runner.run import Run
    from runner.spec import Cluster, Dataset, Group, Job, Kubernetes, Prep, Train, Volume
    from runner.worker.train_context import TrainContext

_WHERE = {
    "Batch": "runner.data.stream",
    "Cluster": "runner.spec",
    "Dataset": "runner.spec",
    "Group": "runner.spec",
    "InputError": "runner.errors",
    "Job": "runner.spec",
    "Kubernetes": "runner.spec",
    "Prep": "runner.spec",
    "Run": "runner.run",
    "RunFailed": "runner.errors",
    "RunnerError": "runner.errors",
    "Stream": "runner.data.stream",
    "Train": "runner.spec",
    "TrainContext": "runner.worker.train_context",
    "UserCodeError": "runner.errors",
    "Volume": "runner.spec",
    "dataset": "runner.published",
    "get_run": "runner.api",
    "resume": "runner.api",
    "runs": "runner.api",
    "submit": "runner.api",
}

__all__ = [
    "Batch", "Cluster", "Dataset", "Group", "InputError", "Job", "Kubernetes", "Prep", "Run", "RunFailed",
    "RunnerError", "Stream", "Train", "TrainContext", "UserCodeError", "Volume", "dataset", "get_run", "resume", "runs",
    "submit",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'runner' has no attribute '{name}'")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

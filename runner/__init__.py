"""runner: one Python file from raw shards to a trained model, on a laptop or a KubeRay cluster.

The public names load what they need when they are first used, so that ``import runner`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from runner.process.allocator import keep_freed_memory

__version__ = "0.1.0"

keep_freed_memory()  # before anything imports pyarrow

if TYPE_CHECKING:
    from runner.client.lookup import get_run, runs
    from runner.client.published import dataset
    from runner.client.resume import resume
    from runner.client.run import Run
    from runner.client.submit import submit
    from runner.data.stream import Batch, Stream
    from runner.errors import InputError, RunFailed, RunnerError, UserCodeError
    from runner.spec import Cluster, Dataset, Group, Job, Kubernetes, Prep, Train, Volume
    from runner.spec.audio import Audio
    from runner.spec.images import Image
    from runner.spec.mixing import Mix
    from runner.spec.packing import Pack
    from runner.spec.video import Video
    from runner.train.context import TrainContext

_WHERE = {
    "Audio": "runner.spec.audio",
    "Batch": "runner.data.stream.stream",
    "Cluster": "runner.spec.job",
    "Dataset": "runner.spec.job",
    "Group": "runner.spec.job",
    "Image": "runner.spec.images",
    "InputError": "runner.errors",
    "Job": "runner.spec.job",
    "Kubernetes": "runner.spec.job",
    "Mix": "runner.spec.mixing",
    "Pack": "runner.spec.packing",
    "Prep": "runner.spec.job",
    "Run": "runner.client.run",
    "RunFailed": "runner.errors",
    "RunnerError": "runner.errors",
    "Stream": "runner.data.stream.stream",
    "Train": "runner.spec.job",
    "TrainContext": "runner.train.context",
    "UserCodeError": "runner.errors",
    "Video": "runner.spec.video",
    "Volume": "runner.spec.job",
    "dataset": "runner.client.published",
    "get_run": "runner.client.lookup",
    "resume": "runner.client.resume",
    "runs": "runner.client.lookup",
    "submit": "runner.client.submit",
}
#: Names whose module imports what an extra brings.
_NEEDS = {"TrainContext": "train"}

__all__ = [
    "Audio", "Batch", "Cluster", "Dataset", "Group", "Image", "InputError", "Job", "Kubernetes", "Mix", "Pack", "Prep",
    "Run", "RunFailed", "RunnerError", "Stream", "Train", "TrainContext", "UserCodeError", "Video", "Volume", "dataset",
    "get_run", "resume", "runs", "submit",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'runner' has no attribute '{name}'")
    if name in _NEEDS:
        from runner.code import extras

        extras.need(_NEEDS[name], f"runner.{name}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""`spec.json` of a bundle, read once: what was asked for, as far as others than the run's own processes use it.

Those make definitions of it (`wire`), of the parts as they are kept (`raw`). Also `cluster.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from runner.record.entries import CheckpointKey, DatasetName, Legs, StageName, Step
from runner.untrusted.names import JOB, MODULE, NAMESPACE, RUN_ID
from runner.untrusted.shapes import named, whole
from runner.untrusted.typed import Excerpt, Record

#: As `Train.on_data`: in the rank itself.
_INLINE = "inline"
RunId = Annotated[str, named(RUN_ID)]


@dataclass(frozen=True)
class StageSpec(Excerpt):
    """A stage of the job.

    Args:
        workers: how many; of a preparation also the fewest and the most.
        on_data, data_workers: of a training, where its batches are transformed, and by how many.
    """

    name: StageName
    kind: Literal["Prep", "Train"]
    timeout_s: float | None = None
    workers: Any = 1
    on_data: str = _INLINE
    data_workers: Any = None

    @property
    def most_workers(self) -> int:
        """The most that it may have."""
        return int(self.workers[1] if isinstance(self.workers, list | tuple) else self.workers)

    @property
    def most_processes(self) -> int:
        """The most that it may have at a time, those that transform batches for its ranks included."""
        return self.most_workers + (0 if self.on_data == _INLINE else int(self.data_workers or self.workers))


@dataclass(frozen=True)
class JobSpec(Excerpt):
    """The job.

    Args:
        config: as `values` has written it.
    """

    stages: tuple[StageSpec, ...]
    name: Annotated[str | None, named(JOB)] = None
    config: Any = None


@dataclass(frozen=True)
class KubernetesSpec(Excerpt):
    """Where on a Kubernetes the run is."""

    context: str | None = None
    namespace: Annotated[str | None, named(NAMESPACE)] = None
    service_account: str = ""
    image: str = ""
    deadline_s: float | None = None
    queue: str | None = None
    volumes: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ClusterSpec(Excerpt):
    """Where the run is."""

    backend: str
    address: str | None = None
    kubernetes: KubernetesSpec | None = None


@dataclass(frozen=True)
class PlannedStage(Excerpt):
    """A stage as it was planned."""

    name: StageName


@dataclass(frozen=True)
class PlanSpec(Excerpt):
    """What was planned at the submission, or at the last resume that changed it."""

    stages: tuple[PlannedStage, ...] = ()

    def planned(self) -> dict[str, Mapping[str, Any]]:
        """Stage -> all that was planned of it."""
        return {stage.name: stage.raw for stage in self.stages}


@dataclass(frozen=True)
class Lineage(Excerpt):
    """Who ran it with which versions."""

    packages: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


@dataclass(frozen=True)
class Beginning(Record):
    """The checkpoint of another run with which a training begins.

    Args:
        all: whether what is no module begins with it as well.
    """

    run: RunId
    step: Step
    key: CheckpointKey = ""
    sha256: str = ""
    all: bool = False


@dataclass(frozen=True)
class StartFrom(Excerpt):
    """With which run's checkpoints trainings begin."""

    run: Annotated[str | None, named(RUN_ID)] = None
    stages: Mapping[StageName, Beginning] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSpec(Excerpt):
    """The resolved job, with its cluster, its data and its plan.

    Args:
        raw: all of it.
        legs: the stages that share machines, in their order.
        source: the job's file, or module, as it was named.
        changes: what was changed by name at the submission.
        force: stages that are made again.
        optimized: as how `python -O` its processes run.
        entry: "supervisor" and "driver" -> the module that is started, of the runner in the bundle.
    """

    job: JobSpec
    cluster_name: str
    legs: Legs
    cluster: ClusterSpec
    datasets: Mapping[DatasetName, Any] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=lambda: Lineage({}))
    optimized: Annotated[int, whole(0, 2)] = 0
    entry: Mapping[str, Annotated[str, named(MODULE)]] = field(default_factory=dict)
    force: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    plan: PlanSpec = field(default_factory=lambda: PlanSpec({}))
    start_from: StartFrom | None = None

    @property
    def trainings(self) -> list[str]:
        """The stages that train."""
        return [stage.name for stage in self.job.stages if stage.kind == "Train"]

    def beginning(self, stage: str) -> Beginning | None:
        """The checkpoint of another run with which a stage begins, if it does."""
        return None if self.start_from is None else self.start_from.stages.get(stage)

    @classmethod
    def of(cls, **parts: Any) -> RunSpec:
        """One of parts that can be written as JSON."""
        return cls.from_json(json.loads(json.dumps(parts)))

    def but(self, **parts: Any) -> RunSpec:
        """The same with other parts."""
        return RunSpec.of(**{**self.raw, **parts})


@dataclass(frozen=True)
class ClusterMark(Record):
    """`cluster.json`: on which Kubernetes the run is, by what only that one has, and as people know it."""

    mark: str = ""
    address: str = ""

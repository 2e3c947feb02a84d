"""What a run will do, worked out before anything is spent. Pure: the facts are gathered beforehand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from runner.errors import PlanError
from runner.plan import graph
from runner.plan.facts import DataFacts, Facts
from runner.plan.layout import Layout
from runner.plan.resolve import Resolved
from runner.spec import Cluster, Prep, Stage, Train


@dataclass(frozen=True)
class DataLine:
    """A dataset of a stage, as far as it is known: `state` is 'ready', 'made here' or 'made before'."""

    name: str
    state: str
    rows: int | None = None
    bytes: int | None = None
    files: int | None = None
    id: str | None = None


@dataclass(frozen=True)
class StagePlan:
    """One stage of a plan.

    Args:
        action: 'run', 'skip' (its result exists) or 'decide' (it depends on what the stage before makes).
        workers, machines: the most workers, and how many machines of the group they fill.
        fewest_workers, fewest_machines: with which it begins; fewer only where the cluster grows with the work.
        data_group, data_workers, data_machines: of a training whose batches are transformed on other machines; None and
            0 where its ranks do that.
        storage_added: bytes, estimated; None where nothing is known.
        price_per_hour: of all those machines, where the cluster gives prices.
        why: of a Prep, on what grounds it is skipped or what has changed since it was made, in words.
    """

    name: str
    kind: str
    action: str
    group: str
    workers: int
    machines: int
    shape: dict[str, Any]
    inputs: tuple[DataLine, ...]
    outputs: tuple[DataLine, ...]
    fewest_workers: int
    fewest_machines: int
    data_group: str | None = None
    data_workers: int = 0
    data_machines: int = 0
    storage_added: int | None = None
    price_per_hour: float | None = None
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Args:
        legs: names of stages that one driver runs, one tuple a driver.
        early: for each leg whether its machines are asked for shortly before the leg before ends.
        queue, priority: of its machines, where they are queued for.
        one_machine, one_leg: of the machines, see `Layout`.
    """

    job: str
    cluster: str
    backend: str
    store: str
    currency: str
    stages: tuple[StagePlan, ...]
    legs: tuple[tuple[str, ...], ...]
    early: tuple[bool, ...] = ()
    queue: str | None = None
    priority: str | None = None
    one_machine: bool = False
    one_leg: bool = False

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Plan:
        """What `to_json` gave."""
        stages = tuple(
            StagePlan(
                **{
                    **stage,
                    "why": tuple(stage["why"]),
                    **{name: tuple(DataLine(**line) for line in stage[name]) for name in ("inputs", "outputs")},
                }
            )
            for stage in raw["stages"]
        )
        legs = tuple(tuple(leg) for leg in raw["legs"])
        return cls(**{**raw, "stages": stages, "legs": legs, "early": tuple(raw["early"])})

    def without(self, done: Collection[str]) -> Plan:
        """What is left to do of it: stages that are done are passed by, all others run."""
        stages = (replace(stage, action="skip" if stage.name in done else "run") for stage in self.stages)
        return replace(self, stages=tuple(stages))


def make_plan(resolved: Resolved, facts: Facts, layout: Layout) -> Plan:
    """The plan for a resolved job.

    Args:
        layout: of the machines that the job names.

    Raises:
        PlanError: a stage does not fit its group, or its input has no rows.
    """
    written = {name for stage in resolved.job.stages for name in graph.writes(stage)}
    stages = tuple(_stage_plan(stage, resolved, facts, written, layout) for stage in resolved.job.stages)
    cut = legs(resolved, layout)
    return Plan(
        job=resolved.job.name,
        cluster=resolved.cluster_name,
        backend=resolved.cluster.backend,
        store=resolved.store.url,
        currency=resolved.cluster.currency,
        stages=stages,
        legs=cut,
        early=_early(resolved, cut, layout),
        queue=layout.queue,
        priority=layout.priority,
        one_machine=layout.one_machine,
        one_leg=layout.one_leg,
    )


def legs(resolved: Resolved, layout: Layout) -> tuple[tuple[str, ...], ...]:
    """Consecutive stages of one shape are one leg; where all share what is there, every stage has the same.

    Those whose machines come and go with their work are apart: a gang needs all of its own, for good. So are those that
    have other machines beside theirs, which go when they are done.
    """
    names = [stage.name for stage in resolved.job.stages]
    if layout.one_leg:
        return (tuple(names),)
    cut: list[list[str]] = []
    shape = None
    for stage in resolved.job.stages:
        fewest, most = _range(stage, layout)
        own = stage.on, fewest < most, _data_group(stage)
        if own != shape:
            cut.append([])
        cut[-1].append(stage.name)
        shape = own
    return tuple(tuple(leg) for leg in cut)


def resized(raw: Mapping[str, Any], resolved: Resolved, layout: Layout) -> dict[str, Any]:
    """A plan as JSON with the workers and machines of a job that was changed since.

    Raises:
        PlanError: a stage does not fit its group.
    """
    stages = {stage.name: stage for stage in resolved.job.stages}
    return {**raw, "stages": [{**line, **_size(stages[line["name"]], resolved, layout)} for line in raw["stages"]]}


def _early(resolved: Resolved, legs: tuple[tuple[str, ...], ...], layout: Layout) -> tuple[bool, ...]:
    """It pays where machines take their time to come, nobody else is kept from them by a quota held twice, the end of
    the leg before can be foreseen (tasks are counted), and the leg is certain to need them (training always does).
    """
    if not layout.lead_s:
        return (False,) * len(legs)
    stages = {stage.name: stage for stage in resolved.job.stages}
    found = [False]
    for before, leg in itertools.pairwise(legs):
        last = stages[before[-1]]
        counted = isinstance(last, Prep) and last.batch_format != "dataset"
        found.append(counted and any(isinstance(stages[name], Train) for name in leg))
    return tuple(found)


def _stage_plan(stage: Stage, resolved: Resolved, facts: Facts, written: set[str], layout: Layout) -> StagePlan:
    size = _size(stage, resolved, layout)
    inputs = tuple(_input_line(str(n), facts, resolved, written) for n in graph.reads(stage).values())
    _check_rows(stage, inputs)
    result = facts.done.get(stage.name)
    known = all(line.id is not None for line in inputs)
    certain = known or not _depends(inputs) or stage.name in facts.forced
    action = "skip" if result is not None else "run" if certain else "decide"
    if isinstance(stage, Train):
        action = "run"
    return StagePlan(
        name=stage.name,
        kind=type(stage).__name__.lower(),
        action=action,
        **size,
        inputs=inputs,
        outputs=tuple(_line(name, facts.data.get(name), "made here") for name in graph.writes(stage)),
        storage_added=_storage(stage, inputs, facts) if action != "skip" else 0,
        price_per_hour=_price(size, resolved.cluster),
        why=tuple(facts.why.get(stage.name, ())),
    )


def _size(stage: Stage, resolved: Resolved, layout: Layout) -> dict[str, Any]:
    """The fields of a StagePlan that say how many of which machines."""
    group = resolved.cluster.groups[stage.on]
    fewest, most = _range(stage, layout)
    each = group.gpu or max(1, int(group.cpu))
    data, helpers = _data_group(stage), stage.helpers if isinstance(stage, Train) else 0
    beside = 0
    if data is not None:
        cores = max(1, int(resolved.cluster.groups[data].cpu))
        beside = _machines(stage, helpers, data, cores, resolved.cluster, layout, "data_workers")
    return {
        "group": stage.on,
        "workers": most,
        "machines": _machines(stage, most, stage.on, each, resolved.cluster, layout),
        "fewest_workers": fewest,
        "fewest_machines": _machines(stage, fewest, stage.on, each, resolved.cluster, layout),
        "data_group": data,
        "data_workers": helpers,
        "data_machines": beside,
        "shape": {"cpu": group.cpu, "memory": group.memory, "gpu": group.gpu},
    }


def _depends(inputs: tuple[DataLine, ...]) -> bool:
    """Whether an earlier stage of this run must decide first what the input is."""
    return any(line.state == "made here" for line in inputs)


def _input_line(name: str, facts: Facts, resolved: Resolved, written: set[str]) -> DataLine:
    known = facts.data.get(name)
    definition = resolved.datasets.get(name)
    to_make = definition is not None and definition.make is not None
    return _line(name, known, "made here" if name in written or to_make else "missing")


def _line(name: str, facts: DataFacts | None, absent: str) -> DataLine:
    if facts is None or facts.id is None:
        return DataLine(name, absent)
    return DataLine(name, "ready", facts.rows, facts.bytes, facts.files, facts.id)


def _check_rows(stage: Stage, inputs: tuple[DataLine, ...]) -> None:
    for line in inputs:
        where = f"{type(stage).__name__} '{stage.name}'"
        if line.state == "missing":
            raise PlanError(
                f"dataset '{line.name}' is not in the store",
                allowed="data that exists, or a stage that makes it",
                todo="run the job that makes it",
                where=where,
            )
        if line.rows == 0:
            raise PlanError(
                f"dataset '{line.name}' has no rows",
                allowed="at least one row",
                todo="check the files, and the filter of the stage that wrote them",
                where=where,
            )


def _range(stage: Stage, layout: Layout) -> tuple[int, int]:
    """The fewest and the most workers."""
    fewest, most = stage.worker_range
    return (fewest, most) if layout.grows else (most, most)


def _data_group(stage: Stage) -> str | None:
    """Of which group a stage has machines besides."""
    return stage.on_data if isinstance(stage, Train) and stage.helpers else None


def _price(size: Mapping[str, Any], cluster: Cluster) -> float | None:
    """Of an hour of a stage's machines, as far as their groups say; None where none does."""
    held = [(size["group"], size["machines"]), (size["data_group"], size["data_machines"])]
    prices = [(cluster.groups[name].price_per_hour, count) for name, count in held if name is not None]
    told = [price * count for price, count in prices if price is not None]
    return sum(told) if told else None


def _machines(
    stage: Stage, workers: int, name: str, per_machine: int, cluster: Cluster, layout: Layout, what: str = "workers"
) -> int:
    """Workers per machine follow from its shape: ranks one per GPU, or else one per core; others one per core."""
    if layout.one_machine:
        return 1
    group, machines = cluster.groups[name], math.ceil(workers / per_machine)
    if group.max is not None and machines > group.max:
        raise PlanError(
            f"{workers} {what} need {machines} machines of group '{name}' ({per_machine} workers each)",
            allowed=f"at most {group.max} machines, {group.max * per_machine} workers",
            todo="ask for fewer workers, or raise the group's max",
            where=f"{type(stage).__name__} '{stage.name}'",
        )
    return machines


def _storage(stage: Stage, inputs: tuple[DataLine, ...], facts: Facts) -> int | None:
    """Bytes that a Prep stage adds: by the ratio of its last run, or as many as it reads."""
    if not isinstance(stage, Prep) or any(line.bytes is None for line in inputs):
        return None
    return int(sum(line.bytes or 0 for line in inputs) * facts.ratio.get(stage.name, 1.0))

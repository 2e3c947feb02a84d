"""A resolved job for this machine, before it is a run: what is checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from runner.code import extras
from runner.errors import PlanError
from runner.plan.plan import Plan, StagePlan
from runner.plan.resolve import Resolved
from runner.spec import Stage, Train
from runner.worker import processes

#: Processes on a core: from more ranks than the first a plan says that they are many (what is meant is often another
#: number), and more than the second make nothing quicker, and take the memory that others work with.
MANY_PER_CORE, PER_CORE = 8, 32


def crowded(plan: Plan) -> list[StagePlan]:
    """Trainings with so many ranks that this machine would hardly get to its work."""
    return [each for each in plan.stages if each.kind == "train" and each.workers > MANY_PER_CORE * processes.cores()]


def check(plan: Plan) -> None:
    """Raise PlanError where a stage wants more processes than this machine can be asked for.

    Of a range of workers there are never more than cores.
    """
    cores = processes.cores()
    for stage in plan.stages:
        processes_of_stage = stage.fewest_workers + stage.data_workers
        if processes_of_stage > PER_CORE * cores:
            raise PlanError(
                f"{processes_of_stage:,} workers on this machine, where each is a process",
                allowed=f"at most {PER_CORE * cores:,}: {PER_CORE} for each of its {cores} cores",
                todo="ask for fewer, or choose a cluster (--cluster)",
                where=f"stage '{stage.name}'",
            )


def check_packages(resolved: Resolved, plan: Plan, brought: Collection[str] = ()) -> None:
    """Raise MissingPackage where stages that are to run on this machine need what is not installed here.

    Args:
        brought: normal names of what the job brings.
    """
    skipped = {stage.name for stage in plan.stages if stage.action == "skip"}
    for stage in resolved.job.stages:
        for extra in () if stage.name in skipped else _extras(stage):
            extras.need(extra, f"{type(stage).__name__} '{stage.name}'", brought=brought)


def _extras(stage: Stage) -> Iterator[str]:
    if isinstance(stage, Train):
        yield "train"
    elif stage.batch_format in ("dataset", "pandas"):
        yield "ray" if stage.batch_format == "dataset" else "pandas"

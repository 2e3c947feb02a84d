"""A resolved job for this machine, before it is a run: what is checked."""

from __future__ import annotations

import os

from runner.errors import PlanError
from runner.plan.plan import Plan

#: More processes than that on a core make nothing quicker, and take the memory that others work with.
PER_CORE = 32


def check(plan: Plan) -> None:
    """Raise PlanError where a stage wants more processes than this machine can be asked for.

    Of a range of workers there are never more than cores.
    """
    cores = os.cpu_count() or 1
    for stage in plan.stages:
        if stage.fewest_workers > PER_CORE * cores:
            raise PlanError(
                f"{stage.fewest_workers:,} workers on this machine, where each is a process",
                allowed=f"at most {PER_CORE * cores:,}: {PER_CORE} for each of its {cores} cores",
                todo="ask for fewer, or choose a cluster (--cluster)", where=f"stage '{stage.name}'",
            )  # fmt: skip

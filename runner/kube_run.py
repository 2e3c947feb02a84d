"""A resolved job on Kubernetes, before it is a run: what is checked, and what would be applied."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from runner.backends import kuberay, manifest
from runner.kube import preflight
from runner.plan import Plan
from runner.resolve import Resolved
from runner.shared_store import check_no_credentials, check_reachable
from runner.store import Store


def check(resolved: Resolved, plan: Plan) -> None:
    """Everything that can be known before any pod is asked for.

    Raises:
        InputError: something would not work; nothing was made.
    """
    _check_store(resolved.store)
    preflight.check(resolved.cluster, needs(resolved, plan))


def needs(resolved: Resolved, plan: Plan) -> list[preflight.Need]:
    """What each stage asks of the cluster."""
    groups = resolved.cluster.groups
    return [
        preflight.Need(
            f"stage '{stage.name}'",
            stage.group,
            groups[stage.group],
            stage.fewest_machines,
            stage.fewest_machines < stage.machines,
        )
        for stage in plan.stages
    ]


def objects(resolved: Resolved, plan: Plan, run_id: str, by: str) -> list[dict[str, Any]]:
    """What a submit would apply: the supervisor's Job, and the RayJob of the first attempt at each leg."""
    facts = manifest.RunFacts(
        run_id=run_id, job=resolved.job.name, store=resolved.store.url, cluster=resolved.cluster,
        options=resolved.store.options, ray_version=version("ray"), by=by,
    )  # fmt: skip
    planned = {stage["name"]: stage for stage in plan.to_json()["stages"]}
    legs = [[planned[name] for name in leg] for leg in plan.legs]
    stages = [kuberay.leg_body(facts, leg, number, 1, None) for number, leg in enumerate(legs)]
    return [manifest.supervisor_job(facts), *stages]


def _check_store(store: Store) -> None:
    check_reachable(store, "every pod")
    check_no_credentials(
        store, "in the pods' specs",
        "put them into a Secret, name it in the cluster's `secrets`, and use environment variables here",
    )  # fmt: skip

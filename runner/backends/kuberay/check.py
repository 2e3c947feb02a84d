"""A resolved job on Kubernetes, before it is a run: what is checked, and what would be applied."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from runner.backends.kuberay import manifest
from runner.backends.kuberay.objects import leg_body
from runner.code import extras, optimized
from runner.code.dependencies import version_of
from runner.errors import StoreError
from runner.kube.preflight import check as preflight
from runner.kube.preflight.needs import Finding, Needs
from runner.plan.plan import Plan
from runner.plan.resolve import Resolved
from runner.record.index import new_run_id
from runner.spec import Cluster
from runner.store import Store
from runner.store.sharing import check_no_credentials, check_reachable
from runner.untrusted import switches

#: What no check before a run can see.
IN_THE_FIRST_POD = (
    "what needs a pod shows in the first one of a run: the image, whether pods reach the store, drivers and GPUs"
)


def check(resolved: Resolved, plan: Plan) -> list[str]:
    """Everything that can be known before any pod is asked for.

    Returns:
        What should be said, in sentences.

    Raises:
        InputError: something would not work; nothing was made.
    """
    extras.need("kube", f"cluster '{resolved.cluster_name}'")
    _check_level(resolved.cluster)
    made = objects(resolved, plan, new_run_id(resolved.job.name), "")
    # The client makes these two; later RayJobs the supervisor makes, with rights of its own.
    return preflight.check(resolved.cluster, needs(resolved.cluster, plan, made), made[:2])


def needs(cluster: Cluster, plan: Plan, made: list[dict[str, Any]]) -> Needs:
    """What the objects of a plan ask for, see `objects`; nothing in legs whose results are all there."""
    stages = {stage.name: stage for stage in plan.stages}
    named = [
        max((stages[name] for name in leg), key=lambda stage: stage.fewest_machines).name
        for leg in _working_legs(plan).values()
    ]
    job, *ray_jobs = made
    return Needs.of(cluster, job, {f"stage '{name}'": body for name, body in zip(named, ray_jobs, strict=True)})


def objects(resolved: Resolved, plan: Plan, run_id: str, by: str) -> list[dict[str, Any]]:
    """What a submit would apply: the supervisor's Job, and the RayJob of the first attempt at each leg that needs one.

    Raises:
        StoreError: pods could not reach the store, or its options would show credentials in them.
    """
    _check_store(resolved.store)
    facts = _facts(resolved.cluster, resolved.store, run_id, resolved.job.name, by)
    planned = {stage["name"]: stage for stage in plan.to_json()["stages"]}
    stages = [
        leg_body(facts, [planned[name] for name in leg], number, 1, None) for number, leg in _working_legs(plan).items()
    ]
    return [manifest.supervisor_job(facts), *stages]


def _working_legs(plan: Plan) -> dict[int, tuple[str, ...]]:
    """Number -> stages of each leg for which machines are asked: that of a leg whose results are there is passed by."""
    action = {stage.name: stage.action for stage in plan.stages}
    return {number: leg for number, leg in enumerate(plan.legs) if any(action[name] != "skip" for name in leg)}


def _facts(cluster: Cluster, store: Store, run_id: str, job: str, by: str) -> manifest.RunFacts:
    return manifest.RunFacts(
        run_id=run_id,
        job=job,
        store=store.url,
        cluster=cluster,
        options=store.options,
        ray_version=version_of("ray") or manifest.RAY_VERSION,
        by=by,
        optimized=optimized.level(),
    )


def _check_level(cluster: Cluster) -> None:
    """Raise SpecError where the cluster's file says for itself whether pods are started by `python -O`."""
    where = cluster.kubernetes
    assert where is not None
    optimized.refuse(where.environment, "Kubernetes, field 'environment'")
    groups = {f"group '{name}'": group for name, group in cluster.groups.items()}
    groups |= {"head": where.head, "supervisor": where.supervisor}
    templates = {"Kubernetes": where.pod_template} | {name: group.pod_template for name, group in groups.items()}
    for name, template in templates.items():
        for environment in switches.environments(template):
            optimized.refuse(environment, f"{name}, field 'pod_template'")


def _check_store(store: Store) -> None:
    check_reachable(store, "every pod")
    check_no_credentials(
        store,
        "in the pods' specs",
        "put them into a Secret, name it in the cluster's `secrets`, and use environment variables here",
    )


# -- by hand ---------------------------------------------------------------------------------------------------------


def examine(cluster: Cluster, store: Store) -> list[Finding]:
    """Every check of a cluster for one machine of each of its groups, and of the store."""
    extras.need("kube", "a look at a cluster of backend 'kuberay'")
    job, *ray_jobs = made = samples(cluster, store)
    words = [f"one machine of group '{name}'" for name in cluster.groups]
    of_store = list(look_at_store(store))
    return [*preflight.look(cluster, Needs.of(cluster, job, dict(zip(words, ray_jobs, strict=True))), made), *of_store]


def samples(cluster: Cluster, store: Store) -> list[dict[str, Any]]:
    """What a submit would apply for one machine of each group. No credential is sent, not even to be refused."""
    try:
        _check_store(store)
    except StoreError:
        store = Store("s3://lake/runs")  # no pod comes to look at it
    facts = _facts(cluster, store, new_run_id("check"), "check", "")
    return [
        manifest.supervisor_job(facts),
        *(manifest.ray_job(facts, 0, 1, group, (1, 1), None) for group in cluster.groups),
    ]


def look_at_store(store: Store) -> Iterator[Finding]:
    """Whether pods could reach it, and whether it is what a run's log needs: of two writers of an object one wins."""
    key = f"check-{secrets.token_hex(8)}"
    try:
        _check_store(store)
        first, second = store.create(key, b"first"), store.create(key, b"second")
        kept = store.get(key) == b"first"
    except StoreError as error:
        words = "; ".join(filter(None, (error.found, error.allowed and f"allowed: {error.allowed}")))
        yield Finding("store", False, f"{store.url}: {words}", error.todo)
        return
    except FileNotFoundError as error:
        yield Finding("store", False, f"{store.url}: {error}", "make the bucket, or choose another store")
        return
    yield Finding("store", True, f"{store.url} can be written and read from here")
    if first and not second and kept:
        yield Finding("store, two writers", True, "of two writers of one object the first wins")
    else:
        found = "it does not create an object only if it is absent (If-None-Match), which a run's log relies on"
        yield Finding("store, two writers", False, found, "choose a store that does")
    try:
        store.delete(key)
    except StoreError as error:
        yield Finding("store, clearing", None, f"object {key} could not be removed: {error.found}", error.todo)

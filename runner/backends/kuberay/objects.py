"""The objects of a run on Kubernetes: as its bundle has them made, and removing them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from runner.backends.entry import programs_of
from runner.backends.kuberay import manifest
from runner.kube import names, pods
from runner.kube.client import PODS, RAY_CLUSTERS, RAY_JOBS, Kube
from runner.kube.ledger import Ledger
from runner.record import Bundle
from runner.spec import wire
from runner.untrusted.names import JOB

#: Seconds for which pods may outlive their deletion before an operator that does not answer is passed by.
OPERATOR_S = 30.0
#: Seconds after which what is left is counted as left.
LONGEST_CLEAN_S = 120.0


def run_facts(bundle: Bundle) -> manifest.RunFacts:
    """What manifests need to know of a run that has a bundle."""
    spec = bundle.spec()
    return manifest.RunFacts(
        run_id=bundle.run_id,
        job=JOB(spec.job.name),
        store=bundle.root.url,
        cluster=wire.of_bundle(bundle, "cluster"),
        options=bundle.root.options,
        code=bundle.newest_code(),
        sealed=bundle.sealed,
        ray_version=spec.lineage.packages.get("ray", manifest.RAY_VERSION),
        by=spec.lineage.user,
        optimized=spec.optimized,
        programs=programs_of(spec.entry),
    )


def leg_body(
    facts: manifest.RunFacts, stages: Sequence[Mapping[str, Any]], leg: int, attempt: int, owner: dict[str, Any] | None
) -> dict[str, Any]:
    """The RayJob of an attempt at a leg of planned stages."""
    machines, beside = machines_of(stages), data_machines_of(stages)
    return manifest.ray_job(facts, leg, attempt, stages[0]["group"], machines, owner, beside)


def machines_of(stages: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """The fewest and the most machines of a leg of planned stages."""
    return max(stage["fewest_machines"] for stage in stages), max(stage["machines"] for stage in stages)


def data_machines_of(stages: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Group -> how many of its machines a leg has besides, to transform batches; a plan of before tells of none."""
    found: dict[str, int] = {}
    for stage in stages:
        if (name := stage.get("data_group")) is not None:
            found[name] = max(found.get(name, 0), stage["data_machines"])
    return found


def remove_machines(
    kube: Kube, facts: manifest.RunFacts, changed: threading.Event, ledger: Ledger | None = None
) -> dict[str, Any]:
    """Delete a run's RayJobs and wait until its machines are gone.

    Returns:
        What remains: "pods", "gpus" and "ray_jobs", and, with a ledger, the GPU seconds held.
    """
    started = time.monotonic()
    labels = names.of_run(facts.run_id)
    while True:
        jobs = [job for job in kube.select(RAY_JOBS, labels) if names.is_of(job, facts.run_id, facts.store)]
        for job in jobs:
            if not job["metadata"].get("deletionTimestamp"):
                kube.delete(RAY_JOBS, job["metadata"]["name"], uid=job["metadata"]["uid"])
        left = kube.select(PODS, names.machines_of(facts.run_id))
        waited = time.monotonic() - started
        if (not jobs and not left) or waited > LONGEST_CLEAN_S:
            break
        if waited > OPERATOR_S:
            _without_operator(kube, facts, jobs)
        changed.clear()
        changed.wait(0.5)
    held = {} if ledger is None else {"gpu_seconds": ledger.gpu_seconds(time.time())}
    if ledger is not None:
        ledger.keep()
    gpus = sum(pods.gpus(pod, facts.cluster.gpu_resources) for pod in left)
    return {"pods": len(left), "gpus": gpus, "ray_jobs": len(jobs), **held}


def _without_operator(kube: Kube, facts: manifest.RunFacts, jobs: list[dict[str, Any]]) -> None:
    """Its finalizer holds the RayJob back: delete what the RayJob has made, then take the finalizer off."""
    ours = {job["metadata"]["uid"] for job in jobs}
    for cluster in kube.select(RAY_CLUSTERS, names.of_run(facts.run_id)):
        owned = ours & {owner["uid"] for owner in cluster["metadata"].get("ownerReferences") or []}
        if owned or names.is_of(cluster, facts.run_id, facts.store):
            kube.delete(RAY_CLUSTERS, cluster["metadata"]["name"], uid=cluster["metadata"]["uid"])
    for job in jobs:
        if job["metadata"].get("finalizers") and kube.find(RAY_JOBS, job["metadata"]["name"]) is not None:
            kube.patch(RAY_JOBS, job["metadata"]["name"], {"metadata": {"finalizers": []}})

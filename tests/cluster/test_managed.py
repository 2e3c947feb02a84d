"""A namespace in which Kueue manages every Job, whether it names a queue or not."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from runner import Group
from runner.client import submit
from runner.errors import PlanError
from runner.kube import names
from runner.kube.client import RAY_JOBS, WORKLOADS, Kube
from runner.kube.team.objects import Tenant
from runner.onebox import operators
from runner.record import RunState
from tests.cluster import kit
from tests.cluster.conftest import Cluster
from tests.cluster.ends import check_end

pytestmark = pytest.mark.timeout(600)
SYSTEM = ("-n", "kueue-system")
MANAGER = (*SYSTEM, "deployment/kueue-controller-manager")
FILE = "controller_manager_config.yaml"


def configure(cluster: Cluster, text: str) -> None:
    """Give Kueue a configuration. The new manager is there before the old one goes; returns when the API asks it."""
    cluster.run("patch", "configmap", "kueue-manager-config", *SYSTEM, "-p", json.dumps({"data": {FILE: text}}))
    cluster.run("rollout", "restart", *MANAGER)
    cluster.run("rollout", "status", "--timeout=180s", *MANAGER)
    operators.await_webhooks()


@pytest.fixture
def managed(kube: Kube, cluster: Cluster) -> Iterator[Kube]:
    """A team whose every Job Kueue manages; what Kueue did elsewhere it does as before, and so it does afterwards."""
    kit.need_kueue(kube)
    if not cluster.onebox:
        pytest.skip("the settings of a given cluster's Kueue are not ours to change")
    name = f"test-managed-{uuid.uuid4().hex[:6]}"
    tenant = Tenant(name, cpus=1.9, memory=20 * kit.GIB, gpus=2, host_paths=kit.mounts_hosts(), supervisors=1)
    own = kit.make_team(kube, tenant)
    before = json.loads(cluster.run("get", "configmap", "kueue-manager-config", *SYSTEM, "-o", "json"))["data"][FILE]
    only = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    changed = {"manageJobsWithoutQueueName": True, "managedJobsNamespaceSelector": only}
    try:
        configure(cluster, json.dumps({**json.loads(before), **changed}))
        yield own
    finally:
        kit.remove_team(kube, name)
        configure(cluster, before)


def test_supervisors_have_a_queue_of_their_own(managed: Kube) -> None:
    """Without one, or without one of machines, nothing is made, and it is said why; with both two runs take their
    turn, machines and supervisors.
    """
    team = managed.namespace
    with pytest.raises(PlanError, match="suspends every Job") as refused:
        submit.submit("solo", cluster=kit.cluster_file(namespace=team, queue=team))
    assert "supervisor_queue" in str(refused.value)
    with pytest.raises(PlanError, match="name its queue"):
        submit.submit("solo", cluster=kit.cluster_file(namespace=team, supervisor_queue=f"{team}-supervisors"))

    queues = {"queue": team, "supervisor_queue": f"{team}-supervisors"}
    cluster = kit.cluster_file(namespace=team, supervisor=Group(cpu=0.2, memory="512MiB"), **queues)
    first = submit.submit("solo", cluster=cluster, steps=40, pause_s=0.5)
    kit.await_step(first, 1)
    owners = {w["metadata"]["ownerReferences"][0]["kind"]: w["spec"]["queueName"] for w in managed.select(WORKLOADS)}
    assert owners == {"Job": f"{team}-supervisors", "RayJob": team}  # the machines have a place of their own in a queue
    second = submit.submit("solo", cluster=cluster, steps=4)
    kit.await_that(
        lambda: any("for the supervisor" in r.waits_for for r in second.why()),
        60,
        "why names the supervisors' queue",
    )
    assert not managed.select(RAY_JOBS, names.of_run(second.id)), "machines without a supervisor"
    check_end(managed, first, RunState.SUCCEEDED)
    check_end(managed, second, RunState.SUCCEEDED)
    assert len(kit.attempts(second)) == 1

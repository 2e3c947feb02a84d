"""What `why` answers while a cluster keeps a run from its machines, and its operator from the run."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psutil

from runner.client import submit
from runner.client.run import Run
from runner.kube import names
from runner.kube.client import CLUSTER_QUEUES, PODS, SERVICES, WORKLOADS, Kube, KubeError, Resource, resource
from runner.record import RunState
from runner.record.reasons import Reason
from tests.cluster import kit
from tests.cluster.conftest import Cluster
from tests.cluster.ends import check_end

GIB = 1 << 30
CHECKS = Resource("apis/kueue.x-k8s.io/v1beta1", "admissionchecks", namespaced=False)
_KUEUE = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "AdmissionCheck"}
WORDS = "workers need a cost centre here"


@contextlib.contextmanager
def no_workers(team: Kube) -> Iterator[None]:
    """A policy of the cluster that refuses worker pods in the team's namespace, as one of a company's might."""
    made = policy(team.namespace)
    for body in made:
        team.apply(body, resource(body))
    try:
        kit.await_that(lambda: refuses(team), 30, "the policy is in force")
        yield
    finally:
        for body in reversed(made):
            team.request("DELETE", resource(body).path(None, body["metadata"]["name"]))


def policy(namespace: str) -> list[dict[str, Any]]:
    """The policy, and where it holds."""
    role = f"object.metadata.?labels[?'{names.ROLE}'].orValue('')"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": f"{role} != '{names.WORKER}'", "message": WORDS}],
    }
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    bound = {"policyName": namespace, "validationActions": ["Deny"], "matchResources": here}
    api_version = "admissionregistration.k8s.io/v1"
    return [
        {"apiVersion": api_version, "kind": kind, "metadata": {"name": namespace}, "spec": each}
        for kind, each in (("ValidatingAdmissionPolicy", spec), ("ValidatingAdmissionPolicyBinding", bound))
    ]


def refuses(team: Kube) -> bool:
    """Whether a worker's pod would be refused now."""
    labels = {names.ROLE: names.WORKER}
    container = {"name": "main", "image": "none", "resources": {"limits": {"cpu": "10m", "memory": "1Mi"}}}
    metadata = {"name": "tried", "namespace": team.namespace, "labels": labels}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    try:
        team.create(PODS, body, dry_run=True)
    except KubeError as error:
        return WORDS in str(error)
    return False


@contextlib.contextmanager
def no_way_in(team: Kube, run: Run) -> Iterator[None]:
    """Nobody reaches the dashboard of the run's head from outside of its pod, as where a network policy says so. The
    rule is in the pod's own network, and goes with it.
    """
    head = kit.pod(team, run, names.HEAD)["metadata"]["name"]
    kit.await_that(lambda: _process(head) is not None, 60, "the head's process")
    rule = ("INPUT", "!", "-i", "lo", "-p", "tcp", "--dport", "8265", "-j", "REJECT", "--reject-with", "tcp-reset")
    inside = ("nsenter", "-t", str(_process(head)), "-n", "iptables")
    subprocess.run([*inside, "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run([*inside, "-D", *rule], check=False)


def _process(pod: str) -> int | None:
    """Any of a pod, on this machine."""
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("HOSTNAME") == pod:
            return int(process.pid)
    return None


def waits_for(run: Run, words: str) -> Reason:
    """The reason that has these words, when there is one."""
    said: dict[str, Reason] = {}

    def told() -> bool:
        said.update({reason.waits_for: reason for reason in run.why()})
        return any(words in each for each in said)

    try:
        kit.await_that(told, 120, f"why says '{words}'")
    except AssertionError as error:
        raise AssertionError(f"{error}, but {list(said)}") from None
    return next(reason for each, reason in said.items() if words in each)


def test_a_policy_and_a_way_that_is_barred_are_told(kube: Kube, cluster: Cluster) -> None:
    """Worker pods that the cluster's policy refuses: `why` has its words. Then the operator cannot reach Ray's
    dashboard: `why` names the service, and the deadline. The run succeeds when both are put right.
    """
    with kit.team(kube, cpus=1.9, memory=20 * GIB, gpus=2, queue=False) as team, contextlib.ExitStack() as barred:
        with no_workers(team):
            small = kit.with_group(kit.cluster_file(namespace=team.namespace), "gpu", cpu=0.1)
            run = submit.submit("solo", cluster=small, steps=2)
            refused = waits_for(run, WORDS)
            assert refused.since is not None
            if cluster.onebox:  # the pods of a given cluster are on other machines
                barred.enter_context(no_way_in(team, run))
        said = [refused.waits_for]
        if cluster.onebox:
            unheard = waits_for(run, "the driver to begin: KubeRay's operator has not submitted it")
            named = [name for name in _services(team) if f"(service {name}, port 8265)" in unheard.waits_for]
            assert len(named) == 1, unheard
            assert "network policies" in unheard.helps
            assert 0 < unheard.until - unheard.since <= 600
            said.append(unheard.waits_for)
            barred.close()
        fault = "a policy refuses its workers, then the operator cannot reach its head"
        check_end(team, run, RunState.SUCCEEDED, fault, tuple(said))
        assert len(kit.attempts(run)) == 1


def _services(team: Kube) -> list[str]:
    return [service["metadata"]["name"] for service in team.select(SERVICES)]


@contextlib.contextmanager
def admission_check(team: Kube) -> Iterator[str]:
    """A check of the team's queue that nobody but the test decides."""
    name = f"check-of-{team.namespace}"
    spec = {"controllerName": "example.com/nobody"}
    team.request("POST", CHECKS.path(None), body={**_KUEUE, "metadata": {"name": name}, "spec": spec})
    active = {"type": "Active", "status": "True", "reason": "Active", "message": "", "lastTransitionTime": _now()}
    team.patch(CHECKS, name, {"status": {"conditions": [active]}}, part="status")
    team.patch(CLUSTER_QUEUES, team.namespace, {"spec": {"admissionChecks": [name]}})
    try:
        yield name
    finally:
        team.patch(CLUSTER_QUEUES, team.namespace, {"spec": {"admissionChecks": None}})
        team.delete(CHECKS, name)


def test_a_check_of_the_queue_is_told(kube: Kube) -> None:
    """One that is open is named; when it is rejected, that the run is never admitted by itself. It can be cancelled."""
    kit.need_kueue(kube)
    with kit.team(kube, cpus=1.9, memory=20 * GIB, gpus=2) as team, admission_check(team) as check:
        run = submit.submit("solo", cluster=kit.cluster_file(namespace=team.namespace, queue=team.namespace), steps=2)
        pending = waits_for(run, f"admission check '{check}' of queue '{team.namespace}' (Pending)")
        (workload,) = team.select(WORKLOADS)
        rejected = {"name": check, "state": "Rejected", "message": "no such nodes", "lastTransitionTime": _now()}
        team.patch(WORKLOADS, workload["metadata"]["name"], {"status": {"admissionChecks": [rejected]}}, part="status")
        over = waits_for(
            run, f"nothing: queue '{team.namespace}' has deactivated it: The workload is deactivated due to"
        )
        assert "no such nodes" in over.waits_for
        assert "never admitted by itself" in over.helps
        run.cancel()
        said = (pending.waits_for, over.waits_for)
        check_end(team, run, RunState.CANCELLED, "an admission check of its queue is rejected; cancelled", said)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

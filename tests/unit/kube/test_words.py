"""What Kubernetes, its webhooks and Kueue say, as causes."""

from __future__ import annotations

import pytest

from runner.errors import Cause
from runner.kube import words

QUOTA = 'pods "a" is forbidden: exceeded quota: team, requested: requests.nvidia.com/gpu=4, used: 6, limited: 8'
NO_RIGHT = 'pods is forbidden: User "ann" cannot create resource "pods" in API group "" in the namespace "red"'
NO_WEBHOOK = 'Internal error occurred: failed calling webhook "mjob.kb.io": failed to call webhook: connection refused'


@pytest.mark.parametrize(
    ("status", "message", "cause"),
    [
        (403, NO_RIGHT, Cause.DENIED),
        (403, 'User "ann" cannot get path "/metrics"', Cause.DENIED),
        (403, "", Cause.DENIED),
        (401, "Unauthorized", Cause.DENIED),
        (403, QUOTA, Cause.QUOTA),
        (403, 'pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot', Cause.POD_SECURITY),
        (403, 'admission webhook "policy.example.com" denied the request: no label', Cause.POLICY),
        (422, "ValidatingAdmissionPolicy 'x' with binding 'y' denied request: no", Cause.POLICY),
        (400, 'admission webhook "policy.example.com" denied the request: no label', Cause.POLICY),
        (404, 'admission webhook "mrayjob.kb.io" denied the request: jobs.batch "r" not found', Cause.API_AWAY),
        (403, 'pods "a" is forbidden: maximum cpu usage per Container is 2', Cause.API_REFUSED),
        (422, "RayJob is invalid: spec.shutdownAfterJobFinishes", Cause.API_REFUSED),
        (400, 'admission webhook "x" does not support dry run', Cause.API_REFUSED),
        (429, "too many requests", Cause.API_BUSY),
        (500, NO_WEBHOOK, Cause.API_BUSY),
        (500, "etcdserver: request timed out", Cause.API_AWAY),
        (0, "no answer from the Kubernetes API", Cause.API_AWAY),
    ],
)
def test_why_the_api_refused(status: int, message: str, cause: Cause) -> None:
    """One status has many reasons, and the words alone tell which it was."""
    assert words.of_refusal(status, message) is cause


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (QUOTA, Cause.QUOTA),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes", Cause.NO_ROOM),
        ("0/3 nodes are available: 3 node(s) had untolerated taint {gpu: a100}", Cause.NO_NODE),
        ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector", Cause.NO_NODE),
        ('admission webhook "policy.example.com" denied the request: no label', Cause.POLICY),
        ("waiting for the scheduler", Cause.STARTING),
    ],
)
def test_why_a_pod_has_no_machine(message: str, cause: Cause) -> None:
    """Quotas, room, and machines of the kind that is asked for need different help."""
    assert words.of_scheduler(message) is cause


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("OOMKilled", Cause.OUT_OF_MEMORY),
        ("Evicted", Cause.EVICTED),
        ("TerminationByKubelet", Cause.EVICTED),
        ("PreemptionByScheduler", Cause.PREEMPTED),
        ("DeletionByTaintManager", Cause.MACHINE_LOST),
        ("NodeLost", Cause.MACHINE_LOST),
        ("of the future", Cause.MACHINE_LOST),
    ],
)
def test_why_a_pod_has_ended(reason: str, cause: Cause) -> None:
    """By the reasons of its status, its disruption and its containers."""
    assert words.of_end(reason) is cause

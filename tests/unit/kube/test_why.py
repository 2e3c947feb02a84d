"""What a run waits for, from objects as a real API server showed them."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import Cause
from runner.kube import names
from runner.kube.client import KubeError
from runner.kube.why.seen import Seen, look
from runner.kube.why.why import reasons
from runner.record.reasons import Reason
from tests.unit.kube import kit
from tests.unit.kube.kit import AT, AT_S, RUN

SUPERVISOR = kit.pod(f"{RUN}-m5p4l", names.SUPERVISOR, containers=(kit.container({"running": {"startedAt": AT}}),))
WORKER = f"{RUN}-0-1-gxx7h-cpu-worker-g57cx"
QUOTA = (
    f'Error creating: pods "{RUN}-h8dvm" is forbidden: exceeded quota: unit, requested: requests.cpu=2, '
    "used: requests.cpu=0, limited: requests.cpu=1"
)


def why(**seen: Any) -> list[Reason]:
    """The reasons of a run whose supervisor runs."""
    at_work = kit.ray_job(jobDeploymentStatus="Running", jobStatus="RUNNING")
    given = {"job": kit.job(active=1), "pods": [SUPERVISOR], "ray_jobs": [at_work]}
    return reasons(Seen(RUN, **{**given, **seen}))


def only(**seen: Any) -> Reason:
    (reason,) = why(**seen)
    return reason


def test_a_run_that_works_waits_for_nothing() -> None:
    """With all machines there and running, there is no reason."""
    assert why(pods=[SUPERVISOR, kit.pod(WORKER, names.WORKER)]) == []


def test_without_a_supervisor_nothing_will_happen() -> None:
    """A run whose Job is gone waits for nothing, and can be resumed."""
    reason = only(job=None, pods=[], ray_jobs=[])
    assert "no supervisor any more" in reason.waits_for
    assert "resume" in reason.helps


def test_a_finished_supervisor_is_no_reason() -> None:
    """The Job of a run that has ended is kept for minutes, and its pod is done: nothing is waited for."""
    done = kit.job(succeeded=1, conditions=[kit.condition("Complete", True, "CompletionsReached")])
    assert why(job=done, pods=[kit.pod(f"{RUN}-m5p4l", names.SUPERVISOR, "Succeeded")], ray_jobs=[]) == []


def test_a_failed_supervisor_is_named() -> None:
    """A Job that starts no pod any more says why."""
    failed = kit.condition("Failed", True, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    reason = only(job=kit.job(conditions=[failed]), pods=[], ray_jobs=[])
    assert "backoff limit" in reason.waits_for
    assert (reason.since, "resume" in reason.helps) == (AT_S, True)


def test_a_job_without_a_pod() -> None:
    """Where nothing was refused, the controller that makes pods is what is missing."""
    reason = only(job=kit.job(), pods=[], ray_jobs=[])
    assert reason == Reason(
        "the supervisor's pod to be made", AT_S, "is the controller manager up?", cause=Cause.OPERATOR
    )


def test_a_refused_supervisor_says_the_quota() -> None:
    """The newest refusal is quoted, with the time of the first one."""
    events = [
        kit.event("Job", RUN, "FailedCreate", QUOTA.replace("h8dvm", "old"), "2026-11-23T22:20:54Z"),
        kit.event("Job", RUN, "FailedCreate", QUOTA, "2026-11-23T22:23:57Z", "2026-11-23T22:23:57Z"),
    ]
    reason = only(job=kit.job(), pods=[], ray_jobs=[], events=events)
    assert reason.waits_for == f"machines that are refused: {QUOTA}"
    assert (reason.since, "runner queue" in reason.helps) == (AT_S + 1, True)


def test_between_two_legs_the_supervisor_asks() -> None:
    """A running supervisor without a RayJob is about to make one."""
    assert only(ray_jobs=[]).waits_for == "the supervisor to ask for machines"


@pytest.mark.parametrize(
    ("message", "helps"),
    [
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", "node_selector"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: true}.", "tolerations"),
        ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate", "more room"),
        ("0/1 nodes are available: 1 node(s) had volume node affinity conflict.", ""),
    ],
)
def test_a_pod_without_a_node(message: str, helps: str) -> None:
    """The scheduler's own words are told, since when, and what helps."""
    placed = kit.condition("PodScheduled", False, "Unschedulable", message)
    reason = only(pods=[SUPERVISOR, kit.pod(WORKER, names.WORKER, "Pending", conditions=(placed,))])
    assert reason.waits_for == f"a node for worker pod {WORKER}: {message}"
    assert reason.since == AT_S
    assert helps in reason.helps
    assert bool(reason.helps) == bool(helps)


PULL = 'failed to pull and unpack image "localhost:1/none:9": failed to resolve reference "localhost:1/none:9"'


@pytest.mark.parametrize(
    ("waits", "words", "helps"),
    [
        (kit.waiting("ErrImagePull", PULL), f"the image of worker pod {WORKER}: ErrImagePull: {PULL}", "pull secret"),
        (kit.waiting("ErrImageNeverPull", "is not present with pull policy of Never"), "policy of Never", "its tag"),
        (kit.waiting("ImagePullBackOff"), "ImagePullBackOff: localhost/none:9", "its tag"),
        (kit.waiting("CreateContainerConfigError", 'secret "absent" not found'), 'secret "absent"', "what it names"),
        (kit.waiting("ContainerCreating"), f"the containers of worker pod {WORKER} to start", ""),
    ],
)
def test_a_container_that_cannot_start(waits: kit.Body, words: str, helps: str) -> None:
    """What the node says of a container is told with what helps."""
    reason = only(pods=[SUPERVISOR, kit.pod(WORKER, names.WORKER, "Pending", containers=(waits,))])
    assert words in reason.waits_for
    assert helps in reason.helps


def test_a_container_that_ends_again_and_again() -> None:
    """A crash loop names the container, its exit code and the command that shows its log."""
    last = {"terminated": {"reason": "StartError", "exitCode": 128, "finishedAt": AT}}
    loop = kit.container({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 2m40s"}}, last)
    reason = only(pods=[kit.pod(f"{RUN}-m5p4l", names.SUPERVISOR, containers=(loop,))], ray_jobs=[])
    assert "container main ends again and again (StartError, exit code 128)" in reason.waits_for
    assert reason.helps == f"`kubectl logs {RUN}-m5p4l -c main`"


def test_a_volume_that_cannot_be_mounted() -> None:
    """A missing Secret behind a volume stands in the events only, and is told from there."""
    creating = kit.pod(WORKER, names.WORKER, "Pending", containers=(kit.waiting("ContainerCreating"),))
    said = 'MountVolume.SetUp failed for volume "v" : secret "absent" not found'
    events = [kit.event("Pod", WORKER, "FailedMount", said), kit.event("Pod", f"{RUN}-other", "FailedMount", "no")]
    reason = only(pods=[SUPERVISOR, creating], events=events)
    assert reason.waits_for == f"a volume of worker pod {WORKER}: {said}"


@pytest.mark.parametrize(
    ("reason", "helps"),
    [("NotTriggerScaleUp", "no nodes will come: its words"), ("TriggeredScaleUp", "nodes are coming: its words")],
)
def test_what_a_node_autoscaler_says(reason: str, helps: str) -> None:
    """Its newest word about a pod that no node has room for is what helps, or what does not."""
    full = kit.condition("PodScheduled", False, "Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.")
    pod = kit.pod(WORKER, names.WORKER, "Pending", conditions=(full,))
    events = [
        kit.event("Pod", WORKER, "TriggeredScaleUp", "older"),
        kit.event("Pod", WORKER, reason, "its\nwords", last="2026-11-23T23:59:00Z"),
        kit.event("Pod", f"{RUN}-other", "NotTriggerScaleUp", "another's", last="2026-11-24T00:00:00Z"),
    ]
    assert only(pods=[SUPERVISOR, pod], events=events).helps == helps
    assert look(kit.FakeKube(kit.job(), SUPERVISOR, pod, events[1]), RUN).events


@pytest.mark.parametrize(
    ("status", "until"),
    [
        ({"jobDeploymentStatus": "Initializing"}, AT_S + 600),
        ({"jobDeploymentStatus": "Running"}, AT_S + 600),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, AT_S + 900),
        ({"jobDeploymentStatus": "Suspended"}, None),
    ],
    ids=["machines come", "a driver begins", "at work", "in a queue"],
)
def test_a_deadline_says_until_when(status: kit.Body, until: float | None) -> None:
    """The earlier one until a driver has begun, then that of the whole attempt; none in a queue."""
    job = kit.ray_job(startTime=AT, **status)
    job["spec"].update(preRunningDeadlineSeconds=600, activeDeadlineSeconds=900)
    full = kit.condition("PodScheduled", False, "Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.")
    pod = kit.pod(WORKER, names.WORKER, "Pending", conditions=(full,))
    assert only(pods=[SUPERVISOR, pod], ray_jobs=[job]).until == until


HEAD = f"{RUN}-0-1-gxx7h-head-x"


def test_a_driver_that_the_operator_cannot_submit() -> None:
    """All pods run and the RayJob does, but Ray's dashboard was never heard: its service is named, and the deadline."""
    status: kit.Body = {
        "jobDeploymentStatus": "Running", "rayClusterName": f"{RUN}-0-1-gxx7h", "startTime": "2026-11-23T22:20:00Z",
        "dashboardURL": f"{RUN}-0-1-gxx7h-head-svc.default.svc.cluster.local:8265",
    }  # fmt: skip
    job = kit.ray_job(**status)
    job["spec"]["preRunningDeadlineSeconds"] = 600
    whole = kit.ray_cluster(f"{RUN}-0-1-gxx7h", kit.condition("RayClusterProvisioned", True))
    pods = [SUPERVISOR, kit.pod(HEAD, names.HEAD), kit.pod(WORKER, names.WORKER)]
    reason = only(pods=pods, ray_jobs=[job], ray_clusters=[whole])
    assert reason.waits_for == (
        "the driver to begin: KubeRay's operator has not submitted it to Ray's dashboard "
        f"(service {RUN}-0-1-gxx7h-head-svc, port 8265)"
    )
    assert (reason.since, reason.until) == (AT_S, AT_S - 53 + 600)
    assert "network policies, service mesh, proxy" in reason.helps
    job["status"].pop("dashboardURL")
    assert f"(service {RUN}-0-1-gxx7h-head-svc, port 8265)" in only(pods=pods, ray_jobs=[job]).waits_for
    pods[2]["status"]["phase"] = "Pending"
    assert only(pods=pods, ray_jobs=[job]).waits_for.startswith("the containers of worker pod")


def test_machines_that_the_operator_does_not_go_on_with() -> None:
    """Pods in which Ray is not up yet are named; where it is up in all of them, the operator is what is missing."""
    job = kit.ray_job(jobDeploymentStatus="Initializing", startTime="2026-11-23T22:20:00Z")
    placed = kit.condition("PodScheduled", True)
    unready = kit.pod(WORKER, names.WORKER, conditions=(placed, kit.condition("Ready", False)))
    head = kit.pod(HEAD, names.HEAD, conditions=(placed, kit.condition("Ready", True)))
    reason = only(pods=[SUPERVISOR, head, unready], ray_jobs=[job])
    assert (reason.waits_for, reason.since) == (f"Ray to be up in worker pod {WORKER}", AT_S)
    reason = only(pods=[SUPERVISOR, head], ray_jobs=[job])
    assert reason.waits_for == "the KubeRay operator to go on with the machines: 1 pods run"
    assert (reason.since, reason.helps) == (AT_S, "is the operator running?")
    assert only(ray_jobs=[job]).since == AT_S - 53
    head["metadata"]["deletionTimestamp"] = AT
    assert why(pods=[SUPERVISOR, head], ray_jobs=[job]) == []


def pulls(reason: str, message: str, at: str, place: str = "spec.containers{main}") -> kit.Body:
    """What a node says of an image of the worker's."""
    said = kit.event("Pod", WORKER, reason, message, at, at)
    said["metadata"]["name"] += f"{reason}{at}"
    said["involvedObject"]["fieldPath"] = place
    return {**said, "type": "Normal"}


def test_an_image_that_is_being_pulled() -> None:
    """The image and since when; not once the node has it, nor for another container's."""
    creating = kit.pod(WORKER, names.WORKER, "Pending", containers=(kit.waiting("ContainerCreating"),))
    init = pulls("Pulled", "Successfully pulled image", "2026-11-23T22:20:51Z", "spec.initContainers{wait}")
    begun = pulls("Pulling", 'Pulling image "registry/train:1"', AT)
    events = [init, begun]
    reason = only(pods=[SUPERVISOR, creating], events=events)
    assert reason == Reason(f"the image registry/train:1 of worker pod {WORKER} to be pulled", AT_S, cause=Cause.IMAGE)
    done = pulls("Pulled", 'Successfully pulled image "registry/train:1"', "2026-11-23T22:25:53Z")
    assert only(pods=[SUPERVISOR, creating], events=[*events, done]).waits_for.startswith("the containers of")
    assert len(look(kit.FakeKube(kit.job(), SUPERVISOR, creating, *events), RUN).events) == 2


def test_a_worker_that_waits_for_the_head() -> None:
    """KubeRay's init container is named for what it waits for."""
    init = kit.container({"running": {"startedAt": AT}}, name="wait-gcs-ready")
    main = kit.waiting("PodInitializing")
    reason = only(pods=[SUPERVISOR, kit.pod(WORKER, names.WORKER, "Pending", inits=(init,), containers=(main,))])
    assert "init container wait-gcs-ready waits for Ray's head" in reason.waits_for


def test_pods_on_their_way_out_are_no_reason() -> None:
    """A pod that is being deleted explains nothing."""
    leaving = kit.pod(WORKER, names.WORKER, "Pending", containers=(kit.waiting("ErrImagePull"),))
    leaving["metadata"]["deletionTimestamp"] = AT
    assert why(pods=[SUPERVISOR, leaving]) == []


def test_a_run_at_its_end_waits_for_its_machines_to_go() -> None:
    """For the operator while its RayJob is there, then for pods; a leg's RayJob beside the next one's is no reason."""
    leaving, going = kit.pod(WORKER, names.WORKER), kit.ray_job(jobDeploymentStatus="Running")
    leaving["metadata"]["deletionTimestamp"] = going["metadata"]["deletionTimestamp"] = AT
    reason = only(pods=[SUPERVISOR, leaving], ray_jobs=[going])
    assert reason.waits_for == "the KubeRay operator to remove the machines"
    assert "after 30 s without it" in reason.helps
    assert only(pods=[SUPERVISOR, leaving], ray_jobs=[]).waits_for == "its last pod to be gone"
    assert why(ray_jobs=[going, kit.ray_job(f"{RUN}-1-1", jobDeploymentStatus="Running")]) == []


def test_what_a_rayjob_waits_for() -> None:
    """Without a status the operator is away; a refused RayJob is a bug of ours."""
    assert "is the operator running?" in only(ray_jobs=[kit.ray_job()]).helps
    refused = kit.ray_job(jobDeploymentStatus="ValidationFailed", message="the name is too long")
    assert "KubeRay refuses the RayJob: the name is too long" in only(ray_jobs=[refused]).waits_for


def test_machines_that_are_refused() -> None:
    """A quota that denies pods of a RayCluster is told from the cluster's condition."""
    failed = kit.condition("ReplicaFailure", True, "FailedCreate", "pods is forbidden: exceeded quota: unit")
    reason = only(ray_clusters=[kit.ray_cluster(f"{RUN}-0-1-gxx7h", failed)])
    assert reason.waits_for == "machines that are refused: pods is forbidden: exceeded quota: unit"
    assert "runner queue" in reason.helps


def test_a_raycluster_that_is_refused() -> None:
    """A denial that stands only in an event of the RayCluster is told."""
    denied = kit.event("RayCluster", f"{RUN}-0-1-gxx7h", "FailedToCreateHeadPod", "exceeded quota: unit")
    assert "exceeded quota: unit" in only(events=[denied]).waits_for


@pytest.mark.parametrize(
    "told",
    [
        kit.event("RayJob", f"{RUN}-0-1", "FailedToCreateRayCluster", "rayclusters.ray.io already exists"),
        kit.event("RayJob", f"{RUN}-0-1", "FailedToDeleteRayCluster", "no"),
        kit.event("RayCluster", f"{RUN}-0-0-abcde", "FailedToCreateHeadPod", "exceeded quota: unit"),
    ],
    ids=["exists already", "not a making", "an earlier attempt"],
)
def test_events_that_explain_nothing(told: kit.Body) -> None:
    """An operator that meets its own object, and an attempt that is over, leave warnings that nothing waits for."""
    assert why(events=[told]) == []


def workload(*conditions: kit.Body, checks: tuple[kit.Body, ...] = (), **more: Any) -> kit.Body:
    """Kueue's view of the RayJob."""
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": f"{RUN}-0-1", "uid": "u"}
    metadata = {"ownerReferences": [owner]}
    status = {"conditions": list(conditions), "admissionChecks": list(checks), **more.pop("status", {})}
    return kit.body("Workload", "kueue.x-k8s.io/v1beta1", "rayjob-x", metadata=metadata, status=status, **more)


def check(state: str, message: str = "", name: str = "nodes") -> kit.Body:
    """How an admission check stands."""
    return {"name": name, "state": state, "message": message, "lastTransitionTime": AT}


RESERVED = kit.condition("QuotaReserved", True, "QuotaReserved", "Quota reserved in ClusterQueue team")
HELD = kit.condition("QuotaReserved", False, "Pending", "insufficient unused quota for nvidia.com/gpu")


@pytest.mark.parametrize(
    ("workloads", "words", "helps"),
    [
        ([], "the queue 'team' to look at it", "is Kueue running?"),
        ([workload()], "quota in queue 'team': no word from Kueue yet", "runner queue"),
        ([workload(RESERVED)], "queue 'team' to start what it has admitted: Quota reserved in ClusterQueue team", ""),
        ([workload(HELD)], "quota in queue 'team': insufficient unused quota for nvidia.com/gpu", "runner queue"),
        (
            [workload(HELD, kit.condition("Evicted", True, "Preempted", "made room"))],
            "(its machines were taken away: made room)",
            "runner queue",
        ),
    ],
)
def test_a_run_in_a_queue(workloads: list[kit.Body], words: str, helps: str) -> None:
    """Kueue's own words say what quota is missing, and whether it was taken away."""
    reason = only(ray_jobs=[kit.ray_job(suspend=True, queue="team")], workloads=workloads)
    assert words in reason.waits_for
    assert (reason.since, helps in reason.helps) == (AT_S, True)


EVICTED = kit.condition("Evicted", True, "PodsReadyTimeout", "Exceeded the PodsReady timeout")
OUT = kit.condition("Requeued", False, "PodsReadyTimeout", "Exceeded the PodsReady timeout")
GONE = kit.condition("Evicted", True, "DeactivatedDueToRequeuingLimitExceeded", "The workload is deactivated")
CLOSED = kit.condition("Evicted", True, "ClusterQueueStopped", "The ClusterQueue is stopped")
TARGET = kit.condition("DeactivationTarget", True, "AdmissionCheck", "no such nodes")
LATER = {"requeueState": {"count": 2, "requeueAt": "2026-11-23T22:30:00Z"}}
UNFIT = kit.condition("Requeued", False, "Inadmissible", "DRA resource claims not supported")


@pytest.mark.parametrize(
    ("seen", "words", "helps"),
    [
        (
            workload(RESERVED, checks=(check("Ready", name="first"), check("Pending", "waits for 2 nodes"))),
            "admission check 'nodes' of queue 'team' (Pending): waits for 2 nodes",
            "provisioningrequests",
        ),
        (
            workload(RESERVED, checks=(check("Pending"), check("Rejected", "no such\nnodes", "second"))),
            "admission check 'second' of queue 'team' (Rejected): no such nodes",
            "does not try again by itself",
        ),
        (
            workload(HELD, checks=(check("Retry", "full"),)),
            "'nodes' of queue 'team' (Retry): full",
            "tries again later",
        ),
        (workload(HELD, checks=(check("Pending"),)), "quota in queue 'team': insufficient", "runner queue"),
        (workload(GONE, OUT), "nothing: queue 'team' has deactivated it: The workload is deactivated", "spec.active"),
        (
            workload(EVICTED, TARGET, spec={"active": False}),
            "has deactivated it: Exceeded the PodsReady",
            "spec.active",
        ),
        (workload(EVICTED, OUT, spec={"active": False}), "nothing: queue 'team' has deactivated it", "runner resume"),
        (workload(HELD, UNFIT), "nothing: queue 'team' cannot admit it: DRA resource claims", "runner resume"),
        (
            workload(HELD, CLOSED, OUT),
            "queue 'team' to be started again: The ClusterQueue is stopped",
            "has stopped it",
        ),
        (workload(HELD, EVICTED, OUT, status=LATER), "to take it again at 2026-11-23T22:30:00Z: Exceeded", ""),
    ],
    ids=[
        "pending",
        "rejected",
        "retry",
        "no quota yet",
        "limit",
        "in time",
        "inactive",
        "inadmissible",
        "stopped",
        "back off",
    ],
)
def test_a_run_that_its_queue_holds_back(seen: kit.Body, words: str, helps: str) -> None:
    """Checks between quota and machines are named with their state; what is never admitted by itself is told so."""
    reason = only(ray_jobs=[kit.ray_job(suspend=True, queue="team")], workloads=[seen])
    assert words in reason.waits_for
    assert (reason.since, helps in reason.helps) == (AT_S, True)


def test_a_run_that_its_queue_is_about_to_deactivate() -> None:
    """Before Kueue has evicted it, its own word of what for is told."""
    seen = workload(TARGET, spec={"active": False})
    reason = only(ray_jobs=[kit.ray_job(suspend=True, queue="team")], workloads=[seen])
    assert reason.waits_for == "nothing: queue 'team' has deactivated it: no such nodes"


def test_a_supervisor_in_a_queue() -> None:
    """A supervisor that a queue holds says so in Kueue's words; one that names none is told what to do."""
    job = kit.job()
    job["spec"]["suspend"] = True
    reason = only(job=job, pods=[])
    assert "names no queue" in reason.waits_for
    assert "supervisor_queue" in reason.helps
    job["metadata"]["labels"][names.QUEUE] = "small"
    mine = workload(HELD)
    mine["metadata"]["ownerReferences"][0] |= {"kind": "Job", "name": RUN}
    reason = only(job=job, pods=[], workloads=[mine])
    assert reason.waits_for == (
        "quota in queue 'small' for the supervisor: insufficient unused quota for nvidia.com/gpu"
    )


def test_the_same_reason_is_told_once() -> None:
    """Ten pods with one reason in the same words make one line each, and equal words one line."""
    failed = kit.condition("ReplicaFailure", True, "FailedCreate", "exceeded quota")
    clusters = [kit.ray_cluster(f"{RUN}-0-1-a", failed), kit.ray_cluster(f"{RUN}-0-1-b", failed)]
    assert len(why(ray_clusters=clusters)) == 1


def test_looking_leaves_out_what_may_not_be_seen() -> None:
    """`look` takes the run's own objects and events; where Kueue is absent or rights are missing it goes on."""
    other = kit.pod("other-pod", names.WORKER, run="other")
    denied = kit.event("RayJob", f"{RUN}-0-1", "FailedToCreateRayCluster", "x")
    events = [denied, kit.event("RayJob", "other-0-1", "FailedToCreateRayCluster", "y")]
    absent = KubeError(404, "", "404 page not found\n")
    kube = kit.FakeKube(
        kit.job(),
        SUPERVISOR,
        other,
        kit.ray_job(suspend=True, queue="team"),
        *events,
        refused={"/apis/kueue.x-k8s.io/": absent, "/apis/ray.io/v1/namespaces/default/rayclusters": kit.forbidden("x")},
    )
    seen = look(kube, RUN)
    assert seen.job is not None
    assert [pod["metadata"]["name"] for pod in seen.pods] == [f"{RUN}-m5p4l"]
    assert [e["involvedObject"]["name"] for e in seen.events] == [f"{RUN}-0-1"]
    assert (len(seen.ray_jobs), seen.ray_clusters, seen.workloads) == (1, [], [])


def test_an_api_that_is_away_is_an_error() -> None:
    """Only missing rights and missing kinds are passed over."""
    with pytest.raises(KubeError):
        look(kit.FakeKube(refused={"/": KubeError(0, "Unreachable", "no answer")}), RUN)

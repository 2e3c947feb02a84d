"""Pods, quantities, the ledger, leftovers, quota and tenants: from objects as the API shows them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from runner.errors import Cause, SpecError
from runner.kube import client, gc, names, pods, quantities, queue
from runner.kube.client import KubeError
from runner.kube.ledger import Ledger
from runner.kube.preflight import check as preflight
from runner.kube.team import objects as team_objects
from runner.record import Bundle
from runner.record.entries import Ended, GivenUp, Submitted
from runner.store import Store
from runner.store.events import Event
from tests.unit.kube import kit
from tests.unit.kube.kit import AT_S, RUN

GPUS = {"requests": {"cpu": "500m", "memory": "3Gi"}, "limits": {"memory": "3221225472", "nvidia.com/gpu": "2"}}
OLD = "2026-11-23T21:00:00Z"


def worker(name: str = "w", phase: str = "Running", **more: Any) -> kit.Body:
    return kit.pod(f"{RUN}-0-1-gxx7h-{name}", names.WORKER, phase, **more)


# -- quantities and pods ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "value"),
    [("500m", 0.5), ("4Gi", 4 * 2**30), ("24632884Ki", 24632884 * 1024), ("2", 2.0), ("1G", 1e9), (3, 3.0), ("0", 0.0)],
)
def test_quantities_are_numbers(quantity: str | int, value: float) -> None:
    """Every form in which the API writes a quantity is its number."""
    assert quantities.number(quantity) == value


def test_a_wrong_quantity_is_an_error() -> None:
    """What is no quantity is refused."""
    with pytest.raises(ValueError):
        quantities.number("4 GB")


def test_quantities_add_up_and_can_be_read() -> None:
    """Resources add name by name, and memory is told in GiB."""
    total = {"cpu": 1.0}
    quantities.add(total, {"cpu": 0.5, "memory": 2.0**30}, 3)
    assert total == {"cpu": 2.5, "memory": 3.0 * 2**30}
    assert [quantities.words(*pair) for pair in total.items()] == ["cpu 2.5", "memory 3.0 GiB"]


def test_what_a_pod_holds_and_since_when() -> None:
    """A pod holds the GPUs of its limits, from the moment it got a node."""
    assert (pods.gpus(worker(resources=GPUS)), pods.scheduled_at(worker())) == (2, AT_S)
    assert pods.gpus(worker(resources={"limits": {"nvidia.com/mig-1g.10gb": "1", "memory": "1Gi"}})) == 1
    shared = {"nvidia.com/gpumem": "4096", "nvidia.com/gpucores": "50", "nvidia.com/gpu": "1", "memory": "1Gi"}
    assert pods.gpus(worker(resources={"limits": shared})) == 1  # a sharing plug-in's parts of one are none
    assert pods.gpus(worker(resources={"limits": {"amd.com/gpu": "8", "rdma/gpu": "1"}})) == 8
    own = worker(resources={"limits": {"example.com/h100": "2"}})
    assert (pods.gpus(own), pods.gpus(own, {"example.com/h100"})) == (0, 2)
    waits = worker(phase="Pending", conditions=(kit.condition("PodScheduled", False, "Unschedulable"),))
    assert (pods.gpus(waits), pods.scheduled_at(waits)) == (0, None)
    assert pods.scheduled_at(worker(conditions=())) is None


def test_times_of_the_api() -> None:
    """Both forms of the API's times are seconds since 1970."""
    assert pods.seconds("2026-11-23T22:20:53Z") == AT_S
    assert pods.seconds("2026-11-23T22:20:53.500000Z") == AT_S + 0.5


OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": kit.AT}}


@pytest.mark.parametrize(
    ("pod", "words", "cause"),
    [
        (
            worker(resources=GPUS, containers=(kit.container(OOM),)),
            "OOMKilled, its limit is 3221225472 bytes",
            Cause.OUT_OF_MEMORY,
        ),
        (
            worker(containers=(kit.container({"running": {}}, OOM),)),
            "OOMKilled, its limit is None",
            Cause.OUT_OF_MEMORY,
        ),
        (worker(inits=(kit.container(OOM, name="wait-gcs-ready"),)), "OOMKilled, no limit", Cause.OUT_OF_MEMORY),
        (
            worker(phase="Failed", reason="Evicted", message="The node was low on memory."),
            "Evicted: The node was low",
            Cause.EVICTED,
        ),
        (
            worker(conditions=(kit.condition("DisruptionTarget", True, "PreemptionByScheduler", "made room"),)),
            "PreemptionByScheduler: made room",
            Cause.PREEMPTED,
        ),
    ],
)
def test_what_ended_a_pod(pod: kit.Body, words: str, cause: Cause) -> None:
    """Memory, eviction and preemption are causes; an OOM of an init container too."""
    ending = pods.ending(pod)
    assert ending is not None
    assert ending.words.startswith(f"pod {pod['metadata']['name']}: ")
    assert words in ending.words
    assert ending.cause is cause


def test_an_ordinary_end_has_no_cause() -> None:
    """A pod that ended by itself, or runs, has none."""
    done = {"terminated": {"reason": "Completed", "exitCode": 0}}
    assert pods.ending(worker(phase="Succeeded", containers=(kit.container(done),))) is None
    assert pods.ending(worker(conditions=(kit.condition("DisruptionTarget", False),))) is None


# -- the ledger ------------------------------------------------------------------------------------------------------


def test_gpu_seconds_are_held_until_a_pod_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each GPU counts from the pod's placing until its end; however often it is seen."""
    ledger = Ledger()
    ledger.saw(worker("a", resources=GPUS))
    ledger.saw(worker("a", resources=GPUS))
    ledger.saw(worker("b", resources=None))
    ledger.saw(worker("c", "Pending", resources=GPUS, conditions=()))
    assert ledger.gpu_seconds(AT_S + 10) == 20.0
    monkeypatch.setattr("time.time", lambda: AT_S + 15)
    ledger.gone(worker("a", resources=GPUS))
    assert ledger.gpu_seconds(AT_S + 1000) == 30.0


def test_kept_seconds_that_cannot_be_read_count_as_none(tmp_path: Path) -> None:
    """What an earlier supervisor has kept is taken where it is what one keeps, and passed over where it is not."""
    bundle = Bundle(Store(str(tmp_path)), RUN)
    for data, seconds in (
        (b'{"u": [1000, 1010, 2]}', 20.0),
        (b'{"u": [0, 1e999, 2]}', 0.0),
        (b"[1]", 0.0),
        (b"{", 0.0),
    ):
        bundle.store.put("ledger/0.json", data)
        ledger = Ledger(bundle=bundle)
        ledger.load([])
        assert ledger.gpu_seconds(AT_S) == seconds


def test_a_pod_seen_only_at_its_end_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came and went between two looks has held its GPUs, and its cause is known."""
    ledger = Ledger()
    ledger.turn(f"{RUN}-0-1")
    monkeypatch.setattr("time.time", lambda: AT_S + 5)
    killed = worker(resources=GPUS, containers=(kit.container(OOM),))
    ledger.gone(killed)
    ledger.saw(killed)
    assert ledger.gpu_seconds(AT_S + 100) == 10.0
    assert len(ledger.causes) == 1


def test_causes_are_those_of_the_current_attempt() -> None:
    """A turn forgets what ended the attempt before, and attempt 10 is not attempt 1; GPU seconds go on."""
    ledger = Ledger()
    killed = worker(resources=GPUS, containers=(kit.container(OOM),))
    ledger.turn(f"{RUN}-0-1")
    ledger.saw(killed)
    assert (len(ledger.causes), ledger.out_of_memory, ledger.lost) == (1, True, [])
    ledger.turn(f"{RUN}-0-10")
    ledger.saw(killed)
    assert (ledger.causes, ledger.out_of_memory) == ([], False)
    assert ledger.gpu_seconds(AT_S + 10) == 20.0


def test_machines_that_somebody_else_has_removed() -> None:
    """A wanted pod that fails or is deleted is lost, once, with its cause."""
    ledger = Ledger()
    ledger.turn(f"{RUN}-0-1")
    evicted = worker("a", "Failed", reason="Evicted", message="The node was low on memory.")
    head = kit.pod(f"{RUN}-0-1-gxx7h-head", names.HEAD)
    ledger.saw(evicted)
    assert ledger.lost == []
    ledger.saw(evicted, wanted=True)
    ledger.gone(evicted, wanted=True)
    ledger.gone(head, wanted=True)
    cause = f"pod {evicted['metadata']['name']}: Evicted: The node was low on memory."
    deleted = f"pod {RUN}-0-1-gxx7h-head was deleted"
    assert (ledger.lost, ledger.causes) == ([cause, deleted], [cause, deleted])


# -- leftovers -------------------------------------------------------------------------------------------------------


def find(kube: kit.FakeKube, judgement: str, now: float = AT_S + 600, everywhere: bool = False) -> list[gc.Leftover]:
    return gc.find(kube, lambda store, run: judgement, now, everywhere)


DONE = [kit.condition("Complete", True, "CompletionsReached")]


def test_leftovers_are_gathered_by_run() -> None:
    """All objects of a run are one leftover, with its store and the GPUs that living pods hold."""
    done = worker("b", "Succeeded", resources=GPUS)
    kube = kit.FakeKube(kit.job(), kit.ray_job(), kit.ray_cluster(), worker("a", resources=GPUS), done)
    kube.put(kit.body("Job", "batch/v1", "not-of-a-run"))
    (left,) = find(kube, "ended")
    kinds = [kind for kind, _ in left.objects]
    assert (left.run, left.store, left.gpus) == (RUN, "s3://lake/runs", 2)
    assert kinds == ["Job", "RayJob", "RayCluster", "pod"]
    assert left.removable


@pytest.mark.parametrize(
    ("judgement", "removable"), [("working", False), ("unknown", False), ("nobody", True), ("ended", True)]
)
def test_only_what_nobody_needs_is_removable(judgement: str, removable: bool) -> None:
    """A run that works, or whose store does not answer, is left alone."""
    (left,) = find(kit.FakeKube(kit.job(conditions=DONE), kit.ray_job()), judgement)
    assert (left.judgement, left.removable) == (judgement, removable)


def test_a_young_run_is_left_alone() -> None:
    """For some minutes nobody is asked: the client may still be writing the bundle."""
    (left,) = gc.find(kit.FakeKube(kit.job()), lambda *_: pytest.fail("was asked"), AT_S + 100)
    assert (left.judgement, left.removable) == ("young", False)


def test_the_finished_job_goes_by_itself() -> None:
    """The Job of an ended run, alone, is its ttl's to remove; that of a run without a bundle is not."""
    kube = kit.FakeKube(kit.job(conditions=DONE), kit.pod(f"{RUN}-x", names.SUPERVISOR, "Succeeded"))
    assert [left.removable for left in find(kube, "ended")] == [False]
    assert [left.removable for left in find(kube, "nobody")] == [True]


def test_a_run_whose_supervisor_lives_is_not_nobodys() -> None:
    """It has a bundle, or would have left: the store that this user reaches by its URL is another one. A run that was
    given up is removed with its Job.
    """
    (left,) = find(kit.FakeKube(kit.job(active=1), kit.ray_job()), "nobody")
    assert (left.judgement, left.removable) == ("unknown", False)
    assert [left.removable for left in find(kit.FakeKube(kit.job(active=1)), "ended")] == [True]


def test_pods_go_with_what_owns_them() -> None:
    """A team's role may not delete pods: those of a RayCluster that is removed are left to it, orphans are not."""
    owned, orphan = worker("a", resources=GPUS), worker("b", resources=GPUS)
    owned["metadata"]["ownerReferences"] = [{"kind": "RayCluster", "name": f"{RUN}-0-1-gxx7h"}]
    orphan["metadata"]["ownerReferences"] = [{"kind": "RayCluster", "name": f"{RUN}-0-0-gone"}]
    kube = kit.FakeKube(kit.ray_cluster(), owned, orphan)
    (left,) = find(kube, "nobody")
    assert (left.gpus, len(left.objects)) == (4, 3)
    assert gc.remove(kube, left) == []
    gone = [path.rsplit("/", 1)[1] for method, path in kube.sent if method == "DELETE"]
    assert gone == [f"{RUN}-0-1-gxx7h", orphan["metadata"]["name"]]


SUBMITTED = Submitted("a", (("train",),))


@pytest.mark.parametrize(
    ("events", "judgement"),
    [([GivenUp()], "ended"), ([], "nobody"), ([SUBMITTED], "working"), ([SUBMITTED, Ended("succeeded")], "ended")],
)
def test_a_run_is_judged_by_its_log(store: Store, events: list[Event], judgement: str) -> None:
    """One that was given up before it began is over."""
    Bundle(store, "r261123-000000aa-other-xx").index("a", "live")
    for event in events:
        Bundle(store, RUN).log.append(event)
    assert gc.by_log({})(store.url, RUN) == judgement


def test_an_object_that_names_another_store_is_another_runs() -> None:
    """Whoever labels a Job of his own as a run that works, and names a store in which it has ended, ends that alone."""
    poison = kit.job("poison")
    poison["metadata"]["labels"][names.RUN] = RUN
    poison["metadata"]["annotations"][names.STORE] = "s3://mine/runs"
    poison["metadata"]["uid"] = "uid-poison"
    pod = kit.pod("machine", names.WORKER, resources=GPUS)
    pod["metadata"]["ownerReferences"] = [{"kind": "RayCluster", "name": f"{RUN}-0-1-gxx7h", "uid": "uid-of-cluster"}]
    cluster = kit.ray_cluster()
    cluster["metadata"]["uid"] = "uid-of-cluster"
    kube = kit.FakeKube(kit.job(), kit.ray_job(), cluster, pod, poison)
    judge = {"s3://mine/runs": "ended", "s3://lake/runs": "working"}
    lake, mine = gc.find(kube, lambda store, run: judge[store], AT_S + 600)
    assert (lake.store, lake.judgement, lake.removable, lake.supervised) == ("s3://lake/runs", "working", False, True)
    assert ("pod", "machine") in lake.objects
    assert (mine.objects, mine.removable) == ([("Job", "poison")], True)
    assert gc.remove(kube, mine) == []
    assert [path.rsplit("/", 1)[1] for method, path in kube.sent if method == "DELETE"] == ["poison"]


def test_one_that_cannot_be_judged_holds_nobody_up() -> None:
    """Whatever a judge meets in one store: it is told, that run is left alone, and the others are judged."""
    bad = kit.job("bad")
    bad["metadata"]["annotations"][names.STORE] = "ftp://elsewhere/x"

    def judge(store: str, run: str) -> str:
        if store.startswith("ftp"):
            raise KeyError("job")
        return "nobody"

    found = {left.run: left for left in gc.find(kit.FakeKube(bad, kit.ray_job()), judge, AT_S + 600)}
    assert (found["bad"].judgement, found["bad"].trouble, found["bad"].removable) == (
        "unknown",
        "KeyError: 'job'",
        False,
    )
    assert (found[RUN].judgement, found[RUN].trouble) == ("nobody", "")


@pytest.mark.parametrize(
    "url", ["ftp://elsewhere/x", "http://169.254.169.254/x", "file:///etc", "/etc", "simplecache::s3://lake/x", ""]
)
def test_an_annotation_does_not_choose_what_is_spoken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of another kind than the client's own is not opened."""
    monkeypatch.setattr(gc, "Store", lambda *_: pytest.fail("was opened"))
    assert gc.by_log({}, "s3")(url, RUN) == "unknown"


def test_only_the_object_that_was_seen_is_removed() -> None:
    """What has taken its name meanwhile has another uid, which the API compares."""
    kube = kit.FakeKube(kit.ray_job())
    (left,) = find(kube, "nobody")
    bodies: list[Any] = []
    real = kube.request
    kube.request = lambda *a, **more: bodies.append(more.get("body")) or real(*a, **more)  # type: ignore[method-assign]
    assert gc.remove(kube, left) == []
    assert [body["preconditions"] for body in bodies] == [{"uid": f"uid-{RUN}-0-1"}]


def test_leftovers_of_every_namespace() -> None:
    """Runs of other namespaces are found only when asked for, and removed there."""
    there = kit.ray_cluster("other-0-1-x")
    there["metadata"] |= {"namespace": "team-b", "labels": {names.RUN: "other"}}
    kube = kit.FakeKube(kit.ray_cluster(), there)
    assert [left.run for left in find(kube, "nobody")] == [RUN]
    assert [left.namespace for left in find(kube, "nobody", everywhere=True)] == ["default", "team-b"]
    assert gc.remove(kube, find(kube, "nobody", everywhere=True)[1]) == []
    assert [left.run for left in find(kube, "nobody", everywhere=True)] == [RUN]


def test_removing_goes_on_after_a_refusal() -> None:
    """Owners go first, what is gone already is no error, and what is refused is told."""
    refused = {"/apis/ray.io/v1/namespaces/default/rayjobs/": kit.forbidden("rayjobs")}
    kube = kit.FakeKube(kit.job(conditions=DONE), kit.ray_job(), kit.ray_cluster())
    (left,) = find(kube, "nobody")
    kube.refused.update(refused)
    left.objects.append(("pod", "gone-already"))
    (words,) = gc.remove(kube, left)
    assert words.startswith(f"RayJob {RUN}-0-1: rayjobs is forbidden")
    deleted = [path.rsplit("/", 2)[1] for method, path in kube.sent if method == "DELETE"]
    assert deleted == ["jobs", "rayjobs", "rayclusters", "pods"]


# -- quota -----------------------------------------------------------------------------------------------------------

KUEUE = "kueue.x-k8s.io/v1beta1"


def local_queue(**status: Any) -> kit.Body:
    return kit.body("LocalQueue", KUEUE, "team", spec={"clusterQueue": "team-share"}, status=status)


def cluster_queue() -> kit.Body:
    flavors = [
        {"name": "a100", "resources": [{"name": "cpu", "nominalQuota": "10"}, {"name": "gpu", "nominalQuota": "4"}]},
        {"name": "h100", "resources": [{"name": "cpu", "nominalQuota": "500m"}, {"name": "gpu", "nominalQuota": "2"}]},
    ]
    return kit.body("ClusterQueue", KUEUE, "team-share", None, spec={"resourceGroups": [{"flavors": flavors}]})


def shares(*bodies: kit.Body, **refused: Any) -> dict[tuple[str, str], tuple[float, float]]:
    found = queue.shares(kit.FakeKube(*bodies, **refused))
    return {(share.source, share.resource): (share.used, share.limit) for share in found}


def test_shares_of_a_quota() -> None:
    """Used and hard amounts are numbers under the plain name of the resource; counts of objects are left out."""
    hard = {"requests.cpu": "2", "requests.nvidia.com/gpu": "4", "limits.memory": "2Gi", "count/jobs.batch": "200"}
    found = shares(kit.quota(hard, {"requests.cpu": "500m", "limits.memory": "0"}))
    assert found == {
        ("quota unit", "cpu"): (0.5, 2.0),
        ("quota unit", "nvidia.com/gpu"): (0.0, 4.0),
        ("quota unit", "limits.memory"): (0.0, 2.0 * 2**30),
    }


def test_a_quota_that_nothing_has_counted_yet() -> None:
    """A quota that was made a moment ago has an empty status."""
    fresh = kit.quota({"requests.cpu": "2"})
    assert shares({**fresh, "status": {}}) == {("quota unit", "cpu"): (0.0, 2.0)}


@pytest.mark.parametrize("key", ["flavorUsage", "flavorsUsage"], ids=["v1beta1", "v1beta2"])
def test_shares_of_a_queue(key: str) -> None:
    """Flavors add up, in what is used and in what there is."""
    usage = [
        {"name": "a100", "resources": [{"name": "cpu", "total": "1500m"}, {"name": "gpu", "total": "3"}]},
        {"name": "h100", "resources": [{"name": "cpu", "total": "500m"}]},
    ]
    found = shares(local_queue(**{key: usage}), cluster_queue())
    assert found == {("queue team", "cpu"): (2.0, 10.5), ("queue team", "gpu"): (3.0, 6.0)}


def test_a_queue_whose_limits_may_not_be_seen() -> None:
    """What is used can still be told; the limit is no number then."""
    usage = [{"name": "a100", "resources": [{"name": "gpu", "total": "3"}]}]
    refused = {"/apis/kueue.x-k8s.io/v1beta1/clusterqueues": kit.forbidden("clusterqueues")}
    ((used, limit),) = shares(local_queue(flavorUsage=usage), cluster_queue(), refused=refused).values()
    assert (used, math.isnan(limit)) == (3.0, True)


@pytest.mark.parametrize("error", [KubeError(404, "", "404 page not found\n"), kit.forbidden("localqueues")])
def test_a_cluster_without_kueue_has_quotas(error: KubeError) -> None:
    """Without Kueue, or the right to see it, the ResourceQuotas are told alone."""
    found = shares(kit.quota({"pods": "9"}), refused={"/apis/kueue.x-k8s.io": error})
    assert list(found) == [("quota unit", "pods")]


def test_who_holds_and_who_waits() -> None:
    """Runs with machines come first, with what their living pods ask for; then the queue, oldest first."""
    late, early = kit.ray_job("run-c-0-1", suspend=True, queue="team"), kit.ray_job("run-b-0-1", True, "team")
    early["metadata"]["creationTimestamp"] = OLD
    kube = kit.FakeKube(
        late,
        early,
        kit.ray_job(),
        worker("a", resources=GPUS),
        worker("b", "Pending", resources=GPUS),
        worker("c", "Succeeded", resources=GPUS),
        kit.pod("other", names.WORKER, run="unknown", resources=GPUS),
    )
    holds, *waits = queue.holders(kube)
    assert (holds.run, holds.state, holds.by, holds.words) == (RUN, "holds", "ann", "")
    assert holds.resources == {"cpu": 1.0, "memory": 6.0 * 2**30}
    assert [(each.run, each.state, each.words) for each in waits] == [
        ("run-b", "waits", "queue team"),
        ("run-c", "waits", "queue team"),
    ]


@pytest.mark.parametrize(
    ("phases", "state", "words"),
    [
        ((), "waits", "machines: none has been made, or all were refused"),
        (("Pending",), "waits", "machines: 1 pod is pending"),
        (("Pending", "Pending"), "waits", "machines: 2 pods are pending"),
        (("Pending", "Running"), "holds", ""),
    ],
)
def test_a_run_none_of_whose_machines_runs_waits(phases: tuple[str, ...], state: str, words: str) -> None:
    """Without a queue, too: its supervisor is no machine."""
    machines = [worker(f"w{n}", phase, resources=GPUS) for n, phase in enumerate(phases)]
    supervisor = kit.pod(f"{RUN}-x", names.SUPERVISOR)
    (holder,) = queue.holders(kit.FakeKube(kit.ray_job(), supervisor, *machines))
    assert (holder.state, holder.words) == (state, words)


# -- tenants ---------------------------------------------------------------------------------------------------------

TEAM = team_objects.Tenant("team-a", 32, 2**38, gpus=8, users=("ann",), groups=("team-a",))
GONE = (("batch", "jobs"), ("ray.io", "rayjobs"), ("ray.io", "rayclusters"))
POLICY = "ValidatingAdmissionPolicy"
CLUSTER_WIDE = {"Namespace", "ResourceFlavor", "ClusterQueue", POLICY, f"{POLICY}Binding"}


def made(kind: str, name: str | None = None, of: team_objects.Tenant = TEAM) -> kit.Body:
    found = [o for o in team_objects.objects(of) if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    return found[0]


def quotas(queue: str, key: str, of: team_objects.Tenant = TEAM) -> dict[str, str]:
    """Of a ClusterQueue: resource -> its nominalQuota, or its borrowingLimit; of all but the disk."""
    (group,) = made("ClusterQueue", queue, of)["spec"]["resourceGroups"]
    found = {resource["name"]: resource[key] for resource in group["flavors"][0]["resources"] if key in resource}
    found.pop("ephemeral-storage", None)
    return found


def rights(rules: tuple[team_objects.Rule, ...]) -> set[tuple[str, str, str]]:
    return {(g, what, verb) for groups, whats, verbs in rules for g in groups for what in whats for verb in verbs}


def test_every_object_of_a_tenant_is_in_its_place() -> None:
    """Objects are in the team's namespace, which comes first, or of the whole cluster where their kind is."""
    bodies = team_objects.objects(TEAM)
    assert (bodies[0]["kind"], bodies[0]["metadata"]["name"]) == ("Namespace", "team-a")
    for each in bodies:
        assert each["metadata"].get("namespace") == (None if each["kind"] in CLUSTER_WIDE else "team-a")
        assert client.resource(each).namespaced == (each["kind"] not in CLUSTER_WIDE)
    places = [client.resource(each).path("team-a", each["metadata"]["name"]) for each in bodies]
    assert len(set(places)) == len(places)
    assert "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies/runner-deny" in places
    assert "/apis/kueue.x-k8s.io/v1beta1/clusterqueues/team-a" in places


def test_users_may_do_what_runs_need_and_read_no_secret() -> None:
    """The role of users has every right that is checked before a run, and cannot read a Secret."""
    users = rights(team_objects.USER_RULES)
    assert set(preflight.CLIENT_RIGHTS) <= users
    assert {verb for _, what, verb in users if what == "secrets"} == {"create", "delete"}
    assert {("", "pods", "delete"), *((g, kind, "delete") for g, kind in GONE)} <= users  # what gc may have to remove
    assert not {what for _, what, _ in users} & {"*", "roles", "rolebindings", "serviceaccounts/token", "nodes"}


def test_the_supervisor_may_do_little() -> None:
    """It makes RayJobs, looks at pods, and reaches into nothing: no exec, no secrets, no pods of its own."""
    supervisor = rights(team_objects.SUPERVISOR_RULES)
    assert {("ray.io", "rayjobs", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")} <= supervisor
    assert {("", "pods", verb) for verb in ("get", "list", "watch")} <= supervisor
    assert ("batch", "jobs", "get") in supervisor
    touched = {what for _, what, _ in supervisor}
    assert not touched & {"*", "pods/exec", "pods/portforward", "secrets", "configmaps", "services/proxy"}
    assert {verb for _, what, verb in supervisor if what == "pods"} == {"get", "list", "watch"}
    assert not any(verb == "*" for _, _, verb in supervisor | rights(team_objects.USER_RULES))


def test_roles_are_bound_to_whom_they_are_for() -> None:
    """The supervisor's role is its account's, the users' role that of the users and groups; without any, of nobody."""
    binding = made("RoleBinding", "runner-supervisor")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": team_objects.ACCOUNT, "namespace": "team-a"}]
    assert made("ServiceAccount")["metadata"]["name"] == team_objects.ACCOUNT
    users = made("RoleBinding", "runner-user")
    assert [(s["kind"], s["name"], s["apiGroup"]) for s in users["subjects"]] == [
        ("User", "ann", "rbac.authorization.k8s.io"),
        ("Group", "team-a", "rbac.authorization.k8s.io"),
    ]
    assert users["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "runner-user"}
    alone = team_objects.objects(team_objects.Tenant("team-b", 1, 2**30))
    assert [o["metadata"]["name"] for o in alone if o["kind"] == "RoleBinding"] == ["runner-supervisor"]


def test_the_least_that_a_namespace_needs() -> None:
    """Without a tenant, runs need the supervisor's account, role and binding, as a tenant has them."""
    least = [
        o for o in team_objects.objects(TEAM) if o["metadata"]["name"] in (team_objects.ACCOUNT, "runner-supervisor")
    ]
    kinds = ("ServiceAccount", "Role", "RoleBinding")
    assert team_objects.supervisor_objects("team-a") == [o for o in least if o["kind"] in kinds]


def test_pods_of_a_tenant_hear_only_their_own() -> None:
    """Everything inward is denied, but for runs' pods from runs' pods and from KubeRay's operator."""
    assert made("NetworkPolicy", "runner-deny")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    allow = made("NetworkPolicy", "runner-runs")["spec"]
    runs = {"matchExpressions": [{"key": names.RUN, "operator": "Exists"}]}
    operator = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}}}
    assert (allow["podSelector"], allow["policyTypes"]) == (runs, ["Ingress"])
    dashboard = [{"protocol": "TCP", "port": 8265}]
    assert allow["ingress"] == [{"from": [{"podSelector": runs}]}, {"from": [operator], "ports": dashboard}]


def test_the_quota_is_the_share() -> None:
    """Cores, memory and GPUs are fenced, GPUs of zero too; a container that says nothing still fits."""
    hard = made("ResourceQuota", of=team_objects.Tenant("team-b", 32, 2**38, gpus=8, queue=False))["spec"]["hard"]
    assert hard["requests.cpu"] == "32"
    assert quantities.number(hard["requests.memory"]) == 2**38
    assert hard["requests.nvidia.com/gpu"] == "8"
    none = made("ResourceQuota", of=team_objects.Tenant("team-b", 0.5, 2**30, vendor="amd", queue=False))["spec"][
        "hard"
    ]
    assert (none["requests.cpu"], none["requests.amd.com/gpu"]) == ("0.5", "0")
    (limit,) = made("LimitRange")["spec"]["limits"]
    assert set(limit["defaultRequest"]) == {"cpu", "memory", "ephemeral-storage"}
    assert quantities.number(limit["default"]["memory"]) >= quantities.number(limit["defaultRequest"]["memory"])


def test_the_queue_has_the_share_too() -> None:
    """The ClusterQueue covers what the quota does and takes this namespace's runs alone; it can be left out."""
    spec = made("ClusterQueue", "team-a")["spec"]
    (group,) = spec["resourceGroups"]
    assert quotas("team-a", "nominalQuota") == TEAM.share
    assert set(group["coveredResources"]) == {*TEAM.share, "ephemeral-storage"}  # what the LimitRange adds
    assert spec["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "team-a"}
    assert made("LocalQueue", "team-a")["spec"]["clusterQueue"] == "team-a"
    assert group["flavors"][0]["name"] == made("ResourceFlavor")["metadata"]["name"]
    kinds = {o["kind"] for o in team_objects.objects(team_objects.Tenant("team-b", 1, 2**30, queue=False))}
    assert not kinds & {"LocalQueue", "ClusterQueue", "ResourceFlavor"}


def test_supervisors_have_a_share_besides() -> None:
    """Their queue holds as many as may be, is neither lent nor borrowed, and the quota has room for it and the rest."""
    share = {"cpu": "4", "memory": str(20 * 2**29)}
    assert TEAM.supervisors_share == share
    spec = made("ClusterQueue", "team-a-supervisors")["spec"]
    assert quotas("team-a-supervisors", "nominalQuota") == share
    assert spec["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "team-a"}
    assert not spec.keys() & {"cohort", "preemption"}
    assert made("LocalQueue", "team-a-supervisors")["spec"]["clusterQueue"] == "team-a-supervisors"
    hard = made("ResourceQuota")["spec"]["hard"]
    assert (hard["requests.cpu"], hard["requests.memory"]) == ("36", str(2**38 + 20 * 2**29))
    large = made("ResourceQuota", of=team_objects.Tenant("team-b", 0.5, 2**50, supervisors=3))["spec"]["hard"]
    assert (large["requests.cpu"], large["requests.memory"]) == ("1.1", str(2**50 + 3 * 2**29))


def test_a_team_borrows_nothing_unless_it_is_told_so() -> None:
    """A queue that admitted more than the quota would hold machines of which the rest can never come."""
    assert set(quotas("team-a", "borrowingLimit").values()) == {"0"}
    assert made("ClusterQueue", "team-a")["spec"]["cohort"] == "runner"


def test_a_team_may_hold_more_while_others_are_idle() -> None:
    """The quota is the most then, the queue borrows the rest, and who has lent it takes it back."""
    team = team_objects.Tenant("team-b", 1.9, 2**35, gpus=2, most_cpus=2.8, most_gpus=8, supervisors=1)
    assert quotas("team-b", "nominalQuota", team) == {"cpu": "1.9", "memory": str(2**35), "nvidia.com/gpu": "2"}
    assert quotas("team-b", "borrowingLimit", team) == {"cpu": "0.9", "memory": "0", "nvidia.com/gpu": "6"}
    assert made("ClusterQueue", "team-b", team)["spec"]["preemption"]["reclaimWithinCohort"] == "Any"
    hard = made("ResourceQuota", of=team)["spec"]["hard"]
    assert (hard["requests.cpu"], hard["requests.nvidia.com/gpu"]) == ("3", "8")
    assert hard["requests.memory"] == str(2**35 + 2**29)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"most_gpus": 1}, "--most-gpus='1'.*its share, which is 2"),
        ({"most_memory": 2**29}, "--most-memory='0.5 GiB'.*its share, which is 1.0 GiB"),
        ({"most_cpus": 2.0, "queue": False}, "--most-cpus=2.0.*--no-kueue"),
        ({"cpus": -1.0}, "--cpus=-1.0"),
        ({"gpus": -1}, "--gpus=-1"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(wrong: dict[str, Any], words: str) -> None:
    """The most is no less than the share and needs queues, and nothing is negative."""
    given: dict[str, Any] = {"cpus": 1.0, "memory": 2**30, "gpus": 2}
    with pytest.raises(SpecError, match=f"(?s){words}"):
        team_objects.Tenant("team-b", **{**given, **wrong})


def test_no_pod_of_a_team_goes_before_those_of_the_system() -> None:
    """A second quota counts pods of the two classes that anyone may name, and has room for none."""
    spec = made("ResourceQuota", "runner-no-system-priority")["spec"]
    assert spec["hard"] == {"pods": "0"}
    (expression,) = spec["scopeSelector"]["matchExpressions"]
    assert (expression["scopeName"], expression["operator"]) == ("PriorityClass", "In")
    assert expression["values"] == ["system-cluster-critical", "system-node-critical"]
    assert not shares(made("ResourceQuota", "runner-no-system-priority"))  # no team's quota of pods is zero


def test_what_a_team_does_not_have_any_more() -> None:
    """Without users their binding goes; without Kueue the queues go, first those through which runs come."""

    def gone(**changes: Any) -> list[tuple[str, str]]:
        bodies = team_objects.left_out(dataclasses.replace(TEAM, **changes))
        return [(body["kind"], body["metadata"]["name"]) for body in bodies]

    assert gone() == []
    assert gone(users=()) == []
    assert gone(users=(), groups=()) == [("RoleBinding", "runner-user")]
    assert gone(queue=False) == [
        (kind, name) for kind in ("LocalQueue", "ClusterQueue") for name in ("team-a", "team-a-supervisors")
    ]
    assert all(team_objects.is_ours(body) for body in team_objects.objects(TEAM))
    assert not team_objects.is_ours({"metadata": {"name": "runner-user"}})


def test_the_operator_is_let_in_from_where_it_is() -> None:
    """Its namespace is the platform's choice, and one that no namespace can have is refused."""
    elsewhere = team_objects.Tenant("team-b", 1, 2**30, operator="ray-system")
    (source,) = made("NetworkPolicy", "runner-runs", elsewhere)["spec"]["ingress"][1]["from"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ray-system"}
    with pytest.raises(SpecError, match="--operator-namespace"):
        team_objects.Tenant("team-b", 1, 2**30, operator="Ray System")
    with pytest.raises(SpecError, match="--supervisors"):
        team_objects.Tenant("team-b", 1, 2**30, supervisors=0)


@pytest.mark.parametrize(("host_paths", "level"), [(False, "baseline"), (True, "privileged")])
def test_pods_are_held_to_a_standard(host_paths: bool, level: str) -> None:
    """Only a tenant that may mount folders of its nodes goes without Kubernetes' baseline."""
    labels = made("Namespace", of=team_objects.Tenant("team-b", 1, 2**30, host_paths=host_paths))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == level

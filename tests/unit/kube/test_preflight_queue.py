"""What Kueue is found to refuse: queues, what they could ever give, and what names no queue."""

from __future__ import annotations

from typing import Any

import pytest

from runner import Group
from runner.backends.kuberay import check as kuberay_check
from runner.kube.client import KubeError
from runner.kube.preflight import check as preflight
from runner.store import Store
from tests.unit.kube import kit
from tests.unit.kube.test_preflight import WHOLE, cluster, look, needs, wrong
from tests.unit.kube.test_preflight_quota import ROOMY

API = "kueue.x-k8s.io/v1beta1"
WIDE = {"cpu": 64, "memory": "512Gi", "nvidia.com/gpu": 8}
LIMITED = {"nominalQuota": 1, "borrowingLimit": 2}
QUOTA = "quota of queue team"


def local_queue(name: str = "team", **parts: Any) -> kit.Body:
    return kit.body("LocalQueue", API, name, spec={"clusterQueue": name}, **parts)


def quota(resource: str, value: Any) -> kit.Body:
    return {"name": resource, **(value if isinstance(value, dict) else {"nominalQuota": value})}


def cluster_queue(name: str = "team", cohort: str | None = None, **flavors: dict[str, Any]) -> kit.Body:
    """A ClusterQueue: flavor -> resource -> its nominal quota, or a mapping of what is said of it."""
    made = [{"name": flavor, "resources": [quota(*pair) for pair in have.items()]} for flavor, have in flavors.items()]
    spec: kit.Body = {"resourceGroups": [{"coveredResources": list(next(iter(flavors.values()))), "flavors": made}]}
    return kit.body("ClusterQueue", API, name, None, spec=spec if cohort is None else {**spec, "cohort": cohort})


def team(*queues: kit.Body, **more: Any) -> kit.FakeKube:
    return kit.FakeKube(*ROOMY, local_queue(), *queues, **more)


def test_a_missing_queue() -> None:
    """A queue that is not there is told with those that are; without Kueue, that is told."""
    assert wrong(look(kit.FakeKube(*WHOLE), queue="team")).todo.startswith("ask for a LocalQueue")
    assert wrong(look(kit.FakeKube(*WHOLE, local_queue("other")), queue="team")).todo == "one of 'other'"
    assert look(team(cluster_queue(all=WIDE)), queue="team")["queue"].good
    absent = {"/apis/kueue.x-k8s.io": KubeError(404, "", "404 page not found\n")}
    assert "Kueue" in wrong(look(kit.FakeKube(*WHOLE, refused=absent), queue="team")).todo


def test_a_kueue_of_a_version_that_is_not_known() -> None:
    """Where Kueue serves its objects by another version alone, nobody knows whether a queue is there."""
    absent = {"/apis/kueue.x-k8s.io": KubeError(404, "", "404 page not found\n")}
    kube = kit.FakeKube(*WHOLE, refused=absent)
    newer = {"name": "kueue.x-k8s.io", "versions": [{"groupVersion": "kueue.x-k8s.io/v2", "version": "v2"}]}
    kube.pages["/apis"] = {"groups": [*kit.RAY_APIS["groups"], newer]}
    found = look(kube, queue="team", priority="high")
    assert (found["queue"].good, found["priority"].good) == (None, None)


def test_how_a_queue_stands() -> None:
    """Who waits in it is told; one that is not active, and why, is neither good nor bad."""
    queue = local_queue(status={"pendingWorkloads": 3})
    found = look(kit.FakeKube(*WHOLE, queue, cluster_queue(all=WIDE)), queue="team")
    assert found["queue"].found == "team, in which 3 wait"
    stopped = local_queue(status={"conditions": [kit.condition("Active", False, message="it is stopped")]})
    found = look(kit.FakeKube(*WHOLE, stopped, cluster_queue(all=WIDE)), queue="team")
    assert (found["queue"].good, "it is stopped" in found["queue"].found) == (None, True)


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        (cluster_queue(all={**WIDE, "nvidia.com/gpu": 2}), "a machine of group 'g' needs nvidia.com/gpu 4 of 2"),
        (cluster_queue(all={**WIDE, "cpu": "2500m"}), "cpu 3 of 2.5 in all"),
        (
            cluster_queue(a={**WIDE, "cpu": 1}, b={**WIDE, "nvidia.com/gpu": 3}),
            "cpu 2 of 1 (flavor a); nvidia.com/gpu 4 of 3 (flavor b)",
        ),
        (cluster_queue(all={"cpu": 64, "memory": "512Gi"}), "the queue has no quota of nvidia.com/gpu"),
        (cluster_queue(all={**WIDE, "nvidia.com/gpu": LIMITED}, cohort="all"), "nvidia.com/gpu 4 of 1"),
    ],
)
def test_what_a_queue_could_never_admit(queue: kit.Body, words: str) -> None:
    """Machines, head, and flavors one by one are held against the quota, with both numbers."""
    bad = wrong(look(team(queue), machines=2, queue="team"))
    assert bad.name == QUOTA
    assert words in bad.found


def test_what_may_be_borrowed() -> None:
    """A cohort lends what its other queues have and may lend, up to the queue's own limit; above it, nobody knows."""
    lender = cluster_queue("other", "all", all={**WIDE, "nvidia.com/gpu": {"nominalQuota": 8, "lendingLimit": 3}})
    mine: dict[str, Any] = {**WIDE, "nvidia.com/gpu": {"nominalQuota": 1}}
    assert look(team(cluster_queue(all=mine, cohort="all"), lender), machines=2, queue="team")[QUOTA].good
    assert "of 4" in wrong(look(team(cluster_queue(all=mine, cohort="all"), lender), machines=3, queue="team")).found
    limited = {**WIDE, "nvidia.com/gpu": LIMITED}
    assert "of 3" in wrong(look(team(cluster_queue(all=limited, cohort="all"), lender), machines=2, queue="team")).found
    above = kit.body("Cohort", API, "all", None, spec={"parent": "everyone"})
    assert look(team(cluster_queue(all=mine, cohort="all"), lender, above), machines=3, queue="team")[QUOTA].good


def test_resources_that_a_queue_does_not_count() -> None:
    """Kueue can be told to pass over cores and memory, and to count parts of GPUs as something else: nobody knows."""
    found = look(team(cluster_queue(all={"nvidia.com/gpu": 8})), queue="team")
    assert (found[QUOTA].good, "no quota of cpu" in found[QUOTA].found) == (None, True)
    part = Group(cpu=1, memory="1GiB", gpu=1, resource="nvidia.com/mig-1g.10gb")
    found = look(
        team(kit.node("mig", more={"nvidia.com/mig-1g.10gb": "1"}), cluster_queue(all=WIDE)), part, queue="team"
    )
    assert (found[QUOTA].good, "no quota of nvidia.com/mig-1g.10gb" in found[QUOTA].found) == (None, True)


def test_gpus_are_counted_by_their_own_name() -> None:
    """A quota of something else with `gpu` in its name is no quota of GPUs, and the group's own name counts."""
    queue = cluster_queue(all={**WIDE, "nvidia.com/gpumem": 1, "example.com/h100": 1})
    assert look(team(queue), queue="team")[QUOTA].good
    node = kit.node("own", more={"example.com/h100": "8"})
    own = Group(cpu=1, memory="1GiB", gpu=2, resource="example.com/h100")
    found = look(kit.FakeKube(*ROOMY, node, local_queue(), queue), own, queue="team")
    assert "example.com/h100 2 of 1" in wrong(found).found


def test_a_queue_whose_quota_may_not_be_seen() -> None:
    """ClusterQueues are of the whole cluster, and a team mostly may not see them: nobody knows."""
    refused = {f"/apis/{API}/clusterqueues": kit.forbidden("clusterqueues")}
    assert look(team(refused=refused), queue="team")[QUOTA].good is None
    assert "'team' does not exist" in wrong(look(team(), queue="team")).found


def test_a_queue_that_is_left_out_is_told() -> None:
    """Where there is one: by a submit, too, which it does not hinder. Nothing is said of what may not be seen."""
    kube = team(cluster_queue(all=WIDE))
    left_out = look(kube)["queue left out"]
    assert (left_out.good, left_out.told) == (None, True)
    assert "has 'team'" in left_out.found
    (words,) = preflight.check(cluster(), needs(), kuberay_check.samples(cluster(), Store("s3://lake/runs")), kube)
    assert words.startswith(left_out.found)
    assert "queue left out" not in look(kube, queue="team")
    assert "queue left out" not in look(kit.FakeKube(*WHOLE))
    refused = {"/apis/kueue.x-k8s.io": kit.forbidden("localqueues")}
    assert "queue left out" not in look(kit.FakeKube(*WHOLE, refused=refused))


def test_where_every_job_is_managed() -> None:
    """What names no queue would be held for ever: the supervisor's Job, and the machines."""
    both = ("Job", "RayJob")
    bad = wrong(look(team(cluster_queue(all=WIDE), managed=both), queue="team"))
    assert (bad.name, "suspends every Job of namespace 'default'" in bad.found) == ("supervisor queue", True)
    assert "`supervisor_queue`" in bad.todo
    queues = (cluster_queue(all=WIDE), local_queue("small"), cluster_queue("small", all={"cpu": 1, "memory": "1Gi"}))
    found = look(team(*queues, managed=both), queue="team", supervisor_queue="small")
    assert not [f for f in found.values() if not f.good]
    assert found["supervisor queue"].found == "small"
    bad = wrong(look(team(*queues, managed=both), supervisor_queue="small"))
    assert (bad.name, "suspends every RayJob" in bad.found, "`queue`" in bad.todo) == ("queue", True, True)


def test_where_the_supervisor_makes_all_machines() -> None:
    """A supervisor with a queue makes every RayJob, and its user needs no right to make one."""
    small = (local_queue("small"), cluster_queue("small", all={"cpu": 1, "memory": "1Gi"}))
    kube = team(cluster_queue(all=WIDE), *small, denied=(("create", "rayjobs"),))
    assert look(kube, queue="team", supervisor_queue="small")["rights"].good
    assert wrong(look(kube, queue="team")).name == "rights"


def test_the_supervisors_queue_must_hold_one() -> None:
    """A queue that could never admit a supervisor is refused; one that it shares must hold it beside the machines."""
    small = (local_queue("small"), cluster_queue("small", all={"cpu": "100m", "memory": "1Gi"}))
    bad = wrong(look(team(cluster_queue(all=WIDE), *small), queue="team", supervisor_queue="small"))
    assert (bad.name, bad.found) == ("quota of queue small", "a supervisor: the supervisor needs cpu 0.2 of 0.1")
    exact = cluster_queue(all={**WIDE, "cpu": 2})
    assert look(team(exact), queue="team")[QUOTA].good
    assert "cpu 2.2 of 2 in all" in wrong(look(team(exact), queue="team", supervisor_queue="team")).found


def test_a_queue_named_default_takes_what_names_none() -> None:
    """Kueue sends there what names no queue, and so it must be able to admit it."""
    default = (local_queue("default"), cluster_queue("default", all={**WIDE, "nvidia.com/gpu": 1}))
    bad = wrong(look(kit.FakeKube(*WHOLE, *default)))
    assert (bad.name, "nvidia.com/gpu 2 of 1" in bad.found) == ("quota of queue default", True)


@pytest.mark.parametrize(
    ("queue", "kind", "api"),
    [("team", "WorkloadPriorityClass", API), (None, "PriorityClass", "scheduling.k8s.io/v1")],
)
def test_a_priority_must_exist(queue: str | None, kind: str, api: str) -> None:
    """With a queue it is Kueue's kind of class, else Kubernetes'; a missing one is told with those that are there."""
    kube = kit.FakeKube(*WHOLE, local_queue(), cluster_queue(all=WIDE))
    bad = wrong(look(kube, queue=queue, priority="high"))
    assert (bad.name, bad.found) == ("priority", f"no {kind} 'high'")
    assert "leave `priority` out" in bad.todo
    kube.put({**kit.body(kind, api, "low", None)})
    plural = "priorityclasses" if queue is None else "workloadpriorityclasses"
    kube.there = {at.replace(f"{plural[:-2]}s/", f"{plural}/"): body for at, body in kube.there.items()}
    assert wrong(look(kube, queue=queue, priority="high")).todo == "one of 'low'"
    assert look(kube, queue=queue, priority="low")["priority"].good
    kube.refused = {f"/apis/{api}/{plural}": kit.forbidden(plural)}
    assert look(kube, queue=queue, priority="low")["priority"].good is None

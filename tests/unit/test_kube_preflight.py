"""What is checked of a cluster before any pod is asked for, against an API served from memory."""

from __future__ import annotations

from typing import Any

import pytest

from runner import Cluster, Group, Kubernetes, Volume
from runner.errors import PlanError
from runner.kube import preflight
from runner.kube.client import KubeError
from runner.kube.preflight import Finding, Need
from tests.unit import kube_kit as kit

GPU = Group(cpu=1, memory="4GiB", gpu=2)
CPU = Group(cpu=1, memory="4GiB")
NAMESPACE = kit.body("Namespace", "v1", "default", None)
ACCOUNT = kit.body("ServiceAccount", "v1", "runner")
SECRET = kit.body("Secret", "v1", "lake-credentials")
NODE = kit.node(more={"nvidia.com/gpu": "4"})
WHOLE = (NAMESPACE, ACCOUNT, SECRET, NODE)


def cluster(group: Group = GPU, **kubernetes: Any) -> Cluster:
    where = Kubernetes(image="repo/image:1", **{"secrets": ("lake-credentials",), **kubernetes})
    return Cluster(backend="kuberay", groups={"g": group}, kubernetes=where)


def look(kube: kit.FakeKube, group: Group = GPU, machines: int = 1, **kubernetes: Any) -> dict[str, Finding]:
    made = cluster(group, **kubernetes)
    return {f.name: f for f in preflight.look(made, [Need("train", "g", group, machines)], kube)}


def without(*bodies: kit.Body) -> list[kit.Body]:
    return [each for each in WHOLE if each not in bodies]


def wrong(found: dict[str, Finding]) -> Finding:
    """The only finding that is bad."""
    (bad,) = [finding for finding in found.values() if finding.good is False]
    assert bad.todo
    return bad


def test_a_cluster_that_has_everything() -> None:
    """Every check says what it saw, none is bad, and `check` raises nothing."""
    found = look(kit.FakeKube(*WHOLE))
    assert {f.good for f in found.values()} == {True}
    assert "v1.34.4" in found["API"].found
    expected = {"API", "namespace", "KubeRay", "rights", "ServiceAccount runner", "Secret lake-credentials"}
    assert set(found) == {*expected, "nodes for 'g'"}
    preflight.check(cluster(), [Need("train", "g", GPU, 1)], kit.FakeKube(*WHOLE))


def test_an_api_that_is_away() -> None:
    """Where nothing answers, that is the one finding."""
    kube = kit.FakeKube(refused={"/": KubeError(0, "Unreachable", "no answer from the Kubernetes API at x")})
    assert list(look(kube)) == ["API"]
    assert wrong(look(kube)).found == "no answer from the Kubernetes API at x"


def test_a_missing_namespace() -> None:
    """It is named, and who makes one."""
    bad = wrong(look(kit.FakeKube(*without(NAMESPACE))))
    assert (bad.name, "'default' does not exist" in bad.found) == ("namespace", True)


@pytest.mark.parametrize("resources", [None, {"resources": [{"name": "rayclusters"}]}])
def test_missing_kinds_of_kuberay(resources: kit.Body | None) -> None:
    """Without KubeRay's kinds no run can be made, and each that is missing is named."""
    kube = kit.FakeKube(*WHOLE)
    if resources is None:
        kube.pages["/apis"] = {"groups": []}
    else:
        kube.pages["/apis/ray.io/v1"] = resources
    bad = wrong(look(kube))
    assert bad.name == "KubeRay"
    assert "'rayjobs'" in bad.found
    assert ("'rayclusters'" in bad.found) == (resources is None)


@pytest.mark.parametrize("right", [(verb, what) for _, what, verb in preflight.CLIENT_RIGHTS])
def test_each_missing_right_is_named(right: tuple[str, str]) -> None:
    """The verb and the kind of every right that is missing are told, and no other."""
    bad = wrong(look(kit.FakeKube(*WHOLE, denied=(right,))))
    assert bad.found == f"you may not '{right[0]} {right[1]}' in namespace 'default'"


def test_all_missing_rights_are_in_one_finding() -> None:
    """Several missing rights are one line."""
    bad = wrong(look(kit.FakeKube(*WHOLE, denied=(("create", "jobs"), ("list", "pods")))))
    assert "'create jobs', 'list pods'" in bad.found


@pytest.mark.parametrize(
    ("kubernetes", "name"),
    [
        ({"secrets": ("other",)}, "Secret other"),
        ({"image_pull_secrets": ("pull",)}, "Secret pull"),
        ({"volumes": (Volume(mount="/keys", secret="key"),)}, "Secret key"),
        ({"volumes": (Volume(mount="/conf", config_map="conf"),)}, "ConfigMap conf"),
        ({"service_account": "other"}, "ServiceAccount other"),
    ],
)
def test_what_pods_name_must_be_there(kubernetes: dict[str, Any], name: str) -> None:
    """A missing Secret, ConfigMap or ServiceAccount is found before a pod waits for it for ever."""
    bad = wrong(look(kit.FakeKube(*WHOLE), **kubernetes))
    assert (bad.name, bad.found) == (name, "there is none in namespace 'default'")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v1/namespaces/default/secrets", "Secret lake-credentials"),
        ("/api/v1/nodes", "nodes"),
        ("/api/v1/namespaces/default/resourcequotas", "quota"),
        ("/apis/kueue.x-k8s.io", "queue"),
    ],
)
def test_what_may_not_be_seen_is_not_known(path: str, name: str) -> None:
    """A 403 is neither good nor bad."""
    found = look(kit.FakeKube(*WHOLE, refused={path: kit.forbidden("them")}), queue="team")
    assert found[name].good is None
    assert "not to be seen with these rights" in found[name].found


def test_an_error_of_the_api_is_bad() -> None:
    """Any other refusal is told in the API's words, and the other checks go on."""
    found = look(kit.FakeKube(*WHOLE, refused={"/api/v1/nodes": KubeError(500, "InternalError", "etcd is away")}))
    assert wrong(found).found == "etcd is away"
    assert found["rights"].good


def local_queue(name: str) -> kit.Body:
    return kit.body("LocalQueue", "kueue.x-k8s.io/v1beta1", name, spec={"clusterQueue": name})


def test_a_missing_queue() -> None:
    """A queue that is not there is told with those that are; without Kueue, that is told."""
    assert wrong(look(kit.FakeKube(*WHOLE), queue="team")).todo.startswith("ask for a LocalQueue")
    assert wrong(look(kit.FakeKube(*WHOLE, local_queue("other")), queue="team")).todo == "one of 'other'"
    assert look(kit.FakeKube(*WHOLE, local_queue("team")), queue="team")["queue"].good
    absent = {"/apis/kueue.x-k8s.io": KubeError(404, "", "404 page not found\n")}
    assert "Kueue" in wrong(look(kit.FakeKube(*WHOLE, refused=absent), queue="team")).todo


@pytest.mark.parametrize(
    ("hard", "found"),
    [
        ({"requests.nvidia.com/gpu": "1"}, "train needs nvidia.com/gpu 4 of nvidia.com/gpu 1"),
        ({"requests.cpu": "3"}, "train needs cpu 3.2 of cpu 3"),
        ({"cpu": "2500m"}, "train needs cpu 3.2 of cpu 2.5"),
        ({"requests.memory": "8Gi"}, "train needs memory 11.5 GiB of memory 8.0 GiB"),
        ({"limits.memory": "8Gi"}, "train needs memory 11.5 GiB of memory 8.0 GiB"),
    ],
)
def test_a_quota_that_is_too_small(hard: dict[str, str], found: str) -> None:
    """Machines, head and supervisor together are held against the quota, with both numbers."""
    bad = wrong(look(kit.FakeKube(*WHOLE, kit.quota(hard)), machines=2))
    assert (bad.name, bad.found) == ("quota unit", found)


@pytest.mark.parametrize(
    "quota",
    [
        kit.quota({"requests.nvidia.com/gpu": "2", "requests.cpu": "10", "pods": "1", "count/jobs.batch": "1"}),
        kit.quota({"requests.cpu": "10"}, {"requests.cpu": "10"}),
        kit.quota({"requests.cpu": "1"}, scopes=["Terminating"]),
        kit.quota({"requests.cpu": "1"}, scopeSelector={"matchExpressions": [{"scopeName": "PriorityClass"}]}),
    ],
    ids=["fits", "in use now", "scope", "selector"],
)
def test_a_quota_that_is_no_hindrance(quota: kit.Body) -> None:
    """What others use now will be free again, and a quota of some pods only says nothing of ours."""
    assert not [f for f in look(kit.FakeKube(*WHOLE, quota)).values() if not f.good]


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("node", "group", "words"),
    [
        (NODE, Group(memory="1GiB", node_selector={"kind": "mi300"}), "no label kind=mi300"),
        (kit.node(taints=[TAINT]), CPU, "taint gpu:NoSchedule"),
        (kit.node(), GPU, "needs nvidia.com/gpu 2 of nvidia.com/gpu 0"),
        (NODE, Group(memory="4GiB", gpu=8), "needs nvidia.com/gpu 8 of nvidia.com/gpu 4"),
        (NODE, Group(memory="4GiB", gpu=1, resource="nvidia.com/mig-1g.10gb"), "mig-1g.10gb 1 of"),
        (NODE, Group(memory="64GiB"), "needs memory 64.0 GiB of memory 23.5 GiB"),
    ],
)
def test_nodes_that_could_never_hold_a_machine(node: kit.Body, group: Group, words: str) -> None:
    """Labels, taints and sizes of every node are held against the group; where an autoscaler may help, nobody knows."""
    bad = wrong(look(kit.FakeKube(*without(NODE), node), group))
    assert (bad.name, words in bad.found) == ("nodes for 'g'", True)
    scaled = kit.node("scaled", {"karpenter.sh/nodepool": "default"}, [{**TAINT, "key": "other"}], {"cpu": "0"})
    assert look(kit.FakeKube(*without(NODE), node, scaled), group)["nodes for 'g'"].good is None


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": "gpu", "operator": "Exists"},
        {"key": "gpu", "value": "yes"},
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
    ],
)
def test_tolerations_as_kubernetes_reads_them(toleration: dict[str, str]) -> None:
    """A taint that the group, or a pod template, bears is no hindrance."""
    kube = kit.FakeKube(*without(NODE), kit.node(taints=[TAINT, {"key": "x", "effect": "PreferNoSchedule"}]))
    template = {"spec": {"tolerations": [toleration]}}
    assert look(kube, Group(memory="1GiB", tolerations=(toleration,)))["nodes for 'g'"].good
    assert look(kube, Group(memory="1GiB", pod_template=template))["nodes for 'g'"].good
    assert look(kube, Group(memory="1GiB"), pod_template=template)["nodes for 'g'"].good
    assert not look(kube, Group(memory="1GiB", tolerations=({**toleration, "effect": "NoExecute"},)))[
        "nodes for 'g'"
    ].good


def test_the_node_selector_of_a_template_counts() -> None:
    """What a pod template adds to the node selector is looked for as well."""
    template = {"spec": {"nodeSelector": {"zone": "a"}}}
    assert "zone=a" in wrong(look(kit.FakeKube(*WHOLE), CPU, pod_template=template)).found


def test_check_tells_everything_at_once() -> None:
    """One error has every finding that is bad, and what to do about each."""
    kube = kit.FakeKube(*without(SECRET, NODE), kit.node(), denied=(("create", "jobs"),))
    with pytest.raises(PlanError) as raised:
        preflight.check(cluster(), [Need("train", "g", GPU, 1)], kube)
    text = str(raised.value)
    assert all(words in text for words in ("'create jobs'", "Secret lake-credentials", "nvidia.com/gpu", "make the"))

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
    assert set(found) == {*expected, *(f"nodes for {what}" for what in ("'g'", "the head", "the supervisor"))}
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
        ("/api/v1/namespaces/default/limitranges", "limits"),
        ("/openapi/v3", "KubeRay"),
    ],
)
def test_what_may_not_be_seen_is_not_known(path: str, name: str) -> None:
    """A 403 is neither good nor bad."""
    found = look(kit.FakeKube(*WHOLE, refused={path: kit.forbidden("them")}), queue="team")
    assert found[name].good is None
    assert "not to be seen" in found[name].found


def test_an_error_of_the_api_is_bad() -> None:
    """Any other refusal is told in the API's words, and the other checks go on."""
    found = look(kit.FakeKube(*WHOLE, refused={"/api/v1/nodes": KubeError(500, "InternalError", "etcd is away")}))
    assert wrong(found).found == "etcd is away"
    assert found["rights"].good


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
    bad = look(kit.FakeKube(*without(NODE), node), group)["nodes for 'g'"]
    assert (bad.good, words in bad.found) == (False, True)
    assert "a machine of group 'g'" in bad.todo
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
    assert "zone=a" in look(kit.FakeKube(*WHOLE), CPU, pod_template=template)["nodes for 'g'"].found


def test_head_and_supervisor_need_a_place_too() -> None:
    """Their own machines are held against the nodes like those of a group."""
    big = Group(cpu=8, memory="1GiB")
    for field, name in (("head", "nodes for the head"), ("supervisor", "nodes for the supervisor")):
        bad = wrong(look(kit.FakeKube(*WHOLE), CPU, **{field: big}))
        assert (bad.name, "needs cpu 8 of cpu 4" in bad.found) == (name, True)


def test_a_stage_needs_all_its_machines_at_one_time() -> None:
    """Machines are counted node by node, not by what all nodes have together; an autoscaler may bring more."""
    nodes = [kit.node(f"n{n}", more={"nvidia.com/gpu": "3"}) for n in range(3)]  # nine GPUs, and three pairs
    assert look(kit.FakeKube(*without(NODE), *nodes), machines=3)["nodes for 'g'"].good
    bad = wrong(look(kit.FakeKube(*without(NODE), *nodes), machines=4))
    assert bad.name == "nodes for 'g' at one time"
    assert bad.found == "train needs 4 machines, and 3 nodes could hold 3 when empty"
    scaled = kit.node("scaled", {"eks.amazonaws.com/nodegroup": "gpu"}, more={"cpu": "1"})
    found = look(kit.FakeKube(*without(NODE), *nodes, scaled), machines=4)
    assert found["nodes for 'g' at one time"].good is None


def test_a_stage_needs_its_head_and_supervisor_besides() -> None:
    """What all nodes have together must do for machines, head and supervisor at one time."""
    assert not [f for f in look(kit.FakeKube(*WHOLE), Group(cpu=2.8, memory="1GiB")).values() if not f.good]
    bad = wrong(look(kit.FakeKube(*WHOLE), Group(cpu=2.9, memory="1GiB")))
    assert (bad.name, bad.found) == (
        "nodes for train", "train needs cpu 4.1 of 4 that all nodes have, its head and supervisor included"
    )  # fmt: skip


def test_a_node_that_is_away_for_a_while_counts() -> None:
    """A cordoned node, or one under pressure, will be back; a taint of the platform's own stays."""
    passing = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    assert look(kit.FakeKube(*without(NODE), kit.node(taints=passing)), CPU)["nodes for 'g'"].good


@pytest.mark.parametrize(
    ("spec", "cluster", "missing", "older"),
    [
        (("suspend",), ("authOptions",), ["'preRunningDeadlineSeconds'"], "1.6"),
        (("suspend",), (), ["'rayClusterSpec.authOptions'", "'preRunningDeadlineSeconds'"], "1.5.1"),
    ],
)
def test_a_kuberay_that_is_too_old(
    spec: tuple[str, ...], cluster: tuple[str, ...], missing: list[str], older: str
) -> None:
    """Fields that a run sets and the definition lacks are named, with what that says of KubeRay and what is needed."""
    kube = kit.FakeKube(*WHOLE)
    kube.pages["/openapi/v3/apis/ray.io/v1"] = kit.ray_schema(spec, cluster)
    bad = wrong(look(kube))
    assert bad.name == "KubeRay"
    assert all(field in bad.found for field in missing)
    assert f"older than {older}" in bad.found
    assert "1.6" in bad.todo


def test_check_tells_everything_at_once() -> None:
    """One error has every finding that is bad, and what to do about each."""
    kube = kit.FakeKube(*without(SECRET, NODE), kit.node(), denied=(("create", "jobs"),))
    with pytest.raises(PlanError) as raised:
        preflight.check(cluster(), [Need("train", "g", GPU, 1)], kube)
    text = str(raised.value)
    assert all(words in text for words in ("'create jobs'", "Secret lake-credentials", "nvidia.com/gpu", "make the"))

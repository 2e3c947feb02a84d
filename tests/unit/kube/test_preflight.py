"""What is checked of a cluster before any pod is asked for, against an API served from memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner import Cluster, Group, Kubernetes, Volume
from runner.backends.kuberay import check as kuberay_check
from runner.errors import PlanError
from runner.kube.client import KubeError
from runner.kube.preflight import check as preflight
from runner.kube.preflight.check import Finding, Needs
from runner.kube.preflight.rights import CLIENT_RIGHTS, COMMAND_RIGHTS, SUPERVISOR_BESIDES, SUPERVISOR_RIGHTS
from runner.kube.team import objects as team_objects
from runner.store import Store
from tests.unit.kube import kit

TOLERATION = {"key": "night", "operator": "Exists"}
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


def applied(made: Cluster, machines: int = 1) -> list[kit.Body]:
    """The objects of a run with one stage, on so many machines."""
    job, ray_job = kuberay_check.samples(made, Store("s3://lake/runs"))
    ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] = machines
    return [job, ray_job]


def needs_of(made: Cluster, objects: list[kit.Body]) -> Needs:
    """What they ask for."""
    job, ray_job = objects
    return Needs.of(made, job, {"train": ray_job})


def needs() -> Needs:
    """What a run on one machine asks for."""
    return needs_of(cluster(), applied(cluster()))


def look(kube: kit.FakeKube, group: Group = GPU, machines: int = 1, **kubernetes: Any) -> dict[str, Finding]:
    made = cluster(group, **kubernetes)
    objects = applied(made, machines)
    found = preflight.look(made, needs_of(made, objects), objects, kube)
    assert len({f.name for f in found}) == len(found)
    return {f.name: f for f in found}


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
    expected = {"API", "namespace", "KubeRay", "rights", "rights of runner", "ServiceAccount runner"}
    expected |= {"Secret lake-credentials", "Job of the supervisor", "RayJob of group 'g'"}
    assert set(found) == {*expected, *(f"nodes for {what}" for what in ("'g'", "the head", "the supervisor"))}
    preflight.check(cluster(), needs(), kube=kit.FakeKube(*WHOLE))


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


@pytest.mark.parametrize("right", [(verb, what) for _, what, verb in CLIENT_RIGHTS])
def test_each_missing_right_is_named(right: tuple[str, str]) -> None:
    """The verb and the kind of every right that a submit needs are told where it is missing, and no other."""
    bad = wrong(look(kit.FakeKube(*WHOLE, denied=(right,))))
    assert bad.found == f"you may not '{right[0]} {right[1]}' in namespace 'default'"


def test_all_missing_rights_are_in_one_finding() -> None:
    """Several missing rights are one line."""
    bad = wrong(look(kit.FakeKube(*WHOLE, denied=(("create", "jobs"), ("create", "rayjobs")))))
    assert "'create jobs', 'create rayjobs'" in bad.found


@pytest.mark.parametrize(
    ("right", "commands"),
    [
        (("create", "pods/exec"), {"ssh"}),
        (("get", "pods/portforward"), {"port-forward"}),
        (("list", "events"), {"why"}),
        (("list", "jobs"), {"status", "gc"}),
        (("delete", "rayjobs"), {"cancel", "gc"}),
        (("list", "pods"), {"cancel", "why", "ssh", "port-forward", "queue", "gc"}),
    ],
)
def test_rights_of_other_commands_are_told(right: tuple[str, str], commands: set[str]) -> None:
    """What a submit does not need refuses none: each command that may not work without it is named, and the right."""
    kube = kit.FakeKube(*WHOLE, denied=(right,))
    found = [f for f in look(kube).values() if f.good is not True]
    assert {f.name for f in found} == {f"rights for {command}" for command in commands}
    assert all(f.good is None and f"'{' '.join(right)}'" in f.found and "tenant" in f.todo for f in found)
    preflight.check(cluster(), needs(), kube=kit.FakeKube(*WHOLE, denied=(right,)))


@pytest.mark.parametrize("right", [(verb, what) for _, what, verb in SUPERVISOR_RIGHTS])
def test_each_missing_right_of_the_supervisor_is_named(right: tuple[str, str]) -> None:
    """Supervisors that could not look after their run are found before there is one, where that can be asked."""
    bad = wrong(look(kit.FakeKube(*WHOLE, account_denied=(right,))))
    assert (bad.name, f"ServiceAccount 'runner' may not '{' '.join(right)}'" in bad.found) == ("rights of runner", True)
    assert "runner admin tenant" in bad.todo


def test_rights_of_the_supervisor_that_cannot_be_asked() -> None:
    """Most users may not ask for others: then nothing is said. What only some runs need is told, and refuses none."""
    assert "rights of runner" not in look(kit.FakeKube(*WHOLE, account_denied=None))
    found = look(kit.FakeKube(*WHOLE, account_denied=(("watch", "pods"), ("list", "events"))))
    assert found["rights of runner"].good
    besides = found["rights of runner besides"]
    assert (besides.good, "'watch pods', 'list events'" in besides.found) == (None, True)


def test_a_tenants_roles_have_all_that_is_checked() -> None:
    """Nothing is found missing for who has what `runner admin tenant` gives."""
    users, supervisors = (
        {(group, what, verb) for groups, kinds, verbs in rules for group in groups for what in kinds for verb in verbs}
        for rules in (team_objects.USER_RULES, team_objects.SUPERVISOR_RULES)
    )
    assert {*CLIENT_RIGHTS, *(right for rights in COMMAND_RIGHTS.values() for right in rights)} <= users
    assert {*SUPERVISOR_RIGHTS, *SUPERVISOR_BESIDES} <= supervisors


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


@pytest.mark.parametrize("error", [KubeError(500, "InternalError", "etcd is away"), KubeError(0, "", "etcd is away")])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v1/nodes", "nodes"),
        ("/api/v1/namespaces/default/resourcequotas", "quota"),
        ("/api/v1/namespaces/default/serviceaccounts", "objects"),
        ("/apis/kueue.x-k8s.io/v1beta1/namespaces/default/localqueues", "queue"),
        ("/apis/kueue.x-k8s.io/v1beta1/workloadpriorityclasses", "priority"),
        ("/apis/authorization.k8s.io/v1/namespaces/default/local", "rights of the supervisor"),
        ("/apis/batch/v1/namespaces/default/jobs", "Job of the supervisor"),
    ],
)
def test_a_moments_trouble_is_no_refusal(path: str, name: str, error: KubeError) -> None:
    """Where one check meets an API that does not answer, it is told in the API's words, and nothing is known."""
    found = look(kit.FakeKube(*WHOLE, refused={path: error}), queue="team", priority="high")
    assert (found[name].good, "etcd is away" in found[name].found) == (None, True)
    assert found["rights"].good


@pytest.mark.parametrize(("path", "name"), [("/api/v1/namespaces/default", "namespace"), ("/apis", "KubeRay")])
def test_trouble_where_a_run_begins_is_told(path: str, name: str) -> None:
    """Without the namespace and KubeRay a submit would meet the same trouble."""
    kube = kit.FakeKube(*WHOLE)
    kube.refused = {path: KubeError(500, "InternalError", "etcd is away")}
    assert look(kube)[name].good is False


# -- nodes -----------------------------------------------------------------------------------------------------------

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
    assert "autoscaled=True" in bad.todo
    assert look(kit.FakeKube(*without(NODE), node), replace(group, autoscaled=True))["nodes for 'g'"].good is None
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
        "nodes for train",
        "train needs cpu 4.1 of 4 that all nodes have, its head and supervisor included",
    )


@pytest.mark.parametrize(
    "found",
    [
        kit.node("small", labels={"kubernetes.azure.com/agentpool": "gpu"}),
        kit.node("small", labels={"kops.k8s.io/instancegroup": "gpu"}),
        kit.node("small", annotations={"cluster.x-k8s.io/machine": "gpu-x"}),
        kit.node("small", annotations={"machine.openshift.io/machine": "api/gpu-x"}),
        kit.node("small", providerID="openstack:///d2"),
        None,
    ],
    ids=["AKS", "kops", "Cluster API", "OpenShift", "a cloud", "no node yet"],
)
def test_nodes_that_may_be_made_are_not_refused(found: kit.Body | None) -> None:
    """Pools that stand at zero show in no node: where machines are made, or there is no node yet, nobody knows."""
    nodes = [] if found is None else [found]
    assert not [f for f in look(kit.FakeKube(*without(NODE), *nodes), machines=9).values() if f.good is False]


def test_nodes_that_nobody_makes_are_refused() -> None:
    """A provider's name alone does not help where the whole cluster is on somebody's own machine."""
    node = kit.node(providerID="kind://docker/kind/kind-control-plane")
    assert wrong(look(kit.FakeKube(*without(NODE), node))).name == "nodes for 'g'"


def test_a_group_that_is_autoscaled_is_not_refused() -> None:
    """Who says so of a group is believed, of its machines one by one and together, and of no other's."""
    big = Group(cpu=3.5, memory="4GiB", autoscaled=True)
    found = look(kit.FakeKube(*WHOLE), big, machines=3)
    assert {name for name, f in found.items() if f.good is None} == {"nodes for 'g' at one time", "nodes for train"}
    bad = wrong(look(kit.FakeKube(*WHOLE), big, machines=3, head=Group(cpu=8, memory="1GiB")))
    assert bad.name == "nodes for the head"


def test_taints_that_the_cluster_may_have_pods_bear() -> None:
    """Some providers let a pod bear the taint of the very GPUs it asks for, and a queue adds its flavor's tolerations:
    with such taints nobody knows; with any other, and for pods without GPUs, it is wrong.
    """
    own = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    plain = kit.node("plain")

    def found(taint: kit.Body, **more: Any) -> Finding:
        tainted = kit.node("tainted", taints=[taint], more={"nvidia.com/gpu": "2"})
        return look(kit.FakeKube(*without(NODE), plain, tainted), **more)["nodes for 'g'"]

    assert found(own).good is None
    assert "taint nvidia.com/gpu:NoSchedule" in found(own).found
    assert found({**own, "effect": "NoExecute"}).good is False
    assert found(TAINT).good is False
    assert found(TAINT, queue="team").good is None
    assert found(own, group=Group(memory="1GiB", gpu=4)).good is False
    cpu = look(kit.FakeKube(*without(NODE), kit.node(taints=[own], more={"nvidia.com/gpu": "2"})), CPU)
    assert cpu["nodes for 'g'"].good is False
    both = kit.node("free", more={"nvidia.com/gpu": "2"}), kit.node("own", taints=[own], more={"nvidia.com/gpu": "2"})
    together = look(kit.FakeKube(*without(NODE), *both), machines=2)
    assert together["nodes for 'g' at one time"].good is None
    assert look(kit.FakeKube(*without(NODE), *both), machines=3)["nodes for 'g' at one time"].good is False


def test_devices_that_are_out_of_order_count() -> None:
    """A node whose driver is being replaced has no GPUs that pods could get now, and will have them again."""
    node = kit.node(more={"nvidia.com/gpu": "0"}, capacity={"nvidia.com/gpu": "2"})
    assert look(kit.FakeKube(*without(NODE), node))["nodes for 'g'"].good


@pytest.mark.parametrize("key", ["node.kubernetes.io/unschedulable", "node.cloudprovider.kubernetes.io/uninitialized"])
def test_a_node_that_is_away_for_a_while_counts(key: str) -> None:
    """A cordoned node, or one under pressure, will be back; a taint of the platform's own stays."""
    passing = [{"key": key, "effect": "NoSchedule"}]
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
        preflight.check(cluster(), needs(), kube=kube)
    text = str(raised.value)
    assert all(words in text for words in ("'create jobs'", "Secret lake-credentials", "nvidia.com/gpu", "make the"))


# -- what is counted -------------------------------------------------------------------------------------------------


def test_all_that_is_counted_stands_in_what_is_applied() -> None:
    """Whatever a template does to a pod that is made, it does to the pod that is counted: containers beside and before
    ours, their resources, the node and the taints.
    """
    template = {
        "spec": {
            "nodeSelector": {"zone": "a"},
            "tolerations": [TOLERATION],
            "containers": [{"name": "proxy", "resources": {"limits": {"cpu": "500m"}}}],
            "initContainers": [
                {"name": "fetch", "resources": {"requests": {"cpu": "6"}}},
                {"name": "mesh", "restartPolicy": "Always", "resources": {"requests": {"memory": "64Mi"}}},
            ],
        }
    }
    made = cluster(replace(GPU, pod_template=template))
    objects = applied(made, 3)
    (need,) = needs_of(made, objects).stages
    spec = objects[1]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert need.machine.count == 3
    assert [each.name for each in need.machine.containers] == ["mesh", *(c["name"] for c in spec["containers"])]
    assert [each.name for each in need.machine.inits] == ["wait-gcs-ready", "fetch"]
    assert need.machine.requests == {"cpu": 6.0, "memory": float(4 * 2**30 + 64 * 2**20), "nvidia.com/gpu": 2.0}
    assert need.machine.limits["cpu"] == 0.5
    assert (need.machine.selector, need.machine.tolerations) == (spec["nodeSelector"], tuple(spec["tolerations"]))
    assert [each.name for each in need.head.containers] == ["main"]


def test_a_container_that_runs_before_must_fit_its_node() -> None:
    """What asks for more than all that comes after it is what the scheduler looks for."""
    before = {"spec": {"initContainers": [{"name": "fetch", "resources": {"requests": {"cpu": "6"}}}]}}
    bad = wrong(look(kit.FakeKube(*WHOLE), replace(CPU, pod_template=before)))
    assert (bad.name, "needs cpu 6 of cpu 4" in bad.found) == ("nodes for 'g'", True)

"""What is made for a team, and what is refused: names, quotas, destinations, and what is there already."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from runner.cli import cluster as screens
from runner.cli.commands import app
from runner.errors import InputError, SpecError
from runner.kube import client, names
from runner.kube.client import KubeError, resource
from runner.kube.quantities import number
from runner.kube.team import admission
from runner.kube.team import apply as team_apply
from runner.kube.team import network as team_network
from runner.kube.team import objects as team_objects
from runner.kube.team.team import Destination, Tenant, is_ours
from tests.unit.kube import kit

RED = Tenant("red", 4, 2**34, gpus=2, users=("ann",))
ALL = {"cpus": 1, "memory": 2**30}


def made(kind: str, name: str, of: Tenant = RED) -> kit.Body:
    """One object of a team."""
    (found,) = [o for o in team_objects.objects(of) if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def hard(of: Tenant) -> dict[str, str]:
    """What its quota holds."""
    found: dict[str, str] = made("ResourceQuota", "runner", of)["spec"]["hard"]
    return found


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "kube-system",
        "kube-public",
        "kueue-system",
        "kuberay-system",
        "istio-system",
        "openshift",
        "openshift-monitoring",
        "red-supervisors",
        "kube-x",
    ],
)
def test_names_of_the_cluster_are_no_teams(name: str) -> None:
    """Nor are those that end as the queues of another team's supervisors do."""
    with pytest.raises(SpecError, match=f"(?s)NAME='{name}'.*none of default.*or ends in '-system' or '-supervisors'"):
        Tenant(name, 1, 2**30)


def test_the_operators_namespace_is_no_teams() -> None:
    """Whoever may make pods there would be let in by every team."""
    assert Tenant("ray", 1, 2**30).name == "ray"
    with pytest.raises(SpecError, match="NAME='ray'"):
        Tenant("ray", 1, 2**30, operator="ray")


def test_what_is_made_says_for_whom() -> None:
    """All of it is marked as made here, and as the team's where it is not of all teams."""
    for body in team_objects.objects(RED):
        assert is_ours(body, "red")
        shared = body["kind"].startswith("ValidatingAdmissionPolicy") or body["kind"] == "ResourceFlavor"
        assert is_ours(body, "blue") == shared
        assert not (shared and re.search(r"\bred\b", json.dumps(body)))
    before = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "lake-runner"}}}
    assert is_ours(before, "red")  # of a version that did not say for whom


# -- applying --------------------------------------------------------------------------------------------------------


class Cluster(kit.FakeKube):
    """A cluster to which things are applied."""

    def apply(self, body: Any, what: client.Resource, manager: str = "") -> kit.Body:
        """Put it there."""
        self.sent.append(("APPLY", body["kind"]))
        if body["kind"] in self.unmade:
            raise self.unmade[body["kind"]]
        self.put(dict(body))
        return dict(body)

    @property
    def applied(self) -> list[str]:
        """The kinds of what was."""
        return [kind for method, kind in self.sent if method == "APPLY"]


def labelled(kind: str, api: str, name: str, namespace: str | None = None, **marks: str) -> kit.Body:
    return kit.body(kind, api, name, namespace, metadata={"labels": marks})


@pytest.mark.parametrize(
    "there",
    [
        labelled("Namespace", "v1", "red"),
        labelled("ClusterQueue", "kueue.x-k8s.io/v1beta1", "red"),
        labelled("ServiceAccount", "v1", "runner", "red", team="red"),
        labelled("ValidatingAdmissionPolicy", "admissionregistration.k8s.io/v1", "lake-runner-pods"),
        labelled("ClusterQueue", "kueue.x-k8s.io/v1beta1", "red-supervisors", **team_objects.labels("another")),
    ],
    ids=lambda body: f"{body['kind']} {body['metadata']['name']}",
)
def test_nothing_of_another_is_overwritten(there: kit.Body) -> None:
    """What has the name and was made by hand, or for another team, is named, and nothing at all is applied."""
    kube = Cluster(there, namespace="red")
    with pytest.raises(InputError, match=f"{there['kind']} {there['metadata']['name']}") as refused:
        list(team_apply.apply(kube, RED))
    assert not kube.applied
    assert "label it app.kubernetes.io/managed-by=lake-runner" in str(refused.value)


def test_what_is_the_teams_is_applied_again() -> None:
    """All that this command has made for this team is brought to what it should be, and a line says each."""
    kube = Cluster(namespace="red")
    first = list(team_apply.apply(kube, RED))
    assert first == list(team_apply.apply(kube, dataclasses.replace(RED, gpus=1)))
    assert len(kube.applied) == 2 * len(team_objects.objects(RED))


def test_a_kubernetes_without_admission_policies_is_too_old() -> None:
    """It is said which is needed, and why."""
    old = KubeError(404, "NotFound", "the server could not find the requested resource")
    with pytest.raises(InputError, match="Kubernetes 1.30"):
        list(team_apply.apply(Cluster(namespace="red", unmade={"ValidatingAdmissionPolicy": old}), RED))


@pytest.mark.parametrize(
    ("egress", "missing"),
    [
        ((), ""),
        (("10.0.0.0/8",), ""),
        (("10.1.2.3:6443", "10.1.2.4:6443"), ""),
        (("10.1.2.3:6443",), "add --egress 10.1.2.4:6443"),
        (("10.1.2.3:443", "10.1.2.4"), "add --egress 10.1.2.3:6443"),
        (("192.0.2.0/24",), "add --egress 10.1.2.3:6443 --egress 10.1.2.4:6443"),
    ],
)
def test_supervisors_must_reach_the_api(egress: tuple[str, ...], missing: str) -> None:
    """A list of destinations without the API's addresses is refused, with what to add to it."""
    ends = kit.body(
        "EndpointSlice",
        "discovery.k8s.io/v1",
        "kubernetes",
        endpoints=[{"addresses": ["10.1.2.3", "10.1.2.4"]}],
        ports=[{"port": 6443}],
        metadata={"labels": {"kubernetes.io/service-name": "kubernetes"}},
    )
    kube = Cluster(ends, namespace="red")
    team = dataclasses.replace(RED, egress=egress)
    if not missing:
        assert list(team_apply.apply(kube, team))
        return
    with pytest.raises(InputError, match=missing):
        list(team_apply.apply(kube, team))
    assert not kube.applied


# -- shares ----------------------------------------------------------------------------------------------------------


def test_all_that_can_be_held_is_counted() -> None:
    """Limits as well as requests, disk, pods, claims and objects; what would let others in has no room at all."""
    found = hard(dataclasses.replace(RED, queue=False))
    assert number(found["limits.memory"]) == number(found["requests.memory"]) == 2**34
    assert (found["pods"], found["requests.storage"], found["persistentvolumeclaims"]) == ("500", "0", "0")
    assert number(found["limits.ephemeral-storage"]) == 500 * 2 * 100 * 2**30
    for name in ("services.nodeports", "services.loadbalancers", "count/ingresses.networking.k8s.io"):
        assert found[name] == "0"
    counted = {"count/jobs.batch", "count/rayjobs.ray.io", "count/rayclusters.ray.io", "services", "count/secrets"}
    assert counted <= found.keys()
    large = hard(Tenant("red", 200, 2**40, pods=None, storage=2**40, scratch=2**30))
    assert (large["pods"], large["requests.storage"], large["persistentvolumeclaims"]) == ("2000", str(2**40), "100")


def test_a_container_that_asks_for_nothing_is_not_free() -> None:
    """There is a least of cores and memory, and a limit of memory is at most twice what was asked for."""
    (limit,) = made("LimitRange", "runner")["spec"]["limits"]
    assert limit["min"] == {"cpu": "10m", "memory": "1Mi"}
    assert limit["maxLimitRequestRatio"] == {"memory": "2"}
    ratio = number(limit["default"]["memory"]) / number(limit["defaultRequest"]["memory"])
    assert ratio <= 2


def test_other_resources_are_given_by_name() -> None:
    """They are in the quota, in the queue and in what the policies let through; no others are."""
    team = dataclasses.replace(RED, resources=(("nvidia.com/mig-1g.10gb", 4), ("rdma/hca", 2)))
    found = hard(team)
    assert (found["requests.nvidia.com/mig-1g.10gb"], found["requests.rdma/hca"]) == ("4", "2")
    (group,) = made("ClusterQueue", "red", team)["spec"]["resourceGroups"]
    assert {"nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "rdma/hca"} < set(group["coveredResources"])
    allowed = made("Namespace", "red", team)["metadata"]["annotations"][admission.RESOURCES].split(",")
    assert allowed == ["cpu", "memory", "ephemeral-storage", "nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "rdma/hca"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"resources": (("nvidia.com/gpu", 1),)}, "--resource='nvidia.com/gpu'.*each once"),
        ({"resources": (("cpu", 1),)}, "--resource='cpu'"),
        ({"resources": (("amd.com/gpu", 1), ("amd.com/gpu", 1))}, "each once"),
        ({"resources": (("a/b,c/d", 1),)}, "--resource"),
        ({"resources": (("amd.com/gpu", -1),)}, "--resource amd.com/gpu=-1"),
        ({"egress": ("lake.example",)}, "--egress='lake.example'.*addresses.*no names"),
        ({"egress": ("10.1.2.3/8",)}, "--egress"),
        ({"egress": ("10.1.2.3:0",)}, "--egress"),
        ({"egress": ("10.1.2.3:99999",)}, "--egress"),
        ({"accounts": ("a,b",)}, "--service-account='a,b'"),
        ({"storage": -1}, "--storage=-1"),
        ({"pods": 0}, "--pods=0"),
        ({"scratch": 0}, "--scratch=0"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], words: str) -> None:
    """With the option and what it takes."""
    with pytest.raises(SpecError, match=f"(?s){words}"):
        Tenant("red", **{**ALL, **wrong})


# -- network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "network", "port"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", None),
        ("10.1.2.3:443", "10.1.2.3/32", 443),
        ("fd00::/8", "fd00::/8", None),
        ("fd00::1", "fd00::1/128", None),
        ("[fd00::1]:443", "fd00::1/128", 443),
    ],
)
def test_destinations(text: str, network: str, port: int | None) -> None:
    """Networks and single addresses of both kinds, with and without a port."""
    assert Destination.parse(text) == Destination(network, port)


def egress(of: Tenant) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made("NetworkPolicy", "runner-egress", of)["spec"]["egress"]
    return found


def reaches(of: Tenant, address: str, port: int) -> bool:
    """Whether a policy's blocks of addresses let a packet through."""
    for rule in egress(of):
        ports = [each["port"] for each in rule.get("ports", [])]
        for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
            inside = Destination(block["cidr"]).holds(address, port)
            left_out = any(Destination(each).holds(address, port) for each in block.get("except", []))
            if inside and not left_out and (not ports or port in ports):
                return True
    return False


SECRETS = ("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fe80::a9fe:a9fe")


@pytest.mark.parametrize("address", SECRETS)
def test_the_clouds_secrets_are_not_asked_for(address: str) -> None:
    """Whatever is listed; unless the platform says so."""
    assert not reaches(RED, address, 80)
    assert not reaches(dataclasses.replace(RED, egress=("10.0.0.0/8",)), address, 80)
    assert not reaches(RED, "169.254.169.254", 53)
    assert reaches(dataclasses.replace(RED, metadata=True), address, 80)


def test_pods_call_what_is_listed() -> None:
    """Without a list anything else, with one that alone; names are asked for either way."""
    listed = dataclasses.replace(RED, egress=("10.1.2.3:443", "192.0.2.0/24"))
    for address, port, allowed in (("10.1.2.3", 443, True), ("10.1.2.3", 80, False), ("192.0.2.9", 80, True)):
        assert reaches(RED, address, port)
        assert reaches(listed, address, port) == allowed
    assert not reaches(listed, "1.1.1.1", 443)
    assert reaches(listed, "169.254.20.10", 53)  # the resolver of a node
    dns = {"to": [{"namespaceSelector": {}}], "ports": team_network._DNS}
    assert dns in egress(listed)
    assert {"to": [{"podSelector": {}}]} in egress(listed)


# -- admission -------------------------------------------------------------------------------------------------------


def test_policies_are_held_in_namespaces_of_teams() -> None:
    """Each is bound by the mark of a team's namespace, refuses, and lets nothing through where it cannot tell."""
    bodies = admission.policies()
    policies = {b["metadata"]["name"]: b["spec"] for b in bodies if b["kind"] == "ValidatingAdmissionPolicy"}
    bindings = [b["spec"] for b in bodies if b["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert [b["policyName"] for b in bindings] == list(policies)
    assert all(spec["failurePolicy"] == "Fail" for spec in policies.values())
    (selector,) = {json.dumps(b["matchResources"]["namespaceSelector"]["matchExpressions"]) for b in bindings}
    assert json.loads(selector) == [{"key": "lake-runner/tenant", "operator": "Exists"}]
    assert {tuple(b["validationActions"]) for b in bindings} == {("Deny",)}
    assert made("Namespace", "red")["metadata"]["labels"]["lake-runner/tenant"] == "red"
    assert len({resource(b).path(None, b["metadata"]["name"]) for b in bodies}) == len(bodies)


def test_a_namespace_says_what_its_team_may_have() -> None:
    """Its queue, accounts, and whether it mounts folders of nodes."""
    notes = made("Namespace", "red")["metadata"]["annotations"]
    assert (notes[admission.QUEUE], notes[admission.HOST_PATHS]) == ("red", "false")
    assert notes[admission.ACCOUNTS] == "default,runner"
    other = dataclasses.replace(RED, queue=False, host_paths=True, accounts=("lake",))
    notes = made("Namespace", "red", other)["metadata"]["annotations"]
    assert (notes[admission.QUEUE], notes[admission.HOST_PATHS]) == ("", "true")
    assert notes[admission.ACCOUNTS] == "default,runner,lake"


# -- marks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run", "store", "ours"),
    [(kit.RUN, "s3://lake/runs", True), (kit.RUN, "s3://lake/other", False), ("another", "s3://lake/runs", False)],
)
def test_a_name_makes_no_object_a_runs(run: str, store: str, ours: bool) -> None:
    """It must have the run's label, and name its store."""
    assert names.is_of(kit.job(), run, store) is ours
    assert not names.is_of(kit.body("Job", "batch/v1", kit.RUN), kit.RUN, "s3://lake/runs")


# -- the command -----------------------------------------------------------------------------------------------------


def said(*options: str) -> list[kit.Body]:
    """What `runner admin tenant` prints."""
    done = CliRunner().invoke(app, ["admin", "tenant", "red", "--cpus", "4", "--memory", "16GiB", *options])
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.stdout))


def test_the_command_makes_what_its_options_say() -> None:
    """Each option that gives a team something more is in what is printed."""
    assert said("--gpus", "2", "--user", "ann") == json.loads(json.dumps(team_objects.objects(RED)))
    options = [
        "--resource", "rdma/hca=2", "--storage", "1TiB", "--pods", "7", "--scratch", "2GiB",
        "--service-account", "lake", "--egress", "10.0.0.0/8", "--egress", "192.0.2.1:443", "--metadata-address",
    ]  # fmt: skip
    more = Tenant(
        "red",
        4,
        2**34,
        resources=(("rdma/hca", 2),),
        storage=2**40,
        pods=7,
        scratch=2**31,
        accounts=("lake",),
        egress=("10.0.0.0/8", "192.0.2.1:443"),
        metadata=True,
    )
    assert said(*options) == json.loads(json.dumps(team_objects.objects(more)))


@pytest.mark.parametrize("words", ["rdma/hca", "rdma/hca=", "rdma/hca=two", "rdma/hca=-1"])
def test_a_resource_without_a_number_is_refused(words: str) -> None:
    """It is told how one is given."""
    with pytest.raises(SpecError, match="NAME=COUNT"):
        screens.resource_of(words)

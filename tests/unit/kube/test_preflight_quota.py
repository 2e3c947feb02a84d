"""What a namespace's quotas and limits are found to refuse, or only to put off."""

from __future__ import annotations

from typing import Any

import pytest

from runner import Group
from tests.unit.kube import kit
from tests.unit.kube.test_preflight import WHOLE, look, wrong

#: Nodes with so much that only the namespace limits.
ROOMY = (*WHOLE, kit.node("big", more={"cpu": "64", "nvidia.com/gpu": "64"}))


def limit_range(**limit: Any) -> kit.Body:
    spec = {"limits": [{"type": "Container", **limit}]}
    return kit.body("LimitRange", "v1", "unit", spec=spec)


@pytest.mark.parametrize(
    ("hard", "found"),
    [
        ({"requests.nvidia.com/gpu": "1"}, "requests.nvidia.com/gpu 4 of 1 (0 in use)"),
        ({"requests.cpu": "3"}, "requests.cpu 3.2 of 3 (0 in use)"),
        ({"cpu": "2500m"}, "cpu 3.2 of 2.5 (0 in use)"),
        ({"requests.memory": "8Gi"}, "requests.memory 11.5 GiB of 8.0 GiB (0.0 GiB in use)"),
        ({"memory": "8Gi"}, "memory 11.5 GiB of 8.0 GiB (0.0 GiB in use)"),
        ({"limits.memory": "8Gi"}, "limits.memory 11.5 GiB of 8.0 GiB (0.0 GiB in use)"),
        ({"pods": "3"}, "pods 4 of 3 (0 in use)"),
        ({"count/pods": "1"}, "count/pods 4 of 1 (0 in use)"),
        ({"count/rayjobs.ray.io": "0"}, "count/rayjobs.ray.io 1 of 0 (0 in use)"),
    ],
)
def test_a_quota_that_is_too_small(hard: dict[str, str], found: str) -> None:
    """Machines, head and supervisor together are held against the quota: asked, there, and in use."""
    bad = wrong(look(kit.FakeKube(*ROOMY, kit.quota(hard)), machines=2))
    assert (bad.name, bad.found) == ("quota unit", f"train needs {found}")


@pytest.mark.parametrize(
    "quota",
    [
        kit.quota({"requests.nvidia.com/gpu": "2", "requests.cpu": "10", "pods": "3", "count/jobs.batch": "1"}),
        kit.quota({"requests.cpu": "1"}, scopes=["Terminating"]),
        kit.quota({"requests.cpu": "1"}, scopeSelector={"matchExpressions": [{"scopeName": "PriorityClass"}]}),
        kit.quota({"requests.amd.com/gpu": "0", "limits.nvidia.com/gpu": "0"}),
    ],
    ids=["fits", "scope", "selector", "others"],
)
def test_a_quota_that_is_no_hindrance(quota: kit.Body) -> None:
    """A quota that has room, that is for some pods only, or that counts nothing of ours is no hindrance."""
    assert not [f for f in look(kit.FakeKube(*WHOLE, quota)).values() if not f.good]


def test_what_is_only_in_use_is_a_wait() -> None:
    """What others hold now will be free again: the numbers are told, and nothing is refused."""
    quota = kit.quota({"requests.cpu": "10"}, {"requests.cpu": "9500m"})
    finding = look(kit.FakeKube(*WHOLE, quota))["quota unit"]
    assert finding.good
    assert finding.found == "train would wait: it needs requests.cpu 2.2 of 10 (9.5 in use)"


def test_a_quota_that_asks_for_limits_of_cores() -> None:
    """Pods of runs have no limit of cores: under such a quota the API would refuse each, unless somebody gives one."""
    quota = kit.quota({"limits.cpu": "64"})
    bad = wrong(look(kit.FakeKube(*WHOLE, quota)))
    assert bad.found == (
        "it asks for limits.cpu of each container, and container 'main' of a machine of group 'g' has none"
    )
    assert "pod_template" in bad.todo
    assert look(kit.FakeKube(*WHOLE, quota, limit_range(default={"cpu": "4"})))["quota unit"].good
    template = {"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": 2}}}]}}
    assert look(kit.FakeKube(*WHOLE, quota), pod_template=template)["quota unit"].good
    unseen = kit.FakeKube(*WHOLE, quota, refused={"/api/v1/namespaces/default/limitranges": kit.forbidden("limits")})
    assert look(unseen)["quota unit"].good is None


def test_what_a_template_adds_is_counted() -> None:
    """Another container, and another request of ours, count as the API counts them: a limit alone is a request too."""
    beside = {"name": "proxy", "resources": {"limits": {"cpu": "500m"}}}
    template = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1500m"}}}, beside]}}
    group = Group(cpu=1, memory="1GiB", pod_template=template)
    bad = wrong(look(kit.FakeKube(*ROOMY, kit.quota({"requests.cpu": "1"})), group))
    assert "requests.cpu 3.2 of 1" in bad.found  # 1.5 and 0.5, the head's 1 and the supervisor's 0.2


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max": {"memory": "2Gi"}}, "'main' of a machine of group 'g' asks for memory 4.0 GiB, at most 2.0 GiB a"),
        ({"min": {"memory": "1Gi"}}, "container 'main' of the supervisor asks for memory 0.5 GiB, at least 1.0 GiB"),
        ({"min": {"cpu": "1"}}, "container 'wait-gcs-ready' of a machine of group 'g' asks for cpu 0.2, at least 1"),
        ({"default": {"cpu": "500m"}}, "is given a limit of cpu 0.5, less than its 1"),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}, "default": {"cpu": "4"}},
            "has a limit of cpu 4 for a request of 1, at most 2 times of it",
        ),
        ({"type": "Pod", "max": {"memory": "2Gi"}}, "group 'g' asks for memory 4.0 GiB, at most 2.0 GiB a pod"),
        ({"type": "Pod", "max": {"cpu": "8"}}, "Ray's head has no limit of cpu, which is at most 8 a pod"),
        ({"type": "Pod", "max": {"cpu": "100m"}}, "a machine of group 'g' asks for cpu 1, at most 0.1 a pod"),
        ({"type": "Pod", "min": {"cpu": "500m"}}, "the supervisor asks for cpu 0.2, at least 0.5 a pod"),
    ],
)
def test_limits_that_refuse_a_pod(limit: dict[str, Any], words: str) -> None:
    """The API would refuse such a pod for ever: it is told which, by how much, and what to do."""
    bad = wrong(look(kit.FakeKube(*WHOLE, limit_range(**limit))))
    assert bad.name == "limits unit"
    assert words in bad.found


@pytest.mark.parametrize(
    "limit",
    [
        {"defaultRequest": {"cpu": "100m", "memory": "256Mi"}, "default": {"memory": "512Mi"}},
        {"max": {"cpu": "8", "memory": "64Gi"}, "min": {"cpu": "100m", "memory": "64Mi"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ],
    ids=["a tenant's own", "wide", "of volumes"],
)
def test_limits_that_are_no_hindrance(limit: dict[str, Any]) -> None:
    """Defaults for those who say nothing, and bounds that are kept, are no hindrance."""
    assert not [f for f in look(kit.FakeKube(*WHOLE, limit_range(**limit))).values() if not f.good]


def limit_ranges(*limits: dict[str, Any]) -> list[kit.Body]:
    """LimitRanges of one limit each."""
    return [kit.body("LimitRange", "v1", f"unit{n}", spec={"limits": [limit]}) for n, limit in enumerate(limits)]


@pytest.mark.parametrize("apart", [False, True])
def test_a_limit_of_pods_is_held_after_the_defaults_of_containers(apart: bool) -> None:
    """The API gives containers their defaults before it looks at the pod, also where another LimitRange has them."""
    limits: tuple[dict[str, Any], ...] = ({"type": "Container", "default": {"cpu": "4"}, "defaultRequest": {"cpu": 1}},)
    limits += ({"type": "Pod", "max": {"cpu": "8"}},)
    if apart:
        ranges = limit_ranges(*limits)
    else:
        ranges = [kit.body("LimitRange", "v1", "unit", spec={"limits": list(limits)})]
    assert not [f for f in look(kit.FakeKube(*WHOLE, *ranges)).values() if not f.good]
    narrow = limit_ranges(limits[0], {"type": "Pod", "max": {"cpu": "3"}})
    bad = wrong(look(kit.FakeKube(*WHOLE, *narrow)))
    assert "a machine of group 'g' asks for cpu 4, at most 3 a pod" in bad.found


def test_a_container_that_runs_before_has_a_part_in_its_pods_limits() -> None:
    """A limit of cores that only KubeRay's waiting container has is the pod's: it is not refused for having none."""
    (bad,) = limit_ranges({"type": "Pod", "max": {"cpu": "8"}})
    found = wrong(look(kit.FakeKube(*WHOLE, bad))).found
    assert "a machine of group" not in found
    assert "the supervisor has no limit of cpu" in found


def test_a_pods_containers_need_no_limits_each() -> None:
    """A limit that one container has and another has not is no contradiction: a pod's requests may pass its limits."""
    beside = {"name": "proxy", "resources": {"limits": {"cpu": "100m"}, "requests": {"cpu": "100m"}}}
    template = {"spec": {"containers": [beside]}}
    (limit,) = limit_ranges({"type": "Pod", "max": {"cpu": "8"}, "min": {"memory": "1Mi"}})
    assert not [f for f in look(kit.FakeKube(*WHOLE, limit), pod_template=template).values() if not f.good]

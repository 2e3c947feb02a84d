"""No run starts where a setting of Ray's would have data run code."""

from __future__ import annotations

from typing import Any

import pytest

from runner import Cluster, Group, Kubernetes
from runner.errors import SpecError
from runner.untrusted import switches
from runner.worker import ray_worker

SWITCHES = (
    "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE",
    "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
    "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
)


def template(name: str) -> dict[str, Any]:
    return {"spec": {"initContainers": None, "containers": [{"name": "main", "env": [{"name": name, "value": "1"}]}]}}


@pytest.mark.parametrize("name", SWITCHES)
def test_a_cluster_with_such_a_setting(name: str) -> None:
    """A cluster file that sets it, in the environment or in a pod's template, is refused by name."""
    for make in (
        lambda: Kubernetes(image="a", environment={name: "1"}),
        lambda: Kubernetes(image="a", pod_template=template(name)),
        lambda: Group(pod_template=template(name)),
    ):
        with pytest.raises(SpecError, match=name):
            make()
    assert Cluster(
        backend="kuberay",
        kubernetes=Kubernetes(image="a", environment={name: "0"}),
        groups={"cpu": Group(memory="1GiB")},
    )


@pytest.mark.parametrize("value", ["1", "true", "TRUE", " 1 ", "yes"])
def test_what_is_on(value: str) -> None:
    """Whatever is not plainly off is on."""
    with pytest.raises(SpecError, match="RAY_DATA_AUTOLOAD_NEW"):
        switches.check({"RAY_DATA_AUTOLOAD_NEW": value}, "here")
    switches.check({"RAY_DATA_AUTOLOAD_NEW": "", "RAY_DATA_AUTOLOAD_X": "False", "RAY_ADDRESS": "1"}, "here")


def test_a_worker_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a Ray whose machines have it set does not begin."""
    monkeypatch.setenv(SWITCHES[1], "1")
    with pytest.raises(SpecError, match=SWITCHES[1]):
        ray_worker.begin()

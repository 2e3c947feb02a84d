"""The one-machine cluster is a real one: pods, names, GPUs that are counted, and an object store."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runner.onebox.operators import DEPLOYMENTS
from runner.onebox.processes import running
from tests.cluster.conftest import Cluster, onebox

pytestmark = pytest.mark.timeout(240, func_only=True)
Pod = Callable[..., str]


@pytest.fixture
def pod(cluster: Cluster) -> Iterator[Pod]:
    """Run a command in a pod to its end; its output."""
    if not cluster.onebox:
        pytest.skip("this is about the one-machine cluster")
    made = []

    def run(*command: str, limits: dict[str, str] | None = None, timeout_s: int = 180) -> str:
        made.append(f"test-{uuid.uuid4().hex[:8]}")
        cluster.run("apply", "-f", "-", stdin=json.dumps(manifest(cluster, made[-1], command, limits or {})))
        ended = "--for=jsonpath={.status.phase}=Succeeded"
        cluster.run("wait", ended, f"pod/{made[-1]}", f"--timeout={timeout_s}s", check=False)
        log = cluster.run("logs", made[-1], check=False)
        phase = cluster.run("get", "pod", made[-1], "-o", "jsonpath={.status.phase}")
        assert phase == "Succeeded", f"{phase}: {log}\n{cluster.run('describe', 'pod', made[-1])}"
        return log

    yield run
    for name in made:
        cluster.run("delete", "pod", name, "--grace-period=0", "--force", check=False)


def manifest(cluster: Cluster, name: str, command: tuple[str, ...], limits: dict[str, str]) -> dict[str, Any]:
    """A pod that sees the machine's Python at its own path."""
    volumes = [{"name": f"host-{i}", "hostPath": {"path": str(p)}} for i, p in enumerate(cluster.mounts)]
    mounts = [{"name": f"host-{i}", "mountPath": str(p), "readOnly": True} for i, p in enumerate(cluster.mounts)]
    container = {
        "name": "main", "image": cluster.image, "imagePullPolicy": "Never", "command": list(command),
        "volumeMounts": mounts, "envFrom": [{"secretRef": {"name": "lake-credentials"}}],
        "env": [{"name": "AWS_DEFAULT_REGION", "value": "us-east-1"}], "resources": {"limits": limits},
    }  # fmt: skip
    spec = {"restartPolicy": "Never", "volumes": volumes, "containers": [container], "terminationGracePeriodSeconds": 0}
    metadata = {"name": name, "labels": {"app": "test-onebox"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.smoke
def test_a_pod_runs_python_and_writes_to_the_store(pod: Pod) -> None:
    """A pod has this environment's Ray, torch and s3fs, and puts an object into the bucket that it then reads back."""
    script = """
import ray, torch, s3fs
files = s3fs.S3FileSystem()
files.pipe("lake/test-onebox/object", b"from a pod")
print(ray.__version__, torch.__version__, files.cat("lake/test-onebox/object").decode())
files.rm("lake/test-onebox", recursive=True)
"""
    assert "from a pod" in pod(sys.executable, "-c", script)


def test_the_name_of_a_service_resolves(pod: Pod) -> None:
    """A pod finds a service by its name, and the service's address leads to the API."""
    script = """
import socket
address = socket.gethostbyname("kubernetes.default.svc.cluster.local")
socket.create_connection((address, 443), 10).close()
print(address)
"""
    assert pod(sys.executable, "-c", script).strip() == "10.96.0.1"


def test_a_service_leads_to_a_pod_on_the_same_machine(pod: Pod, cluster: Cluster) -> None:
    """A pod reaches another, and even itself, through a service's name, though both are on one bridge."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    script = f"""
import http.server, threading, time, urllib.request
server = http.server.HTTPServer(("", 8000), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for attempt in range(100):
    try:
        print(urllib.request.urlopen("http://{name}:8000/", timeout=2).status)
        break
    except OSError:
        time.sleep(0.2)
"""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}
    service["spec"] = {"selector": {"app": "test-onebox"}, "ports": [{"port": 8000}]}
    cluster.run("apply", "-f", "-", stdin=json.dumps(service))
    try:
        assert "200" in pod(sys.executable, "-c", script).splitlines()
    finally:
        cluster.run("delete", "service", name)


def test_a_pretended_gpu_is_given_to_a_pod(pod: Pod, cluster: Cluster) -> None:
    """The scheduler counts the GPUs: a pod that wants one gets a node, one that wants five of four does not."""
    assert pod("/bin/echo", "placed", limits={"nvidia.com/gpu": "1", "amd.com/gpu": "4"}).strip() == "placed"
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.run("apply", "-f", "-", stdin=json.dumps(manifest(cluster, name, ("/bin/true",), {"nvidia.com/gpu": "5"})))
    try:
        waiting = "--for=jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable"
        cluster.run("wait", waiting, f"pod/{name}", "--timeout=30s")
    finally:
        cluster.run("delete", "pod", name, "--grace-period=0", "--force")


def test_up_again_changes_nothing(cluster: Cluster) -> None:
    """A second `up` keeps every process, the operators' pods and the keys."""
    if not cluster.onebox:
        pytest.skip("this is about the one-machine cluster")

    def state() -> list[str]:
        uids = "jsonpath={.items[*].metadata.uid}"
        pods = [cluster.run("get", "pods", "-n", namespace, "-o", uids) for namespace, _ in DEPLOYMENTS]
        return [onebox("status"), *pods]

    before = state()
    assert onebox("up") == onebox("env")
    assert state() == before


def test_simulated_nodes_come_and_go(cluster: Cluster) -> None:
    """As many as were asked for last; a Job completes there; with none the simulator and the pods are gone too."""
    if not cluster.onebox:
        pytest.skip("nodes are simulated beside the one-machine cluster alone")
    wanted = {"nodeSelector": {"type": "kwok"}, "tolerations": [{"operator": "Exists"}], "restartPolicy": "Never"}
    pod = {"spec": {**wanted, "containers": [{"name": "main", "image": "nothing:1"}]}}
    metadata = {"name": "simulated", "namespace": "default"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": pod}}
    try:
        onebox("kwok", "3")
        onebox("kwok", "2")
        assert len(cluster.run("get", "nodes", "-l", "type=kwok", "-o", "name").split()) == 2
        cluster.run("apply", "-f", "-", stdin=json.dumps(job))
        cluster.run("wait", "--for=condition=Complete", "job/simulated", "-n", "default", "--timeout=60s")
    finally:
        onebox("kwok", "0")
    assert not cluster.run("get", "nodes", "-l", "type=kwok", "-o", "name")
    assert not cluster.run("get", "pods", "-n", "default", "-l", "job-name=simulated", "-o", "name")
    assert running("kwok") is None
    cluster.run("delete", "job", "simulated", "-n", "default")

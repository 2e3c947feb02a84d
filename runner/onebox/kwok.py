"""Simulated nodes: the API, the scheduler and quotas see machines, and pods on them run without running anything."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from runner.errors import InputError
from runner.kube import names
from runner.onebox import build, versions
from runner.onebox.kubectl import Object, apply, get, kubectl
from runner.onebox.places import CONFIG, GATEWAY, GPUS, KUBECONFIG, ROOT
from runner.onebox.processes import Process, answers, await_ready, running, start, stop

MARK = "kwok.x-k8s.io/node"
SELECTOR = "type=kwok"
PREFIX = "kwok-"
PORT = 10247
READY_S = 120.0
# What happens to simulated nodes and pods: at once, with a heartbeat; pods of jobs complete.
STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")
COMPLETE = "pod-complete.yaml"


def set_nodes(count: int, say: Callable[[str], None]) -> None:
    """Have exactly this many simulated nodes, ready; with 0, remove them, their pods and the simulator.

    Where there are more, all go first, with their pods.
    """
    if not running("kube-apiserver"):
        raise InputError("there is no one-machine cluster to add nodes to", todo="python -m runner.onebox up")
    if count < 0:
        raise InputError(f"{count} simulated nodes", allowed="0 or more")
    with build.locked(ROOT / ".kwok-lock"):
        if len(_nodes()) > count:
            _remove_nodes()
        if count:
            _add_nodes(count, say)
            say(f"{count} simulated nodes are ready")
        else:
            stop("kwok")
            say("no simulated node is left")


def _add_nodes(count: int, say: Callable[[str], None]) -> None:
    """Start the simulator, make the nodes, and return when all are ready; each refuses who does not tolerate it."""
    build.build(versions.KWOK, say)
    process = simulator()
    start(process)
    await_ready(process)
    apply([node(f"{PREFIX}{number}") for number in range(count)])
    deadline = time.monotonic() + READY_S
    while (ready := sum(map(_is_ready, _nodes()))) < count:  # `kubectl wait` asks for one node after the other
        if time.monotonic() > deadline:
            raise InputError(f"{ready} of {count} simulated nodes are ready", todo=f"read {process.log}")
        time.sleep(0.5)


def _remove_nodes() -> None:
    """Remove all nodes, then the pods that were on them: nobody else would tell soon that these have ended."""
    gone = {body["metadata"]["name"] for body in _nodes()}
    kubectl("delete", "--raw", f"/api/v1/nodes?{urlencode({'labelSelector': SELECTOR})}")
    pods = defaultdict(list)
    for body in get("pods", "--all-namespaces")["items"]:
        if body["spec"].get("nodeName") in gone:
            pods[body["metadata"]["namespace"]].append(body["metadata"]["name"])
    for namespace, found in pods.items():
        force = ("--force", "--grace-period=0", "--wait=false", "--ignore-not-found")
        kubectl("delete", "pods", "--namespace", namespace, *force, *found)


def _nodes() -> list[Object]:
    return list(get("nodes", "--selector", SELECTOR)["items"])


def _is_ready(body: Object) -> bool:
    conditions = body.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def simulator() -> Process:
    """What keeps the simulated nodes alive and lets their pods run in name."""
    stages = build.folder(versions.KWOK) / "kustomize" / "stage"
    files = [file for folder in STAGES for file in sorted((stages / folder).glob("*.yaml"))]
    files = [_completing(file) if file.name == COMPLETE else file for file in files]
    flags = (
        *(f"--config={file}" for file in files if file.name != "kustomization.yaml"),
        f"--kubeconfig={KUBECONFIG}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={MARK}=fake",
        "--node-lease-duration-seconds=100",  # renewed after a quarter of it; a node is lost after 50 s
        f"--node-ip={GATEWAY}",
        f"--server-address=127.0.0.1:{PORT}",
    )
    return Process(
        "kwok",
        (str(build.program(versions.KWOK)), *flags),
        ready=lambda: answers(f"http://127.0.0.1:{PORT}/healthz"),
        listens=(("127.0.0.1", PORT),),
    )


def _completing(stage: Path) -> Path:
    """The stage by which a job's pod completes, but for supervisors of runs: while their run lives, they do."""
    import yaml  # type: ignore[import-untyped, unused-ignore]

    body: dict[str, Any] = yaml.safe_load(stage.read_text())
    unless = {"key": f'.metadata.labels["{names.ROLE}"]', "operator": "NotIn", "values": [names.SUPERVISOR]}
    body["spec"]["selector"]["matchExpressions"].append(unless)
    changed = CONFIG / f"kwok-{COMPLETE}"
    changed.write_text(json.dumps(body))
    return changed


def node(name: str) -> Object:
    """One simulated node, as large as a machine with GPUs is."""
    size = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "10Ti", "pods": "250"}
    size |= {gpu: str(count) for gpu, count in GPUS.items()}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {MARK: "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": MARK, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"capacity": size, "allocatable": size},
    }

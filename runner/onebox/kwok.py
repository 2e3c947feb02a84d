"""Simulated nodes: the API, the scheduler and quotas see machines, and pods on them run without running anything."""

from __future__ import annotations

from collections.abc import Callable

from runner.errors import InputError
from runner.onebox import build, versions
from runner.onebox.kubectl import Object, apply, kubectl
from runner.onebox.places import GATEWAY, GPUS, KUBECONFIG
from runner.onebox.processes import Process, answers, await_ready, running, start

MARK = "kwok.x-k8s.io/node"
PORT = 10247
# What happens to simulated nodes and pods: at once, with a heartbeat; pods of jobs complete.
STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")


def add_nodes(count: int, say: Callable[[str], None]) -> None:
    """Start the simulator and have this many of its nodes ready; each refuses pods that do not tolerate its taint."""
    if not running("kube-apiserver"):
        raise InputError("there is no one-machine cluster to add nodes to", todo="python -m runner.onebox up")
    build.build(versions.KWOK, say)
    process = simulator()
    start(process)
    await_ready(process)
    apply([node(f"kwok-{number}") for number in range(count)])
    kubectl("wait", "--for=condition=Ready", "nodes", "--selector", "type=kwok", "--timeout=120s")
    say(f"{count} simulated nodes are ready")


def simulator() -> Process:
    """What keeps the simulated nodes alive and lets their pods run in name."""
    stages = build.folder(versions.KWOK) / "kustomize" / "stage"
    files = [file for folder in STAGES for file in sorted((stages / folder).glob("*.yaml"))]
    flags = (
        *(f"--config={file}" for file in files if file.name != "kustomization.yaml"),
        f"--kubeconfig={KUBECONFIG}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={MARK}=fake",
        "--node-lease-duration-seconds=40",
        f"--node-ip={GATEWAY}",
        f"--server-address=127.0.0.1:{PORT}",
    )
    return Process(
        "kwok", (str(build.program(versions.KWOK)), *flags),
        ready=lambda: answers(f"http://127.0.0.1:{PORT}/healthz"), listens=(("127.0.0.1", PORT),),
    )  # fmt: skip


def node(name: str) -> Object:
    """One simulated node, as large as a machine with GPUs is."""
    size = {"cpu": "64", "memory": "512Gi", "pods": "250", **{gpu: str(count) for gpu, count in GPUS.items()}}
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

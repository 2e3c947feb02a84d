"""Says what of the cluster runs, in a line for each thing."""

from __future__ import annotations

from runner.onebox import operators, parts
from runner.onebox.kubectl import get
from runner.onebox.places import GPUS, NODE, ROOT
from runner.onebox.processes import running


def status() -> list[str]:
    """What runs and what does not; one line if there is no cluster."""
    if not ROOT.exists():
        return ["there is no one-machine cluster here; start one with `python -m runner.onebox up`"]
    lines = [_process_line(name) for name in parts.recorded()]
    if running("kube-apiserver"):
        lines.append(_node_line())
        lines += [_deployment_line(*names) for names in operators.DEPLOYMENTS]
    return lines


def _process_line(name: str) -> str:
    pid = running(name)
    return f"{name:<24} {f'runs, process {pid}' if pid else 'has ended'}"


def _node_line() -> str:
    """Whether the node is ready, and what it has."""
    node = get("node", NODE)["status"]
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node["conditions"])
    has = ", ".join(f"{node['allocatable'].get(name, 0)} {name}" for name in ("cpu", "memory", *GPUS))
    return f"{'node ' + NODE:<24} {'ready' if ready else 'NOT ready'}; {has}"


def _deployment_line(namespace: str, name: str) -> str:
    """Whether a deployment's pods are ready."""
    found = get("--namespace", namespace, "deployments", "--field-selector", f"metadata.name={name}")["items"]
    if not found:
        return f"{name:<24} is not installed"
    return f"{name:<24} {'ready' if found[0]['status'].get('readyReplicas') else 'NOT ready'}"

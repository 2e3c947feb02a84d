"""A run as Kubernetes objects: pure functions from the spec to dicts, which `--dry-run -o yaml` prints as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.backends.entry import ENTRYPOINT, PROGRAMS, boot_text
from runner.code import optimized
from runner.kube import names
from runner.spec import Cluster, Group, Kubernetes, Volume
from runner.spec.shape import DATA_RESOURCE
from runner.untrusted.visible import one_line

#: Seconds that a finished supervisor's Job is kept, for its own last lines.
SUPERVISOR_TTL_S = 300
#: Seconds between SIGTERM and SIGKILL for the pods of a stage; what matters is in the bundle before.
GRACE_S = 5
#: The name of our container in every pod; a `pod_template` speaks of it by this name.
CONTAINER = "main"
CODE_FOLDER = "/tmp/lake-runner/code"
#: Seconds without work after which Ray's autoscaler gives a machine back.
IDLE_S = 15
#: The Ray of an image that constraints.txt makes: what a client says that has none.
RAY_VERSION = "2.60.0"
#: Of the autoscaler's container beside the head, which appears where a leg can grow.
AUTOSCALER = {"requests": {"cpu": "0.1", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}


@dataclass(frozen=True)
class RunFacts:
    """What every object of a run needs to know.

    Args:
        store: the URL of the root store.
        code: the key of the code in the run's bundle.
        sealed: what is in the bundle by right; see `trust`.
        options: of the store, for fsspec; no credentials.
        ray_version: of the Ray that the image has.
        by: who submits.
        optimized: the level of `python -O`.
        programs: of the runner in the bundle, see `entry`.
    """

    run_id: str
    job: str
    store: str
    cluster: Cluster
    options: Mapping[str, Any] = field(default_factory=dict)
    code: str = "code.zip"
    sealed: Mapping[str, str] = field(default_factory=dict)
    ray_version: str = ""
    by: str = ""
    optimized: int = 0
    programs: Mapping[str, str] = field(default_factory=lambda: PROGRAMS)

    @property
    def kubernetes(self) -> Kubernetes:
        """Of the cluster."""
        assert self.cluster.kubernetes is not None
        return self.cluster.kubernetes


def supervisor_job(facts: RunFacts) -> dict[str, Any]:
    """The batch Job that owns everything of the run. A pod of it that dies is replaced, and goes on from the log."""
    where = facts.kubernetes
    argument = {
        "module": facts.programs["supervisor"],
        "store": facts.store,
        "options": dict(facts.options),
        "run_id": facts.run_id,
    }
    container = {
        **_container(facts, where.supervisor, argument),
        "command": ["python", "-c", boot_text()],
    }
    spec = {
        "serviceAccountName": where.service_account,
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 10,
        "containers": [container],
        **_placement(facts, where.supervisor),
    }
    template = {"metadata": {"labels": _labels(facts, names.SUPERVISOR)}, "spec": spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": facts.run_id,
            "namespace": where.namespace,
            "labels": {**_labels(facts, names.SUPERVISOR), **_queue_of(where.supervisor_queue)},
            "annotations": {names.STORE: facts.store, names.BY: one_line(facts.by)},
        },
        "spec": {
            "backoffLimit": 100,
            "ttlSecondsAfterFinished": SUPERVISOR_TTL_S,
            "template": merged(template, where.pod_template, where.supervisor.pod_template),
        },
    }


def ray_job(
    facts: RunFacts,
    leg: int,
    attempt: int,
    group: str,
    machines: tuple[int, int],
    owner: Mapping[str, Any] | None,
    beside: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """One attempt at a leg: a RayJob of fixed size, or one that Ray's autoscaler lets grow.

    HTTPMode: the operator submits the driver by one request, so no pod or container besides has to load Ray first. That
    it submits again after the loss of a head is harmless: the second driver of an attempt leaves (driver/main.py).

    Args:
        group: the name of the machines' group.
        machines: the fewest and the most of them.
        owner: the supervisor's Job as the API has it; None leaves the owner out (a dry run).
        beside: group -> how many of its machines transform batches for the ranks.
    """
    where = facts.kubernetes
    labels = {names.LEG: str(leg), names.ATTEMPT: str(attempt)}
    metadata: dict[str, Any] = {
        "name": names.ray_job(facts.run_id, leg, attempt),
        "namespace": where.namespace,
        "labels": {**_labels(facts), **labels, **_queue(where)},
        "annotations": {names.STORE: facts.store, names.BY: one_line(facts.by)},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owned_by(owner)]
    grows = machines[0] < machines[1]
    head = _head(facts, leg, attempt, labels, grows=grows)
    workers = [_workers(facts, group, machines, labels)]
    workers += [_data_workers(facts, name, count, group, labels) for name, count in (beside or {}).items()]
    deadlines = {"preRunningDeadlineSeconds": int(where.start_deadline_s)}
    if where.deadline_s is not None:
        deadlines["activeDeadlineSeconds"] = int(where.deadline_s)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            "submissionMode": "HTTPMode",
            "entrypoint": optimized.in_shell(ENTRYPOINT, facts.optimized),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 0,
            "backoffLimit": 0,
            **deadlines,
            "rayClusterSpec": {
                "rayVersion": facts.ray_version,
                "authOptions": {"mode": "token"},
                **(_autoscaler(head) if grows else {}),
                "headGroupSpec": {"rayStartParams": {"num-cpus": "0", "num-gpus": "0"}, "template": head},
                "workerGroupSpecs": workers,
            },
        },
    }


def owned_by(owner: Mapping[str, Any]) -> dict[str, Any]:
    """A reference to the owner; what has it goes when the owner goes.

    Not as its controller: Kueue takes what a Job controls for a part of that Job, and would never queue it by itself.
    """
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": False,
        "blockOwnerDeletion": True,
    }


# -- pods ------------------------------------------------------------------------------------------------------------


def _autoscaler(head: Mapping[str, Any]) -> dict[str, Any]:
    """Version 2, in which every group has its own idle time and pods are never restarted in place.

    Its container beside the head's has what that has, templates included, so that whatever admits the one admits both.
    """
    container = next(each for each in head["spec"]["containers"] if each["name"] == CONTAINER)
    alike = ("envFrom", "volumeMounts", "imagePullPolicy", "securityContext")
    beside = {name: container[name] for name in alike if name in container}
    beside["env"] = [each for each in container["env"] if not each["name"].startswith("RUNNER_")]
    resources = dict(AUTOSCALER)
    if "cpu" in container["resources"].get("limits", {}):  # there, a quota may ask for it
        resources["limits"] = {**resources["limits"], "cpu": "1"}
    return {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": IDLE_S, "resources": resources, **beside},
    }


def _head(facts: RunFacts, leg: int, attempt: int, labels: dict[str, str], *, grows: bool) -> dict[str, Any]:
    where = facts.kubernetes
    argument = {
        "module": facts.programs["driver"], "leg": leg, "attempt": attempt, "scratch": "/tmp/lake-runner/scratch",
        "parent": None,
    }  # fmt: skip
    container = _container(facts, where.head, argument)
    container["env"].append({"name": "RUNNER_BOOT", "value": boot_text()})
    return _pod(facts, names.HEAD, where.head, container, labels, token=grows)


def _workers(facts: RunFacts, name: str, machines: tuple[int, int], labels: dict[str, str]) -> dict[str, Any]:
    group = facts.cluster.groups[name]
    parameters = {"num-cpus": str(max(1, int(group.cpu)))}
    if group.gpu:
        parameters["num-gpus"] = str(group.gpu)
    container = _container(facts, group, None)
    return {
        "groupName": name,
        "replicas": machines[0],
        "minReplicas": machines[0],
        "maxReplicas": machines[1],
        "rayStartParams": parameters,
        "template": _pod(facts, names.WORKER, group, container, labels),
    }


def _data_workers(facts: RunFacts, name: str, machines: int, ranks: str, labels: dict[str, str]) -> dict[str, Any]:
    """Machines that no rank is placed on: Ray counts no CPU of theirs, but what the workers ask for."""
    group = facts.cluster.groups[name]
    counted = json.dumps({DATA_RESOURCE: max(1, int(group.cpu))})
    container = _container(facts, group, None)
    return {
        "groupName": names.data_group(name, ranks),
        "replicas": machines,
        "minReplicas": machines,
        "maxReplicas": machines,
        "rayStartParams": {"num-cpus": "0", "num-gpus": "0", "resources": json.dumps(counted)},  # a word for a shell
        "template": _pod(facts, names.DATA, group, container, labels),
    }


def _pod(
    facts: RunFacts, role: str, group: Group, container: dict[str, Any], labels: dict[str, str], *, token: bool = False
) -> dict[str, Any]:
    """`token`: whether it may ask the API: a head whose autoscaler changes its own RayCluster."""
    template = {
        "metadata": {"labels": {**_labels(facts, role), **labels}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": token,
            "terminationGracePeriodSeconds": GRACE_S,
            "containers": [{**container, "readinessProbe": _ready(role)}],
            **_placement(facts, group),
        },
    }
    return merged(template, facts.kubernetes.pod_template, group.pod_template)


def _container(facts: RunFacts, group: Group, argument: dict[str, Any] | None) -> dict[str, Any]:
    where = facts.kubernetes
    environment = {**where.environment, "PYTHONUNBUFFERED": "1"}
    if argument is not None:
        run = {"store": facts.store, "options": dict(facts.options), "run_id": facts.run_id}
        run["sealed"] = dict(facts.sealed)
        code = f"{facts.store}/{facts.run_id}/{facts.code}"
        environment["RUNNER_ARGUMENT"] = json.dumps({**argument, **run, "code": code, "folder": CODE_FOLDER})
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": where.image,
        "imagePullPolicy": where.image_pull_policy,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": _resources(group),
    }
    if where.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in where.secrets]
    if where.volumes:
        container["volumeMounts"] = [
            {"name": f"volume-{n}", "mountPath": v.mount, "readOnly": v.read_only} for n, v in enumerate(where.volumes)
        ]
    return container


def _ready(role: str) -> dict[str, Any]:
    """KubeRay's own probe, which asks the same, waits 10 s before it asks first."""
    timeout_s = 5 if role == names.HEAD else 2
    return {
        "httpGet": {"path": "/api/healthz", "port": 52365},
        "initialDelaySeconds": 1, "periodSeconds": 1, "timeoutSeconds": timeout_s, "failureThreshold": 60,
    }  # fmt: skip


def _resources(group: Group) -> dict[str, Any]:
    """Memory and GPUs are limits; cores are a request, since a limit would only slow down what is idle elsewhere."""
    memory = str(group.memory)
    limits, requests = {"memory": memory}, {"cpu": f"{group.cpu:g}", "memory": memory}
    if group.gpu:
        limits[group.gpu_resource] = requests[group.gpu_resource] = str(group.gpu)
    return {"requests": requests, "limits": limits}


def _placement(facts: RunFacts, group: Group) -> dict[str, Any]:
    where = facts.kubernetes
    placement: dict[str, Any] = {"enableServiceLinks": False}
    if where.volumes:
        placement["volumes"] = [_volume(f"volume-{number}", volume) for number, volume in enumerate(where.volumes)]
    if where.image_pull_secrets:
        placement["imagePullSecrets"] = [{"name": name} for name in where.image_pull_secrets]
    if where.priority is not None and where.queue is None:
        placement["priorityClassName"] = where.priority
    if group.node_selector:
        placement["nodeSelector"] = dict(group.node_selector)
    if group.tolerations:
        placement["tolerations"] = [dict(toleration) for toleration in group.tolerations]
    return placement


def _volume(name: str, volume: Volume) -> dict[str, Any]:
    kinds = {
        "hostPath": volume.host_path and {"path": volume.host_path},
        "persistentVolumeClaim": volume.claim and {"claimName": volume.claim},
        "secret": volume.secret and {"secretName": volume.secret},
        "configMap": volume.config_map and {"name": volume.config_map},
        "emptyDir": volume.memory and {"medium": "Memory", "sizeLimit": str(volume.memory)},
    }
    return {"name": name, **{kind: what for kind, what in kinds.items() if what}}


def _labels(facts: RunFacts, role: str | None = None) -> dict[str, str]:
    labels = {names.RUN: facts.run_id, names.JOB: facts.job}
    return labels if role is None else {**labels, names.ROLE: role}


def _queue(where: Kubernetes) -> dict[str, str]:
    queue = _queue_of(where.queue)
    return {**queue, names.QUEUE_PRIORITY: where.priority} if queue and where.priority is not None else queue


def _queue_of(name: str | None) -> dict[str, str]:
    return {} if name is None else {names.QUEUE: name}


def merged(template: Any, *patches: Any) -> Any:
    """`template` with patches laid over it: mappings key by key, lists of named things by name, the rest replaced."""
    for patch in patches:
        template = _merge(template, patch)
    return template


def _merge(base: Any, patch: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        return {key: _merge(base.get(key), patch[key]) if key in patch else base[key] for key in {**base, **patch}}
    if _named(base) and _named(patch):
        by_name = {part["name"]: part for part in base}
        for part in patch:
            by_name[part["name"]] = _merge(by_name.get(part["name"]), part)
        return list(by_name.values())
    return patch


def _named(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(part, Mapping) and "name" in part for part in value)

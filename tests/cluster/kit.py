"""A small project for runs on a real cluster, and eyes to see what is there while they run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner import Cluster, Group
from runner.client.run import Run
from runner.kube import names
from runner.kube.client import (
    CLUSTER_QUEUES,
    NAMESPACES,
    PODS,
    RAY_CLUSTERS,
    RAY_JOBS,
    SECRETS,
    SERVICE_ACCOUNTS,
    Kube,
    resource,
)
from runner.kube.team.objects import Tenant, objects
from runner.plan.project import find_project, load_definition
from runner.record.entries import AttemptBegan
from tests import ROOT as CHECKOUT
from tests.local.helpers import NUMBERS

#: Read when the tests are collected, for no test sees the settings of the person who runs it.
GIVEN = {name: value for name, value in os.environ.items() if name.startswith("RUNNER_TEST_")}
GIB = 1 << 30
#: The Secret with the lake's keys.
CREDENTIALS = "lake-credentials"
#: Puts every pod of a run on simulated nodes, where nothing runs.
SIMULATED = {
    "spec": {
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
    }
}

#: One stage on pretended GPUs: long enough to be hit while it trains, and exact enough to see where it went on.
SOLO = """
import time
from dataclasses import dataclass
from runner import Job, Train

@dataclass(frozen=True)
class Config:
    steps: int = 12
    pause_s: float = 0.0
    fail_at: int = -1         # the step at which rank 1 raises
    eat_at: int = -1          # the step at which rank 1 asks for all memory there is

def train(ctx, config):
    import torch
    torch.manual_seed(0)
    model = ctx.prepare(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    ctx.track(model=model, optimizer=optimizer)
    print(f"rank {ctx.rank} begins at step {ctx.step_number}")
    for batch in ctx.batches("train", batch_size=10, steps=config.steps):
        x = batch["x"].float()[:, None]
        loss = (model(x) - 3 * x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ctx.step(loss=loss)
        time.sleep(config.pause_s)
        if ctx.rank == 1 and ctx.step_number == config.fail_at:
            raise ValueError("rank 1 is unhappy")
        if ctx.rank == 1 and ctx.step_number == config.eat_at:
            eaten = []
            while True:
                eaten.append(b"x" * (1 << 26))

job = Job("solo", config=Config(), stages=[
    Train("train", fn=train, data={"train": "numbers"}, workers=2, checkpoint_every_steps=4, checkpoint_every_s=None),
])
"""


def write_project(folder: Path) -> Path:
    """A project with the job `solo`."""
    for name, text in {"jobs/solo.py": SOLO, "datasets/numbers.py": NUMBERS}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def cluster_file(**changes: Any) -> Cluster:
    """The definition of the cluster to test on, its `kubernetes` with changes."""
    cluster = _of_given() if "RUNNER_TEST_KUBECONFIG" in GIVEN else _onebox()
    assert cluster.kubernetes is not None
    return dataclasses.replace(cluster, kubernetes=dataclasses.replace(cluster.kubernetes, **changes))


def _onebox() -> Cluster:
    return find_project(CHECKOUT / "jobs/digits.py").cluster("onebox")


def _of_given() -> Cluster:
    """That of RUNNER_TEST_CLUSTER, or machines of the one-machine cluster's size from an image that has everything."""
    if path := GIVEN.get("RUNNER_TEST_CLUSTER"):
        return load_definition(CHECKOUT / path, CHECKOUT, Cluster)
    cluster, image = _onebox(), GIVEN["RUNNER_TEST_IMAGE"]
    assert cluster.kubernetes is not None
    own = dataclasses.replace(
        cluster.kubernetes, image=image, image_pull_policy="IfNotPresent", environment={}, volumes=()
    )
    return dataclasses.replace(cluster, kubernetes=own)


def write_cluster(name: str, cluster: Cluster) -> None:
    """Make it a definition of the project in the current folder, for a command line."""
    path = Path("clusters") / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"from runner import Cluster, Group, Kubernetes, Volume\ncluster = {cluster!r}\n")


def mounts_hosts() -> bool:
    """Whether pods mount folders of their nodes, which a team must be allowed."""
    kubernetes = cluster_file().kubernetes
    return kubernetes is not None and any(volume.host_path for volume in kubernetes.volumes)


@contextlib.contextmanager
def team(kube: Kube, **quota: Any) -> Iterator[Kube]:
    """The namespace (and the queue) of a team with this quota; new each time, since one that ends takes its time."""
    name = f"test-team-{uuid.uuid4().hex[:6]}"
    try:
        yield make_team(kube, Tenant(name, host_paths=mounts_hosts(), **quota))
    finally:
        remove_team(kube, name)


def make_team(kube: Kube, made: Tenant) -> Kube:
    """The API from the new namespace of a team, which has the lake's credentials."""
    own = kube.at(made.name)
    for body in objects(made):
        own.apply(body, resource(body))
    give_credentials(kube, made.name)
    return own


def give_credentials(kube: Kube, team: str) -> None:
    """Put a copy of the lake's Secret into a namespace."""
    copied = {"name": CREDENTIALS, "namespace": team}
    data = kube.get(SECRETS, CREDENTIALS)["data"]
    kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": copied, "data": data}, SECRETS)


def remove_team(kube: Kube, name: str) -> None:
    """A team with all that it has."""
    if has_kueue(kube):
        for queue in (name, f"{name}-supervisors"):
            kube.delete(CLUSTER_QUEUES, queue)
    kube.delete(NAMESPACES, name)


def mark() -> str:
    """A new one, for a name that nobody else has."""
    return uuid.uuid4().hex[:6]


def as_user(kube: Kube, kubeconfig: Path, folder: Path, team: str) -> Path:
    """A kubeconfig with nothing but the token of the team's user, its ServiceAccount `ann`, which is made."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ann", "namespace": team}}
    kube.create(SERVICE_ACCOUNTS, account)
    asked: dict[str, Any] = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = kube.request("POST", SERVICE_ACCOUNTS.path(team, "ann", "token"), body=asked)["status"]["token"]
    admin = yaml.safe_load(kubeconfig.read_text())
    config = {
        **admin, "users": [{"name": "ann", "user": {"token": token}}], "current-context": "mine",
        "contexts": [{"name": "mine", "context": {"cluster": admin["clusters"][0]["name"], "user": "ann"}}],
    }  # fmt: skip
    path = folder / f"{team}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def python() -> str:
    """The Python of pods, as their PATH finds it where they have folders of this machine."""
    return sys.executable if mounts_hosts() else "python"


def refused_tenant(name: str, *options: str) -> str:
    """What `runner admin tenant NAME --apply` says, which must refuse it."""
    command = [sys.executable, "-m", "runner", "admin", "tenant", name, "--cpus", "1", "--memory", "1GiB", "--apply"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "COLUMNS": "200"}
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def user_of(team: str) -> str:
    """Who `as_user` is, as the API knows it."""
    return f"system:serviceaccount:{team}:ann"


def has_kueue(kube: Kube) -> bool:
    """Whether there are queues."""
    return any(group["name"] == "kueue.x-k8s.io" for group in kube.request("GET", "/apis")["groups"])


def need_kueue(kube: Kube) -> None:
    """Skip the test where there are no queues; that is a failure where all of it must be seen."""
    if not has_kueue(kube):
        leave_out("no Kueue on this cluster")


def leave_out(reason: str) -> None:
    """Skip the test, or fail it where CI=true."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def with_group(cluster: Cluster, name: str, **changes: Any) -> Cluster:
    """The cluster with another shape of one group."""
    group: Group = dataclasses.replace(cluster.groups[name], **changes)
    return dataclasses.replace(cluster, groups={**cluster.groups, name: group})


def machines(kube: Kube, run: Run) -> list[dict[str, Any]]:
    """The pods of a run, without its supervisor's."""
    return kube.select(PODS, names.machines_of(run.id))


def pod(kube: Kube, run: Run, role: str) -> dict[str, Any]:
    """One pod of that role."""
    return kube.select(PODS, f"{names.of_run(run.id)},{names.ROLE}={role}")[0]


def left(kube: Kube, run: Run) -> list[str]:
    """What a run still has on the cluster, its supervisor's Job (which its ttl removes) aside."""
    found = [f"pod {each['metadata']['name']}" for each in machines(kube, run)]
    for what in (RAY_JOBS, RAY_CLUSTERS):
        found += [f"{what.plural} {each['metadata']['name']}" for each in kube.select(what, names.of_run(run.id))]
    return found


def await_step(run: Run, step: int, timeout_s: float = 150) -> None:
    """Return when the training has made that step."""

    def made() -> bool:
        assert not run.view().state.ended, f"it has ended: {run.error}"
        return any(row.get("step", -1) >= step for row in run.rows("train", "rank0"))

    await_that(made, timeout_s, f"step {step} of {run.id}")


def await_that(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Ask twice a second; fails the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"after {timeout_s} s still not: {what}"
        time.sleep(0.5)


def story(run: Run) -> list[str]:
    """The log, a line each; for messages of failed tests."""
    return [f"{entry.kind} {json.dumps(entry.event.to_json())[:200]}" for entry in run.bundle.log.read()]


def attempts(run: Run) -> list[AttemptBegan]:
    """The attempts that were begun."""
    return [entry.event for entry in run.bundle.log.read() if isinstance(entry.event, AttemptBegan)]

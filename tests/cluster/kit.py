"""A small project for runs on a real cluster, and eyes to see what is there while they run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner import Cluster, Group
from runner.kube import names
from runner.kube.client import CLUSTER_QUEUES, NAMESPACES, PODS, RAY_CLUSTERS, RAY_JOBS, SECRETS, Kube, resource
from runner.kube.tenant import Tenant, objects
from runner.project import find_project
from runner.run import Run
from tests.local.helpers import NUMBERS

CHECKOUT = Path(__file__).resolve().parents[2]
GIB = 1 << 30
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


def onebox_cluster(**changes: Any) -> Cluster:
    """The one-machine cluster's definition, its `kubernetes` with changes."""
    cluster = find_project(CHECKOUT / "jobs/digits.py").cluster("onebox")
    assert cluster.kubernetes is not None
    return dataclasses.replace(cluster, kubernetes=dataclasses.replace(cluster.kubernetes, **changes))


@contextlib.contextmanager
def team(kube: Kube, **quota: Any) -> Iterator[Kube]:
    """The namespace (and the queue) of a team with this quota; new each time, since one that ends takes its time."""
    name = f"test-team-{uuid.uuid4().hex[:6]}"
    own, made = kube.at(name), Tenant(name, host_paths=True, **quota)
    for body in objects(made):
        body.get("spec", {}).pop("cohort", None)  # what others of it lend is none of a test's business
        own.apply(body, resource(body))
    secret = kube.get(SECRETS, "lake-credentials")
    copied = {"name": "lake-credentials", "namespace": name}
    own.apply({"apiVersion": "v1", "kind": "Secret", "metadata": copied, "data": secret["data"]}, SECRETS)
    try:
        yield own
    finally:
        for queue in (made.name, made.supervisor_queue):
            kube.delete(CLUSTER_QUEUES, queue)
        kube.delete(NAMESPACES, name)


def has_kueue(kube: Kube) -> bool:
    """Whether there are queues."""
    return any(group["name"] == "kueue.x-k8s.io" for group in kube.request("GET", "/apis")["groups"])


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
    return [f"{entry.kind} {json.dumps(entry.data)[:200]}" for entry in run.bundle.log.read()]


def attempts(run: Run) -> list[dict[str, Any]]:
    """The attempts that were begun."""
    return [entry.data for entry in run.bundle.log.read() if entry.kind == "attempt"]

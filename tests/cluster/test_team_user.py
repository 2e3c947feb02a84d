"""Two teams as a platform engineer makes them, and a run as a team's user sees it, all through the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner import Cluster, Group
from runner.client.run import Run
from runner.kube import names
from runner.kube.client import CLUSTER_QUEUES, JOBS, WORKLOADS, Kube, Resource
from runner.record import RunState
from runner.store import Store
from tests.cluster import conftest, kit
from tests.cluster.ends import check_end

pytestmark = pytest.mark.timeout(480)
BINDINGS = Resource("apis/rbac.authorization.k8s.io/v1", "rolebindings")
RUNNER = (sys.executable, "-m", "runner")


@dataclass(frozen=True)
class Team:
    """A team's user.

    Args:
        kube: the API from the team's namespace, for who tests.
        environment: of the user's shell.
    """

    kube: Kube
    environment: dict[str, str]

    @property
    def name(self) -> str:
        """Of the team, and of its cluster file."""
        return self.kube.namespace

    def says(self, *arguments: str) -> str:
        """The output of one command that succeeds."""
        return say(self.environment, *arguments)

    def submit(self, *arguments: str, cluster: str | None = None) -> Run:
        """A run of `solo`, detached."""
        said = self.says("submit", "solo", "--cluster", cluster or self.name, "--detach", *arguments)
        (run_id,) = re.findall(r"^run (\S+) started", said, re.MULTILINE)
        return Run(Store(os.environ["RUNNER_STORE"]), run_id)


def say(environment: dict[str, str], *arguments: str) -> str:
    """The output of one command that succeeds."""
    done = subprocess.run(
        [*RUNNER, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"runner {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def shell() -> dict[str, str]:
    """The environment of who tests, as a person's shell has it."""
    return {**os.environ, "PYTHONPATH": str(kit.CHECKOUT), "COLUMNS": "200"}


@pytest.fixture
def teams(kube: Kube, cluster: conftest.Cluster, tmp_path: Path) -> Iterator[tuple[Team, Team]]:
    """Red and blue, each with the machines of one run, and a cluster file for each."""
    queued = kit.has_kueue(kube)
    mark, made, environment = uuid.uuid4().hex[:6], [], shell()
    options = ["--cpus", "1.0", "--memory", "20GiB", "--gpus", "2", "--apply"]
    options += ([] if queued else ["--no-kueue"]) + (["--host-paths"] if kit.mounts_hosts() else [])
    try:
        for name in (f"test-red-{mark}", f"test-blue-{mark}"):
            made.append(name)
            said = say(environment, "admin", "tenant", name, "--user", kit.user_of(name), *options)
            assert f"Namespace {name}" in said
            kit.give_credentials(kube, name)
            kit.write_cluster(name, small_cluster(name, queued))
        users = [{"KUBECONFIG": str(kit.as_user(kube, cluster.kubeconfig, tmp_path, name))} for name in made]
        red, blue = (Team(kube.at(n), {**environment, **u}) for n, u in zip(made, users, strict=True))
        yield red, blue
    finally:
        for name in made:
            kit.remove_team(kube, name)


def test_a_user_of_a_team_needs_no_other_rights(teams: tuple[Team, Team]) -> None:
    """Every command works for a team's user while a run trains; the second run waits for its team's quota although the
    other team is idle, and begins when the first is cancelled; a machine that no node can be is named by `why`.
    """
    red, blue = teams
    assert "wrong" not in red.says("doctor", red.name)
    first = red.submit("--set", "steps=2000", "--set", "pause_s=0.5")
    kit.await_step(first, 1)
    second = red.submit("--set", "steps=4")
    await_why(red, second, "quota")
    if kit.has_kueue(red.kube):
        assert not kit.machines(red.kube, second), "machines beyond the share of the team"
    assert re.search(rf"{first.id} +holds", queue := red.says("queue", red.name)), queue
    looks_at(red, first)
    nowhere = blue.submit(cluster=in_no_place(blue))
    await_why(blue, nowhere, "node", "selector")
    check_end(blue.kube, nowhere, RunState.FAILED)
    assert "DeadlineExceeded" in nowhere.error["message"]
    assert f"{first.id} cancelled" in red.says("cancel", first.id)
    check_end(red.kube, first, RunState.CANCELLED)
    check_end(red.kube, second, RunState.SUCCEEDED)
    began = {run.id: next(e.at for e in run.bundle.log.read() if e.kind == "stage-started") for run in (first, second)}
    assert began[second.id] >= next(e.at for e in first.bundle.log.read() if e.kind == "ended")


def test_what_a_team_has_no_more_is_removed(kube: Kube) -> None:
    """Applied again without users and queues, both go; a queue in which a Job is stays until that has ended, and what
    somebody else has made is not touched.
    """
    kit.need_kueue(kube)
    name = f"test-less-{uuid.uuid4().hex[:6]}"
    command = ("admin", "tenant", name, "--cpus", "1", "--memory", "1GiB", "--apply")
    own = kube.at(name)
    try:
        say(shell(), *command, "--user", "ann")
        assert own.find(BINDINGS, "runner-user")
        job = {"metadata": {"name": "waits", "namespace": name, "labels": {names.QUEUE: name}}}
        container = {"name": "main", "image": "localhost/nowhere:1", "resources": {"limits": {"memory": "2Gi"}}}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        own.create(JOBS, {"apiVersion": "batch/v1", "kind": "Job", **job, "spec": {"template": template}})
        kit.await_that(lambda: own.select(WORKLOADS), 20, "a workload")
        said = say(shell(), *command, "--no-kueue")
        assert "RoleBinding runner-user removed" in said
        assert f"LocalQueue {name} kept: runs are in it" in said
        assert f"ClusterQueue {name}-supervisors removed" in said
        own.delete(JOBS, "waits")
        kit.await_that(lambda: not own.select(WORKLOADS), 20, "no workload")
        own.patch(CLUSTER_QUEUES, name, {"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}})
        said = say(shell(), *command, "--no-kueue")
        assert f"LocalQueue {name} removed" in said
        assert f"ClusterQueue {name} kept: it was not made by this command" in said
        assert not own.find(BINDINGS, "runner-user")
        assert own.find(CLUSTER_QUEUES, name)
    finally:
        kit.remove_team(kube, name)


def small_cluster(team: str, queued: bool, **changes: Any) -> Cluster:
    """The team's, of machines of which more than one run's fit on a small node."""
    head = Group(cpu=0.2, memory="3GiB")
    cluster = kit.cluster_file(namespace=team, queue=team if queued else None, head=head, **changes)
    return kit.with_group(cluster, "gpu", cpu=0.2)


def looks_at(team: Team, run: Run) -> None:
    """What a person says to see a run that trains."""
    assert f"{run.id} running" in team.says("status", run.id)
    assert "waits for nothing" in team.says("why", run.id)
    for rank in ("0", "1"):
        assert f"rank {rank} begins at step 0" in team.says("logs", run.id, "--stage", "train", "--rank", rank)
    there = {pod["metadata"]["name"] for pod in kit.machines(team.kube, run)}
    assert team.says("ssh", run.id, "--rank", "1", "--", "cat", "/etc/hostname").strip() in there
    sees_the_dashboard(team, run)
    for yes in ([], ["--yes"]):
        said = team.says("gc", team.name, *yes)
        assert re.search(rf"{run.id} +(working|young)", said), said
        assert "removed" not in said.replace("nothing was removed", ""), said


def sees_the_dashboard(team: Team, run: Run) -> None:
    """A local port leads to it, and the token that it asks for is had as the command says."""
    command = [*RUNNER, "port-forward", run.id, "--local", "0"]
    with subprocess.Popen(command, env=team.environment, stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout is not None
        try:
            where, hint = forward.stdout.readline(), forward.stdout.readline()
            url = where.split()[0] + "/api/version"
            assert answer(url) == 401
            (words,) = re.findall(r"`runner (.+)`", hint)
            token = team.says(*words.split()).strip()
            assert answer(url, token) == 200
        finally:
            forward.send_signal(signal.SIGINT)


def answer(url: str, token: str = "") -> int:
    """The status of one request."""
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(asked, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def in_no_place(team: Team) -> str:
    """The name of a cluster file whose machines only a node that is not there could be; it is soon given up."""
    own = small_cluster(team.name, kit.has_kueue(team.kube), start_deadline_s=20)
    name = f"{team.name}-nowhere"
    kit.write_cluster(name, kit.with_group(own, "gpu", node_selector={"kind": "no-node-has-this"}))
    return name


def await_why(team: Team, run: Run, *words: str) -> None:
    """Return when `why` says all of it."""
    said = ""

    def says() -> bool:
        nonlocal said
        said = team.says("why", run.id)
        return all(word in said for word in words)

    kit.await_that(says, 60, f"why says {words}")

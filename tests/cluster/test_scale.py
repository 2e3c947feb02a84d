"""Five hundred machines and two hundred runs: what a person asks is still answered at once."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runner.backends.local.liveness import identity
from runner.backends.registry import open_backend
from runner.client import prepare, submit
from runner.client.run import Run
from runner.control.supervisor import Supervisor
from runner.kube import names
from runner.kube.client import RAY_JOBS, Kube
from runner.record import fold
from runner.record.entries import AttemptBegan
from tests.cluster import kit

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
NODES, RUNS, GPUS = 500, 200, 8
#: What the product promises, on any machine.
LONGEST_S = 2.0


@pytest.fixture
def crowd(kube: Kube, simulated_nodes: int) -> Iterator[list[Run]]:
    """Runs of one team, all submitted at once: four hold all GPUs that the team has, the others wait in its queue."""
    kit.need_kueue(kube)
    with kit.team(kube, cpus=64, memory=400 * kit.GIB, gpus=GPUS) as team:
        cluster = kit.cluster_file(namespace=team.namespace, queue=team.namespace, pod_template=kit.SIMULATED)
        Path("clusters").mkdir()
        words = "from runner import Cluster, Group, Kubernetes, Volume"
        Path("clusters/crowded.py").write_text(f"{words}\ncluster = {cluster!r}\n")
        prepared = prepare.prepare("solo", cluster="crowded")
        with ThreadPoolExecutor(8) as pool:
            runs = list(pool.map(lambda _: submit.create(prepared), range(RUNS)))
            made = {body["metadata"]["name"] for body in team.select(RAY_JOBS, names.RUN)}
            list(pool.map(lambda run: supervise(run, made), runs))
        kit.await_that(lambda: holding(team) >= GPUS // 2, 120, "the quota is given away")
        yield runs


def supervise(run: Run, made: set[str]) -> None:
    """What a supervisor does until its first machines come; it runs nowhere, for its pod is on a simulated node."""
    run.bundle.log.append(identity())
    run.bundle.log.append(AttemptBegan(leg=0, attempt=1))
    backend: Any = None
    if names.ray_job(run.id, 0, 1) not in made:  # Kueue had not heard of the Job when the client asked
        backend = open_backend(run.bundle)
        backend.start(0, 1)
    Supervisor(run.bundle, backend)._show(fold(run.bundle.log.read()))


def holding(team: Kube) -> int:
    """How many runs have machines."""
    return sum(not body["spec"].get("suspend") for body in team.select(RAY_JOBS, names.RUN))


def answer(*words: str) -> tuple[float, Any]:
    """The median of the seconds that three whole processes of a command take, after one, and the last one's answer."""
    command = [sys.executable, "-m", "runner", *words, "-o", "json"]
    environment = {**os.environ, "PYTHONPATH": str(kit.CHECKOUT)}
    taken = []
    for _ in range(4):
        began = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        taken.append(time.monotonic() - began)
        assert done.returncode == 0, done.stderr
    print(f"runner {words[0]}: {', '.join(f'{seconds:.2f}' for seconds in taken)} s, the first not counted")
    return statistics.median(taken[1:]), json.loads(done.stdout)


@pytest.mark.parametrize("simulated_nodes", [NODES], indirect=True)
def test_a_crowded_cluster_answers_at_once(kube: Kube, crowd: list[Run]) -> None:
    """`ps`, `queue` and `why` each answer within two seconds with 500 nodes, four runs at work and 196 in a queue."""
    assert len(kube.request("GET", "/api/v1/nodes", query={"labelSelector": "type=kwok"})["items"]) == NODES
    taken = {}
    taken["ps"], lines = answer("ps")
    assert {line["run"] for line in lines} == {run.id for run in crowd}
    assert {line["state"] for line in lines} == {"running"}
    taken["queue"], quota = answer("queue", "crowded")
    states = {each["run"]: each["state"] for each in quota["runs"]}
    assert set(states) == {run.id for run in crowd}
    waiting = next(run for run, state in states.items() if state == "waits")
    working = next(run for run, state in states.items() if state == "holds")
    taken["why, waiting"], found = answer("why", waiting)
    assert any("quota in queue" in reason["waits_for"] for reason in found["reasons"]), found
    taken["why, at work"], found = answer("why", working)
    assert not any("quota in queue" in reason["waits_for"] for reason in found["reasons"]), found
    assert not {name: seconds for name, seconds in taken.items() if seconds > LONGEST_S}

"""The client killed with -9 while it submits: its run exists whole or not at all, and nothing is left or made twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pytest

from runner.client.run import Run
from runner.kube import names
from runner.kube.client import JOBS, PODS, RAY_CLUSTERS, RAY_JOBS, SECRETS, SERVICES, Kube
from runner.kube.watch import Watched
from runner.record import Bundle, RunState, fold
from runner.store import Store
from runner.untrusted.names import RUN_ID
from tests.cluster import kit
from tests.cluster.warm import Supervisors, Warm
from tests.unit.record.index_kit import read_index

#: How far a client came, the furthest last.
PHASES = ("nothing", "bundle", "Job", "RayJob", "index", "first entry", "returned")


class Client(Protocol):
    """A process that submits."""

    def kill(self) -> None:
        """With -9."""

    def wait(self) -> int:
        """Its exit code."""


class Made:
    """Every Job and RayJob of a store's runs that was ever seen in a namespace: name -> uids."""

    def __init__(self, kube: Kube, store: Store) -> None:
        self.uids: dict[str, set[str]] = defaultdict(set)
        self._store = store.url
        self._watched = [Watched(kube, what, names.RUN, lambda: None, self._saw) for what in (JOBS, RAY_JOBS)]

    def _saw(self, body: dict[str, Any]) -> None:
        if body["metadata"]["annotations"][names.STORE] == self._store:
            self.uids[body["metadata"]["name"]].add(body["metadata"]["uid"])

    def close(self) -> None:
        """Look no more."""
        for each in self._watched:
            each.close()


@pytest.fixture
def made(kube: Kube) -> Iterator[Made]:
    """What is made in the namespace `default` while the test lasts."""
    found = Made(kube, Store(os.environ["RUNNER_STORE"]))
    yield found
    found.close()


def moments(count: int, start: Callable[[], Client]) -> list[float]:
    """Seconds after which to kill: the time that a submit takes is cut into so many parts, with one moment in each."""
    took = []
    for _ in range(3 if count > 3 else 1):
        began = time.monotonic()
        assert start().wait() == 0
        took.append(time.monotonic() - began)
    longest = sorted(took)[len(took) // 2] * 1.1
    print(f"a submit takes {', '.join(f'{seconds:.2f}' for seconds in took)} s")
    parts = [(number + random.random()) * longest / count for number in range(count)]
    random.shuffle(parts)
    return parts


def kill_clients(
    kube: Kube, store: Store, start: Callable[[], Client], after: list[float], then: Callable[[set[str]], None]
) -> Counter[str]:
    """Start a client, kill it, say what it began, for each moment.

    Args:
        then: called with the runs of which something is there that was not before.

    Returns:
        How many came how far.
    """
    known, reached = _runs(store), Counter[str]()
    for seconds in after:
        client = start()
        time.sleep(seconds)  # the moment itself is what is tried
        client.kill()
        returned = client.wait() == 0
        new = _runs(store) - known
        known |= new
        for run_id in new or {""}:
            reached["returned" if returned else phase(kube, store, run_id)] += 1
        then(new)
    print("; ".join(f"{name}: {reached[name]}" for name in PHASES))
    return reached


def _runs(store: Store) -> set[str]:
    return {name for name in store.list() if RUN_ID.fits(name)}


def phase(kube: Kube, store: Store, run_id: str) -> str:
    """How far the client of a run came."""
    if not run_id:
        return "nothing"
    if Bundle(store, run_id).log.read():
        return "first entry"
    if any(line.run_id == run_id for line in read_index(store)):
        return "index"
    if kube.find(RAY_JOBS, _first_ray_job(run_id)) is not None:
        return "RayJob"
    return "Job" if kube.find(JOBS, run_id) is not None else "bundle"


def check(kube: Kube, store: Store, made: Made, state: RunState) -> None:
    """Every run has ended as `state` or does not exist, nothing of any is left, and nothing was made twice."""
    runs = _runs(store) | (set(made.uids) - set(map(_first_ray_job, made.uids)))
    listed = {line.run_id: line.state for line in read_index(store)}
    for run_id in runs:
        bundle = Bundle(store, run_id)
        if not bundle.is_given_up():
            view = fold(bundle.log.read())
            assert (view.state, listed.pop(run_id)) == (state, str(state)), kit.story(Run(store, run_id))
            assert view.receipt is not None
            assert not any(view.receipt.remains[name] for name in ("pods", "gpus", "ray_jobs"))
    assert not listed, f"the index has runs that do not exist: {listed}"
    assert all(len(uids) == 1 for uids in made.uids.values()), made.uids
    assert set(made.uids) <= runs | set(map(_first_ray_job, runs)), "a second attempt"
    kit.await_that(lambda: not left(kube, runs), 90, "nothing of them is left")


def _first_ray_job(run_id: str) -> str:
    return names.ray_job(run_id, 0, 1)


def left(kube: Kube, runs: set[str]) -> list[str]:
    """Objects of runs that are there, without the finished Jobs of those that existed, which their ttl removes."""
    found = []
    for what in (RAY_JOBS, RAY_CLUSTERS, SERVICES, SECRETS, PODS, JOBS):
        for body in kube.select(what):
            name, status = body["metadata"]["name"], body.get("status") or {}
            over = status.get("phase") == "Succeeded" or status.get("succeeded")
            if any(name.startswith(run_id) for run_id in runs) and not (what in (PODS, JOBS) and over):
                found.append(f"{what.plural} {name}")
    return found


@pytest.mark.parametrize(
    "cycles",
    [
        pytest.param(3, marks=pytest.mark.timeout(600)),
        pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(2400)]),
    ],
)
def test_a_client_killed_at_any_moment_leaves_a_whole_run_or_none(kube: Kube, made: Made, cycles: int) -> None:
    """Killed with -9 while it submits: the run exists and ends well, or nothing of it exists."""
    store = Store(os.environ["RUNNER_STORE"])
    command = [sys.executable, "-m", "runner", "submit", "solo", "--cluster", "onebox", "--set", "steps=2", "--detach"]
    environment = {**os.environ, "PYTHONPATH": str(kit.CHECKOUT)}
    os.symlink(kit.CHECKOUT / "clusters", "clusters")

    def start() -> Client:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def await_end(new: set[str]) -> None:
        kit.await_that(lambda: not under_way(kube, store), 240, "every run has ended")

    after = moments(cycles, start)
    await_end(set())
    kill_clients(kube, store, start, after, await_end)
    check(kube, store, made, RunState.SUCCEEDED)


def under_way(kube: Kube, store: Store) -> list[str]:
    """Runs of this store whose Job has not ended."""
    return [
        job["metadata"]["name"]
        for job in kube.select(JOBS, names.RUN)
        if job["metadata"]["annotations"][names.STORE] == store.url and not (job.get("status") or {}).get("succeeded")
    ]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("simulated_nodes", [20], indirect=True)
def test_two_hundred_clients_killed(kube: Kube, simulated_nodes: int, tmp_path: Path) -> None:
    """Two hundred, with simulated machines and the supervisors beside them: each run is cancelled, or never was."""
    store = Store(os.environ["RUNNER_STORE"])
    with kit.team(kube, cpus=2000, memory=20000 * kit.GIB, gpus=2000, queue=False) as team:
        cluster = kit.cluster_file(namespace=team.namespace, pod_template=kit.SIMULATED)
        Path("clusters").mkdir()
        words = "from runner import Cluster, Group, Kubernetes, Volume"
        Path("clusters/simulated.py").write_text(f"{words}\ncluster = {cluster!r}\n")
        warm, made = Warm(tmp_path / "clients.log"), Made(team, store)
        supervisors = Supervisors(team, warm)
        try:
            with ThreadPoolExecutor(16) as pool:
                reached = _kill_two_hundred(team, store, warm, pool)
            kit.await_that(lambda: not supervisors.working, 300, "every supervisor has ended")
            check(team, store, made, RunState.CANCELLED)
            assert set(supervisors.started.values()) == {1}, supervisors.started
        finally:
            supervisors.close()
            made.close()
            warm.close()
    assert reached.total() >= 200
    assert sum(reached[name] > 0 for name in PHASES) >= 5, reached
    assert reached["Job"] + reached["RayJob"] + reached["index"] > 5, reached


def _kill_two_hundred(team: Kube, store: Store, warm: Warm, pool: ThreadPoolExecutor) -> Counter[str]:
    def cancel(run_id: str) -> None:
        time.sleep(random.uniform(0.0, 5.0))  # before its machines come, while they do, or when they are there
        if Bundle(store, run_id).log.read():
            Run(store, run_id).cancel()

    def end(new: set[str]) -> None:
        for run_id in new:
            pool.submit(cancel, run_id)

    def start() -> Client:
        return warm.fork("submit", "simulated")

    after = moments(200, start)
    end(_runs(store))
    return kill_clients(team, store, start, after, end)
